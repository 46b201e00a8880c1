"""Output on the page: nothing of it is markup, and every line has its place. Pure."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.web.ansi import Text, html_of, items, lines
from runner.web.stream import event


class Tags(HTMLParser):
    """The tags of some HTML, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=80))
def test_whatever_a_line_says_it_is_text(line: str) -> None:
    html, _ = html_of(line.replace("\n", ""))
    seen = Tags(html)
    assert {tag for tag, _ in seen.tags} <= {"span"}
    assert all(set(attrs) == {"class"} and re.fullmatch(r"[ab0-9 ]+", attrs["class"] or "") for _, attrs in seen.tags)
    assert seen.text.replace("\t", "").isprintable()


@pytest.mark.parametrize(
    ("line", "html"),
    [
        ("\x1b[31mred\x1b[0m on", '<span class="a31">red</span> on'),
        ("\x1b[1;32mok\x1b[m", '<span class="b1 a32">ok</span>'),
        ("\x1b[38;5;196mx\x1b[39my", '<span class="a31">x</span>y'),
        ("\x1b[48;2;0;0;255mz", '<span class="a44">z</span>'),
        ("\x1b]8;;https://evil.example\x1b\\click\x1b]8;;\x1b\\", "click"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b[2J\x1b[Hhome\x1b[6n", "home"),
        ("\x1bPq#0;2\x1b\\six", "six"),
        ("</script><b>&", "&lt;/script&gt;&lt;b&gt;&amp;"),
        ("a\u202eb\u2066", "a\\u202eb\\u2066"),
        ("10 %\r20 %\r", "20 %"),
        ("\x1b[31;999999999999mq", '<span class="a31">q</span>'),
        ("\x1b]unended", ""),
    ],
)
def test_colours_are_shown_and_no_other_sequence(line: str, html: str) -> None:
    assert html_of(line)[0] == html


def test_lines_are_found_by_the_byte_that_they_begin_at() -> None:
    text = Text(100)
    text.add(b"one\ntwo ***", 100, [(11, 130)])
    text.add(b" end\nthree\npart", 130)
    found = [line for line, _ in lines(text)]
    assert [(line.offset, line.html, line.whole) for line in found] == [
        (100, "one", True),
        (104, "two *** end", True),
        (135, "three", True),
        (141, "part", False),
    ]
    assert text.rest(found[-1].position).where(0) == 141
    assert 'id="b104"' in "".join(items(found, 1))


def test_no_line_of_output_begins_an_event_of_its_own() -> None:
    said = event("output", "a\r\revent: end\ndata: x\r\n\r\nid: 9", 7).decode()
    fields = [line.partition(":")[0] for line in said.splitlines() if line]
    assert fields == ["event", "id", *["data"] * (len(fields) - 2)]
    assert "\r" not in said
