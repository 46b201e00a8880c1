"""The fleet half on virtual time. The worlds are processes of their own: their clock is no other test's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STORIES = [
    name
    for module in sorted(Path(__file__).parent.glob("*_stories.py"))
    for name in re.findall(r"^def story_(\w+)", module.read_text(), re.MULTILINE)
]
# 300 of each kind in a run of the tests, in parts that workers share; more by hand.
PARTS = [(first, 100) for first in (1, 101, 201)]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation.fleet", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """What became of each story: "held", or how it broke."""
    said = simulate("--story", "all")
    assert not said.stderr
    return dict(re.findall(r"^(\w+): (held|broken.*?)$(?=\n\w+: |\n*\Z)", said.stdout, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("story", STORIES)
def test_a_story_keeps_the_promises(told: dict[str, str], story: str) -> None:
    assert told[story] == "held", told[story]


@pytest.mark.parametrize(("first", "count"), PARTS)
@pytest.mark.parametrize("kind", ["claims", "control"])
def test_random_worlds_keep_the_promises(kind: str, first: int, count: int) -> None:
    said = simulate("--kind", kind, "--seed", str(first), "--count", str(count))
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"worlds={count}" in said.stdout


def test_a_seed_is_one_history() -> None:
    first, second = (simulate("--kind", "claims", "--seed", "7", "--count", "3") for _ in range(2))
    assert "worlds=3" in first.stdout
    assert first.stdout == second.stdout
