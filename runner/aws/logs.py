"""CloudWatch Logs: put events, make groups and streams, read a stream back.

Limits of a batch (1,048,576 bytes counting 26 per event, 10,000 events, 24 hours, in order of time) are the
caller's: this module sends what it is given. Sequence tokens are ignored by AWS since 2023 and not sent.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from runner.aws.put_body import body_of, prepared
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mypy_boto3_logs import CloudWatchLogsClient

    from runner.aws.session import Session

T = TypeVar("T")

_TOKENLESS = 4
"""So many answers in a row without a token are how AWS answers now."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Events of a batch that CloudWatch did not take, by index: ``[0, too_old_end)`` and ``[0,
    expired_end)`` are too old (14 days, the group's retention), ``[too_new_start, …)`` is more than 2 hours
    in the future."""

    too_new_start: int | None
    too_old_end: int | None
    expired_end: int | None


@dataclass(frozen=True, slots=True)
class LogPage:
    """A page of a stream. Ask again with ``token``; the end is reached when the same token comes back."""

    events: tuple[tuple[int, str], ...]
    token: str


@dataclass(frozen=True, slots=True)
class StreamPage:
    """Names of streams. Ask again with ``token``, which is None at the end."""

    names: tuple[str, ...]
    token: str | None


@dataclass(frozen=True, slots=True)
class FoundPage:
    """Found events as (unix milliseconds, text, stream). Ask again with ``token``, which is None at the end."""

    events: tuple[tuple[int, str, str], ...]
    token: str | None


class Logs:
    """CloudWatch Logs of one account and region. Every method raises `AwsUnavailable`; none retries.

    Codes to act on: ``ResourceNotFoundException`` (group or stream is missing), ``ThrottlingException``.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._tokenless = 0  # answers in a row

    async def put_events(self, group: str, stream: str, events: Sequence[tuple[int, str]]) -> Rejected | None:
        """Put (unix milliseconds, text) events, in order of time; None where every one was accepted.

        Events that AWS says it has already are accepted: they are what an answer that was lost has left
        behind.
        """
        try:
            return await self._call(
                "PutLogEvents",
                lambda logs: _put(logs, group, stream, events),
                lambda answer: self._read_put(answer, len(events)),
            )
        except AwsUnavailable as error:
            if error.code == "DataAlreadyAcceptedException":
                return None
            raise

    def _read_put(self, answer: Mapping[str, Any], events: int) -> Rejected | None:
        """Raises where it is not AWS that says that it has them: whoever is in between may say 200 to anything."""
        if info := answer.get("rejectedLogEventsInfo"):
            return _read_rejected(info, events)
        if isinstance(answer.get("nextSequenceToken"), str):
            self._tokenless = 0
            return None
        # AWS calls the token deprecated, and was seen to leave it out (kislyuk/watchtower#134). Until it does so again
        # and again it may as well be somebody else; and AWS always names the request.
        headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        self._tokenless = self._tokenless + 1 if headers.get("x-amzn-requestid") else 0
        if self._tokenless < _TOKENLESS:
            msg = "it does not say that the events were taken"
            raise ValueError(msg)
        return None

    async def create_stream(self, group: str, stream: str) -> bool:
        """Make a stream; False where it was there already."""
        return await self._create(
            "CreateLogStream", lambda logs: logs.create_log_stream(logGroupName=group, logStreamName=stream)
        )

    async def create_group(self, group: str, retention_days: int | None = None) -> bool:
        """Make a group and set its retention; False where it was there already, whose retention is left
        alone.

        ``retention_days`` is one of the numbers that CloudWatch knows (1, 3, 5, 7, 14, 30, …); None or 0
        keeps the events for ever. Where the group was made and the retention refused, the failure of that
        is raised.
        """
        made = await self._create("CreateLogGroup", lambda logs: logs.create_log_group(logGroupName=group))
        if made and retention_days:
            await self.set_retention(group, retention_days)
        return made

    async def set_retention(self, group: str, days: int) -> None:
        await self._call(
            "PutRetentionPolicy",
            lambda logs: logs.put_retention_policy(logGroupName=group, retentionInDays=days),
            _nothing,
        )

    async def get_events(self, group: str, stream: str, token: str | None = None) -> LogPage:
        """A page of up to 10,000 events or 1 MB from the stream's start, or from where ``token`` left off.

        A page may be empty with more to come: the stream's present end is where ``token`` comes back
        unchanged.
        """
        action = "GetLogEvents"
        where: Any = {"logGroupName": group, "logStreamName": stream, "startFromHead": True}
        if token is not None:
            where["nextToken"] = token
        return await self._call(action, lambda logs: logs.get_log_events(**where), _read_page)

    async def streams(self, group: str, *, prefix: str = "", token: str | None = None) -> StreamPage:
        """Up to 50 names of streams: those with a prefix by name, or all, the last written to first."""
        where: Any = {"logGroupName": group, "limit": 50}
        # AWS orders by time only where no prefix is given.
        where |= {"logStreamNamePrefix": prefix} if prefix else {"orderBy": "LastEventTime", "descending": True}
        if token is not None:
            where["nextToken"] = token
        return await self._call("DescribeLogStreams", lambda logs: logs.describe_log_streams(**where), _read_streams)

    async def find_events(self, group: str, *, prefix: str, words: str, token: str | None = None) -> FoundPage:
        """A page of the events that hold `words`, in all streams whose names begin with `prefix` ("" for all).

        A page may be empty with more to come: the end is where its token is None.
        """
        where: Any = {"logGroupName": group, "filterPattern": json.dumps(words)}
        if prefix:
            where["logStreamNamePrefix"] = prefix
        if token is not None:
            where["nextToken"] = token
        return await self._call("FilterLogEvents", lambda logs: logs.filter_log_events(**where), _read_found)

    async def _create(self, action: str, do: Callable[[Any], Any]) -> bool:
        # The stubs say that there is no answer; botocore returns its metadata.
        try:
            await self._call(action, do, _nothing)
        except AwsUnavailable as error:
            if error.code == "ResourceAlreadyExistsException":
                return False
            raise
        return True

    async def _call(
        self,
        action: str,
        do: Callable[[CloudWatchLogsClient], Mapping[str, Any]],
        read: Callable[[Mapping[str, Any]], T],
    ) -> T:
        return await self._session.call("logs", action, do, read)


def _put(logs: CloudWatchLogsClient, group: str, stream: str, events: Sequence[tuple[int, str]]) -> Mapping[str, Any]:
    with prepared(body_of(group, stream, events)):
        return logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=[])


