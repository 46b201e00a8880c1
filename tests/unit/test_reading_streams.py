"""A stream of CloudWatch Logs, read on and on."""

from __future__ import annotations

from runner.reading.cloudwatch import Line
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
