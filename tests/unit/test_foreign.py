"""A body that is a known thing of others is named as that, and not by a field that happens to be in it."""

from __future__ import annotations

import base64
import gzip
import json
import pickle

import pytest

from runner.protocol import Defaults
from runner.protocol.message import InvalidMessage, read_job, rejected_body

# As Celery 5.4 with kombu 5.4 writes it to SQS, before its base64.
CELERY = {
    "body": base64.b64encode(b'[[1, 2], {}, {"callbacks": null}]').decode(),
    "content-encoding": "utf-8",
    "content-type": "application/json",
    "headers": {"lang": "py", "task": "shop.tasks.charge", "id": "3f", "retries": 0, "timelimit": [None, None]},
    "properties": {"correlation_id": "3f", "delivery_mode": 2, "delivery_tag": "9c", "body_encoding": "base64"},
}
S3 = {"Records": [{"eventVersion": "2.1", "eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": {}}]}
LAMBDA = {"Records": [{"messageId": "m", "body": '{"job": "x"}', "eventSource": "aws:sqs", "attributes": {}}]}
CLOUD_EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "com.example.paid", "time": "t", "data": {}}
EC2 = {
    "version": "0",
    "id": "6a",
    "detail-type": "EC2 Instance State-change Notification",
    "source": "aws.ec2",
    "account": "123456789012",
    "time": "2026-01-01T00:00:00Z",
    "region": "eu-central-1",
    "resources": [],
    "detail": {"instance-id": "i-1", "state": "running"},
}


def encoded(value: object) -> str:
    return base64.b64encode(value if isinstance(value, bytes) else json.dumps(value).encode()).decode()


def sns(value: object) -> dict[str, object]:
    return {"Type": "Notification", "Message": value if isinstance(value, str) else json.dumps(value)}


def detail(body: object) -> str:
    text = body if isinstance(body, str) else json.dumps(body)
    with pytest.raises(InvalidMessage) as caught:
        read_job(text, message_id="m", defaults=Defaults(), declarations={})
    assert caught.value.reason == "invalid"
    assert caught.value.detail.isprintable()
    return caught.value.detail


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (encoded(CELERY), "base64 of a Celery task (shop.tasks.charge)"),
        (encoded(CELERY) + "\n", "base64 of a Celery task"),
        (CELERY, "a Celery task (shop.tasks.charge)"),
        ({"task": "a.b", "id": "1", "args": [], "kwargs": {}}, "a Celery task (a.b)"),
        (encoded(pickle.dumps({"job": "x", "command": "a"})), "base64 of a Python pickle"),
        (encoded(gzip.compress(b'{"job": "x"}', mtime=0)), "base64 of compressed data"),
        (encoded({"job": "x", "command": "a"}), "base64 of a job message, not a job; send what is in it, as it is"),
        (base64.encodebytes(json.dumps({"job": "x" * 99}).encode()).decode(), "base64 of a job message"),
        (base64.urlsafe_b64encode(b'{"job": "???????"}').decode(), "base64 of a job message"),
        (encoded([1, 2, 3, 4, 5, 6]), "base64 of JSON"),
        (S3, "an S3 event notification (ObjectCreated:Put)"),
        (sns(S3), "an S3 event notification"),
        (sns(encoded(CELERY)), "base64 of a Celery task"),
        ({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "b"}, "an S3 test notification (s3:TestEvent)"),
        (LAMBDA, "what Lambda is given of an SQS queue"),
        ({"Records": [{"EventSource": "aws:sns"}]}, "a list of records, as AWS gives them to Lambda (aws:sns)"),
        (CLOUD_EVENT, "a CloudEvent (com.example.paid)"),
        (CLOUD_EVENT | {"type": "cron-runner.run.finished"}, "a CloudEvent (cron-runner.run.finished)"),
        (EC2, 'the EventBridge event "EC2 Instance State-change Notification" of AWS itself (aws.ec2)'),
        (sns(EC2), "of AWS itself (aws.ec2)"),
        (EC2 | {"source": "aws.events", "detail": {}}, "of AWS itself (aws.events)"),
        (sns({"AlarmName": "disk", "NewStateValue": "ALARM"}), "a CloudWatch alarm (disk)"),
        (["software.amazon.payloadoffloading.PayloadS3Pointer", {"s3Key": "k"}], "a pointer of the SQS Extended"),
        ({"displayName": "App\\Jobs\\Pay", "job": "Illuminate\\Queue@call", "data": {}}, "a queued job of Laravel"),
    ],
)
def test_a_known_thing_of_others_is_named_as_what_it_is(body: object, named: str) -> None:
    said = detail(body)
    assert named in said
    assert "did you mean" not in said
    assert "unknown field" not in said


@pytest.mark.parametrize(
    "body", ["aGVsbG8gd29ybGQgaGVsbG8=", "word" * 10, "deadbeef" * 8, "----------------", "eyJ" * 9]
)
def test_what_only_looks_like_base64_is_no_json(body: str) -> None:
    assert detail(body).startswith("the body is not JSON")


def test_names_in_it_are_short_and_printable() -> None:
    said = detail(CLOUD_EVENT | {"type": "\x1b[31m" + "x" * 5000})
    assert len(said) < 400


def test_base64_hides_no_secret_from_the_mask() -> None:
    """Anybody who reads the event can decode it."""
    for body in (encoded(CELERY | {"body": "hunter22"}), encoded({"job": "x", "env": {"A": "hunter22"}})):
        shown, _ = rejected_body(body)
        assert shown.endswith("***")
        assert len(shown) < 30
    for plain in ("aGVsbG8", "no base64 at all, but words in a row", "deadbeefdeadbeefdead"):
        assert rejected_body(plain)[0] == plain
