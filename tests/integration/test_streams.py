"""Log streams that cannot be made for a while, the retention of a group, and what is kept of finished files."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from strict_logs import StrictLogs

from runner.agent.journal.database import Database
from runner.agent.journal.spools import Spools
from runner.agent.output import sink_gate as gate_module
from runner.agent.output.kept_files import Kept
from runner.agent.output.shipper import Shipper
from runner.agent.runs.output import Committed, OutputEnd, Rules
from runner.aws.put_body import body_of
from runner.errors import AwsUnavailable
from runner.log import secrets
from runner.sinks import Batch, NoNewStream, Piece, Tag
from runner.sinks import cloudwatch as cloudwatch_module
from runner.sinks.cloudwatch import CloudWatch


def tag(run_id: str) -> Tag:
    return Tag(f"e-{run_id}", 1, "job", run_id, 0.0, host="h1")


@pytest.fixture(autouse=True)
def _quota_is_gone_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudwatch_module, "QUOTA_GONE_AFTER", 1)


class Quota(StrictLogs):
    """Makes no streams while `throttled`, but those that are named."""

    def __init__(self, *allowed: str) -> None:
        super().__init__(exists=False)
        self.groups["/cron-runner/g"] = 30
        self.throttled = True
        self.asked: list[str] = []
        self._allowed = allowed

    async def create_stream(self, group: str, stream: str) -> bool:
        self.asked.append(stream)
        if self.throttled and stream not in self._allowed:
            raise AwsUnavailable("CreateLogStream", "ThrottlingException", "Rate exceeded", "throttled")
        return await super().create_stream(group, stream)


class Host:
    """A shipper on a real journal; `again` is the next agent's."""

    def __init__(self, directory: Path, logs: StrictLogs) -> None:
        self.directory, self.logs = directory, logs
        self.database = Database(directory / "journal.db")
        self.spools = Spools(self.database)
        sinks = [CloudWatch(logs, group="g", flush=0.05)]
        self.shipper = Shipper(spool_dir=directory / "spool", sinks=sinks, offsets=self.spools)
        self.task = asyncio.create_task(self.shipper.run())

    async def write(self, run_id: str, data: bytes) -> int:
        whose = tag(run_id)
        descriptor = self.shipper.open(whose)
        await self.spools.opened(whose, ["a-secret"], Rules())
        self.shipper.learn(whose.key)
        os.write(descriptor, data)
        os.close(descriptor)
        self.shipper.grew({whose.key: len(data)})
        return len(data)

    async def end(self, run_id: str, size: int, within: float = 20.0) -> str | None:
        """Finish; where the event would say that the output is."""
        key, end = tag(run_id).key, OutputEnd(size, size)
        await self.shipper.finish(key, end, within=within)
        found = self.shipper.destination(tag(run_id), "cloudwatch")
        await self.spools.ended(key, end)
        return found[1] if found else None

    async def settle(self, run_id: str) -> None:
        await self.shipper.settled(tag(run_id).key)
        await self.spools.settled(tag(run_id).key)
        self.shipper.forget(tag(run_id).key)

    async def close(self) -> None:
        await self.shipper.close(1.0)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        await self.database.close()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "delay", lambda *_: 0.05)


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


async def until(condition: Any) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.005)


