"""Envelopes that AWS services put around a message on its way to the queue.

SNS without raw delivery: https://docs.aws.amazon.com/sns/latest/dg/sns-message-and-json-formats.html
EventBridge events: https://docs.aws.amazon.com/eventbridge/latest/ref/overiew-event-structure.html
EventBridge Scheduler sends its input as it is, and needs no unwrapping.
"""

from __future__ import annotations

from typing import Final

from runner.protocol import foreign
from runner.protocol.invalid import InvalidMessage
from runner.protocol.jsontext import NotJson, decode
from runner.protocol.suggest import kind, shown

DEEPEST: Final = 4  # an EventBridge event by way of SNS is two; more than four is a loop of forwarding

_CONFIRMATIONS: Final = ("SubscriptionConfirmation", "UnsubscribeConfirmation")


def unwrap(body: str | bytes) -> object:
    """The JSON value inside a body, after taking off up to four envelopes; raises InvalidMessage."""
    value = _read(body)
    for _ in range(DEEPEST):
        envelope = _envelope(value)
        if envelope is None:
            foreign.refuse_value(value)
            return value
        value = _contents(envelope)
    if _envelope(value) is not None:
        raise InvalidMessage(f"the message is in more than {DEEPEST} envelopes; send it directly")
    return value


def _read(body: str | bytes) -> object:
    try:
        return decode(body)
    except NotJson:
        foreign.refuse_text(body)
        raise


def _envelope(value: object) -> dict[str, object] | None:
    """`value` if it is an envelope. No message is mistaken for one: it has no such fields."""
    if not isinstance(value, dict):
        return None
    event = "detail-type" in value and "detail" in value
    notification = "Type" in value and ("Message" in value or value["Type"] in ("Notification", *_CONFIRMATIONS))
    return value if event or notification else None


def _contents(envelope: dict[str, object]) -> object:
    if "detail-type" in envelope:
        return _detail(envelope)
    if envelope["Type"] in _CONFIRMATIONS:
        raise InvalidMessage(
            f"the body is an SNS {envelope['Type']}, not a job; confirm the subscription of the queue to"
            " the topic (its owner visits SubscribeURL), then publish"
        )
    inner = envelope.get("Message")
    if not isinstance(inner, str):
        raise InvalidMessage(f"Message: the SNS notification holds {kind(inner)}, not a string with the message")
    return _decode_inner("the SNS notification's Message", inner)


def _detail(event: dict[str, object]) -> object:
    detail = event["detail"]
    own = foreign.aws_event(event)
    if own is not None and not (isinstance(detail, dict) and "job" in detail):
        raise InvalidMessage(f"the body is {own}, not a job; give the rule's target a constant input with the message")
    if isinstance(detail, str):
        return _decode_inner("the EventBridge event's detail", detail)
    if detail == {}:
        raise InvalidMessage(
            f"detail: the EventBridge event {shown(event['detail-type'])} holds no message;"
            " give the rule's target a constant input with the message"
        )
    return detail


def _decode_inner(where: str, text: str) -> object:
    try:
        return _read(text)
    except InvalidMessage as error:
        raise InvalidMessage(f"{where}: {error.detail}") from None
