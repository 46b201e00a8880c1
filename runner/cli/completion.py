"""``cron-runner completion SHELL``: completes the command line, made from the parsers behind ``--help``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

EXAMPLE: Final = """\
cron-runner completion bash > /etc/bash_completion.d/cron-runner
cron-runner completion zsh > "${fpath[1]}/_cron-runner"
cron-runner completion fish > ~/.config/fish/completions/cron-runner.fish
"""
SHELLS: Final = ("bash", "zsh", "fish")
WORDS: Final = ("runs", "jobs")
_RECENT: Final = 50


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument(
        "shell",
        metavar="SHELL",
        choices=(*SHELLS, *WORDS),
        help="bash, zsh or fish; runs or jobs prints what those scripts offer: the runs, or the jobs, of this host",
    )


def execute(args: argparse.Namespace) -> int:
    """Print the script, or the words."""
    if args.shell in WORDS:
        printing.data("".join(f"{word}\n" for word in words(args, args.shell)))
    else:
        printing.data(script(args.shell))
    return 0


def script(shell: str) -> str:
    """The completion script for one of `SHELLS`."""
    import shtab  # noqa: PLC0415 - only this command needs it

    from runner.cli.main import build_parser  # noqa: PLC0415 - it imports this module

    parser = build_parser()
    # By the word that --help shows for the value, so that an option needs nothing said about it here.
    values = {"FILE": shtab.FILE, "DIRECTORY": shtab.DIRECTORY, "RUN_ID": _asked("runs"), "JOB": _asked("jobs")}
    for action in _actions(parser):
        if action.metavar in values:
            action.complete = values[action.metavar]
        elif "--job" in action.option_strings:
            action.complete = values["JOB"]
    return str(shtab.complete(parser, shell)).rstrip("\n") + "\n"


def _asked(what: str) -> dict[str, Any]:
    """How each shell asks for words when TAB is pressed; shtab's own would have zsh ask when it reads the script."""
    import shtab  # noqa: PLC0415 - as above

    asked = f"command cron-runner completion {what} 2>/dev/null"
    of_shtab: dict[str, Any] = dict(shtab.cmd(asked))
    name = f"_cron_runner_{what}"
    of_zsh = f'{name}() {{\n  compadd -- ${{(f)"$({asked})"}}\n}}'
    return {**of_shtab, "zsh": name, "preamble": {**of_shtab["preamble"], "zsh": of_zsh}}


def words(args: argparse.Namespace, what: str) -> list[str]:
    """The ids of the runs that this host's agent has or had last, or the names of jobs: theirs, and those declared.

    None where there is no agent: who presses TAB is not told of faults.
    """
    from runner.cli import agent_socket  # noqa: PLC0415 - `--help` needs none of it
    from runner.config.place import DEFAULT_PATH  # noqa: PLC0415
    from runner.config.toml import Unreadable, read_toml  # noqa: PLC0415

    args.socket = None
    try:
        seen = agent_socket.ask(agent_socket.socket_of(args, os.environ), "status", recent=_RECENT)
    except CronRunnerError:
        seen = {}
    runs = [run for part in ("runs", "held", "recent") for run in seen.get(part) or ()]
    if what == "runs":
        return list(dict.fromkeys(run["run_id"] for run in runs))
    try:
        declared = read_toml(args.config or DEFAULT_PATH).get("jobs")
    except (OSError, Unreadable):
        declared = None
    return sorted({*(run["job"] for run in runs if run["job"]), *(declared if isinstance(declared, dict) else ())})


def _actions(parser: argparse.ArgumentParser) -> Iterator[Any]:
    from runner.cli.main import commands_of  # noqa: PLC0415 - it imports this module

    yield from parser._actions  # noqa: SLF001 - argparse shows its parts in no other way
    for command in commands_of(parser).values():
        yield from _actions(command)
