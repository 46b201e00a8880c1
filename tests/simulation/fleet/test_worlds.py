"""The fleet half on virtual time. The worlds are processes of their own: their clock is no other test's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

# A busy machine is slow; each is a few seconds of CPU.
pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[3]
STORIES = [
    name
    for module in sorted(Path(__file__).parent.glob("*_stories.py"))
    for name in re.findall(r"^def story_(\w+)", module.read_text(), re.MULTILINE)
]
# 300 in a run of the tests, in parts that workers share; more by hand. A world of control costs ten of claims.
PARTS = [("claims", first, 50) for first in range(1, 200, 50)] + [("control", first, 25) for first in (1, 26)]
PARTS += [("news", first, 20) for first in (1, 85)] + [("recorders", 1, 10)]
PARTS += [("whole", first, 6) for first in (1, 7)]


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation.fleet", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("story", STORIES)
def test_a_story_keeps_the_promises(story: str) -> None:
    said = simulate("--story", story)
    assert (said.stdout, said.stderr) == (f"{story}: held\n", "")


@pytest.mark.parametrize(("kind", "first", "count"), PARTS)
def test_random_worlds_keep_the_promises(kind: str, first: int, count: int) -> None:
    said = simulate("--kind", kind, "--seed", str(first), "--count", str(count))
    assert said.returncode == 0, said.stdout + said.stderr
    assert f"worlds={count}" in said.stdout


def test_a_seed_is_one_history() -> None:
    first, second = (simulate("--kind", "claims", "--seed", "7", "--count", "3") for _ in range(2))
    assert "worlds=3" in first.stdout
    assert first.stdout == second.stdout
