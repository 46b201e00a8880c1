"""Jobs that run after others, on a real table and real queues, with time as an argument."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from runner.control import store
from runner.control.applying.apply import Who, apply, save
from runner.control.applying.files import Wanted, read_files
from runner.control.applying.plan import plan
from runner.control.chains import firing
from runner.control.definition import GroupDefinition, JobDefinition, run_id_at
from runner.control.recording.recorder import Recorder
from runner.control.scheduler import minute
from runner.control.signatures import sign
from runner.control.trigger import triggered
from runner.errors import AwsUnavailable
from runner.protocol import table as keys
from runner.protocol.event import HostFacts, RunFacts, Source, run_event
from runner.protocol.units import format_time

import signers

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runner.aws.session import Session
    from runner.aws.table import Table

    from aws import Aws

T0 = 1_900_000_020.0  # 2030-03-17T17:47:00Z
SOURCE = Source("web", HostFacts("h", None, "boot", "linux", "1"))


async def put(table: Table, session: Session, queue: str, *jobs: JobDefinition, at: float = T0) -> None:
    """Apply a group and its jobs, and nothing else."""
    there, groups = await store.jobs(table), await store.groups(table)
    planned = plan(Wanted(jobs, (GroupDefinition("web", queue),)), there, groups, prune=True)
    await apply(session, table, planned, there, groups, Who("ann", at))


def job(name: str, *after: str, **more: Any) -> JobDefinition:
    return JobDefinition("web", name, message={"command": "true"}, after=after, **more)


def told(name: str, outcome: str, *, due: float | None = T0, run_id: str = "", delivery: int = 1, **more: Any) -> str:
    """The end of a run, as its host tells it."""
    run_id = run_id or run_id_at(name, due or 0.0)
    labels = more.pop("labels", {})
    facts = RunFacts(f"{run_id}x{delivery}", name, run_id, delivery, due, float(delivery), labels)
    data = {"outcome": outcome, "reason": outcome, "will_retry": False, "started_at": T0, "finished_at": T0 + 5, **more}
    return run_event(SOURCE, facts, kind="finished", attempt=1, sequence=2, time=T0 + 5, data=data).body


async def end(recorder: Recorder, *bodies: str) -> None:
    for body in bodies:
        assert await recorder.record([("m", body)], now=T0 + 10) == []


def taken(aws: Aws, queue: str) -> dict[str, dict[str, Any]]:
    """The messages on the queue, which is empty then, by run id; none of them twice."""
    found: list[dict[str, Any]] = []
    while bodies := aws.take(queue):
        found += [json.loads(body) for body in bodies]
    by_id = {message["run_id"]: message for message in found}
    assert len(by_id) == len(found)
    return by_id


async def state(table: Table, run_id: str) -> tuple[str, str | None]:
    run = await store.run(table, run_id, "web")
    return run["state"], run["reason"]


async def owed(table: Table) -> list[Any]:
    return await table.query("#state_key = :owed", {"owed": keys.OWED}, index=keys.BY_STATE)


async def test_a_child_is_fired_for_each_run_of_its_parent(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    recorder = Recorder(table, session=cloud)
    await end(recorder, told("extract", "succeeded", due=T0 - 60))  # before there are children, and known ever since
    await put(table, cloud, queue, job("extract"), job("load", "extract"))
    body = told("extract", "succeeded")
    await end(recorder, body, body)
    await end(Recorder(table, session=cloud), body)
    load = run_id_at("load", T0)
    assert taken(aws, queue) == {
        load: {
            "job": "load",
            "run_id": load,
            "scheduled_at": format_time(T0),
            "command": "true",
            "labels": {"after": run_id_at("extract", T0)},
        }
    }
    await end(recorder, told("extract", "succeeded", due=None, run_id="extract-by-hand"))
    by_hand = taken(aws, queue)["load-by-hand"]
    assert by_hand["labels"] == {"after": "extract-by-hand", "chain": "extract-by-hand"}
    assert "scheduled_at" not in by_hand
    assert await owed(table) == []


@pytest.mark.parametrize(
    ("outcome", "fired"),
    [
        ("succeeded", {"good", "any"}),
        ("failed", {"bad", "any"}),
        ("lost", {"bad", "any"}),
        ("cancelled", {"bad", "any"}),
    ],
)
async def test_how_the_parent_has_to_end(aws: Aws, table: Table, cloud: Session, outcome: str, fired: set[str]) -> None:
    queue = aws.queue("web")
    kinds: Sequence[tuple[str, Any]] = (("good", "success"), ("bad", "failure"), ("any", "any"))
    await put(table, cloud, queue, job("p"), *(job(name, "p", after_when=when) for name, when in kinds))
    await end(Recorder(table, session=cloud), told("p", outcome))
    assert {message["job"] for message in taken(aws, queue).values()} == fired
    for name, _ in kinds:
        run = (await table.get(keys.run("web", run_id_at(name, T0)))) or {}
        assert bool(run) == (name not in fired), "the others are skipped; of these nothing is known yet"
        if run:
            said = f"upstream: p {outcome} ({run_id_at('p', T0)})"
            assert (run["state"], run["reason"], run["scheduled_at"]) == ("skipped", said, format_time(T0))


async def test_an_attempt_that_is_tried_again_has_not_ended(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    await put(table, cloud, queue, job("p"), job("c", "p", after_when="any"))
    recorder = Recorder(table, session=cloud)
    await end(recorder, told("p", "failed", will_retry=True), told("p", "interrupted", delivery=2))
    assert taken(aws, queue) == {}
    await end(recorder, told("p", "succeeded", delivery=3))
    assert list(taken(aws, queue)) == [run_id_at("c", T0)]


async def test_several_parents_are_waited_for_by_the_time_they_were_due(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    await put(table, cloud, queue, job("a"), job("b"), job("c", "a", "b"))
    recorder, other = Recorder(table, session=cloud), Recorder(table, session=cloud)
    await end(recorder, told("a", "succeeded"), told("b", "succeeded", due=T0 + 60))
    assert taken(aws, queue) == {}
    await end(other, told("b", "succeeded"))
    (message,) = taken(aws, queue).values()
    assert message["run_id"] == run_id_at("c", T0)
    assert message["labels"]["after"].split() == [run_id_at("a", T0), run_id_at("b", T0)]
    await end(other, told("a", "failed", due=T0 + 60))
    assert taken(aws, queue) == {}
    assert (await state(table, run_id_at("c", T0 + 60)))[1] == f"upstream: a failed ({run_id_at('a', T0 + 60)})"


async def test_a_chain_that_was_started_by_hand_joins_again(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    await put(table, cloud, queue, job("a"), job("b", "a"), job("c", "a"), job("d", "b", "c"))
    recorder = Recorder(table, session=cloud)
    await end(recorder, told("a", "succeeded", due=None, run_id="a-1"))
    for run_id, message in taken(aws, queue).items():
        await end(recorder, told(message["job"], "succeeded", due=None, run_id=run_id, labels=message["labels"]))
    (last,) = taken(aws, queue).values()
    assert (last["job"], last["labels"]) == ("d", {"after": "b-1 c-1", "chain": "a-1"})


async def test_a_skip_goes_down_the_chain(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    chain = [job("j0"), *(job(f"j{n}", f"j{n - 1}") for n in range(1, 5)), job("call", "j4", after_when="failure")]
    await put(table, cloud, queue, *chain)
    await end(Recorder(table, session=cloud), told("j0", "timed_out"))
    assert await state(table, run_id_at("j1", T0)) == ("skipped", f"upstream: j0 timed_out ({run_id_at('j0', T0)})")
    assert await state(table, run_id_at("j4", T0)) == ("skipped", f"upstream: j3 skipped ({run_id_at('j3', T0)})")
    assert list(taken(aws, queue)) == [run_id_at("call", T0)]


async def test_what_was_skipped_is_fired_when_its_parent_is_heard_of_after_all(
    aws: Aws, table: Table, cloud: Session
) -> None:
    queue = aws.queue("web")
    await put(table, cloud, queue, job("p"), job("c", "p"))
    recorder = Recorder(table, session=cloud)
    await end(recorder, told("p", "lost"))
    assert (await state(table, run_id_at("c", T0)))[0] == "skipped"
    await end(recorder, told("p", "succeeded", delivery=2))
    assert list(taken(aws, queue)) == [run_id_at("c", T0)]
    await end(recorder, told("p", "failed", delivery=3), told("p", "succeeded", delivery=4))
    assert taken(aws, queue) == {}, "once"


async def test_what_could_not_be_sent_is_sent_by_the_scheduler(
    aws: Aws, table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = aws.queue("web")
    await put(table, cloud, queue, job("p"), job("c", "p"))

    async def away(*_: Any) -> Any:
        raise AwsUnavailable("SendMessage", "ServiceUnavailable", "no answer")

    with monkeypatch.context() as patched:
        patched.setattr(firing.Queue, "send", away)
        await end(Recorder(table, session=cloud), told("p", "succeeded"))
    # One that has nobody to send for it, as of an earlier version's function, owes as well.
    await end(Recorder(table), told("p", "succeeded", due=T0 + 60))
    assert taken(aws, queue) == {}
    assert len(await owed(table)) == 2
    report = await minute(cloud, table, now=T0 + 80)
    assert report.failed == {}
    assert sorted(taken(aws, queue)) == [run_id_at("c", T0), run_id_at("c", T0 + 60)]
    assert await owed(table) == []


async def test_a_parent_that_never_started(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    parent = job("p", schedule="47 * * * *", start_within=60.0)
    await put(table, cloud, queue, parent, job("good", "p"), job("call", "p", after_when="failure"), at=T0 - 10)
    await minute(cloud, table, now=T0 - 5)
    await minute(cloud, table, now=T0 + 30)
    taken(aws, queue)
    await minute(cloud, table, now=T0 + 90)
    await minute(cloud, table, now=T0 + 200)
    assert list(taken(aws, queue)) == [run_id_at("call", T0)]
    said = f"upstream: p has never started ({run_id_at('p', T0)})"
    assert await state(table, run_id_at("good", T0)) == ("skipped", said)
    # It was only late.
    await end(Recorder(table, session=cloud), told("p", "succeeded"))
    assert list(taken(aws, queue)) == [run_id_at("good", T0)]


async def test_children_that_are_disabled_or_gone(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    await put(table, cloud, queue, job("p"), job("off", "p"), job("gone", "p"), job("next", "off"))
    recorder = Recorder(table, session=cloud)
    await end(recorder, told("p", "failed", due=T0 - 60))  # it knows of the chains by now
    off = await store.job(table, "off")
    await save(table, off, replace(off, enabled=False), Who("ann", T0))
    jobs = [one for one in await store.jobs(table) if one.name != "gone"]
    await put(table, cloud, queue, *jobs)
    await end(recorder, told("p", "succeeded"))
    assert taken(aws, queue) == {}
    assert await state(table, run_id_at("off", T0)) == ("skipped", "disabled")
    assert await state(table, run_id_at("next", T0)) == ("skipped", f"upstream: off skipped ({run_id_at('off', T0)})")
    assert await table.get(keys.run("web", run_id_at("gone", T0))) is None


async def test_who_is_after_whom_follows_the_definitions(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    recorder = Recorder(table, session=cloud)
    await put(table, cloud, queue, job("a"), job("b"), job("c", "a"))
    await end(recorder, told("a", "succeeded", due=T0))
    await put(table, cloud, queue, job("a"), job("b"), job("c", "b"))
    await end(recorder, told("a", "succeeded", due=T0 + 60), told("b", "succeeded", due=T0 + 120))
    assert sorted(taken(aws, queue)) == [run_id_at("c", T0), run_id_at("c", T0 + 120)]
    await put(table, cloud, queue, job("a"), job("b"))
    links = await table.query("#pk = :pk", {"pk": keys.chains("web")}, consistent=True)
    assert links == []


async def test_a_signed_child_is_passed_on_as_it_was_signed(aws: Aws, table: Table, cloud: Session) -> None:
    queue = aws.queue("web")
    envelope = sign(signers.message(job="c"), signers.pair(), until=T0 + 1e6)
    await put(table, cloud, queue, job("p"), replace(job("c", "p"), signed=envelope))
    await end(Recorder(table, session=cloud), told("p", "succeeded"))
    (body,) = aws.take(queue)
    message = json.loads(body)
    assert {name: message[name] for name in ("payload", "signatures")} == {
        name: json.loads(envelope)[name] for name in ("payload", "signatures")
    }
    run = {"run_id": run_id_at("c", T0), "scheduled_at": format_time(T0), "labels": {"after": run_id_at("p", T0)}}
    assert message["run"] == run
    assert signers.taken(body, signers.trust(signers.trusted())).labels == run["labels"], "its host believes it"


async def test_a_child_may_be_started_by_hand(aws: Aws, table: Table, cloud: Session) -> None:
    await put(table, cloud, aws.queue("web"), job("p"), job("c", "p"))
    _, body = triggered(await store.job(table, "c"), now=T0, by="ann")
    assert json.loads(body)["labels"] == {"triggered-by": "ann"}


async def test_a_child_has_the_defaults_of_its_parameters(
    aws: Aws, table: Table, cloud: Session, tmp_path: Path
) -> None:
    queue = aws.queue("web")
    path = tmp_path / "jobs.toml"
    path.write_text(
        f'[groups.web]\nqueue = "{queue}"\n[defaults]\ngroup = "web"\ncommand = "true"\n'
        '[jobs.p]\n[jobs.c]\nafter = "p"\n'
        '[jobs.c.params.depth]\ntype = "integer"\ndefault = 3\nto = "env"\n'
    )
    await put(table, cloud, queue, *read_files([path]).jobs)
    await end(Recorder(table, session=cloud), told("p", "succeeded"))
    (message,) = taken(aws, queue).values()
    assert "3" in message["env"].values()
