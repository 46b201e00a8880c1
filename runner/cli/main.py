"""``cron-runner [--config FILE] COMMAND``: finds the command, runs it, and turns errors into one line.

A command is a module of this package with

- ``EXAMPLE: str``: one or more command lines, shown at the end of its ``--help``;
- ``add_arguments(parser)``: its own options; ``args.config`` (a `Path` or None) is there already, and so is
  ``args.after_dashes``, the words behind ``--`` (None where there was no ``--``), which are refused unless the
  command says ``parser.set_defaults(takes_command=True)``;
- ``execute(args) -> int``: its exit status. Where nothing can be printed it is not called, unless the command says
  ``parser.set_defaults(prints=False)``: what it does matters more than what it says. A command that looks once and ends
  says ``parser.set_defaults(soon_over=True)``: nobody looks for garbage then.

All that it writes goes through `runner.cli.printing`.

The module is imported only when its command is asked for, so that ``cron-runner --version`` costs nothing.
Such a module does not import boto3, moto or the agent at its top either: ``--help`` has to be quick too.
"""

from __future__ import annotations

import argparse
import gc
import re
import shlex
import sys
import traceback
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol, cast

import runner
from runner.cli import printing
from runner.cli.interrupted import INTERRUPTED
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# cron-runner itself failed, as against the job that it ran: env(1), timeout(1) and docker-run(1) use it so.
FAILED: Final = 125
USAGE: Final = 2

# What argparse says of a word, or of an option, that it does not know.
_REFUSED: Final = re.compile(r"invalid choice: '(?P<word>[^']+)'|unrecognized arguments: (?P<option>--?[\w-]+)")


@dataclass(frozen=True, slots=True)
class Command:
    """A word of the command line, the module behind it, and what ``--help`` says of it."""

    name: str
    module: str
    summary: str


COMMANDS: Final = (
    Command("run", "runner.cli.host.run", "the daemon, in the foreground"),
    Command("run-once", "runner.cli.runs.run_once", "receive one message and run it here and now"),
    Command("send", "runner.cli.runs.send", "put a job on the group's queue"),
    Command("status", "runner.cli.host.status", "the agent of this host, what runs, what waits and what ended"),
    Command("show", "runner.cli.runs.show", "all that is known of a run, and what it waits for"),
    Command("logs", "runner.cli.runs.logs", "a run's output, from this host or from CloudWatch"),
    Command("check", "runner.cli.host.check", "the configuration, what AWS allows, and this host, line by line"),
    Command("wait", "runner.cli.runs.wait", "wait until runs have ended; the exit status is the job's"),
    Command("cancel", "runner.cli.runs.cancel", "end a run of this host"),
    Command("rerun", "runner.cli.runs.rerun", "the same message under a new run id"),
    Command("signal", "runner.cli.runs.signal_run", "send the processes of a run of this host a signal"),
    Command("pause", "runner.cli.host.pause", "receive nothing more on this host; what runs goes on"),
    Command("drain", "runner.cli.host.drain", "make this host empty: a pause that leaves retries to other hosts"),
    Command("resume", "runner.cli.host.resume", "end a pause or a drain"),
    Command("jobs", "runner.cli.central.jobs", "what the fleet runs and when; apply makes it what files say"),
    Command(
        "history", "runner.cli.runs.history", "what ran, how it ended and what it cost, on this host or in the fleet"
    ),
    Command("dead-letters", "runner.cli.central.dead_letters", "what no host could run, and why; redrive or drop it"),
    Command("config", "runner.cli.host.config_shown", "what is in force, and where each value comes from"),
    Command("keys", "runner.cli.host.keys", "keys that jobs are signed with: make one, or show its public half"),
    Command("hosts", "runner.cli.central.hosts", "the fleet's hosts: state, version, what runs, when last heard of"),
    Command(
        "maintenance", "runner.cli.central.maintenance", "let the runs of a job be skipped on every host, or run again"
    ),
    Command("control", "runner.cli.central.control", "the fleet's scheduler and recorder, as one process"),
    Command("web", "runner.cli.host.web", "the page and the HTTP API, of this host or of the fleet"),
    Command("demo", "runner.cli.demos.demo", "the whole loop on an embedded AWS stand-in"),
    Command("completion", "runner.cli.completion", "a shell's completion of this command line"),
)


class CommandModule(Protocol):
    """What the module of a command offers."""

    EXAMPLE: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def execute(self, args: argparse.Namespace) -> int: ...


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, as all errors of cron-runner are."""

    usage_status = USAGE
    """Of wrong usage; a command whose exit status is a job's sets another one."""
    usage_status_with: tuple[str, int] | None = None
    """An option with which the exit status is a job's, and what wrong usage then is."""

    def error(self, message: str) -> NoReturn:
        one_line = " ".join(message.split()) + self._meant(message)
        self.exit(self.usage_status, f"cron-runner: {one_line}; see `{self.prog} --help`\n")

    def _print_message(self, message: str, file: Any = None) -> None:
        # argparse would leave in the buffer what cannot be written.
        if message and file is sys.stderr:
            printing.say(message.removesuffix("\n"))
        elif message:
            printing.data(message)

    def _meant(self, message: str) -> str:
        """The known word or option that is most like the one that argparse refuses, as a question."""
        from difflib import get_close_matches  # noqa: PLC0415 - only for what cannot be understood

        given = None if " comes behind --" in message else _REFUSED.search(message)
        near = given and get_close_matches(given["word"] or given["option"], list(self._known_words()), n=1)
        return f"; did you mean {near[0]}?" if near else ""

    def _known_words(self) -> Iterator[str]:
        for action in self._actions:
            yield from action.option_strings
            yield from action.choices or ()


