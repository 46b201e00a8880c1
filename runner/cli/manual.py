"""The man pages, made of what ``--help`` and the configuration's validator are made of, so that they cannot drift.

``python -m runner.cli.manual cron-runner.1`` and ``… cron-runner.toml.5`` print a page as roff.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

import runner
from runner.cli import roff
from runner.cli.agent_socket import NO_AGENT
from runner.cli.interrupted import INTERRUPTED
from runner.cli.main import FAILED, USAGE, build_parser, commands_of
from runner.cli.manual_fields import FIELDS
from runner.cli.printing import READER_LEFT
from runner.cli.runs.run_once import NO_MESSAGE
from runner.config.example import JOBS, NOTES, purpose
from runner.config.keys import KEYS, SECTIONS
from runner.config.model import Config
from runner.errors import ConfigError
from runner.protocol.outcome import NOT_EXECUTABLE, NOT_FOUND, RULE_FAILED, SIGNAL_BASE, TIMED_OUT
from runner.protocol.specification import OF_DECLARATIONS, OF_MESSAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from runner.config.keys import Key

_SOURCE: Final = f"cron-runner {runner.__version__}"

_DESCRIPTION: Final = """\
cron-runner turns messages on an SQS queue into supervised processes of this host. Their output is shipped to CloudWatch
Logs while they run, and a started and a finished event of each run are sent to a results queue.

The daemon, `cron-runner run`, is the agent: it talks to AWS and decides. The jobs belong to a second, small process,
the supervisor, which outlives the agent: jobs do not notice that the agent is restarted, upgraded or killed.

