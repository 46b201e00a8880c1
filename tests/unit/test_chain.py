"""What runs after what: words, and the ids of runs."""

from __future__ import annotations

import pytest

from runner.control.chains.chain import LONGEST_RUN_ID, child_run_id, words
from runner.control.definition import run_id_at


@pytest.mark.parametrize(
    ("after", "when", "said"),
    [
        ((), "success", ""),
        (("extract",), "success", "after extract, when it succeeds"),
        (("extract", "load"), "success", "after extract and load, when they succeed"),
        (("a", "b", "c"), "any", "after a, b and c, when they have ended"),
        (("a",), "failure", "after a, when it does not succeed"),
        (("a", "b"), "failure", "after a and b, when none of them succeeds"),
    ],
)
def test_a_chain_in_words(after: tuple[str, ...], when: str, said: str) -> None:
    assert words(after, when) == said


def test_the_run_of_a_child_has_one_id_whoever_fires_it() -> None:
    assert child_run_id("load", "extract", run_id_at("extract", 0.0)) == run_id_at("load", 0.0)
    assert child_run_id("load", "extract", "extract-by-hand-3") == "load-by-hand-3"
    # Not of the parent's name: no other run of it, nor of another parent, comes to the same.
    others = {child_run_id("load", "extract", run_id) for run_id in ("x", "load-x", "extracted", "y")}
    assert len(others) == 4
    assert child_run_id("load", "other", "x") not in others
    long = child_run_id("c" * 128, "p" * 100, "p" * 100 + "-2030-01-31T03-00-00Z")
    assert len(long) == LONGEST_RUN_ID
