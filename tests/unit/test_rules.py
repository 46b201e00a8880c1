"""fail_on and require see whole lines, however the output arrives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.agent.output import success_rules as rules_module
from runner.agent.output.success_rules import Watch
from runner.agent.runs.output import Rules

PATTERNS = ("^b$", "a", r"a\s", r"\Ab", r"b\z", "^$", "a.b", r"\bab\b", "(?i)AB", "[^a]b", "(?-m:b$)")


@given(st.lists(st.text("ab \n", min_size=1, max_size=6).map(str.encode), max_size=8), st.sampled_from(PATTERNS))
def test_the_same_as_trying_each_line(chunks: list[bytes], pattern: str) -> None:
    import re2

    data = b"".join(chunks)
    lines = data.split(b"\n")
    if not lines[-1]:
        lines.pop()
    watch = Watch(Rules((pattern,), (pattern,)))
    position = end = 0
    for index, chunk in enumerate(chunks):
        end += len(chunk)
        position += watch.feed(data[position:end], final=index == len(chunks) - 1)
        watch = Watch(Rules((pattern,), (pattern,)), watch.state)
    matched = any(re2.search(pattern, line.decode()) for line in lines)
    assert (watch.failed_on, watch.missing) == ((pattern, None) if matched else (None, pattern))
    assert watch.lines == len(lines)


def test_the_end_of_a_line_with_carriage_return_is_no_part_of_it() -> None:
    watch = Watch(Rules(("wrong$",)))
    watch.feed(b"all wrong\r\nmore\n")
    assert watch.failed_on == "wrong$"


@pytest.mark.parametrize("whole", [True, False], ids=["in a window", "over windows"])
@pytest.mark.parametrize(
    ("data", "pattern", "found"),
    [
        (b"ok\rERROR: x", "^ERROR", True),
        (b"ERROR: x\rok", "^ERROR.*x$", True),
        (b"a\rb\rc\n", "^b$", True),
        (b"a\rb\r\n", "^$", False),
        (b"\ra\r\rb\r\r\nc\r", "^$", False),
        (b"a\r\n\r\nb", "^$", True),
        (b"a\rb", "a.b", False),
        (b"a\rb\n", r"\Ab\z", True),
    ],
)
def test_a_rule_is_tried_on_each_state_that_people_see(
    monkeypatch: pytest.MonkeyPatch, data: bytes, pattern: str, found: bool, whole: bool
) -> None:
    if not whole:
        monkeypatch.setattr(rules_module, "LINE_BYTES", 4)
        monkeypatch.setattr(rules_module, "OVERLAP", 0)
        data = b"before\r" + data
    watch = Watch(Rules((pattern,), (pattern,)))
    position = 0
    while position < len(data):
        end = min(len(data), position + (len(data) if whole else 8))
        position += watch.feed(data[position:end], final=end == len(data))
    assert (watch.failed_on, watch.missing) == ((pattern, None) if found else (None, pattern))


def test_bytes_that_are_no_text_do_not_hide_a_match() -> None:
    watch = Watch(Rules(("ERROR",), ("héllo",)))
    watch.feed(b"\xff\xfe ERROR\n" + "\x00héllo".encode() + b"\xff\n")
    assert (watch.failed_on, watch.missing) == ("ERROR", None)


def test_a_line_without_end_is_matched_in_pieces_that_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules_module, "LINE_BYTES", 1000)
    monkeypatch.setattr(rules_module, "OVERLAP", 100)
    data = b"x" * 995 + b"ERROR" + b"x" * 2000
    watch = Watch(Rules(("ERROR",)))
    position = 0
    while position < len(data):
        final = position + 1000 >= len(data)
        position += watch.feed(data[position : position + 1000], final=final)
    assert watch.failed_on == "ERROR"
    assert watch.lines == 1
