"""docs/way-of-a-run.md says what the table says."""

from __future__ import annotations

from pathlib import Path

from way_of_a_run import page

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_made_from_the_table() -> None:
    made = page()
    assert (DOCS / "way-of-a-run.md").read_text() == made, "python tests/support/way_of_a_run.py > docs/way-of-a-run.md"
