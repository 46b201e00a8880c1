"""A stream of CloudWatch Logs read on and on, and what is known of a run's streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from runner.reading.cloudwatch import CloudOutput, Line


@dataclass(frozen=True, slots=True)
class Seen:
    """The streams of a run in the order of its attempts, as far as they are known; `over`: there will be no more."""

    streams: tuple[str, ...]
    over: bool = False


class Reading:
    """One stream, from its beginning on."""

    def __init__(self, cloud: CloudOutput, run_id: str, stream: str) -> None:
        self._cloud = cloud
        self._run_id = run_id
        self._stream = stream
        self._token: str | None = None
        self._under_token: Sequence[Line] = ()  # what the last read under this token brought

    async def rest(self) -> AsyncIterator[Sequence[Line]]:
        """What has come since the last call, page by page, to the stream's present end.

        At its end AWS gives no events and the token that was passed in. Stand-ins give that token too, with all that
        has come since it was made, again at each read: what was seen under it is not new.
        """
        while True:
            lines, after = await self._cloud.read(self._run_id, self._stream, self._token)
            before = self._under_token
            yield lines[len(before) :] if lines[: len(before)] == list(before) else lines
            at_end = after == self._token
            self._token, self._under_token = after, lines if at_end else ()
            if at_end:
                return