class _CommandParser(Parser):
    """The parser of one command, which fetches the command's module when it is needed."""

    command: Command
    module: CommandModule | None = None

    def fetch(self) -> None:
        """Import the command's module and add its options, once."""
        if self.module is not None:
            return
        module = self.module = cast("CommandModule", import_module(self.command.module))
        self.epilog = "example:\n" + "\n".join(f"  {line}" for line in module.EXAMPLE.strip().splitlines())
        # Also behind the command, where fingers put it; what was given before the command stays without it.
        add_config(self, default=argparse.SUPPRESS)
        module.add_arguments(self)
        self.set_defaults(execute=module.execute, refuse=self.error)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self.fetch()
        if self.usage_status_with is not None and self.usage_status_with[0] in (args or ()):
            self.usage_status = self.usage_status_with[1]
        known, unknown = super().parse_known_args(args, namespace)
        if unknown:
            # Refused here and not by the parser above, which would name its own help.
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._dashes(known, unknown)}")
        return known, unknown

    def _dashes(self, known: argparse.Namespace, unknown: list[str]) -> str:
        """Of a command that takes another command: where that begins."""
        if not getattr(known, "takes_command", False) or unknown[0].startswith("-"):
            return ""
        job = getattr(known, "job", None) or "JOB"
        return f"; a command comes behind --: `{self.prog} {job} -- {shlex.join(unknown)}`"


def add_config(parser: argparse.ArgumentParser, default: Any) -> None:
    """The option that names the configuration."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=default,
        help="the configuration (default: /etc/cron-runner/config.toml)",
    )


def build_parser(first: str = "") -> argparse.ArgumentParser:
    """The parser of the whole command line; a command's own options are added when it is met.

    Where ``first``, the first word, is a command, the others are left out: they are a tenth of a short command's time.
    """
    parser = Parser(
        prog="cron-runner",
        description="Runs the jobs that arrive on an SQS queue as supervised processes of this host.",
        epilog="`cron-runner COMMAND --help` shows a command's options and an example.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"cron-runner {runner.__version__}")
    add_config(parser, default=None)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_CommandParser)
    for command in [one for one in COMMANDS if one.name == first] or COMMANDS:
        added = commands.add_parser(
            command.name,
            help=command.summary,
            description=f"{command.summary[0].upper()}{command.summary[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        added.command = command
    return parser


def commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of the commands below this one by name, all of their options in place; empty where it has none.

    For what is made of the whole command line: completion and the manual.
    """
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:  # noqa: SLF001 - argparse shows its parts in no other way
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            found.update(action.choices)
    for command in found.values():
        if isinstance(command, _CommandParser):
            command.fetch()
    return found


def entry() -> NoReturn:
    """The program, by the name that what was installed before calls it by; start.py imports this module."""
    import_module("runner.cli.start").entry()
    raise AssertionError  # it ends the process


def main(argv: Sequence[str]) -> int:
    """Run the command line without the program's name, and return the exit status."""
    try:
        args = _parsed(argv)
        if getattr(args, "prints", True):
            printing.ready()
        else:
            printing.to_nowhere()
        if not getattr(args, "soon_over", False):
            gc.enable()  # off since the start: imports make no garbage, and looking for it is a sixth of their time
        return int(args.execute(args))
    except KeyboardInterrupt:
        return INTERRUPTED
    except printing.ReaderLeft as error:
        return error.exit_status  # `cron-runner … | head`: the reader has what it wanted
    except CronRunnerError as error:
        from runner.cli.unit_environment import hint  # noqa: PLC0415 - only for what failed

        printing.note(f"{error}{hint(error)}")
        return error.exit_status
    except Exception:  # noqa: BLE001 - a fault of ours must not look like exit status 1 of a job
        printing.say(traceback.format_exc())
        return FAILED


def _parsed(argv: Sequence[str]) -> argparse.Namespace:
    # Cut here and not by argparse, which takes a second `--` out of a job's own command line.
    words, dashes, after = _cut_at_dashes(argv)
    parser = build_parser(words[0] if words else "")
    args = parser.parse_args(words)
    if after and not getattr(args, "takes_command", False):
        args.refuse(f"unrecognized arguments: -- {' '.join(after)}")
    args.after_dashes = after if dashes else None
    return args


def _cut_at_dashes(argv: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    words = list(argv)
    if "--" not in words:
        return words, False, []
    at = words.index("--")
    return words[:at], True, words[at + 1 :]
