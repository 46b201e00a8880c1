"""An answer of AWS is not trusted in shape and meaning: what is wrong is a bad answer at once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.direct import read_answer
from runner.aws.failures import unavailable
from runner.aws.logs import Logs, Rejected
from runner.aws.messages import wire_entry
from runner.aws.sqs import Outgoing, Queue
from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVENTS = [(1, "a"), (2, "b"), (3, "c")]
MESSAGE = {
    "MessageId": "m",
    "ReceiptHandle": "r",
    "Body": "b",
    "Attributes": {"ApproximateReceiveCount": "1", "SentTimestamp": "1700000000000"},
}


class Answering:
    """A session whose calls are answered with this, and read as the real one reads them."""

    def __init__(self, answer: Any, headers: Mapping[str, str] | None = None) -> None:
        self.answer, self.headers = answer, dict(headers or {})

    async def call(
        self, _purpose: str, action: str, _do: object, read: Callable[[Mapping[str, Any]], Any], **_: object
    ) -> Any:
        metadata = {"ResponseMetadata": {"HTTPStatusCode": 200, "HTTPHeaders": self.headers}}
        try:
            return read(self.answer | metadata)
        except Exception as error:
            raise unavailable(action, error) from error


def put(session: Any) -> Rejected | None:
    return asyncio.run(Logs(session).put_events("g", "s", EVENTS))


def bad(ask: Callable[[], object]) -> None:
    with pytest.raises(AwsUnavailable) as caught:
        ask()
    assert caught.value.code == "BadAnswer"


@pytest.mark.parametrize("answer", [{}, {"nextSequenceToken": None}, {"message": "hello"}, {"nextSequenceToken": 1}])
def test_output_is_taken_only_where_aws_says_so(answer: dict[str, Any]) -> None:
    for headers in ({}, {"x-amzn-requestid": "1"}):
        bad(lambda headers=headers: put(Answering(answer, headers)))  # type: ignore[misc]


def test_output_is_taken_with_a_token() -> None:
    assert put(Answering({"nextSequenceToken": "0"})) is None
    assert put(Answering({"nextSequenceToken": "0", "rejectedLogEventsInfo": {}})) is None


def test_a_service_that_leaves_out_its_deprecated_token_for_good_is_believed() -> None:
    session: Any = Answering({}, {"x-amzn-requestid": "1"})
    logs = Logs(session)
    for _ in range(3):
        bad(lambda: asyncio.run(logs.put_events("g", "s", EVENTS)))
    assert asyncio.run(logs.put_events("g", "s", EVENTS)) is None
    # Somebody in between has no request's name, however often.
    session.headers = {}
    for _ in range(9):
        bad(lambda: asyncio.run(logs.put_events("g", "s", EVENTS)))


@pytest.mark.parametrize(
    "info",
    [
        {"tooNewLogEventStartIndex": "1"},
        {"tooNewLogEventStartIndex": [1]},
        {"tooNewLogEventStartIndex": True},
        {"tooNewLogEventStartIndex": 1.5},
        {"tooNewLogEventStartIndex": -1},
        {"tooOldLogEventEndIndex": {}},
        {"tooOldLogEventEndIndex": 4},
        {"expiredLogEventEndIndex": "x"},
        ["tooNewLogEventStartIndex"],
        "all of them",
        7,
    ],
)
def test_an_index_of_another_type_ends_nothing(info: object) -> None:
    bad(lambda: put(Answering({"nextSequenceToken": "0", "rejectedLogEventsInfo": info})))


def test_indexes_within_the_batch_are_read() -> None:
    info = {"tooNewLogEventStartIndex": 3, "tooOldLogEventEndIndex": 0, "expiredLogEventEndIndex": None}
    assert put(Answering({"rejectedLogEventsInfo": info})) == Rejected(3, 0, None)


@pytest.mark.parametrize(
    "change",
    [
        {"MessageId": 1},
        {"MessageId": None},
        {"ReceiptHandle": ""},
        {"ReceiptHandle": ["r"]},
        {"Body": {"job": "x"}},
        {"Body": 7},
        {"Body": None},
        {"Attributes": []},
        {"Attributes": {"ApproximateReceiveCount": "many"}},
        {"Attributes": {"ApproximateReceiveCount": "1" * 30}},
        {"Attributes": {"ApproximateReceiveCount": -1}},
        {"Attributes": {"SentTimestamp": "9" * 30}},
        {"Attributes": {"MessageGroupId": 3}},
    ],
)
def test_a_message_of_another_shape_goes_no_further(change: dict[str, Any]) -> None:
    session: Any = Answering({"Messages": [MESSAGE | change]})
    bad(lambda: asyncio.run(Queue(session, url="http://q/1/q").receive(10, 0, 30)))


@pytest.mark.parametrize("messages", [{"a": 1}, "text", 7, [None], [[]], [MESSAGE, "x"]])
def test_messages_that_are_none_go_no_further(messages: object) -> None:
    session: Any = Answering({"Messages": messages})
    bad(lambda: asyncio.run(Queue(session, url="http://q/1/q").receive(10, 0, 30)))


def test_more_messages_than_were_asked_for_are_no_answer() -> None:
    session: Any = Answering({"Messages": [MESSAGE] * 3})
    bad(lambda: asyncio.run(Queue(session, url="http://q/1/q").receive(2, 0, 30)))
    assert len(asyncio.run(Queue(session, url="http://q/1/q").receive(3, 0, 30))) == 3


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"Successful": [{"Id": "0"}]},
        {"Successful": [{"Id": "0"}, {"Id": "0"}]},
        {"Successful": [{"Id": "0"}, {"Id": "7"}]},
        {"Successful": [{"Id": "0"}], "Failed": [{"Id": "9", "Code": "X"}]},
        {"Successful": [{"Id": "0"}], "Failed": [{"Id": "0", "Code": "X"}]},
        {"Successful": ["0", "1"]},
        {"Successful": 2},
    ],
)
def test_an_entry_is_done_only_where_it_is_named(answer: dict[str, Any]) -> None:
    session: Any = Answering(answer)
    bad(lambda: asyncio.run(Queue(session, url="http://q/1/q").delete(["a", "b"])))


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b"<html>", b"\xff", b"[" * 5000, b"[" + b"[]," * 999_999 + b"0]"]
)
def test_a_body_that_is_no_answer_is_none(body: bytes) -> None:
    with pytest.raises((TypeError, ValueError, RecursionError)):
        read_answer(body)


def test_what_came_along_with_a_message_is_sent_along_as_it_came() -> None:
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
    came = MESSAGE | {
        "Attributes": {"AWSTraceHeader": trace},
        "MessageAttributes": {
            "who": {"DataType": "String", "StringValue": "x", "StringListValues": []},
            "key": {"DataType": "Binary", "BinaryValue": "AP8="},
        },
    }
    session: Any = Answering({"Messages": [came]})
    [received] = asyncio.run(Queue(session, url="http://q/1/q").receive(1, 0, 30))
    given = {
        "who": {"DataType": "String", "StringValue": "x"},
        "key": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    assert (received.attributes, received.trace) == (given, trace)
    assert wire_entry(0, Outgoing("0", "b", attributes=received.attributes, trace=received.trace)) == {
        "Id": "0",
        "MessageBody": "b",
        "MessageAttributes": given,
        "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}},
    }
