"""A whole host dies, and nobody is left there to say so: the recorder's watch does, and another host runs it again."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from runner.cli.demos.detached import processes_with_mark
from runner.control import store
from runner.control.definition import GroupDefinition, JobDefinition, run_id_at
from runner.control.notices.delivery import deliver
from runner.control.notices.notify import Notify
from runner.control.notices.senders import Senders
from runner.control.recording.recorder import Recorder
from runner.control.scheduler import minute
from runner.protocol.units import parse_time

from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from runner.aws.attributes import Item
    from runner.aws.session import Session
    from runner.aws.table import Table

    from fleet import Fleet, Host
    from receiver import Receiver

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)


@dataclass(slots=True)
class Night:
    """Scheduler, recorder and notices around real hosts; the time at which they look is an argument."""

    fleet: Fleet
    session: Session
    table: Table
    receiver: Receiver
    senders: Senders
    recorder: Recorder
    due: float = field(default_factory=lambda: float(int(time.time())))

    @property
    def run_id(self) -> str:
        return run_id_at("nightly", self.due)

    async def begin(self, mark: Path, **more: Any) -> None:
        """Apply the job, which hangs the first time and is quick the second, and fire it."""
        command = 'test -e "$MARK" && exec echo done; touch "$MARK"; exec sleep 2718'
        job = JobDefinition(
            self.fleet.group,
            "nightly",
            message={"command": command, "timeout": "1h", "env": {"MARK": str(mark)}},
            schedule=f"at({datetime.fromtimestamp(self.due, UTC):%Y-%m-%dT%H:%M:%S})",
            since=self.due - 10,
            **more,
        )
        notify = Notify((f"{self.receiver.url}/people",))
        await self.table.put(GroupDefinition(self.fleet.group, self.fleet.queue, notify=notify).item())
        await self.table.put(job.item())
        report = await minute(self.session, self.table, now=self.due + 1)
        assert (report.enqueued, report.failed) == (1, {})

    async def record(self) -> Item:
        """Record what the hosts have sent; the run as it is then."""
        while bodies := self.fleet.aws.take(self.fleet.results):
            deliveries = [(f"m{number}", body) for number, body in enumerate(bodies)]
            assert await self.recorder.record(deliveries, now=time.time()) == []
        return await store.run(self.table, self.run_id, self.fleet.group)

    async def until(self, state: str, within: float = 60.0) -> Item:
        """Record until the run is in this state."""
        deadline = time.monotonic() + within
        while True:
            try:
                run = await self.record()
            except store.NotFound:
                run = {"state": "unheard of"}
            if run["state"] == state:
                return run
            assert time.monotonic() < deadline, (run, [host.log() for host in self.fleet.hosts])
            await asyncio.sleep(0.05)

    async def look(self, now: float) -> tuple[int, list[str]]:
        """The scheduler's minute at this time; how many runs it found lost, and what people were told."""
        self.receiver.seen.clear()
        report = await minute(self.session, self.table, now=now)
        assert report.failed == {}
        await deliver(self.table, self.senders, now=now)
        return report.lost, [body["text"] for body in self.receiver.bodies()]


@pytest.fixture
async def night(fleet: Fleet, cloud: Session, table: Table, receiver: Receiver) -> AsyncIterator[Night]:
    senders = Senders(cloud)
    yield Night(fleet, cloud, table, receiver, senders, Recorder(table))
    senders.close()


def dies(host: Host, mark: Path) -> None:
    """SIGKILL to everything of the host, which can tell nothing any more."""
    host.crash()
    wait_for(lambda: not processes_with_mark(f"MARK={mark}") and host.supervisor() is None, "nothing of it is left")


async def test_a_host_that_dies_with_its_jobs_is_told_of_and_its_run_comes_again(night: Night, tmp_path: Path) -> None:
    mark = tmp_path / "began"
    await night.begin(mark)
    first = night.fleet.host("first", more='results.heartbeat = "1s"\n', visibility="10s")
    first.start()
    await night.until("running")
    wait_for(mark.exists, "the job has begun")
    dies(first, mark)
    seen = parse_time((await night.record())["seen_at"])

    assert await night.look(seen + 59) == (0, [])
    assert await night.look(seen + 61) == (
        1,
        ["[test] nightly was lost: its host sends nothing any more"],
    )
    run = await store.run(night.table, night.run_id)
    assert (run["state"], run["reason"], run["exit_code"]) == ("lost", "its host sends nothing any more", None)
    assert await night.look(seen + 122) == (0, []), "it is told once"
    shown = first.command("history", "nightly", CRON_RUNNER_FLEET__TABLE=night.table.name).stdout
    assert "its host sends nothing any more" in shown

    night.fleet.host("second", visibility="10s").start()
    run = await night.until("succeeded")
    assert run["attempts"] == 2
    _, told = await night.look(seen + 180)
    assert [text.partition(";")[0] for text in told] == ["[test] nightly succeeded again"]


async def test_without_heartbeats_it_is_told_first_that_the_run_has_not_finished(night: Night, tmp_path: Path) -> None:
    mark = tmp_path / "began"
    await night.begin(mark, finish_within=600.0)
    host = night.fleet.host("only", visibility="10s")
    host.start()
    run = await night.until("running")
    wait_for(mark.exists, "the job has begun")
    dies(host, mark)
    await night.record()

    assert await night.look(night.due + 599) == (0, [])
    lost, (told,) = await night.look(night.due + 601)
    assert lost == 0
    assert told.startswith("[test] nightly did not finish in time; it was due at ")
    ((_, _, body),) = night.receiver.seen
    assert b"did not finish within 10m of the time it was due: it is running" in body
    # Its supervisor would have ended it after an hour, and has not said so within a quarter of one.
    began = parse_time(run["started_at"])
    assert await night.look(began + 3600 + 899) == (0, [])
    assert await night.look(began + 3600 + 901) == (1, ["[test] nightly was lost: its host sends nothing any more"])
