"""CloudWatch Logs. Batches are within the limits of PutLogEvents (API reference, November 2026, and the quotas page).

Groups and streams are made when they turn out to be missing: a run without output makes none.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import structlog

from runner.errors import AwsUnavailable
from runner.sinks import SPLIT_MARK, Batch, Limits, NoNewStream, Tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.aws.logs import Rejected

log = structlog.get_logger()

PUT_LOG_EVENTS = Limits(
    batch_bytes=1_048_576,
    batch_events=10_000,
    # An event may have 1 MiB since April 2025; it was 256 KiB for ten years, and what reads log groups (subscriptions,
    # stand-ins of AWS, other partitions) still goes by that. Whether the 26 bytes that a batch counts for each event
    # belong to that limit is not documented: they are taken off, which is right either way.
    event_bytes=262_144 - 26,
    event_overhead=26,
    # Older than 14 days, or than the group keeps events, they are rejected; a batch over 24 hours is, too.
    oldest_s=14 * 86400.0 - 600,
    span_s=86400.0 - 60,
)
STREAM_NAME_MOST = 512
# An account may make 50 streams a second, and streams that exist are not concerned. A few refusals are a busy second,
# and each stream is tried again; so many in a row say that the quota is used up for now.
QUOTA_GONE_AFTER = 8
STREAMS_KNOWN = 1_000
SHARED_STREAM = "~shared/{host}"
"""Where ended small runs of a host go while no streams can be made. `~` is in no job's name."""
RETENTION_AGAIN_S = 30.0
RETENTION_CAP_S = 3600.0
CLOCK_REFUSED_MS = 2 * 3600 * 1000
"""An event further in the future than this is refused as too new."""
_RESTAMPED = 20
"""So often the stamps go back, twice as far each time: to before there was any cloud."""
_DROPPED = "CloudWatch never takes these lines: they count as dropped"
_TOO_OLD = "CloudWatch takes no lines older than 14 days or the group's retention: they are stamped with the time now"
_TOO_NEW = "this host's clock is ahead, and the lines are stamped anew; enable chrony or systemd-timesyncd"
_FORBIDDEN = str.maketrans({":": "-", "*": "-"})


def readable(text: str) -> str:
    """An event's text as the job wrote it, with its line end; a piece of a line that was split has none."""
    if text.endswith(SPLIT_MARK):
        return text.removesuffix(SPLIT_MARK)
    return "\n" if text == " " else f"{text}\n"


