"""A stream of CloudWatch Logs, read on and on."""

from __future__ import annotations

from typing import Any

import pytest

from runner.aws.logs import StreamPage
from runner.reading.cloudwatch import CloudOutput, Line
from runner.reading.streams import Reading


class Endpoint:
    """A stream whose last page comes again under the token that was passed in, as some stand-ins give it."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def read(self, _run_id: str, _stream: str, token: str | None) -> tuple[list[Line], str]:
        begin = int(token or 0)
        page = [Line(0, text) for text in self.lines[begin:]]
        return page, token or str(len(self.lines))


async def test_a_page_that_comes_again_is_shown_once() -> None:
    endpoint = Endpoint()
    reading = Reading(endpoint, "r", "s")  # type: ignore[arg-type]
    seen: list[str] = []
    for more in (["a", "b"], [], ["c"], [], ["c", "d"], []):
        endpoint.lines += more
        async for page in reading.rest():
            seen += [line.text for line in page]
    assert seen == ["a", "b", "c", "c", "d"]


class ManyStreams:
    """A group of so many pages of streams, none of them the run's."""

    def __init__(self, pages: int) -> None:
        self.left = pages

    async def streams(self, _group: str, *, prefix: str, token: str | None) -> StreamPage:  # noqa: ARG002 - its name is the interface
        assert prefix == ""
        self.left -= 1
        return StreamPage(("other/run",), str(self.left) if self.left else None)


@pytest.mark.parametrize(("pages", "times"), [(1, 0), (10, 0), (11, 1), (60, 1)])
async def test_a_search_through_many_streams_says_so_once(pages: int, times: int) -> None:
    said: list[int] = []
    logs: Any = ManyStreams(pages)
    cloud = CloudOutput(logs, "group", "{job}/{run_id}", at_length=lambda: said.append(logs.left))
    assert await cloud.streams("nothing", None) == []
    assert (logs.left, len(said)) == (0, times)
