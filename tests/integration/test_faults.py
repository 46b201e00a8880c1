"""The proxy that the crash tests rely on does what it says: shown with plain boto3 clients."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from aws import Aws

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faults import Proxy


@pytest.fixture
def by_proxy(proxy: Proxy) -> Iterator[Aws]:
    made = Aws(proxy.endpoint)
    yield made
    made.close()


def test_passes_everything_until_told_otherwise(by_proxy: Aws, proxy: Proxy) -> None:
    queue = by_proxy.queue("q")
    assert queue.startswith(proxy.endpoint)
    by_proxy.send_all(queue, [str(number) for number in range(12)])
    assert sorted(by_proxy.take(queue) + by_proxy.take(queue), key=int) == [str(n) for n in range(12)]
    assert proxy.counts() == {
        "CreateQueue": 1,
        "SendMessageBatch": 2,
        "ReceiveMessage": 2,
        "DeleteMessageBatch": 2,
    }


def test_fails_at_the_rate_and_the_same_way_for_a_seed(by_proxy: Aws, proxy: Proxy) -> None:
    queue = by_proxy.queue("q")
    proxy.fail(0.3, "SendMessage")
    codes = []
    for _ in range(100):
        try:
            by_proxy.send(queue, "x")
        except ClientError as error:
            codes.append(error.response["Error"]["Code"])
    assert 15 <= len(codes) <= 45
    assert set(codes) == {"InternalFailure", "ServiceUnavailable", "ThrottlingException"}
    assert by_proxy.depth(queue) == 100 - len(codes)


def test_resets_are_counted_and_refusals_are_refusals(by_proxy: Aws, proxy: Proxy) -> None:
    queue = by_proxy.queue("q")
    proxy.reset()
    with pytest.raises((ConnectionClosedError, EndpointConnectionError)):
        by_proxy.send(queue, "x")
    assert proxy.count("SendMessage") == 1
    proxy.refuse()
    with pytest.raises(EndpointConnectionError):
        by_proxy.send(queue, "x")
    assert proxy.count("SendMessage") == 1
    proxy.heal()
    by_proxy.send(queue, "x")
    assert proxy.busiest_second("SendMessage") <= 2


def test_swallows_and_delays(by_proxy: Aws, proxy: Proxy) -> None:
    queue = by_proxy.queue("q")
    proxy.slow(0.3)
    began = time.monotonic()
    by_proxy.send(queue, "x")
    assert time.monotonic() - began >= 0.3
    proxy.heal()
    proxy.swallow("SendMessage")
    impatient = Aws(proxy.endpoint, read_timeout=0.3)
    with pytest.raises(ReadTimeoutError):
        impatient.send(queue, "x")
    impatient.close()


def test_redelivers_with_a_new_receipt(by_proxy: Aws, proxy: Proxy) -> None:
    queue = by_proxy.queue("q")
    sent = by_proxy.send(queue, "x")
    proxy.redeliver(1.0)
    receives = [
        by_proxy.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=2, AttributeNames=["ApproximateReceiveCount"])[
            "Messages"
        ][0]
        for _ in range(2)
    ]
    assert [message["MessageId"] for message in receives] == [sent, sent]
    assert [message["Attributes"]["ApproximateReceiveCount"] for message in receives] == ["1", "2"]
    assert receives[0]["ReceiptHandle"] != receives[1]["ReceiptHandle"]


def test_expired_receipts_are_refused_one_by_one(by_proxy: Aws, proxy: Proxy) -> None:
    queue = by_proxy.queue("q")
    by_proxy.send_all(queue, ["a", "b"])
    good = by_proxy.sqs.receive_message(QueueUrl=queue)["Messages"][0]
    proxy.expire(1.0)
    bad = by_proxy.sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=2)["Messages"][0]
    entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate((good, bad))]
    answer = by_proxy.sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["0"]
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("1", "ReceiptHandleIsInvalid")]
    with pytest.raises(ClientError, match="expired"):
        by_proxy.sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=bad["ReceiptHandle"], VisibilityTimeout=9)
    assert by_proxy.depth(queue) == 1
