"""Streams of the page: how many there are, who is cut off, and what they go on from. Without a server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from runner.web import stream
from runner.web.log import following, last
from runner.web.sources.source import Piece, SourceAway, Unknown
from runner.web.stream import MOST_STREAMS, EventStream, Streams, pieces

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Output:
    """A run's output that grows; `away` is how often it does not answer first."""

    def __init__(self, data: bytes = b"", *, away: int = 0, over: bool = True) -> None:
        self.data, self.away, self.over = data, away, over

    async def output(self, run_id: str, start: int, limit: int) -> Piece:
        if run_id != "r":
            raise Unknown("cannot find it")
        if self.away:
            self.away -= 1
            raise SourceAway("cannot reach the agent")
        place = min(start, len(self.data))
        data = self.data[place : place + limit]
        end = place + len(data)
        return Piece(place, end, len(self.data), data, self.over and end >= len(self.data), "failed")


async def collected(source: Output, start: int = 0) -> list[Piece]:
    return [one async for one in pieces(source, "r", start, 0.0) if one is not None]  # type: ignore[arg-type]


async def test_a_source_that_comes_back_loses_and_repeats_nothing() -> None:
    data = bytes(range(256)) * 1000
    found = await collected(Output(data, away=3))
    assert b"".join(one.data for one in found) == data
    assert [one.over for one in found] == [False] * (len(found) - 1) + [True]
    assert b"".join(one.data for one in await collected(Output(data), found[0].next)) == data[found[0].next :]


async def test_no_more_than_so_many_streams_are_open() -> None:
    streams = Streams()
    assert all(streams.take() for _ in range(MOST_STREAMS))
    assert not streams.take()
    streams.leave()
    assert streams.take()


@pytest.mark.parametrize("leaves", [False, True])
async def test_who_reads_nothing_or_leaves_is_cut_off(leaves: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "UNREAD_S", 0.05)
    streams, made = Streams(), 0
    assert streams.take()

    async def endless() -> AsyncIterator[bytes]:
        nonlocal made
        while True:
            made += 1
            yield bytes(1000)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            await asyncio.sleep(3600)

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01 if leaves else 3600)
        return {"type": "http.disconnect"}

    async with asyncio.timeout(10):
        await EventStream(endless(), streams)({}, receive, send)  # type: ignore[arg-type]
    assert (made, streams.open) == (1, 0)


async def test_a_line_that_grows_takes_its_own_place() -> None:
    source = Output(b"one\ntw", over=False)
    shown = await last(source, "r")  # type: ignore[arg-type]
    assert 'id="b4"' in shown.html
    assert shown.next == 4
    source.data, source.over = b"one\ntwo\nthree\n", True
    said = b"".join([one async for one in following(source, "r", shown.next)]).decode()  # type: ignore[arg-type]
    assert said.count('id="b4"') == 1
    assert "two</span>" in said
    assert 'id="b8"' in said
    assert said.rstrip().endswith("data: failed")


async def test_of_long_output_the_last_lines_are_shown_and_their_places_are_true() -> None:
    data = b"".join(b"line %07d\n" % n for n in range(200_000))
    shown = await last(Output(data), "r")  # type: ignore[arg-type]
    assert shown.html.count("<li") == 4000
    assert "line 0199999" in shown.html
    assert f'id="b{len(data) - 13}"' in shown.html
    before = await last(Output(data), "r", shown.earlier)  # type: ignore[arg-type]
    assert before.start == shown.earlier
    assert before.later
