"""Two hosts as members of a fleet: claims, locks and directives in its table, with the installed command."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws import directives, leases
from runner.aws.table import Table
from runner.protocol import table as keys
from runner.protocol.table import Key
from runner.protocol.units import format_time, parse_time

from aws import client
from fleet import python
from instances import instance
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from pathlib import Path

    from runner.aws.session import Session

    from fleet import Fleet, Host

MEMBER = '\n[fleet]\ntable = "cron"\nlease = "{lease}"\n'
FINISHED = "cron-runner.run.finished"


class Ask:
    """The fleet's table from the test, one call at a time."""

    def __init__(self, session: Session) -> None:
        self.table = Table(session, "cron")
        self._runner = asyncio.Runner()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._runner.run(work)

    def close(self) -> None:
        self._runner.close()


@pytest.fixture
def ask(cloud: Session) -> Iterator[Ask]:
    made = Ask(cloud)
    assert made.run(made.table.make())
    yield made
    made.close()


@pytest.fixture
def member(fleet: Fleet, ask: Ask) -> Callable[..., Host]:
    """Makes a host of the fleet, whose agent runs."""
    del ask

    def make(name: str, lease: str = "10s", **more: Any) -> Host:
        host = fleet.host(name, more=MEMBER.format(lease=lease), **more)
        host.start()
        return host

    return make


def marking(path: Path, seconds: float, name: str) -> list[str]:
    """A job that leaves a line when it begins and one when it ends."""
    code = (
        f"import os,time;f=os.open({str(path)!r},os.O_WRONLY|os.O_APPEND|os.O_CREAT,0o666);"
        f"os.write(f,b'+{name}\\n');time.sleep({seconds});os.write(f,b'-{name}\\n')"
    )
    return python(code)


