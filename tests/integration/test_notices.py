"""Notices reach people: by real HTTP, by SNS, once, again after a failure, and never with a secret in the log."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import capture_logs

from runner.control.notices.delivery import GIVE_UP_S, QUIET_S, Delivered, deliver, wait_s
from runner.control.notices.facts import TELL, Fact, notice_item
from runner.control.notices.senders import TRIES_AT_ONCE, NeverTaken, NotTaken, Senders
from runner.protocol import table as keys

from aws import client
from receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from runner.aws.session import Session
    from runner.aws.table import Table

    from aws import Aws

AT = 1_767_225_600.0
FACT = Fact(
    id="failure/web/r1/e/1",
    news="failure",
    group="web",
    job="nightly",
    at=AT,
    run_id="r1",
    host="host-1",
    outcome="failed",
    reason="exit code 3",
    tail="no space left",
)


@pytest.fixture
async def senders(cloud: Session, receiver: Receiver) -> AsyncIterator[Senders]:
    made = Senders(cloud, environ={"SLACK": f"{receiver.url}/secret"})
    yield made
    made.close()


async def due(table: Table) -> list[str]:
    items = await table.query("#state_key = :tell", {"tell": TELL}, index=keys.BY_STATE)
    return [item["sk"] for item in items]


async def write(table: Table, fact: Fact, *to: str, now: float = AT) -> None:
    await table.put(notice_item(fact, to, now=now))


# -- one target ---------------------------------------------------------------------------------------------


async def test_a_webhook_is_told(senders: Senders, receiver: Receiver) -> None:
    await senders.send(FACT, f"{receiver.url}/hook")
    ((method, path, body),) = receiver.seen
    assert (method, path) == ("POST", "/hook")
    assert json.loads(body)["text"] == "[web] nightly failed: exit code 3"


async def test_a_target_that_answers_without_end_is_not_listened_to(senders: Senders, receiver: Receiver) -> None:
    receiver.says = 1 << 30
    await senders.send(FACT, f"{receiver.url}/hook")
    assert len(receiver.seen) == 1
    assert receiver.said < 64 << 20


async def test_a_secret_comes_from_the_environment(senders: Senders, receiver: Receiver) -> None:
    await senders.send(FACT, "${SLACK}")
    assert [path for _, path, _ in receiver.seen] == ["/secret"]
    with pytest.raises(Exception, match="no variable NOBODY"):
        await senders.send(FACT, "${NOBODY}")


async def test_a_secret_comes_from_the_parameter_store(senders: Senders, receiver: Receiver, aws: Aws) -> None:
    ssm = client("ssm", aws.endpoint)
    ssm.put_parameter(Name="/cron/hook", Value=f"{receiver.url}/from-ssm", Type="SecureString")
    ssm.close()
    await senders.send(FACT, "${ssm:/cron/hook}")
    assert [path for _, path, _ in receiver.seen] == ["/from-ssm"]
    with pytest.raises(NeverTaken, match="ParameterNotFound"):
        await senders.send(FACT, "${ssm:/cron/gone}")


async def test_a_ping_url_is_told_of_the_start_and_the_end(senders: Senders, receiver: Receiver) -> None:
    for news in ("started", "success", "failure"):
        await senders.send(replace(FACT, news=news), f"ping:{receiver.url}/uuid")  # type: ignore[arg-type]
    assert [path.partition("?")[0] for _, path, _ in receiver.seen] == ["/uuid/start", "/uuid", "/uuid/fail"]


@pytest.mark.parametrize("status", [500, 503, 429, 408])
async def test_a_target_in_trouble_is_asked_again_at_once(senders: Senders, receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    await senders.send(FACT, f"{receiver.url}/hook")
    assert len(receiver.seen) == 2
    receiver.answers = [status] * TRIES_AT_ONCE
    with pytest.raises(NotTaken, match=str(status)):
        await senders.send(FACT, f"{receiver.url}/hook")


@pytest.mark.parametrize("status", [400, 403, 404, 410, 302])
async def test_a_target_that_refuses_is_asked_once(senders: Senders, receiver: Receiver, status: int) -> None:
    receiver.answers = [status]
    with pytest.raises(NeverTaken, match=str(status)):
        await senders.send(FACT, f"{receiver.url}/hook")
    assert len(receiver.seen) == 1


async def test_no_error_holds_the_secret(senders: Senders) -> None:
    with pytest.raises(NotTaken) as caught:
        await senders.send(FACT, "http://127.0.0.1:9/secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_a_topic_is_told(senders: Senders, aws: Aws) -> None:
    topics = client("sns", aws.endpoint)
    topic = topics.create_topic(Name="on-call")["TopicArn"]
    queue = aws.queue("mail")
    topics.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=aws.arn(queue))
    await senders.send(FACT, topic)
    (body,) = aws.take(queue, 5)
    told = json.loads(body)
    assert told["Subject"] == "[web] nightly failed: exit code 3"
    assert "no space left" in told["Message"]
    assert told["MessageAttributes"]["job"]["Value"] == "nightly"
    with pytest.raises(NeverTaken):
        await senders.send(FACT, f"{topic}-gone")
    topics.close()


# -- notices ------------------------------------------------------------------------------------------------


async def test_a_notice_is_told_to_all_and_is_no_longer_due(table: Table, senders: Senders, receiver: Receiver) -> None:
    await write(table, FACT, f"{receiver.url}/a", f"{receiver.url}/b")
    assert await deliver(table, senders, now=AT) == Delivered(told=1)
    assert sorted(path for _, path, _ in receiver.seen) == ["/a", "/b"]
    assert await due(table) == []
    assert await deliver(table, senders, now=AT + 3600) == Delivered()
    kept = await table.get(keys.notice(FACT.id))
    assert kept is not None
    assert kept["to"] == []


async def test_who_did_not_take_it_is_told_later_and_nobody_else_again(
    table: Table, senders: Senders, receiver: Receiver
) -> None:
    await write(table, FACT, f"{receiver.url}/well", "http://127.0.0.1:9/away")
    assert await deliver(table, senders, now=AT) == Delivered(left=1)
    assert [path for _, path, _ in receiver.seen] == ["/well"]
    # Not before its time; and then a longer one each time.
    assert await deliver(table, senders, now=AT + wait_s(1) - 1) == Delivered()
    assert await deliver(table, senders, now=AT + wait_s(1)) == Delivered(left=1)
    item = await table.get(keys.notice(FACT.id))
    assert item is not None
    assert item["to"] == ["http://127.0.0.1:9/away"]
    assert item["tries"] == 2
    assert len(receiver.seen) == 1
    assert await deliver(table, senders, now=AT + GIVE_UP_S) == Delivered(given_up=1)
    assert await due(table) == []


async def test_who_refuses_is_given_up_and_said_so_without_the_secret(
    table: Table, senders: Senders, receiver: Receiver
) -> None:
    receiver.answers = [404]
    await write(table, FACT, f"{receiver.url}/secret")
    with capture_logs() as logs:
        assert await deliver(table, senders, now=AT) == Delivered(given_up=1)
    assert "notice_given_up" in [line["event"] for line in logs]
    assert "secret" not in json.dumps(logs)
    assert await due(table) == []


async def test_two_that_deliver_at_once_tell_it_once(table: Table, senders: Senders, receiver: Receiver) -> None:
    for number in range(10):
        await write(table, replace(FACT, id=f"f{number}", job=f"job{number}"), f"{receiver.url}/{number}")
    counts = await asyncio.gather(*(deliver(table, senders, now=AT) for _ in range(4)))
    assert sum(count.told for count in counts) == 10
    assert sorted(int(path[1:]) for _, path, _ in receiver.seen) == list(range(10))


async def test_one_that_died_while_telling_is_told_by_the_next(
    table: Table, cloud: Session, senders: Senders, receiver: Receiver
) -> None:
    async def dies(_: object) -> tuple[int, str]:
        raise RuntimeError

    await write(table, FACT, f"{receiver.url}/a")
    with pytest.raises(RuntimeError):
        await deliver(table, Senders(cloud, http=dies), now=AT)
    assert await deliver(table, senders, now=AT + 1) == Delivered()
    assert await deliver(table, senders, now=AT + wait_s(1)) == Delivered(told=1)
    assert len(receiver.seen) == 1


async def test_a_job_that_fails_every_minute_is_told_of_once_an_hour(
    table: Table, senders: Senders, receiver: Receiver
) -> None:
    minutes = int(QUIET_S / 60)
    for minute in range(minutes + 1):
        at = AT + 60 * minute
        fact = replace(FACT, id=f"f{minute}", at=at)
        await write(table, fact, f"{receiver.url}/people", f"ping:{receiver.url}/ping", now=at)
        await deliver(table, senders, now=at)
    paths = [path.partition("?")[0] for _, path, _ in receiver.seen]
    assert paths.count("/people") == 2
    assert paths.count("/ping/fail") == minutes + 1


async def test_after_a_recovery_the_next_failure_is_told_at_once(
    table: Table, senders: Senders, receiver: Receiver
) -> None:
    for number, news in enumerate(("failure", "recovery", "failure")):
        fact = replace(FACT, id=f"f{number}", news=news, at=AT + 60 * number)  # type: ignore[arg-type]
        await write(table, fact, f"{receiver.url}/people", now=fact.at)
        await deliver(table, senders, now=fact.at)
    said = [body["text"].split()[2] for body in receiver.bodies()]
    assert said == ["failed:", "succeeded", "failed:"]


async def test_a_failure_that_is_due_beside_its_recovery_is_told_before_it(
    table: Table, senders: Senders, receiver: Receiver
) -> None:
    await write(table, replace(FACT, id="r", news="recovery", at=AT + 60), f"{receiver.url}/people")
    await write(table, FACT, f"{receiver.url}/people")
    assert await deliver(table, senders, now=AT + 60) == Delivered(told=2)
    assert [body["text"].split()[2] for body in receiver.bodies()] == ["failed:", "succeeded"]


@pytest.mark.parametrize("news", ["failure", "too-long", "not-started", "not-finished", "lost"])
async def test_a_trouble_whose_target_was_away_until_it_was_over_is_not_told(
    table: Table, senders: Senders, receiver: Receiver, news: Any
) -> None:
    receiver.answers = [500] * TRIES_AT_ONCE
    await write(table, replace(FACT, news=news), f"{receiver.url}/people")
    assert await deliver(table, senders, now=AT) == Delivered(left=1)
    await write(table, replace(FACT, id="r", news="recovery", at=AT - 5), f"{receiver.url}/people", now=AT + 10)
    assert await deliver(table, senders, now=AT + 10) == Delivered(told=1)
    receiver.seen.clear()
    assert await deliver(table, senders, now=AT + wait_s(1)) == Delivered(told=1, quiet=1)
    assert receiver.seen == []


async def test_a_recovery_whose_target_was_away_until_it_failed_again_is_not_told(
    table: Table, senders: Senders, receiver: Receiver
) -> None:
    await write(table, FACT, f"{receiver.url}/people")
    assert await deliver(table, senders, now=AT) == Delivered(told=1)
    receiver.answers = [500] * TRIES_AT_ONCE
    await write(table, replace(FACT, id="r", news="recovery"), f"{receiver.url}/people", now=AT + 10)
    assert await deliver(table, senders, now=AT + 10) == Delivered(left=1)
    await write(table, replace(FACT, id="l", news="too-long"), f"{receiver.url}/people", now=AT + 20)
    assert await deliver(table, senders, now=AT + 20) == Delivered(told=1)
    receiver.seen.clear()
    assert await deliver(table, senders, now=AT + 10 + wait_s(1)) == Delivered(told=1, quiet=1)
    assert receiver.seen == []


async def test_a_failure_that_was_not_taken_is_told_in_the_next_try(
    table: Table, senders: Senders, receiver: Receiver
) -> None:
    receiver.answers = [500] * TRIES_AT_ONCE
    await write(table, FACT, f"{receiver.url}/people")
    assert await deliver(table, senders, now=AT) == Delivered(left=1)
    assert await deliver(table, senders, now=AT + wait_s(1)) == Delivered(told=1)
