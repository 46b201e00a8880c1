"""Bodies that are a known thing of others, named for what they are and not by a field that happens to be in them.

Each sign is made of fields that no job message has, so that nothing that could run is taken for one of these. Sources:
Celery: https://docs.celeryq.dev/en/stable/internals/protocol.html, which kombu writes to SQS in base64;
S3 and Lambda: https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html,
https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html; CloudEvents: https://cloudevents.io, version 1.0.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Final

from runner.protocol.invalid import InvalidMessage
from runner.protocol.jsontext import decode
from runner.protocol.suggest import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\-\s]{16,}={0,2}\s*")
_URL_SAFE: Final = str.maketrans("-_", "+/")
# Decoded, what begins so was written by a program: pickle of protocol 2 to 5, gzip, zlib.
_BINARY: Final = (
    (re.compile(rb"\x80[\x02-\x05]"), "a Python pickle"),
    (re.compile(rb"\x1f\x8b|\x78[\x01\x9c\xda]"), "compressed data"),
)


def refuse_text(body: str | bytes) -> None:
    """Raise InvalidMessage where a body that is no JSON is a known thing; otherwise it returns."""
    try:
        text = body if isinstance(body, str) else body.decode()
    except UnicodeDecodeError:
        return
    if _BASE64.fullmatch(text):
        _refuse_base64(text)


def is_encoded(beginning: str) -> bool:
    """Whether a text that begins so is base64 of text or of what a program wrote: everybody can decode that."""
    if not _BASE64.fullmatch(beginning):
        return False
    code = "".join(beginning.split()).translate(_URL_SAFE)[:64].rstrip("=")
    raw = binascii.a2b_base64(code[: len(code) // 4 * 4])
    return (raw.isascii() and b"\0" not in raw) or any(sign.match(raw) for sign, _ in _BINARY)


def _refuse_base64(text: str) -> None:
    try:
        raw = binascii.a2b_base64(text.translate(_URL_SAFE))
    except binascii.Error:
        return
    inner = next((what for sign, what in _BINARY if sign.match(raw)), None)
    if inner is None and raw.lstrip().startswith((b"{", b"[")):
        try:
            value = decode(raw)
        except InvalidMessage:
            return
        inner = what_it_is(value) or ("a job message" if _is_job(value) else "JSON")
    if inner is not None:
        remedy = "send what is in it, as it is" if inner in ("a job message", "JSON") else _REMEDY
        raise InvalidMessage(f"the body is base64 of {inner}, not a job; {remedy}")


def _is_job(value: object) -> bool:
    return isinstance(value, dict) and "job" in value


_REMEDY: Final = "send it to a queue of its own, and to this one a JSON object that names a job"


def refuse_value(value: object) -> None:
    """Raise InvalidMessage where the JSON of a body is a known thing of others."""
    what = what_it_is(value)
    if what is not None:
        raise InvalidMessage(f"the body is {what}, not a job; {_REMEDY}")


def what_it_is(value: object) -> str | None:
    """A known thing in words, with the name that it gives itself; None where it is none."""
    if isinstance(value, dict):
        return _object(value)
    # https://github.com/awslabs/amazon-sqs-java-extended-client-lib: [class name, where the body is in S3].
    if isinstance(value, list) and value and isinstance(value[0], str) and value[0].endswith("PayloadS3Pointer"):
        return "a pointer of the SQS Extended Client to a body in S3"
    return None


# The fields that make it up, what it is, and which of them is its name.
_SIGNS: Final = (
    (("task", "id", "args"), "a Celery task", "task"),
    (("task", "id", "kwargs"), "a Celery task", "task"),
    (("specversion", "type"), "a CloudEvent", "type"),
    (("Service", "Event", "Bucket"), "an S3 test notification", "Event"),
    (("AlarmName", "NewStateValue"), "a CloudWatch alarm", "AlarmName"),
    (("actor_name", "queue_name"), "a Dramatiq message", "actor_name"),
    (("job_class", "job_id"), "an ActiveJob of Rails", "job_class"),
    (("displayName", "job", "data"), "a queued job of Laravel", "displayName"),
    (("awslogs",), "what a CloudWatch Logs subscription sends", ""),
)


def _object(value: Mapping[str, object]) -> str | None:
    headers = value.get("headers")
    if isinstance(headers, dict) and "body" in value and "properties" in value:
        return _named("a Celery task" if "task" in headers else "a message of kombu", headers.get("task"))
    if isinstance(records := value.get("Records"), list) and records and isinstance(records[0], dict):
        return _records(records[0])
    found = next((sign for sign in _SIGNS if all(name in value for name in sign[0])), None)
    if found is None:
        return None
    _, what, name = found
    return _named(what, value.get(name))


def _records(first: Mapping[str, object]) -> str:
    source = first.get("eventSource", first.get("EventSource"))
    if source == "aws:s3":
        return _named("an S3 event notification", first.get("eventName"))
    if source == "aws:sqs":
        return "what Lambda is given of an SQS queue"
    return _named("a list of records, as AWS gives them to Lambda", source)


def aws_event(event: Mapping[str, object]) -> str | None:
    """An EventBridge event of AWS itself, in words: nobody else may have a source that begins with `aws.`."""
    source = event.get("source")
    if isinstance(source, str) and source.startswith("aws."):
        return f"the EventBridge event {shown(event['detail-type'])} of AWS itself ({_short(source)})"
    return None


def _named(what: str, name: object) -> str:
    return f"{what} ({_short(name)})" if isinstance(name, str) and name else what


def _short(name: str) -> str:
    return shown(name)[1:-1]
