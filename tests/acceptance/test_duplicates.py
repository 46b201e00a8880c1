"""Never twice on one host: messages that come again, messages that are no jobs, and the queues they go to."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from aws import Events
from waiting import wait_for

if TYPE_CHECKING:
    from aws import Aws
    from fleet import Fleet, Host

BOTH = pytest.mark.parametrize("aws_server", ["moto", "standin"], indirect=True)


@pytest.fixture
def host(fleet: Fleet) -> Host:
    """A host whose agent runs."""
    made = fleet.host()
    made.start()
    return made


def receipt(host: Host, run_id: str) -> str:
    """The receipt that the agent holds now."""
    with closing(sqlite3.connect(host.state / "journal.db", timeout=10)) as connection:
        [(found,)] = connection.execute("SELECT receipt FROM runs WHERE run_id = ?", (run_id,)).fetchall()
    return str(found)


def come_again(fleet: Fleet, host: Host, run_id: str) -> None:
    """Take the agent's lease away: SQS delivers the message a second time."""
    fleet.aws.sqs.change_message_visibility(
        QueueUrl=fleet.queue, ReceiptHandle=receipt(host, run_id), VisibilityTimeout=0
    )


def starts(fleet: Fleet, run_id: str) -> int:
    return len({event["id"] for event in fleet.events.of(run_id, "started")})


@BOTH
def test_a_redelivery_of_an_active_run_hands_its_receipt_over(fleet: Fleet, host: Host) -> None:
    go = fleet.directory / "go"
    fleet.send({"job": "long", "run_id": "r", "command": f"while [ ! -e {go} ]; do sleep 0.1; done; echo done"})
    fleet.events.wait("r", "started")
    first = receipt(host, "r")
    come_again(fleet, host, "r")
    wait_for(lambda: receipt(host, "r") != first, "the new receipt is held", detail=host.log)
    go.touch()
    [event] = fleet.events.wait_ended(["r"])
    assert event["data"]["outcome"] == "succeeded"
    # Deleted by the newest receipt: the first one is worth nothing any more.
    fleet.wait_empty()
    assert starts(fleet, "r") == 1
    fleet.wait_lines("long", "r", ["done"])


def test_a_second_message_of_an_active_run_is_not_its_message(fleet: Fleet) -> None:
    """Its own message stays held: two that replaced each other would wear out their deliveries."""
    host = fleet.host()
    host.start()
    go = fleet.directory / "go"
    body = {"job": "long", "run_id": "r", "command": f"while [ ! -e {go} ]; do sleep 0.1; done"}
    fleet.send(body)
    fleet.events.wait("r", "started")
    held = receipt(host, "r")
    fleet.send(body)
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 1, "the second message is gone", detail=host.log)
    assert receipt(host, "r") == held
    go.touch()
    fleet.events.wait_ended(["r"])
    fleet.wait_empty()
    assert starts(fleet, "r") == 1


def test_messages_of_one_run_that_come_together_are_one_run(fleet: Fleet) -> None:
    """One is its message; the others go at once, and nobody waits until their visibility is over."""
    host = fleet.host()
    go = fleet.directory / "go"
    body = {"job": "long", "run_id": "r", "command": f"while [ ! -e {go} ]; do sleep 0.1; done"}
    fleet.aws.send_all(fleet.queue, [body] * 4)
    host.start()
    fleet.events.wait("r", "started")
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 1, "the other messages are gone", detail=host.log)
    go.touch()
    fleet.events.wait_ended(["r"])
    fleet.wait_empty()
    assert starts(fleet, "r") == 1


def test_a_message_of_an_ended_run_is_answered_from_the_journal(fleet: Fleet, host: Host) -> None:
    ran = fleet.directory / "ran"
    body = {"job": "once", "run_id": "r", "command": f"echo ran >> {ran}; exit 4"}
    fleet.send(body)
    [first] = fleet.events.wait_ended(["r"])
    fleet.wait_empty()
    assert host.stop() == 0  # not killed: SQS would give the message to the poll of the dead
    host.start()  # what has ended is remembered by the journal, not by the agent
    fleet.send(body)
    told = [event for event in fleet.events.seen if event["id"] == first["id"]]
    wait_for(
        lambda: fleet.events.collect() or len([e for e in fleet.events.seen if e["id"] == first["id"]]) > len(told),
        "the finished event is sent again",
        detail=host.log,
    )
    assert [e for e in fleet.events.seen if e["id"] == first["id"]][-1] == first
    fleet.wait_empty()
    assert ran.read_text() == "ran\n"


