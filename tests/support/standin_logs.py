"""CloudWatch Logs in memory, with every limit of PutLogEvents held strictly (moto holds none).

The limits are those of the API reference of PutLogEvents; each break of one is kept in ``violations`` besides being
refused, so that a test can ask for none instead of hoping that a client's complaint was seen.
"""

from __future__ import annotations

import re
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from typing import Any

from standin_sqs import Refused

MAX_BATCH_BYTES = 1_048_576
EVENT_OVERHEAD = 26
MAX_BATCH_EVENTS = 10_000
MAX_EVENT_BYTES = 1_048_576 - EVENT_OVERHEAD
_DAY_MS = 86_400_000
_TOO_NEW_MS = 2 * 3_600_000
_TOO_OLD_MS = 14 * _DAY_MS
_PAGE_EVENTS = 10_000
_PAGE_BYTES = 1_048_576
_RETENTIONS = {1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653}


@dataclass(slots=True)
class Stream:
    """A log stream; events in the order in which they were accepted, as (time in ms, text, ingested in ms)."""

    created_ms: int
    events: list[tuple[int, str, int]] = field(default_factory=list)


@dataclass(slots=True)
class Group:
    """A log group."""

    created_ms: int
    retention_days: int | None = None
    streams: dict[str, Stream] = field(default_factory=dict)


def _now_ms() -> int:
    return int(time.time() * 1000)


def _missing(what: str) -> Refused:
    return Refused("ResourceNotFoundException", f"The specified log {what} does not exist.")


def _invalid(detail: str) -> Refused:
    return Refused("InvalidParameterException", detail)