def _nothing(_answer: Mapping[str, Any]) -> None:
    """Reads an answer that has nothing to say."""


def _read_rejected(info: Mapping[str, Any], events: int) -> Rejected:
    """Raises where an index is none: of `events` nobody would know then which ones AWS has."""

    def index(name: str) -> int | None:
        said = info.get(name)
        if said is not None and (type(said) is not int or not 0 <= said <= events):
            msg = f"{name} is {said!r}, of {events} events"
            raise ValueError(msg)
        return said

    return Rejected(
        too_new_start=index("tooNewLogEventStartIndex"),
        too_old_end=index("tooOldLogEventEndIndex"),
        expired_end=index("expiredLogEventEndIndex"),
    )


def _read_page(answer: Mapping[str, Any]) -> LogPage:
    events = tuple((int(event["timestamp"]), str(event["message"])) for event in answer["events"])
    return LogPage(events, str(answer["nextForwardToken"]))


def _read_streams(answer: Mapping[str, Any]) -> StreamPage:
    names = tuple(str(stream["logStreamName"]) for stream in answer["logStreams"])
    return StreamPage(names, answer.get("nextToken") or None)


def _read_found(answer: Mapping[str, Any]) -> FoundPage:
    events = tuple(
        (int(event["timestamp"]), str(event["message"]), str(event["logStreamName"])) for event in answer["events"]
    )
    return FoundPage(events, answer.get("nextToken") or None)