def test_an_interrupted_run_runs_again(fleet: Fleet) -> None:
    host = fleet.host(more='agent.on_stop = "kill"\n')
    host.start()
    first = fleet.directory / "first"
    fleet.send(
        {
            "job": "twice",
            "run_id": "r",
            "command": f"if [ -e {first} ]; then exit 0; fi; touch {first}; exec sleep 1000",
        }
    )
    fleet.events.wait("r", "started")
    wait_for(first.exists, "the job runs")
    assert host.stop() == 0, host.log()
    [interrupted] = fleet.events.wait_ended(["r"])
    assert interrupted["data"]["outcome"] == "interrupted"
    host.start()
    wait_for(
        lambda: fleet.events.collect() or len(fleet.events.of("r", "finished")) == 2, "it ran again", detail=host.log
    )
    again = next(event for event in fleet.events.of("r", "finished") if event["id"] != interrupted["id"])
    assert again["data"]["outcome"] == "succeeded"
    # The poll that was under way may have received the message once more, and handed it back.
    assert again["data"]["delivery"] in {2, 3}
    assert again["data"]["execution"] != interrupted["data"]["execution"]
    fleet.wait_empty()


def test_a_rejected_message_does_not_answer_for_a_good_one(fleet: Fleet, host: Host) -> None:
    bad = fleet.aws.send(fleet.queue, {"job": "one", "run_id": "r", "comand": "true"})
    assert fleet.events.wait_rejected(bad)["subject"] == "r"
    fleet.send({"job": "one", "run_id": "r", "command": "echo good"})
    wait_for(lambda: fleet.events.collect() or fleet.events.of("r", "finished"), "the good one ran", detail=host.log)
    fleet.wait_lines("one", "r", ["good"])
    fleet.wait_empty()


def dead_letters(fleet: Fleet, queue: str, count: int) -> list[str]:
    found: list[str] = []
    wait_for(lambda: found.extend(fleet.aws.take(queue)) or len(found) >= count, f"{count} dead letters")
    return found


@pytest.mark.parametrize("where", ["configured", "redrive", "nowhere"])
def test_a_rejected_message_goes_to_the_dead_letters_once(fleet: Fleet, where: str) -> None:
    own = fleet.aws.queue("own-dead")
    more = f'queue.dead_letter_url = "{own}"\n' if where == "configured" else ""
    if where == "nowhere":
        fleet.queue = fleet.aws.queue("no-redrive")
    host = fleet.host(more=more)
    host.start()
    bodies = ["no JSON", json.dumps({"job": "x", "command": 1}), json.dumps({"job": "x", "env": {"A": "secret-value"}})]
    ids = [fleet.aws.send(fleet.queue, body) for body in bodies]
    for message_id in ids:
        rejected = fleet.events.wait_rejected(message_id)
        assert rejected["data"]["reason"] == "invalid"
        assert "secret-value" not in json.dumps(rejected)
    fleet.wait_empty()
    if where != "nowhere":
        assert sorted(dead_letters(fleet, own if where == "configured" else fleet.dead, 3)) == sorted(bodies)
    assert host.stop() == 0, host.log()
    for queue in (own, fleet.dead):
        assert fleet.aws.depth(queue) == 0
    kinds = [event["id"] for event in fleet.events.seen if event["type"].endswith(".rejected")]
    assert len(set(kinds)) == 3


def test_a_dead_letter_has_the_attributes_of_its_message(fleet: Fleet) -> None:
    """As by SQS's own move: text, numbers, bytes. (moto drops the trace header of a batch.)"""
    host = fleet.host()
    host.start()
    given: dict[str, Any] = {
        "who": {"DataType": "String", "StringValue": "nightly ü"},
        "tries": {"DataType": "Number.int", "StringValue": "3"},
        "key": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
    }
    fleet.aws.sqs.send_message(QueueUrl=fleet.queue, MessageBody="no JSON", MessageAttributes=given)
    found: list[Any] = []

    def came() -> bool:
        answer = fleet.aws.sqs.receive_message(QueueUrl=fleet.dead, MessageAttributeNames=["All"])
        found.extend(answer.get("Messages", ()))
        return bool(found)

    wait_for(came, "the dead letter", detail=host.log)
    assert found[0]["Body"] == "no JSON"
    assert found[0]["MessageAttributes"] == given
    assert host.stop() == 0, host.log()


def test_a_rejection_that_a_kill_cut_short_is_finished(fleet: Fleet) -> None:
    """Killed between the journal and the dead-letter queue, which does not exist yet."""
    missing = fleet.dead.replace("-dead", "-later")
    host = fleet.host(more=f'queue.dead_letter_url = "{missing}"\n', visibility="10s")
    host.start()
    message_id = fleet.aws.send(fleet.queue, "no JSON")
    first = fleet.events.wait_rejected(message_id)
    wait_for(lambda: "dead_letter_failed" in host.log(), "the dead-letter queue is missed", detail=host.log)
    host.kill()
    made = fleet.aws.queue(missing.rpartition("/")[2])
    host.start()
    assert dead_letters(fleet, made, 1) == ["no JSON"]
    fleet.wait_empty()
    fleet.events.collect()
    assert {e["id"] for e in fleet.events.seen if e["type"].endswith(".rejected")} == {first["id"]}