Errors are one line on standard error, which says what cannot be done, why, and what to do.
"""

_JOBS: Final = "`run-once`, `wait`, `send --wait`:"

_EXITS: Final = (
    ("0", "Success; of `run`: a clean stop."),
    (
        f"{RULE_FAILED}",
        f"{_JOBS} the job exited with 0, but a rule of the message failed it. `check`: something has failed."
        " `drain`: the wait is over. Every other: the run, job or group that was named is not there.",
    ),
    (f"{USAGE}", "The command line cannot be understood."),
    (f"{NO_AGENT}", "What asks the agent: none answers on this host."),
    (f"{NO_MESSAGE}", "`run-once`: there was no message to run."),
    (f"{ConfigError.exit_status}", "The configuration is at fault: systemd does not start the daemon again."),
    (f"{TIMED_OUT}", f"{_JOBS} the job timed out."),
    (
        f"{FAILED}",
        "cron-runner itself failed: AWS, the supervisor or the message; or its output cannot be"
        f" written. {_JOBS} wrong usage, the configuration and what is not there too.",
    ),
    (f"{NOT_EXECUTABLE}, {NOT_FOUND}", f"{_JOBS} the command is not executable, or was not found."),
    (f"{INTERRUPTED}", "Interrupted at the terminal."),
    (f"{READER_LEFT}", "Who read the output has left, as of `cron-runner … | head`."),
    (f"{SIGNAL_BASE}+n", f"{_JOBS} the job was ended by signal n."),
    ("any other", f"{_JOBS} the job's own."),
)

_SIGNALS: Final = (
    (
        "SIGTERM, SIGINT",
        "Receive no more, do with running jobs what [agent] on_stop says, and end with status 0. A second one stops"
        " what runs, reports it as interrupted and hands its messages back; a third one kills at once.",
    ),
    (
        "SIGHUP",
        "Read the configuration again. A file with faults is refused and changes nothing; keys that need a restart"
        " are named in the log.",
    ),
    ("SIGKILL", "The agent is gone, its jobs run on, and the next agent takes them over."),
)

_VARIABLES: Final = (
    (
        "CRON_RUNNER_SECTION__KEY",
        "Overrides a key of the configuration: CRON_RUNNER_QUEUE__URL; CRON_RUNNER__GROUP for one at its top."
        " cron-runner.toml(5) names the variable of each key.",
    ),
    (
        "AWS_REGION, AWS_PROFILE, AWS_ENDPOINT_URL, …",
        "Region, credentials and endpoint are AWS's ordinary settings, the instance's role among them. The region of"
        " a queue's URL is taken where none is set.",
    ),
)

_OF_JOBS: Final = """\
A job gets `PATH`, `HOME`, `SHELL`, `USER`, `LOGNAME` and `LANG`, the variables that configuration and message give it,
and `CRON_RUNNER_JOB`, `CRON_RUNNER_RUN_ID`, `CRON_RUNNER_ATTEMPT`, `CRON_RUNNER_GROUP` and
`CRON_RUNNER_SCHEDULED_AT`; of a job that runs after others also `CRON_RUNNER_AFTER`, the ids of their runs. It never
gets the agent's AWS credentials.
"""


def command_page() -> str:
    """cron-runner(1)."""
    parser = build_parser()
    return roff.page(
        [
            *roff.head("CRON-RUNNER", 1, runner.__date__, _SOURCE, "cron-runner manual"),
            *roff.section("NAME", roff.escaped("cron-runner - runs the jobs that arrive on an SQS queue")),
            *roff.section("SYNOPSIS", f"{roff.bold('cron-runner')} [{roff.bold('--config')} {roff.italic('FILE')}] "
                          f"{roff.italic('COMMAND')} [{roff.italic('options')}]"),
            *roff.section("DESCRIPTION", *roff.paragraphs(_DESCRIPTION)),
            *roff.section("OPTIONS", *_options(parser)),
            *roff.section("COMMANDS", *_commands(parser)),
            *roff.section("EXIT STATUS", *_entries(_EXITS)),
            *roff.section("SIGNALS", roff.prose("Of the daemon, `cron-runner run`:"), *_entries(_SIGNALS)),
            *roff.section("FILES", *_entries(_files())),
            *roff.section("ENVIRONMENT", *_entries(_VARIABLES), ".PP", *roff.paragraphs(_OF_JOBS)),
            *roff.section("SEE ALSO", f"{roff.bold('cron-runner.toml')}(5), {roff.bold('systemctl')}(1)"),
        ]
    )  # fmt: skip


def configuration_page() -> str:
    """cron-runner.toml(5)."""
    lines = [
        *roff.head("CRON-RUNNER.TOML", 5, runner.__date__, _SOURCE, "cron-runner manual"),
        *roff.section("NAME", roff.escaped("cron-runner.toml - configuration of cron-runner, and its job messages")),
        *roff.section("SYNOPSIS", roff.bold("/etc/cron-runner/config.toml"), ".br",
                      roff.bold("/etc/cron-runner/jobs.d/*.toml")),
        *roff.section("DESCRIPTION", *roff.paragraphs(NOTES)),
    ]  # fmt: skip
    for section in SECTIONS:
        keys = [key for key in KEYS.values() if key.section == section]
        lines += roff.section(f"[{section}]" if section else "TOP OF THE FILE")
        lines += [roff.prose(purpose(section))] if section else []
        for key in keys:
            lines += _key(key)
    lines += roff.section("DECLARED JOBS", *_declared())
    lines += roff.section(
        "JOB FIELDS",
        roff.prose(
            "A message on the queue is a JSON object of these fields, of at most 1 MiB. A field that is not known is"
            " refused by name. Fields of a declared job are marked (declared), fields that only a message may have"
            " (message)."
        ),
    )
    for name, (kind, text) in FIELDS.items():
        mark = "" if name in OF_MESSAGES and name in OF_DECLARATIONS else _only(name)
        lines += roff.entry(f"{roff.bold(name)} ({roff.escaped(kind)})", f"{text}{mark}")
    lines += roff.section("SEE ALSO", f"{roff.bold('cron-runner')}(1)")
    return roff.page(lines)


def _only(name: str) -> str:
    return " (message)" if name in OF_MESSAGES else " (declared)"


def _entries(rows: Iterable[tuple[str, str]]) -> list[str]:
    return [line for term, text in rows for line in roff.entry(roff.bold(term), text)]


def _files() -> Iterator[tuple[str, str]]:
    paths = Config().paths
    yield "/etc/cron-runner/config.toml", "The configuration; see cron-runner.toml(5)."
    yield "/etc/cron-runner/jobs.d/*.toml", "Declared jobs, one to a file."
    yield f"{paths.state}/journal.db", "The journal: runs, and events that are not yet sent."
    yield f"{paths.state}/spool/", "Output that is not yet shipped, and for a while what is."
    yield f"{paths.runtime}/agent.sock", "The agent's control socket: for root and whom [control] names."
    yield "/run/cron-runner-supervisor/", "The supervisor's socket and exit records."


# -- the command line


def _commands(parser: argparse.ArgumentParser) -> list[str]:
    lines: list[str] = []
    for command in commands_of(parser).values():
        lines += roff.subsection(command.prog)
        lines += [roff.prose(command.description or ""), ".PP", *_usage(command), *_options(command)]
        for below in commands_of(command).values():
            lines += [
                ".PP",
                roff.bold(below.prog),
                ".RS 4",
                roff.prose(below.description or ""),
                *_options(below),
                ".RE",
            ]
        lines += _epilog(command.epilog or "")
    return lines


def _usage(parser: argparse.ArgumentParser) -> list[str]:
    usage = " ".join(parser.format_usage().removeprefix("usage:").split())
    return [roff.escaped(usage)]


def _options(parser: argparse.ArgumentParser) -> list[str]:
    formatter = argparse.HelpFormatter(parser.prog)
    lines: list[str] = []
    for action in parser._actions:  # noqa: SLF001 - argparse shows its parts in no other way
        # Every command has these two; the page's own OPTIONS tell of them.
        inherited = action.dest in ("help", "config") and parser.prog != "cron-runner"
        if inherited or action.help == argparse.SUPPRESS or isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            continue
        text = formatter._expand_help(action) if action.help else ""  # noqa: SLF001 - %(default)s and its like
        lines += [*roff.entry(_term(action), text)]
    return lines


def _term(action: argparse.Action) -> str:
    choices = ", ".join(str(choice) for choice in action.choices or ())
    value = str(action.metavar or choices or action.dest.upper())
    if not action.option_strings:
        return roff.italic(value)
    takes = "" if action.nargs == 0 else f" {roff.italic(value)}"
    return ", ".join(f"{roff.bold(option)}{takes}" for option in action.option_strings)


def _epilog(text: str) -> list[str]:
    """What stands below the options: paragraphs, and the lines that ``--help`` indents as they are."""
    lines: list[str] = []
    block: list[str] = []
    for line in [*text.strip().splitlines(), ""]:
        if line.startswith("  "):
            block.append(line.strip())
            continue
        if block:
            lines += roff.example(block)
            block = []
        if line.strip():
            lines += [".PP", roff.prose(line[0].upper() + line[1:])]
    return lines


# -- the configuration


def _key(key: Key) -> list[str]:
    setting = key.setting
    default = "none: it must be set" if key.path == "group" else json.dumps(setting.text)
    term = f"{roff.bold(key.name)} ({roff.escaped(setting.kind.name)})"
    restart = " A change needs a restart." if setting.fixed else ""
    return roff.entry(term, setting.help, f"Default: {default}. Variable: {key.variable}.{restart}")


def _declared() -> list[str]:
    told, _, code = JOBS.partition("\n\n")
    return [*roff.paragraphs(told), *roff.example(code.splitlines())]


PAGES: Final[dict[str, Callable[[], str]]] = {
    "cron-runner.1": command_page,
    "cron-runner.toml.5": configuration_page,
}


def main(argv: list[str]) -> int:
    """Print the page that is named."""
    parser = argparse.ArgumentParser(prog="python -m runner.cli.manual", description="Print a man page as roff.")
    parser.add_argument("page", choices=tuple(PAGES))
    sys.stdout.write(PAGES[parser.parse_args(argv).page]())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