def marks(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def most_at_once(lines: list[str]) -> int:
    """How many ran together at the most."""
    now = most = 0
    for line in lines:
        now += 1 if line.startswith("+") else -1
        most = max(most, now)
    return most


def visible(fleet: Fleet) -> int:
    """The messages that a receive would find now."""
    answer = fleet.aws.sqs.get_queue_attributes(QueueUrl=fleet.queue, AttributeNames=["ApproximateNumberOfMessages"])
    return int(answer["Attributes"]["ApproximateNumberOfMessages"])


def status(host: Host) -> dict[str, Any]:
    """What `status` says; nothing while the agent starts."""
    answer = host.command("status", "--json")
    said: dict[str, Any] = json.loads(answer.stdout) if answer.returncode == 0 else {"pause": None, "held": []}
    return said


def outcomes(fleet: Fleet, run_id: str) -> list[str]:
    fleet.events.collect()
    return [event["data"].get("outcome", event["type"]) for event in fleet.events.of(run_id)]


def test_a_run_id_is_run_by_one_host_of_the_fleet(fleet: Fleet, member: Callable[..., Host], tmp_path: Path) -> None:
    member("one")
    member("two")
    log = tmp_path / "log"
    body = {"job": "nightly", "run_id": "n-1", "command": marking(log, 2.0, "n-1")}
    fleet.send(*[body] * 6)  # six messages of one run, for two hosts
    fleet.events.wait_ended(["n-1"], within=60)
    fleet.wait_empty(within=100)
    assert marks(log) == ["+n-1", "-n-1"]
    assert [event["type"] for event in fleet.events.of("n-1")].count(FINISHED) == 1


def test_skip_holds_over_all_hosts(fleet: Fleet, member: Callable[..., Host], tmp_path: Path) -> None:
    member("one", max_jobs=1)
    member("two", max_jobs=1)
    log = tmp_path / "log"
    runs = [f"s-{number}" for number in range(6)]
    fleet.send(*[{"job": "s", "run_id": r, "overlap": "skip", "command": marking(log, 3.0, r)} for r in runs])
    fleet.events.wait_ended(runs, within=90)
    assert most_at_once(marks(log)) == 1
    skipped = [run for run in runs if fleet.events.of(run)[-1]["type"] == "cron-runner.run.skipped"]
    assert len(skipped) + len(marks(log)) // 2 == len(runs)
    assert all(fleet.events.of(run)[-1]["data"]["reason"] == "overlap" for run in skipped)
    assert skipped, "two hosts of one place each met at least once"
    fleet.wait_empty()


def test_wait_holds_over_all_hosts(fleet: Fleet, member: Callable[..., Host], tmp_path: Path) -> None:
    member("one", max_jobs=2)
    member("two", max_jobs=2)
    log = tmp_path / "log"
    runs = [f"w-{number}" for number in range(4)]
    fleet.send(*[{"job": "w", "run_id": r, "overlap": "wait", "command": marking(log, 1.0, r)} for r in runs])
    fleet.events.wait_ended(runs, within=110)
    assert most_at_once(marks(log)) == 1
    assert sorted(mark for mark in marks(log) if mark[0] == "+") == [f"+{run}" for run in runs]


def test_replace_reaches_the_other_host(fleet: Fleet, member: Callable[..., Host], tmp_path: Path) -> None:
    member("one", max_jobs=1)
    log = tmp_path / "log"
    fleet.send({"job": "r", "run_id": "old", "command": marking(log, 100.0, "old"), "overlap": "replace"})
    wait_for(lambda: marks(log) == ["+old"], "the old run has begun", 30)
    member("two", max_jobs=1)
    fleet.send({"job": "r", "run_id": "new", "command": marking(log, 0.1, "new"), "overlap": "replace"})
    fleet.events.wait_ended(["old", "new"], within=60)
    old = fleet.events.of("old")[-1]["data"]
    assert (old["outcome"], old["reason"]) == ("cancelled", "replaced by run new")
    assert outcomes(fleet, "new")[-1] == "succeeded"
    assert marks(log) == ["+old", "+new", "-new"]


def test_a_host_that_dies_frees_its_lock_within_the_lease(
    fleet: Fleet, member: Callable[..., Host], tmp_path: Path
) -> None:
    first = member("one", max_jobs=1, visibility="10s")
    log = tmp_path / "log"
    fleet.send({"job": "d", "run_id": "d-1", "overlap": "wait", "command": marking(log, 600.0, "d-1")})
    wait_for(lambda: marks(log) == ["+d-1"], "the run has begun", 30)
    first.remove()  # agent, supervisor and job: the whole host
    died = time.monotonic()
    member("two", max_jobs=2)
    fleet.send({"job": "d", "run_id": "d-2", "overlap": "wait", "command": marking(log, 0.1, "d-2")})
    fleet.events.wait_ended(["d-2"], within=60)
    # The lease, what clocks may differ by, and a look or two.
    assert time.monotonic() - died < 10 + leases.SKEW_S + 25


def test_an_agent_that_is_killed_keeps_its_lock_by_its_successor(
    fleet: Fleet, member: Callable[..., Host], tmp_path: Path
) -> None:
    first = member("one", max_jobs=1)
    member("two", max_jobs=1)
    log = tmp_path / "log"
    run = {"job": "k", "run_id": "k-1", "overlap": "skip", "command": marking(log, 14.0, "k-1")}
    fleet.send(run)
    wait_for(lambda: marks(log) == ["+k-1"], "the run has begun", 30)
    owner = next(host for host in fleet.hosts if "run_started" in host.log())
    owner.kill()
    owner.start()
    fleet.send(run)  # a copy, while its host's agent was away
    time.sleep(11.0)  # longer than the lease that the killed agent held
    fleet.send({**run, "run_id": "k-2"})
    fleet.events.wait_ended(["k-1", "k-2"], within=60)
    assert outcomes(fleet, "k-1") == ["cron-runner.run.started", "succeeded"]
    assert fleet.events.of("k-2")[-1]["type"] == "cron-runner.run.skipped"
    assert marks(log) == ["+k-1", "-k-1"]
    assert first in fleet.hosts


def test_directives_reach_every_agent(fleet: Fleet, member: Callable[..., Host], ask: Ask) -> None:
    host = member("one", max_jobs=4)
    group, now = fleet.group, time.time()
    fleet.send({"job": "long", "run_id": "c-1", "command": "sleep 300"})
    wait_for(lambda: outcomes(fleet, "c-1") == ["cron-runner.run.started"], "c-1 runs", 30)
    ask.run(directives.cancel(ask.table, group, "c-1", by="ann", why="it hangs", now=now))
    ask.run(directives.maintenance(ask.table, group, "upkeep", on=True, by="bob", why="new disk", now=now))
    fleet.events.wait_ended(["c-1"], within=40)
    ended = fleet.events.of("c-1")[-1]["data"]
    assert (ended["outcome"], ended["reason"]) == ("cancelled", "cancelled by ann: it hangs")

    fleet.send({"job": "upkeep", "run_id": "m-1", "command": "true"})
    fleet.events.wait_ended(["m-1"], within=40)
    skipped = fleet.events.of("m-1")[-1]
    assert (skipped["type"], skipped["data"]["reason"]) == ("cron-runner.run.skipped", "maintenance")

    ask.run(directives.cancel(ask.table, group, "c-2", by="ann", why="not wanted", now=now))
    ask.run(directives.pause(ask.table, group, on=True, by="eve", why="release", now=now))

    def pause() -> dict[str, Any]:
        return status(host)["pause"] or {}

    wait_for(lambda: pause().get("by") == "eve for the whole group", "the host is paused", 30)
    fleet.send(
        {"job": "long", "run_id": "c-2", "command": "sleep 300"}, {"job": "x", "run_id": "x-1", "command": "true"}
    )
    # A restart forgets nothing of it.
    host.stop()
    host.start()
    wait_for(lambda: pause().get("note") == "release", "the host is paused again", 30)
    assert outcomes(fleet, "x-1") == []
    ask.run(directives.pause(ask.table, group, on=False, by="eve", why="released", now=now))
    fleet.events.wait_ended(["c-2", "x-1"], within=60)
    assert outcomes(fleet, "c-2") == ["cancelled"]
    assert fleet.events.of("c-2")[-1]["data"]["reason"] == "cancelled by ann: not wanted"
    assert outcomes(fleet, "x-1")[-1] == "succeeded"


@pytest.mark.parametrize("told", ["cancelled", "maintenance", "too late"])
def test_no_word_about_a_run_goes_around_its_claim(
    fleet: Fleet, member: Callable[..., Host], ask: Ask, told: str
) -> None:
    first = member("one")
    body = {"job": "s", "run_id": "s-1", "command": "true"}
    if told == "too late":
        body["not_after"] = format_time(time.time() + 12)
    fleet.send(body)
    fleet.events.wait_ended(["s-1"], within=40)
    fleet.wait_empty()
    first.stop()
    assert outcomes(fleet, "s-1")[-1] == "succeeded"
    if told == "cancelled":
        ask.run(directives.cancel(ask.table, fleet.group, "s-1", by="ann", why="", now=time.time()))
    elif told == "maintenance":
        ask.run(directives.maintenance(ask.table, fleet.group, "s", on=True, by="ann", why="", now=time.time()))
    else:
        time.sleep(12)
    second = member("two")
    fleet.send(body)
    fleet.wait_empty(within=60)
    second.stop()
    assert outcomes(fleet, "s-1") == ["cron-runner.run.started", "succeeded"]
    assert list(ask.run(directives.read(ask.table, fleet.group)).cancelled) == []


def test_a_replaced_run_leaves_no_word_behind(fleet: Fleet, member: Callable[..., Host], ask: Ask) -> None:
    member("one", max_jobs=1)
    member("two", max_jobs=1)
    runs = [f"r-{number}" for number in range(3)]
    for run in runs:
        fleet.send({"job": "r", "run_id": run, "overlap": "replace", "command": "sleep 300"})
        wait_for(lambda run=run: outcomes(fleet, run), f"{run} runs", 60)  # type: ignore[misc]
    fleet.events.wait_ended(runs[:-1], within=60)
    words = Key(keys.directives(fleet.group), keys.CANCEL)

    def left() -> list[Any]:
        return list(ask.run(ask.table.query("#pk = :pk AND begins_with(#sk, :sk)", {"pk": words.pk, "sk": words.sk})))

    wait_for(lambda: not left(), "no word is left", 30)


def test_leases_outlive_an_outage_longer_than_they_are(fleet: Fleet, ask: Ask, tmp_path: Path) -> None:
    """With a restart in it, and the strictest policy."""
    host = fleet.host("one", more='\nqueue.on_lost_lease = "kill"\n' + MEMBER.format(lease="10s"))
    host.start()
    log = tmp_path / "log"
    fleet.send({"job": "o", "run_id": "o-1", "overlap": "wait", "command": marking(log, 40.0, "o-1")})
    wait_for(lambda: marks(log) == ["+o-1"], "o-1 runs", 40)
    key = keys.claim(fleet.group, "o-1")
    before = ask.run(ask.table.get(key))
    lock = ask.run(ask.table.get(keys.lock(fleet.group, "o")))
    dynamodb = client("dynamodb", fleet.aws.endpoint)
    dynamodb.delete_table(TableName="cron")
    dynamodb.close()
    host.kill()
    host.start()
    time.sleep(20)  # twice the lease
    assert ask.run(ask.table.make())
    ask.run(ask.table.put_many([before, lock]))
    wait_for(lambda: parse_time(ask.run(ask.table.get(key))["until"]) > time.time(), "the claim is taken again", 20)
    assert ask.run(ask.table.get(key))["holder"] == before["holder"]
    fleet.events.wait_ended(["o-1"], within=90)
    assert outcomes(fleet, "o-1")[-1] == "succeeded"
    assert not [event for event in fleet.events.of("o-1") if event["data"].get("lease_lost")]
    assert marks(log) == ["+o-1", "-o-1"]


def test_without_the_table_nothing_starts_and_nothing_is_lost(fleet: Fleet, cloud: Session) -> None:
    host = fleet.host("one", more=MEMBER.format(lease="10s"))
    host.start()
    fleet.send({"job": "x", "run_id": "x-1", "command": "true"})

    def held() -> list[str]:
        return [run["reason"] for run in status(host)["held"]]

    wait_for(lambda: any("cannot ask the fleet's table" in reason for reason in held()), "x-1 is held", 40)
    assert outcomes(fleet, "x-1") == []
    made = Ask(cloud)
    assert made.run(made.table.make())  # it is there now
    fleet.events.wait_ended(["x-1"], within=60)
    claim = made.run(made.table.get(keys.claim(fleet.group, "x-1")))
    wait_for(lambda: made.run(made.table.get(keys.claim(fleet.group, "x-1")))["done"], "the claim is ended", 20)
    made.close()
    assert claim["holder"] == fleet.events.of("x-1")[-1]["data"]["execution"]
    fleet.wait_empty()


def test_a_stop_while_the_table_is_away_hands_back_at_once(fleet: Fleet) -> None:
    host = fleet.host("one", more=MEMBER.format(lease="10s"), visibility="2m")
    host.start()
    fleet.send({"job": "x", "run_id": "x-1", "command": "true"})
    wait_for(lambda: "run_held" in host.log(), "x-1 is held", 40)
    assert host.stop() == 0
    wait_for(lambda: visible(fleet) == 1, "the message is back", 10)


def test_a_spot_notice_drains_the_host(fleet: Fleet) -> None:
    with instance() as ec2:
        host = fleet.host("spot", more="\nfleet.notices = true\n", **ec2.environment)
        host.start()
        fleet.send({"job": "x", "run_id": "x-1", "command": "true"})
        fleet.events.wait_ended(["x-1"], within=30)
        ec2.metadata["spot/instance-action"] = json.dumps({"action": "terminate", "time": "2030-01-31T04:02:00Z"})

        def pause() -> dict[str, Any]:
            return status(host)["pause"] or {}

        wait_for(lambda: pause().get("kind") == "drain", "the host drains", 30)
        assert (pause()["by"], pause()["note"]) == ("AWS", "spot interruption: terminate at 2030-01-31T04:02:00Z")
        fleet.send({"job": "x", "run_id": "x-2", "command": "true"})
        host.signal(signal.SIGTERM)
        assert host.wait() == 0
        assert outcomes(fleet, "x-2") == []
        assert fleet.aws.depth(fleet.queue) == 1


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
def test_items_that_nobody_understands_end_no_agent(member: Callable[..., Host], ask: Ask, fleet: Fleet) -> None:
    """Somebody has written by hand, or a later version: what can be understood is obeyed, the rest is told and left."""
    group = fleet.group
    good = {"on": True, "by": "alice", "why": "", "changed_at": "2026-01-01T00:00:00Z", "number": "1"}
    pk = keys.directives(group)
    for number, item in enumerate(
        (
            {},
            {"on": True},
            {**good, "changed_at": "yesterday"},
            {**good, "changed_at": 7},
            {**good, "by": ["alice"]},
            {**good, "number": 7, "why": None},
            {**good, "until": {"a": 1}},
            {**good, "on": "yes"},
        )
    ):
        for kind in ("CANCEL#", "MAINTENANCE#"):
            ask.run(ask.table.put({**item, "pk": pk, "sk": f"{kind}bad{number}"}))
    ask.run(ask.table.put({**keys.pause(group).attributes(), "on": "yes"}))
    ask.run(ask.table.put({**keys.changed(group).attributes(), "on": False}))
    ask.run(
        ask.table.put({**keys.claim(group, "claimed").attributes(), "holder": 7, "until": "tomorrow", "token": "x"})
    )
    ask.run(directives.cancel(ask.table, group, "bye", by="alice", why="", now=time.time()))
    host = member("h")
    fleet.send(
        {"job": "j", "run_id": "claimed", "command": "true"},
        {"job": "j", "run_id": "bye", "command": "sleep 60"},
        {"job": "j", "run_id": "good", "command": "true"},
    )
    ends = fleet.events.wait_ended(["bye", "good"], within=60)
    assert {end["subject"]: end["data"]["outcome"] for end in ends} == {"bye": "cancelled", "good": "succeeded"}
    assert "fleet_items_not_read" in host.log()
    assert host.stop() == 0, host.log()
