"""What others wrote is shown to people as printable text, by every printer."""

from __future__ import annotations

import io
import json
import os
import pty

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from runner import log
from runner.cli.fleet import aligned
from runner.visible import visible, visible_json

HOSTILE = "a\x1b]0;x\x07\x9b31m\u202eb\u2066\u2028c\ud800\x7f\u200b\ufeff\U000e0041\t\r\nd"


@given(st.text(st.characters(), max_size=50))
def test_what_is_shown_is_printable_and_what_was_printable_stays(text: str) -> None:
    assert visible(text).isprintable()
    assert visible(text) == text or not text.isprintable()
    assert json.loads(f'"{visible(json.dumps(text)[1:-1])}"') == text


@given(st.dictionaries(st.text(st.characters(), max_size=9), st.text(st.characters(), max_size=30), max_size=3))
def test_a_document_means_the_same(value: dict[str, str]) -> None:
    document = json.dumps(value, ensure_ascii=False)
    assert json.loads(visible_json(document)) == value
    assert visible_json(document).isprintable()


def test_a_line_of_the_log_is_printable_whatever_a_value_holds() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    before = structlog.get_config()
    try:
        log.configure(stream=stream, environ={})
        structlog.get_logger().warning("message_rejected", detail=HOSTILE, name="Zoë 日本")
    finally:
        structlog.configure(**before)
    stream.seek(0)
    [line] = stream.read().splitlines()
    assert line.isprintable()
    assert (json.loads(line)["detail"], json.loads(line)["name"]) == (HOSTILE, "Zoë 日本")
    assert "Zoë 日本" in line


def test_a_terminal_gets_no_control_sequence_of_a_value() -> None:
    ours, theirs = pty.openpty()
    before = structlog.get_config()
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        try:
            log.configure(stream=terminal, environ={"NO_COLOR": "1"})
            structlog.get_logger().error("run_failed", detail=HOSTILE, more=[HOSTILE], deep={"x": HOSTILE})
        finally:
            structlog.configure(**before)
        said = os.read(ours, 65536).decode()
    os.close(ours)
    assert said.rstrip("\r\n").isprintable(), said


def test_a_cell_of_a_table_is_printable() -> None:
    assert all(line.isprintable() for line in aligned(("JOB",), [(HOSTILE,)], "JOB"))


@pytest.mark.parametrize("text", ["", "a b", "Zoë", "日本語", "😀"])
def test_readable_text_is_left_alone(text: str) -> None:
    assert visible(text) is text or visible(text) == text
