from __future__ import annotations

import json

import pytest

from runner.protocol import InvalidMessage
from runner.protocol.envelope import unwrap

MESSAGE = {"job": "x", "command": "a"}


def notification(message: object) -> dict[str, object]:
    return {"Type": "Notification", "TopicArn": "arn", "Message": json.dumps(message)}


def event(detail: object) -> dict[str, object]:
    return {"version": "0", "detail-type": "Cron", "source": "s", "resources": [], "detail": detail}


@pytest.mark.parametrize(
    "body",
    [
        MESSAGE,
        notification(MESSAGE),
        event(MESSAGE),
        event(json.dumps(MESSAGE)),
        notification(event(MESSAGE)),
        event(notification(MESSAGE)),
        notification(notification(event(event(MESSAGE)))),
    ],
)
def test_envelopes_come_off(body: object) -> None:
    assert unwrap(json.dumps(body)) == MESSAGE
    assert unwrap(json.dumps(body).encode()) == MESSAGE


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (notification(notification(notification(event(event(MESSAGE))))), "more than 4 envelopes"),
        ({"Type": "Notification", "Message": "hello"}, "the SNS notification's Message: the body is not JSON"),
        ({"Type": "Notification", "Message": 5}, "Message: the SNS notification holds a number"),
        ({"Type": "Notification"}, "Message: the SNS notification holds null"),
        ({"Type": "SubscriptionConfirmation", "Message": "m"}, "confirm the subscription"),
        ({"Type": "UnsubscribeConfirmation"}, "UnsubscribeConfirmation"),
        (event({}), '"Cron" holds no message'),
        (event("oops"), "the EventBridge event's detail: the body is not JSON"),
    ],
)
def test_envelopes_without_a_message(body: object, why: str) -> None:
    with pytest.raises(InvalidMessage, match=why):
        unwrap(json.dumps(body))


def test_what_only_resembles_an_envelope_is_left_alone() -> None:
    bodies: list[object] = [{"detail-type": "x"}, {"detail": {}}, {"Type": "x"}, {"Message": "x"}, ["Type"], None, 5]
    for body in bodies:
        assert unwrap(json.dumps(body)) == body


def test_byte_order_mark_is_taken_off() -> None:
    assert unwrap(b"\xef\xbb\xbf{}") == {}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"\xff", "not UTF-8"),
        ("[" * 9_000, "nested too deep"),
        ('{"a":' * 9_000, "nested too deep"),
        ('{"a":' * 101 + "1" + "}" * 101, "nested too deep"),
        ("1" * 10_000, "too many digits"),
        ('{"a":Infinity}', "Infinity is not JSON"),
        ('{"a":-Infinity}', "-Infinity is not JSON"),
        ('{"a":1,"b":{"c":1,"c":2}}', 'the key "c" is given twice'),
        ('{"a":1}{', "not JSON"),
        ("", "not JSON"),
        (" " * (1 << 20) + "{}", "the body has 1048578 bytes"),
        ('"' + "ü" * (1 << 19) + '"', "the body has 1048578 bytes"),
        (b" " * (1 << 20) + b"{}", "the body has 1048578 bytes"),
    ],
)
def test_bodies_that_mean_nothing(body: str | bytes, why: str) -> None:
    with pytest.raises(InvalidMessage, match=why):
        unwrap(body)


def test_brackets_in_texts_and_beside_each_other_are_no_depth() -> None:
    body = {"a": "[{" * 500, "b": [[number] for number in range(200)], "c": '\\"[[' * 200}
    deep: object = 1
    for _ in range(99):
        deep = {"a": deep}
    assert unwrap(json.dumps(body)) == body
    assert unwrap(json.dumps(deep)) == deep


def test_a_body_of_exactly_one_mebibyte_is_read() -> None:
    assert unwrap(b" " * ((1 << 20) - 2) + b"{}") == {}