@BOTH
def test_fifo_queues(aws: Aws, fleet: Fleet) -> None:
    fleet.queue = aws.queue("jobs.fifo")
    fleet.results = aws.queue("results.fifo")
    fleet.events = Events(aws, fleet.results)
    host = fleet.host(max_jobs=1)  # SQS may give several messages of a group to one receive
    host.start()
    order = fleet.directory / "order"
    for number in range(4):
        body = {"job": "in-order", "run_id": f"r{number}", "command": f"echo {number} >> {order}; sleep 0.1"}
        aws.send(fleet.queue, body, MessageGroupId="g", MessageDeduplicationId=f"d{number}")
    bad = aws.send(fleet.queue, "no JSON", MessageGroupId="h", MessageDeduplicationId="bad")
    fleet.events.wait_ended([f"r{number}" for number in range(4)])
    fleet.events.wait_rejected(bad)
    fleet.wait_empty()
    assert order.read_text().split() == ["0", "1", "2", "3"]
    for number in range(4):
        # A FIFO results queue gives the events of a run in the order in which they happened.
        arrived = [event["data"]["sequence"] for event in fleet.events.seen if event.get("subject") == f"r{number}"]
        assert arrived == sorted(arrived)
    assert host.stop() == 0, host.log()


def test_events_that_the_results_queue_finds_too_large(aws: Aws, fleet: Fleet) -> None:
    """MaximumMessageSize is the queue owner's to choose; what does not fit is shortened, not tried for ever."""
    fleet.results = aws.queue("small-results", MaximumMessageSize="3072")
    fleet.events = Events(aws, fleet.results)
    host = fleet.host()
    host.start()
    run: dict[str, Any] = {
        "job": "loud",
        "run_id": "r",
        "command": "for i in $(seq 2000); do echo line $i; done; exit 5",
    }
    fleet.send(run, {"job": "quiet", "run_id": "q", "command": "true"})
    loud, quiet = fleet.events.wait_ended(["r", "q"])
    assert (loud["data"]["outcome"], loud["data"]["exit_code"]) == ("failed", 5)
    assert loud["data"]["shortened"] is True
    assert "shortened" not in quiet["data"]
    fleet.wait_empty()
    assert host.stop() == 0, host.log()
    assert "event_refused" not in host.log()


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
def test_a_second_message_of_a_held_run_goes_and_the_first_is_kept(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    release = fleet.directory / "release"
    until = f"until [ -e {release} ]; do sleep 0.1; done"
    fleet.send({"job": "j", "run_id": "one", "command": until})
    fleet.events.wait("one", "started")
    body = {"job": "j", "run_id": "two", "command": "true", "overlap": "wait"}
    fleet.send(body)
    wait_for(lambda: "run_held" in host.log(), "the second run waits", detail=host.log)
    fleet.send(body)
    wait_for(lambda: fleet.aws.depth(fleet.queue) == 2, "its second message is gone")
    release.touch()
    fleet.events.wait_ended(["one", "two"])
    fleet.wait_empty()
    assert len(fleet.events.of("two", "finished")) == 1
    assert host.stop() == 0, host.log()


def test_a_message_with_another_runs_id_is_rejected(fleet: Fleet) -> None:
    """Another job, or another command: while the run is active, when it has ended, and after a restart of the agent."""
    host = fleet.host()
    host.start()
    go = fleet.directory / "go"
    own = {"job": "slow", "run_id": "r2", "command": f"while [ ! -e {go} ]; do sleep 0.1; done"}
    fleet.send(own)
    fleet.events.wait("r2", "started")
    fleet.send({"job": "other", "run_id": "r2", "command": "true"})
    wait_for(lambda: len(rejections(fleet, "r2")) == 1, "the other job is rejected", detail=host.log)
    go.touch()
    wait_for(lambda: fleet.events.collect() or fleet.events.of("r2", "finished"), "the run has ended", detail=host.log)
    fleet.send({**own, "command": "false"})
    wait_for(lambda: len(rejections(fleet, "r2")) == 2, "the other command is rejected", detail=host.log)
    host.stop()
    host.start()
    fleet.send({"job": "third", "run_id": "r2", "command": "true"}, own)
    wait_for(lambda: len(rejections(fleet, "r2")) == 3, "the third job is rejected", detail=host.log)
    fleet.wait_empty()
    told = rejections(fleet, "r2")
    assert [event["data"]["job"] for event in told] == ["other", "slow", "third"]
    assert all(event["data"]["reason"] == "invalid" for event in told)
    assert all('"r2" is that of a run of job "slow"' in event["data"]["detail"] for event in told)
    assert [event["data"]["outcome"] for event in fleet.events.of("r2", "finished")] == ["succeeded"]
    assert starts(fleet, "r2") == 1


def rejections(fleet: Fleet, run_id: str) -> list[dict[str, Any]]:
    fleet.events.collect()
    found = fleet.events.of(run_id, "rejected")
    return sorted(found, key=lambda event: str(event["time"]))