class LogsApi(Protocol):
    """What is used of runner.aws.logs.Logs."""

    async def put_events(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> Rejected | None: ...
    async def create_stream(self, group: str, stream: str) -> bool: ...
    async def create_group(self, group: str, retention_days: int | None = None) -> bool: ...
    async def set_retention(self, group: str, days: int) -> None: ...


class Retention:
    """How long a group that we made keeps its events; set again and again where AWS did not take it at once."""

    def __init__(self, group: str, days: int | None) -> None:
        self._group = group
        self.days = days
        self._failures = 0
        self._due = 0.0

    def failed(self, error: AwsUnavailable) -> None:
        self._failures += 1
        wait = min(RETENTION_CAP_S, RETENTION_AGAIN_S * 2.0 ** (self._failures - 1))
        self._due = time.monotonic() + wait
        log.warning("retention_not_set", group=self._group, days=self.days, error=str(error), retry_in=round(wait))

    async def mend(self, logs: LogsApi) -> None:
        """Called after a put that succeeded: AWS is there."""
        if not self._failures or not self.days or time.monotonic() < self._due:
            return
        try:
            await logs.set_retention(self._group, self.days)
        except AwsUnavailable as error:
            self.failed(error)
        else:
            self._failures = 0
            log.info("retention_set", group=self._group, days=self.days)


def _within(retention_days: int | None) -> Limits:
    """The limits of a group that keeps events for so long."""
    oldest_s = min(PUT_LOG_EVENTS.oldest_s, retention_days * 86400.0 - 600) if retention_days else None
    return PUT_LOG_EVENTS if oldest_s is None else replace(PUT_LOG_EVENTS, oldest_s=oldest_s)


class CloudWatch:
    """The sink "cloudwatch". `log_group` may hold {group}; `flush` in seconds; `retention_days` is set on a group
    that this sink makes."""

    name = "cloudwatch"
    raw = False
    parallel = 4

    def __init__(
        self,
        logs: LogsApi,
        *,
        group: str,
        log_group: str = "/cron-runner/{group}",
        log_stream: str = "{job}/{run_id}",
        flush: float = 1.0,
        retention_days: int | None = 30,
    ) -> None:
        self._logs = logs
        self.log_group = log_group.replace("{group}", group)
        self._template = log_stream
        self.shared = "{run_id}" not in log_stream
        self.flush = flush
        self._retention = Retention(self.log_group, retention_days)
        self.limits = _within(retention_days)
        self._refused = 0  # new streams in a row, of any runs
        self._there: dict[str, None] = {}  # streams of single runs that have been put to, the latest last

    def reloaded(
        self, *, group: str, log_group: str, log_stream: str, flush: float, retention_days: int | None
    ) -> CloudWatch:
        """The sink for what begins from now on: this one, unless its group or streams have other names now.

        What began here goes on here, sent at the new pace; the new retention is for groups that are made from now on.
        """
        self.flush = flush
        self._retention.days = retention_days
        self.limits = _within(retention_days)
        if log_group.replace("{group}", group) == self.log_group and log_stream == self._template:
            return self
        return CloudWatch(
            self._logs,
            group=group,
            log_group=log_group,
            log_stream=log_stream,
            flush=flush,
            retention_days=retention_days,
        )

    def stream(self, tag: Tag) -> str:
        """{date} is the UTC day on which the run began; what CloudWatch refuses in a name becomes "-"."""
        values: Mapping[str, str] = {
            "job": tag.job,
            "run_id": tag.run_id,
            "host": tag.host,
            "attempt": str(tag.attempt),
            "date": time.strftime("%Y-%m-%d", time.gmtime(tag.started_at)),
        }
        name = self._template
        for key, value in values.items():
            name = name.replace("{" + key + "}", value)
        return name.translate(_FORBIDDEN)[:STREAM_NAME_MOST]

    def prefix(self, tag: Tag) -> str:
        return f"{tag.run_id} " if self.shared else ""

    async def send(self, batch: Batch) -> int:
        events = [(piece.ms, line) for piece in batch.pieces for line in piece.lines]
        try:
            refused = await self._put(batch.stream, events)
        except AwsUnavailable as error:
            if error.call != "CreateLogStream" or error.kind != "throttled":
                raise
            self._refused += 1
            raise NoNewStream(str(error), self._instead(batch.pieces[0].tag)) from error
        await self._retention.mend(self._logs)
        return refused

    def _instead(self, tag: Tag) -> str:
        """The stream that small runs may share now; empty while a stream of their own is a matter of a little time."""
        if self.shared or self._refused < QUOTA_GONE_AFTER:
            return ""
        return SHARED_STREAM.format(host=tag.host)

    async def close(self) -> None:
        """Nothing is held open."""

    async def _put(self, stream: str, events: list[tuple[int, str]]) -> int:
        try:
            rejected = await self._put_or_make(stream, events)
        except AwsUnavailable as error:
            # A name that CloudWatch refuses is no fault of the events: they wait until somebody mends it.
            if (
                error.code != "InvalidParameterException"
                or "logGroupName" in error.detail
                or "logStreamName" in error.detail
            ):
                raise
            return await self._put_halves(stream, events, error)
        return 0 if rejected is None else await self._after(stream, events, rejected)

    async def _put_or_make(self, stream: str, events: list[tuple[int, str]]) -> Rejected | None:
        # A run's own stream is new when its first output comes: to put to it at first would be a call in vain.
        if self.shared or stream in self._there:
            try:
                return await self._logs.put_events(self.log_group, stream, events)
            except AwsUnavailable as error:
                if error.code != "ResourceNotFoundException":
                    raise
        try:
            await self._logs.create_stream(self.log_group, stream)
        except AwsUnavailable as error:
            if error.code != "ResourceNotFoundException":
                raise
            await self._make_group()
            await self._logs.create_stream(self.log_group, stream)
        if not stream.startswith(SHARED_STREAM.format(host="")):
            self._refused = 0
        accepted = await self._logs.put_events(self.log_group, stream, events)
        self._there[stream] = None
        if len(self._there) > STREAMS_KNOWN:
            del self._there[next(iter(self._there))]
        return accepted

    async def _make_group(self) -> None:
        try:
            await self._logs.create_group(self.log_group, self._retention.days)
        except AwsUnavailable as error:
            if error.call != "PutRetentionPolicy":
                raise
            # The group is there, and output is worth more than its retention.
            self._retention.failed(error)

    async def _put_halves(self, stream: str, events: list[tuple[int, str]], error: AwsUnavailable) -> int:
        """A batch that is refused as malformed would be refused for ever: find the events it is about, give them up."""
        if len(events) == 1:
            size = len(events[0][1].encode())
            log.error("event_refused", stream=stream, bytes=size, error=str(error), detail=_DROPPED)
            return size
        middle = len(events) // 2
        return await self._put(stream, events[:middle]) + await self._put(stream, events[middle:])

    async def _after(self, stream: str, events: list[tuple[int, str]], rejected: Rejected) -> int:
        """Entry by entry: what is too old, or too new, is stamped anew and sent again."""
        old = max(rejected.too_old_end or 0, rejected.expired_end or 0)
        lost = 0
        if old:
            size = sum(len(text.encode()) for _, text in events[:old])
            log.warning(
                "events_too_old", stream=stream, events=old, bytes=size, oldest_ms=events[0][0], detail=_TOO_OLD
            )
            lost = await self._made_younger(stream, events[:old])
        if rejected.too_new_start is None:
            return lost
        new = events[max(old, rejected.too_new_start) :]
        log.warning(
            "events_too_new", stream=stream, events=len(new), newest_ms=new[-1][0] if new else None, detail=_TOO_NEW
        )
        return lost + await self._restamped(stream, new)

    async def _made_younger(self, stream: str, events: list[tuple[int, str]]) -> int:
        """The group keeps its events for less long than we know, or this host's clock is behind. What is to be sent
        next is no older than what was taken here."""
        now = int(time.time() * 1000)
        self.limits = replace(self.limits, oldest_s=0.0)
        rejected = await self._put_or_make(stream, [(now, text) for _, text in events])
        if rejected is None:
            return 0
        old = max(rejected.too_old_end or 0, rejected.expired_end or 0)
        lost = sum(len(text.encode()) for _, text in events[:old])
        if lost:
            log.error("events_refused", stream=stream, events=old, bytes=lost, detail=_DROPPED)
        if rejected.too_new_start is None:
            return lost
        return lost + await self._restamped(
            stream, [(now, text) for _, text in events[max(old, rejected.too_new_start) :]]
        )

    async def _restamped(self, stream: str, events: list[tuple[int, str]]) -> int:
        """The host's clock is ahead by an unknown time: go back by two hours more until CloudWatch takes the stamps."""
        back = CLOCK_REFUSED_MS
        for _ in range(_RESTAMPED):
            if not events:
                return 0
            rejected = await self._put_or_make(stream, [(ms - back, text) for ms, text in events])
            if rejected is None or rejected.too_new_start is None:
                old = max(rejected.too_old_end or 0, rejected.expired_end or 0) if rejected else 0
                return sum(len(text.encode()) for _, text in events[:old])
            events = events[rejected.too_new_start :]
            back *= 2
        raise AwsUnavailable("PutLogEvents", "BadAnswer", f"events of {back // 7_200_000} hours ago are called too new")
