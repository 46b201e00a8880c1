"""The man pages: made of the parsers and of the configuration's keys, whole, and fit for man(1) and mandoc(1)."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import date

import pytest

import runner
from runner.cli import roff
from runner.cli.main import COMMANDS, build_parser, commands_of
from runner.cli.manual import PAGES, command_page, configuration_page
from runner.cli.manual_fields import FIELDS
from runner.config.keys import KEYS
from runner.protocol.specification import OF_DECLARATIONS, OF_MESSAGES


def plain(page: str) -> str:
    """The page as a reader sees it, without typesetting."""
    text = re.sub(r"\\f[BIP]|\\&", "", page)
    for spelt, char in ((r"\-", "-"), (r"\(aq", "'"), (r"\(ga", "`"), (r"\(ti", "~"), (r"\(ha", "^"), (r"\e", "\\")):
        text = text.replace(spelt, char)
    return text


def test_every_command_and_every_option_is_in_the_page() -> None:
    page = plain(command_page())
    commands = commands_of(build_parser())
    assert list(commands) == [command.name for command in COMMANDS]
    for name, parser in commands.items():
        assert f'.SS "cron-runner {name}"' in page
        options = re.findall(r"--[a-z][a-z-]+", parser.format_help())
        assert options
        assert [option for option in options if option not in page] == []
    for line in commands["send"].epilog.splitlines()[1:]:  # type: ignore[union-attr]
        assert line.strip() in page


def test_every_key_is_in_the_page_with_its_help_default_and_variable() -> None:
    page = plain(configuration_page())
    for key in KEYS.values():
        assert f"{key.name} ({key.setting.kind.name})" in page
        assert " ".join(key.setting.help.split()) in page
        restart = " A change needs a restart." if key.setting.fixed else "\n"
        assert f"Variable: {key.variable}.{restart}" in page, key.path


def test_every_field_of_messages_and_declared_jobs_is_told() -> None:
    assert FIELDS.keys() == OF_MESSAGES.keys() | OF_DECLARATIONS.keys()
    page = plain(configuration_page())
    for name, (kind, text) in FIELDS.items():
        assert f"{name} ({kind})\n{text.replace('`', '')}" in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (".TH is no request", r"\&.TH is no request"),
        ("'tis", r"\&\(aqtis"),
        (r"C:\temp --flag", r"C:\etemp \-\-flag"),
        ("a … b", r"a \[u2026] b"),
    ],
)
def test_text_is_shown_as_it_is(text: str, shown: str) -> None:
    assert roff.escaped(text) == shown
    assert roff.prose(text) == shown


def test_the_same_source_makes_the_same_page() -> None:
    for name, make in PAGES.items():
        done = subprocess.run(
            [sys.executable, "-m", "runner.cli.manual", name], capture_output=True, text=True, check=True
        )
        assert done.stdout == make()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(
    ("program", "words"),
    [("mandoc", ["-T", "lint", "-W", "warning"]), ("groff", ["-man", "-ww", "-Tutf8", "-z"])],
    ids=["mandoc", "groff"],
)
def test_the_page_is_fit_for(name: str, program: str, words: list[str]) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed here")
    done = subprocess.run(
        [program, *words], input=PAGES[name](), capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout + done.stderr).splitlines() == []


@pytest.mark.parametrize("name", PAGES)
def test_a_page_bears_the_date_of_its_version(name: str) -> None:
    """mandoc warns of a page without one."""
    first = PAGES[name]().splitlines()
    [title] = [line for line in first if line.startswith(".TH ")]
    assert f' "{date.fromisoformat(runner.__date__)}" ' in title
