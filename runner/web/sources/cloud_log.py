"""A run's output as CloudWatch has it, as bytes with places: its lines in the order of its streams, each with its end.

Only what was read last is kept, so that a follower costs a read and not all of it again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.reading.streams import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.reading.cloudwatch import CloudOutput

KEPT: Final = 2 << 20
MOST_PAGES: Final = 64
"""Pages of a megabyte that are read for one answer."""


class CloudLog:
    """`start` and `end` are the places of what is kept."""

    def __init__(self, cloud: CloudOutput, run_id: str) -> None:
        self._cloud = cloud
        self._run_id = run_id
        self._streams: list[str] = []
        self._at = 0
        self._reading: Reading | None = None
        self.start = 0
        self.data = bytearray()

    @property
    def end(self) -> int:
        return self.start + len(self.data)

    async def read_on(self, streams: Sequence[str], upto: int) -> None:
        """Read until `upto` is there, or there is no more. `streams` are the run's, in the order of its attempts."""
        self._streams += [name for name in streams if name not in self._streams]
        pages = 0
        while self._at < len(self._streams) and self.end < upto and pages < MOST_PAGES:
            if self._reading is None:
                self._reading = Reading(self._cloud, self._run_id, self._streams[self._at])
            async for lines in self._reading.rest():
                pages += 1
                self._keep("".join(f"{line.text}\n" for line in lines).encode("utf-8", "surrogatepass"), upto)
                if self.end >= upto or pages >= MOST_PAGES:
                    break
            else:
                if self._at + 1 >= len(self._streams):
                    return
                self._at, self._reading = self._at + 1, None

    def _keep(self, more: bytes, upto: int) -> None:
        self.data += more
        over = len(self.data) - KEPT
        # What is asked for stays.
        over = min(over, max(0, upto - (1 << 20) - self.start))
        if over > 0:
            del self.data[:over]
            self.start += over

    def piece(self, start: int, limit: int) -> bytes:
        at = start - self.start
        return bytes(self.data[at : at + limit]) if at >= 0 else b""
