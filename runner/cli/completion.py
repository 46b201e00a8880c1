"""``cron-runner completion SHELL``: completes the command line, made from the parsers behind ``--help``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

EXAMPLE: Final = """\
cron-runner completion bash > /etc/bash_completion.d/cron-runner
cron-runner completion zsh > "${fpath[1]}/_cron-runner"
cron-runner completion fish > ~/.config/fish/completions/cron-runner.fish
"""
SHELLS: Final = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The shell."""
    parser.add_argument("shell", metavar="SHELL", choices=SHELLS, help="bash, zsh or fish")


def execute(args: argparse.Namespace) -> int:
    """Print the script."""
    printing.data(script(args.shell))
    return 0


def script(shell: str) -> str:
    """The completion script for one of `SHELLS`."""
    import shtab  # noqa: PLC0415 - only this command needs it

    from runner.cli.main import build_parser  # noqa: PLC0415 - it imports this module

    parser = build_parser()
    # By the word that --help shows for the value, so that an option needs nothing said about it here.
    values = {"FILE": shtab.FILE, "DIRECTORY": shtab.DIRECTORY}
    for action in _actions(parser):
        if action.metavar in values:
            action.complete = values[action.metavar]
    return str(shtab.complete(parser, shell)).rstrip("\n") + "\n"


def _actions(parser: argparse.ArgumentParser) -> Iterator[Any]:
    from runner.cli.main import commands_of  # noqa: PLC0415 - it imports this module

    yield from parser._actions  # noqa: SLF001 - argparse shows its parts in no other way
    for command in commands_of(parser).values():
        yield from _actions(command)
