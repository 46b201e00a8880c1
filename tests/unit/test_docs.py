"""README and docs say what is true: links lead somewhere, examples load, tables name what there is."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runner.cli.main import COMMANDS, build_parser, commands_of
from runner.config import load
from runner.control.applying.files import read_files
from runner.protocol.message import parse_message
from runner.protocol.outcome import Outcome
from runner.protocol.specification import OF_MESSAGES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GOLDEN = ROOT / "tests" / "contract" / "events"
MINIMAL = {"CRON_RUNNER__GROUP": "web", "CRON_RUNNER_QUEUE__NAME": "cron-web"}

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")


def blocks(language: str) -> list[pytest.ParameterSet]:
    """Every fenced block of a language, named for its page and its place."""
    return [
        pytest.param(match[2], id=f"{page.name}-{page.read_text()[: match.start()].count(chr(10)) + 1}")
        for page in PAGES
        for match in _BLOCK.finditer(page.read_text())
        if match[1] == language
    ]


def anchors(page: Path) -> set[str]:
    """What a link may lead to in a page, by GitHub's rule."""
    titles = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_BLOCK.sub("", page.read_text())):
        name, _, anchor = link.partition("#")
        if name.startswith(("http:", "https:")):
            continue
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_the_readme_is_a_manual_and_no_book() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 400


@pytest.mark.parametrize("text", blocks("toml"))
def test_configurations_load(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    if "[groups." in text:  # a job file
        read_files([path])
        return
    given = {name: value for name, value in MINIMAL.items() if not ("QUEUE" in name and "[queue]" in text)}
    if "allowed_users" not in text:
        given["CRON_RUNNER_RUN__ALLOWED_USERS"] = "app"
    load(path, given)


@pytest.mark.parametrize("text", blocks("json"))
def test_json_is_json_and_jobs_are_jobs(text: str) -> None:
    value = json.loads(text)
    if "job" in value:
        parse_message(text.replace("<aws.scheduler.scheduled-time>", "2030-01-31T03:00:00Z"))


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_each_event_has_its_golden_example(path: Path) -> None:
    """A golden file that has changed: put its `event` into docs/events.md."""
    event = json.loads(path.read_text())["event"]
    shown = [json.loads(match[2]) for match in _BLOCK.finditer((ROOT / "docs/events.md").read_text())]
    [example] = [one for one in shown if one["type"] == event["type"]]
    assert example == event


def test_the_tables_name_all_that_there_is() -> None:
    readme, events = (ROOT / "README.md").read_text(), (ROOT / "docs/events.md").read_text()
    rows = " ".join(line for line in readme.splitlines() if line.startswith("|"))
    assert [field for field in OF_MESSAGES if f"`{field}`" not in rows] == []
    for page in (readme, events):
        assert [outcome for outcome in Outcome if f"`{outcome}`" not in page] == []
    assert [command.name for command in COMMANDS if f"cron-runner {command.name}" not in readme] == []


@pytest.mark.parametrize("text", blocks("sh"))
def test_command_lines_are_understood(text: str) -> None:
    subprocess.run(["bash", "-n"], input=text, text=True, check=True, timeout=30)
    for words in invocations(text):
        parser = build_parser()
        for word in words:
            below = commands_of(parser)
            if below:
                assert word in below, f"cron-runner {' '.join(words)}"
                parser = below[word]
            elif word.startswith("-"):
                assert word.partition("=")[0] in options(parser), f"cron-runner {' '.join(words)}"


def invocations(text: str) -> Iterator[list[str]]:
    """The words of each `cron-runner …` up to what ends it: a pipe, a comment, the job's own command."""
    unquoted = re.sub(r"'[^']*'|\"[^\"]*\"", "TEXT", re.sub(r" #.*", "", text))
    for match in re.finditer(r"(?<![\w/.=-])cron-runner ([a-z][^\n|;>)&]*)", unquoted):
        yield [word for word in match[1].partition(" -- ")[0].split() if word != "-"]


def options(parser: argparse.ArgumentParser) -> set[str]:
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", parser.format_help()))


FOR_MAINTAINERS = [ROOT / "docs" / f"{name}.md" for name in ("reading", "glossary", "changing")]
_PATH = re.compile(r"`((?:runner|tests|docs)/[\w./-]+|README\.md|config\.example\.toml)`")
_IN = re.compile(r"`(\w+)` in `(runner/[\w./]+\.py)`")


@pytest.mark.parametrize("page", FOR_MAINTAINERS, ids=lambda page: page.name)
def test_what_maintainers_are_told_to_read_is_there(page: Path) -> None:
    text = page.read_text()
    assert [path for path in _PATH.findall(text) if not (ROOT / path).exists()] == []
    assert [name for name, path in _IN.findall(text) if not re.search(rf"\b{name}\b", (ROOT / path).read_text())] == []