class Logs:
    """The actions, each from its parameters to its answer."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}
        self.violations: list[str] = []
        self.accepted = {"events": 0, "bytes": 0, "batches": 0, "largest_batch": 0}

    def reset(self) -> None:
        """Forget everything."""
        self.__init__()  # type: ignore[misc]

    async def call(self, action: str, asked: dict[str, Any]) -> dict[str, Any]:
        """Do one action.

        Raises:
            Refused: AWS would have answered with this error.
        """
        does = getattr(self, f"_do_{action}", None)
        if does is None:
            raise Refused("UnknownOperationException", f"the stand-in does not know {action}")
        answer: dict[str, Any] = does(asked)
        return answer

    def _group(self, asked: dict[str, Any]) -> Group:
        try:
            return self._groups[asked["logGroupName"]]
        except KeyError:
            raise _missing("group") from None

    def _stream(self, asked: dict[str, Any]) -> Stream:
        try:
            return self._group(asked).streams[asked["logStreamName"]]
        except KeyError:
            raise _missing("stream") from None

    def _do_CreateLogGroup(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's names
        name = asked["logGroupName"]
        if not re.fullmatch(r"[.\-_/#A-Za-z0-9]{1,512}", name):
            raise _invalid(f"Value '{name}' at 'logGroupName' failed to satisfy constraint")
        if name in self._groups:
            raise Refused("ResourceAlreadyExistsException", "The specified log group already exists")
        self._groups[name] = Group(_now_ms())
        return {}

    def _do_DeleteLogGroup(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._group(asked)
        del self._groups[asked["logGroupName"]]
        return {}

    def _do_CreateLogStream(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        group, name = self._group(asked), asked["logStreamName"]
        if not re.fullmatch(r"[^:*]{1,512}", name):
            raise _invalid(f"Value '{name}' at 'logStreamName' failed to satisfy constraint")
        if name in group.streams:
            raise Refused("ResourceAlreadyExistsException", "The specified log stream already exists")
        group.streams[name] = Stream(_now_ms())
        return {}

    def _do_PutRetentionPolicy(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        days = asked["retentionInDays"]
        if days not in _RETENTIONS:
            raise _invalid(f"Value '{days}' at 'retentionInDays' failed to satisfy constraint")
        self._group(asked).retention_days = days
        return {}

    def _do_DescribeLogGroups(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        prefix = asked.get("logGroupNamePrefix") or ""
        found = [
            {"logGroupName": name, "creationTime": group.created_ms}
            | ({"retentionInDays": group.retention_days} if group.retention_days else {})
            for name, group in sorted(self._groups.items())
            if name.startswith(prefix)
        ]
        return _page(found, asked, "logGroups")

    def _do_DescribeLogStreams(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        prefix = asked.get("logStreamNamePrefix") or ""
        found = [
            {"logStreamName": name, "creationTime": stream.created_ms}
            for name, stream in sorted(self._group(asked).streams.items())
            if name.startswith(prefix)
        ]
        return _page(found, asked, "logStreams")

    def _do_PutLogEvents(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        stream, retention = self._stream(asked), self._group(asked).retention_days
        events = [(event["timestamp"], event["message"]) for event in asked["logEvents"]]
        size = self._check(events)
        now = _now_ms()
        times = [at for at, _ in events]
        too_new = bisect_right(times, now + _TOO_NEW_MS)
        too_old = bisect_right(times, now - _TOO_OLD_MS)
        expired = bisect_right(times, now - retention * _DAY_MS) if retention else 0
        good = events[max(too_old, expired) : too_new]
        stream.events += [(at, text, now) for at, text in good]
        self.accepted["events"] += len(good)
        self.accepted["bytes"] += size
        self.accepted["batches"] += 1
        self.accepted["largest_batch"] = max(self.accepted["largest_batch"], size)
        rejected = {
            **({"tooNewLogEventStartIndex": too_new} if too_new < len(events) else {}),
            **({"tooOldLogEventEndIndex": too_old} if too_old else {}),
            **({"expiredLogEventEndIndex": expired} if expired else {}),
        }
        return {"nextSequenceToken": "0"} | ({"rejectedLogEventsInfo": rejected} if rejected else {})

    def _check(self, events: list[tuple[int, str]]) -> int:
        """The batch's size as AWS counts it; refuses what AWS refuses."""
        sizes = [len(text.encode()) for _, text in events]
        total = sum(sizes) + EVENT_OVERHEAD * len(sizes)
        times = [at for at, _ in events]
        faults = [
            (not events, "a batch without events"),
            (len(events) > MAX_BATCH_EVENTS, f"{len(events)} events in a batch"),
            (0 in sizes, "an empty message"),
            (max(sizes, default=0) > MAX_EVENT_BYTES, f"an event of {max(sizes, default=0)} bytes"),
            (total > MAX_BATCH_BYTES, f"a batch of {total} bytes"),
            (times != sorted(times), "events that are not in chronological order"),
            (bool(times) and max(times) - min(times) > _DAY_MS, "a batch that spans more than 24 hours"),
            (any(at < 0 for at in times), "a time before 1970"),
        ]
        for broken, what in faults:
            if broken:
                self.violations.append(what)
                raise _invalid(f"Log events cannot be accepted: {what}")
        return total

    def _do_GetLogEvents(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """Pages from the head; the tail's pages of the real service are not needed and not made."""
        events = self._stream(asked).events
        token = asked.get("nextToken")
        start = int(token.partition("/")[2]) if token else 0
        end, size = start, 0
        while end < len(events) and end - start < min(_PAGE_EVENTS, asked.get("limit") or _PAGE_EVENTS):
            size += len(events[end][1].encode()) + EVENT_OVERHEAD
            if size > _PAGE_BYTES and end > start:
                break
            end += 1
        return {
            "events": [_shown(event) for event in events[start:end]],
            "nextForwardToken": f"f/{end}",
            "nextBackwardToken": f"b/{start}",
        }

    def _do_FilterLogEvents(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        """All events of a group's streams; patterns are not understood."""
        group = self._group(asked)
        names = asked.get("logStreamNames") or [
            name for name in sorted(group.streams) if name.startswith(asked.get("logStreamNamePrefix") or "")
        ]
        found = [
            _shown(event) | {"logStreamName": name, "eventId": f"{name}/{index}"}
            for name in names
            for index, event in enumerate(group.streams[name].events)
        ]
        start = int(asked.get("nextToken") or 0)
        end = start + min(_PAGE_EVENTS, asked.get("limit") or _PAGE_EVENTS)
        return {"events": found[start:end]} | ({"nextToken": str(end)} if end < len(found) else {})


def _shown(event: tuple[int, str, int]) -> dict[str, Any]:
    return {"timestamp": event[0], "message": event[1], "ingestionTime": event[2]}


def _page(found: list[dict[str, Any]], asked: dict[str, Any], name: str) -> dict[str, Any]:
    start = int(asked.get("nextToken") or 0)
    end = start + (asked.get("limit") or 50)
    return {name: found[start:end]} | ({"nextToken": str(end)} if end < len(found) else {})
