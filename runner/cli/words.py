"""The words behind a command, such as `jobs list`: each a parser of its own, made alike."""

from __future__ import annotations

import argparse

from runner.cli.main import Parser, add_config


class Words:
    """Those of ``cron-runner COMMAND``. Called from the command's `add_arguments`, for which it is imported."""

    def __init__(self, parser: argparse.ArgumentParser, command: str) -> None:
        self._command = command
        self._words = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)

    def add(
        self, name: str, summary: str, example: str, *, says: str = "", json: bool = True
    ) -> argparse.ArgumentParser:
        """A word with ``--config`` and, where `json`, ``--json``. `example` follows it in the help; `says` describes it
        where its summary is too short for that."""
        added: argparse.ArgumentParser = self._words.add_parser(
            name,
            help=summary,
            description=says or f"{summary[0].upper()}{summary[1:]}.",
            epilog=f"example:\n  cron-runner {self._command} {name} {example}".rstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        add_config(added, default=argparse.SUPPRESS)
        if json:
            added.add_argument("--json", action="store_true", help="print JSON")
        return added