def test_ended_small_runs_share_a_stream_while_none_can_be_made(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = Quota("~shared/h1")
        host = Host(tmp_path, logs)
        small = [f"r{n}" for n in range(5)]
        sizes = {run_id: await host.write(run_id, f"{run_id} one\n{run_id} two\n".encode()) for run_id in small}
        large = await host.write("large", b"x" * 99 + b"\n" + (b"y" * 99 + b"\n") * 3000)
        going = await host.write("going", b"still running\n")
        await until(lambda: {"job/going", "job/large"} <= set(logs.asked))
        streams = await asyncio.gather(*(host.end(run_id, sizes[run_id]) for run_id in small))
        assert set(streams) == {"~shared/h1"}
        assert await host.end("large", large, within=0.1) == "job/large"
        shared = logs.lines("~shared/h1")
        assert sorted(shared) == sorted(f"{run_id} {run_id} {word}" for run_id in small for word in ("one", "two"))
        assert all(
            [line for line in shared if line.startswith(f"{r} ")] == [f"{r} {r} one", f"{r} {r} two"] for r in small
        )
        logs.throttled = False
        await host.settle("large")
        assert await host.end("going", going) == "job/going"
        assert logs.lines("job/going") == ["still running"]
        assert len(logs.lines("job/large")) == 3001
        assert logs.violations == []
        await host.close()

    run(scene())


def test_where_a_run_shares_is_kept_over_a_crash(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = Quota()
        first = Host(tmp_path, logs)
        size = await first.write("r1", b"hello\n")
        assert await first.end("r1", size, within=1.0) == "~shared/h1"
        first.task.cancel()
        await asyncio.gather(first.task, return_exceptions=True)
        await first.database.close()
        logs.throttled = False
        second = Host(tmp_path, logs)
        (row,) = await second.spools.unsettled("agent")
        await second.shipper.resume(row.tag, end=row.end)
        await second.settle("r1")
        assert logs.lines("~shared/h1") == ["r1 hello"]
        assert "job/r1" not in logs.events
        await second.close()

    run(scene())


def test_a_run_whose_stream_was_told_waits_for_it(tmp_path: Path) -> None:
    async def scene() -> None:
        answer = asyncio.Event()

        class Slow(Quota):
            async def create_stream(self, group: str, stream: str) -> bool:
                await answer.wait()
                return await super().create_stream(group, stream)

        logs = Slow("~shared/h1")
        host = Host(tmp_path, logs)
        size = await host.write("r1", b"hello\n")
        assert await host.end("r1", size, within=0.1) == "job/r1"
        answer.set()
        await until(lambda: logs.asked.count("job/r1") > 2)
        logs.throttled = False
        await host.settle("r1")
        assert logs.lines("job/r1") == ["hello"]
        await host.close()

    run(scene())


def test_a_retention_that_was_refused_is_set_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cloudwatch_module, "RETENTION_AGAIN_S", 0.0)
    refusals = iter([True, True, False])

    class Refusing(StrictLogs):
        async def create_group(self, group: str, retention_days: int | None = None) -> bool:
            await super().create_group(group)
            await self.set_retention(group, retention_days or 0)
            return True

        async def set_retention(self, group: str, days: int) -> None:
            if next(refusals):
                raise AwsUnavailable("PutRetentionPolicy", "ThrottlingException", "Rate exceeded", "throttled")
            await super().set_retention(group, days)

    async def scene() -> None:
        logs = Refusing(exists=False)
        host = Host(tmp_path, logs)
        for run_id in ("r1", "r2", "r3"):
            await host.end(run_id, await host.write(run_id, b"hello\n"))
        assert logs.groups == {"/cron-runner/g": 30}
        await host.close()

    run(scene())


def test_files_of_settled_runs_are_trimmed_and_no_others(tmp_path: Path) -> None:
    """The rows with the values to mask stay for as long as their files; nobody removes what is not shipped."""

    async def scene() -> None:
        logs = StrictLogs()
        logs.before = lambda stream: asyncio.Event().wait() if stream == "job/waits" else None
        host = Host(tmp_path, logs)
        for n, run_id in enumerate(("waits", "old", "new")):
            size = await host.write(run_id, b"hello\n")
            os.utime(tmp_path / "spool" / f"{run_id}.out", (n, n))
            await host.end(run_id, size, within=20.0 if n else 0.0)
            if n:
                await host.settle(run_id)
        await Kept(tmp_path / "spool", host.spools, most_files=1, spare_files=0).keep(set)
        assert sorted(path.name for path in (tmp_path / "spool").iterdir()) == ["new.out", "waits.out"]
        assert sorted((known.run_id, settled) for known, settled in await host.spools.known()) == [
            ("new", True),
            ("waits", False),
        ]
        assert [row.tag.run_id for row in await host.spools.unsettled("agent")] == ["waits"]
        await host.close()

    run(scene())


def test_secrets_of_runs_are_masked_in_the_agents_log_for_as_long_as_it_may_show_them(tmp_path: Path) -> None:
    async def scene() -> None:
        host = Host(tmp_path, StrictLogs())
        for run_id in ("r1", "r2"):
            os.close(host.shipper.open(tag(run_id), secrets=["of-the-message"]))
            host.shipper.learn(tag(run_id).key, ["of-the-message", "of-the-file"])
        assert secrets.mask("of-the-message of-the-file") == "*** ***"
        for run_id, expected in (("r1", "***"), ("r2", "of-the-message")):
            await host.end(run_id, 0)
            await host.settle(run_id)
            assert secrets.mask("of-the-message") == expected
        await host.close()

    run(scene())


def test_a_settled_row_keeps_its_secrets_and_loses_its_offsets(tmp_path: Path) -> None:
    async def scene() -> None:
        database = Database(tmp_path / "journal.db")
        spools = Spools(database)
        await spools.opened(tag("r"), ["a-secret"], Rules())
        await spools.commit([Committed(tag("r").key, "cloudwatch", 5, {})])
        await spools.settled(tag("r").key)
        assert await spools.load(tag("r").key) == []
        assert await spools.known() == [(tag("r"), True)]
        await spools.removed([tag("r").key])
        assert await spools.known() == []
        await database.close()

    run(scene())


def test_the_body_of_a_put_is_the_json_that_aws_reads() -> None:
    events = [(5, 'quote " and \\ and \x00\x1f\x7f'), (5, "\ufffd\u20ac\U0001f600 \u2028"), (6, " ")]
    events += [(7 + n // 700, f"line {n}") for n in range(2000)]
    body = json.loads(body_of("/g", 'a "b"', events))
    assert body == {
        "logGroupName": "/g",
        "logStreamName": 'a "b"',
        "logEvents": [{"timestamp": ms, "message": text} for ms, text in events],
    }


async def test_a_few_refusals_are_waited_out_and_many_in_a_row_are_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that throttles some calls scatters no output: each run keeps its own stream."""
    monkeypatch.setattr(cloudwatch_module, "QUOTA_GONE_AFTER", 3)
    logs = Quota()
    sink = CloudWatch(logs, group="g")
    batch = Batch("job/r1", (Piece(tag("r1"), 1_700_000_000_000, ["hello"]),))
    said = []
    for _ in range(3):
        with pytest.raises(NoNewStream) as refused:
            await sink.send(batch)
        said.append(refused.value.instead)
    assert said == ["", "", "~shared/h1"]
    logs.throttled = False
    assert await sink.send(batch) == 0
    logs.throttled = True
    with pytest.raises(NoNewStream) as refused:
        await sink.send(Batch("job/r2", (Piece(tag("r2"), 1_700_000_000_000, ["hello"]),)))
    assert refused.value.instead == ""
