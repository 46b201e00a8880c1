"""The stand-in answers plain boto3 clients as SQS and CloudWatch Logs do; where moto does too, both are asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError

from standin import counts
from waiting import wait_for

if TYPE_CHECKING:
    from aws import Aws

both = pytest.mark.parametrize("aws_server", ["moto", "standin"], indirect=True)
ours = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
GROUP = "/cron-runner/test"


def receive(aws: Aws, queue: str, most: int = 10, wait_s: int = 1, **more: Any) -> list[dict[str, Any]]:
    answer = aws.sqs.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=most, WaitTimeSeconds=wait_s, AttributeNames=["All"], **more
    )
    return list(answer.get("Messages", []))


def code(error: pytest.ExceptionInfo[ClientError]) -> str:
    return str(error.value.response["Error"]["Code"])


@both
def test_messages_go_round(aws: Aws) -> None:
    queue = aws.queue("q")
    assert aws.sqs.get_queue_url(QueueName="q")["QueueUrl"] == queue
    aws.send_all(queue, ["a", "ü\t\n", "c"])
    first = receive(aws, queue)
    assert sorted(message["Body"] for message in first) == ["a", "c", "ü\t\n"]
    assert {message["Attributes"]["ApproximateReceiveCount"] for message in first} == {"1"}
    assert aws.depth(queue) == 3
    assert receive(aws, queue, wait_s=0) == []
    aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=first[0]["ReceiptHandle"])
    aws.sqs.change_message_visibility(QueueUrl=queue, ReceiptHandle=first[1]["ReceiptHandle"], VisibilityTimeout=0)
    [again] = receive(aws, queue)
    assert again["MessageId"] == first[1]["MessageId"]
    assert again["ReceiptHandle"] != first[1]["ReceiptHandle"]
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    aws.sqs.purge_queue(QueueUrl=queue)
    assert aws.depth(queue) == 0


@both
def test_a_poll_waits_for_a_message(aws: Aws) -> None:
    queue = aws.queue("q")
    began = time.monotonic()
    assert receive(aws, queue, wait_s=1) == []
    assert time.monotonic() - began >= 0.9


@both
def test_a_lease_ends_and_redrive_follows(aws: Aws) -> None:
    dead = aws.queue("dead")
    queue = aws.queue("q", dead_letter=dead, max_receive_count=2)
    aws.send(queue, "x")
    for delivery in ("1", "2"):
        [message] = wait_for(lambda: receive(aws, queue, VisibilityTimeout=1), "the message comes (again)")
        assert message["Attributes"]["ApproximateReceiveCount"] == delivery
    wait_for(lambda: not receive(aws, queue) and aws.depth(queue) == 0, "it was moved")
    assert aws.take(dead, wait_s=1) == ["x"]


@both
def test_a_fifo_group_waits_for_its_message_in_flight(aws: Aws) -> None:
    queue = aws.queue("q.fifo")
    for number, group in enumerate(("a", "a", "b")):
        aws.send(queue, str(number), MessageGroupId=group, MessageDeduplicationId=str(number))
    aws.send(queue, "again", MessageGroupId="a", MessageDeduplicationId="0")
    first = receive(aws, queue, most=1)[0]
    assert first["Body"] == "0"
    assert [message["Body"] for message in receive(aws, queue)] == ["2"]
    aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
    assert [message["Body"] for message in receive(aws, queue)] == ["1"]


@both
def test_a_queue_that_is_not_there(aws: Aws) -> None:
    with pytest.raises(ClientError) as error:
        aws.sqs.get_queue_url(QueueName="nope")
    assert code(error) == "AWS.SimpleQueueService.NonExistentQueue"


@ours
def test_what_sqs_refuses(aws: Aws) -> None:
    queue = aws.queue("q")
    with pytest.raises(ClientError) as error:
        aws.send(queue, "a\x01b")
    assert code(error) == "InvalidMessageContents"
    with pytest.raises(ClientError):
        aws.send(queue, "x" * (1024 * 1024 + 1))
    entries = [{"Id": "0", "MessageBody": "good"}, {"Id": "1", "MessageBody": "bad \x0b"}]
    answer = aws.sqs.send_message_batch(QueueUrl=queue, Entries=entries)
    assert [entry["Id"] for entry in answer["Successful"]] == ["0"]
    assert [(entry["Id"], entry["Code"]) for entry in answer["Failed"]] == [("1", "InvalidMessageContents")]
    [message] = receive(aws, queue)
    for seconds, expected in ((43_201, "InvalidParameterValue"), (0, None), (30, "MessageNotInflight")):
        try:
            aws.sqs.change_message_visibility(
                QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=seconds
            )
            found = None
        except ClientError as refused:
            found = refused.response["Error"]["Code"].rpartition(".")[2]
        assert found == expected
    # A receipt from before the message's newest delivery deletes nothing, and is no error.
    [newer] = receive(aws, queue)
    aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    assert aws.depth(queue) == 1
    aws.sqs.delete_message(QueueUrl=queue, ReceiptHandle=newer["ReceiptHandle"])
    assert aws.depth(queue) == 0


@ours
def test_a_waiting_poll_gets_what_is_sent(aws: Aws) -> None:
    import threading

    queue = aws.queue("q")
    found: list[Any] = []
    poll = threading.Thread(target=lambda: found.extend(receive(aws, queue, wait_s=20)))
    poll.start()
    wait_for(lambda: counts(aws.endpoint)["counts"].get("ReceiveMessage"), "the poll is there")
    began = time.monotonic()
    aws.send(queue, "x")
    poll.join()
    assert [message["Body"] for message in found] == ["x"]
    assert time.monotonic() - began < 1


@both
def test_log_events_are_kept_in_order(aws: Aws) -> None:
    aws.logs.create_log_group(logGroupName=GROUP)
    assert aws.streams(GROUP) == []
    aws.logs.create_log_stream(logGroupName=GROUP, logStreamName="job/run")
    aws.logs.put_retention_policy(logGroupName=GROUP, retentionInDays=30)
    now = int(time.time() * 1000)
    for start in (0, 15_000):
        for batch in (range(start, start + 10_000), range(start + 10_000, start + 15_000)):
            events = [{"timestamp": now, "message": f"line {number}"} for number in batch]
            aws.logs.put_log_events(logGroupName=GROUP, logStreamName="job/run", logEvents=events)
    assert aws.streams(GROUP) == ["job/run"]
    assert aws.lines(GROUP, "job/run") == [f"line {number}" for number in range(30_000)]
    with pytest.raises(ClientError) as error:
        aws.logs.create_log_group(logGroupName=GROUP)
    assert code(error) == "ResourceAlreadyExistsException"


@ours
@pytest.mark.parametrize(
    ("events", "fault"),
    [
        ([(0, "x")] * 10_001, "10001 events in a batch"),
        ([(0, "")], "an empty message"),
        ([(0, "x" * 1_048_551)], "an event of 1048551 bytes"),
        ([(0, "é" * 262_000), (0, "é" * 262_288)], "a batch of 1048628 bytes"),
        ([(5, "x"), (4, "x")], "events that are not in chronological order"),
        ([(0, "x"), (86_400_001, "x")], "a batch that spans more than 24 hours"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_every_limit_of_a_batch_is_held(aws: Aws, events: list[tuple[int, str]], fault: str) -> None:
    aws.logs.create_log_group(logGroupName=GROUP)
    aws.logs.create_log_stream(logGroupName=GROUP, logStreamName="s")
    now = int(time.time() * 1000) - 2 * 86_400_000
    with pytest.raises(ClientError) as error:
        put(aws, [(now + offset, text) for offset, text in events])
    assert code(error) == "InvalidParameterException"
    assert counts(aws.endpoint)["violations"] == [fault]


@ours
def test_events_out_of_time_are_rejected_one_by_one(aws: Aws) -> None:
    aws.logs.create_log_group(logGroupName=GROUP)
    aws.logs.create_log_stream(logGroupName=GROUP, logStreamName="s")
    now = int(time.time() * 1000)
    hour = 3_600_000
    answer = put(aws, [(now - hour, "good"), (now, "good too"), (now + 3 * hour, "too new")])
    assert answer["rejectedLogEventsInfo"] == {"tooNewLogEventStartIndex": 2}
    answer = put(aws, [(now - 15 * 24 * hour, "too old"), (now - 15 * 24 * hour + 1, "too old")])
    assert answer["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 2}
    assert aws.lines(GROUP, "s") == ["good", "good too"]
    assert not counts(aws.endpoint)["violations"]


def put(aws: Aws, events: list[tuple[int, str]]) -> dict[str, Any]:
    shaped = [{"timestamp": at, "message": text} for at, text in events]
    return dict(aws.logs.put_log_events(logGroupName=GROUP, logStreamName="s", logEvents=shaped))
