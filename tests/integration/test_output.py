"""The shipper over real spool files: complete, in order, bounded, and on from the committed offset after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from strict_logs import StrictLogs, StrictLogsServer

from runner.agent.output import sink_gate as gate_module
from runner.agent.output import spool_file
from runner.agent.output.kept_files import Kept
from runner.agent.output.shipper import Shipper
from runner.agent.output.success_rules import Found, Watch
from runner.agent.runs.output import Committed, Lack, OutputEnd, OutputReport, Rules
from runner.aws.logs import Logs, Rejected
from runner.aws.session import Session
from runner.errors import AwsUnavailable
from runner.sinks import SPLIT_MARK, Tag
from runner.sinks.cloudwatch import CloudWatch
from runner.sinks.stdout import Stdout
from runner.sinks.terminal import Terminal
from runner.supervisor.marks import Marks as SupervisorsMarks


class Offsets:
    """The journal's part, in memory; what is in it survives the shippers, as a file would."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], Committed] = {}

    async def load(self, key: str) -> Sequence[Committed]:
        await asyncio.sleep(0)
        return [row for (of, _), row in self.rows.items() if of == key]

    async def commit(self, entries: Sequence[Committed]) -> None:
        await asyncio.sleep(0)
        for entry in entries:
            state = json.loads(json.dumps(dict(entry.state)))
            self.rows[entry.key, entry.sink] = Committed(entry.key, entry.sink, entry.offset, state)

    async def known(self) -> Sequence[tuple[Tag, bool]]:
        await asyncio.sleep(0)
        return []

    async def removed(self, keys: Sequence[str]) -> None:
        await asyncio.sleep(0)
        assert keys


def tag(run_id: str = "run-1", **changes: Any) -> Tag:
    values: dict[str, Any] = {
        "execution": f"e-{run_id}",
        "attempt": 1,
        "job": "job",
        "run_id": run_id,
        "started_at": 0.0,
    }
    return Tag(**{**values, **changes})


class Job:
    """Writes to a spool file as the supervisor does, and tells its size."""

    def __init__(self, shipper: Shipper, whose: Tag, **options: Any) -> None:
        self.shipper, self.tag = shipper, whose
        self.descriptor = shipper.open(whose, **options)
        shipper.learn(whose.key)
        self.size = 0

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self.descriptor, view) :]
        self.size += len(data)
        self.shipper.grew({self.tag.key: self.size})

    async def end(self, within: float = 20.0) -> OutputReport:
        os.close(self.descriptor)
        return await self.shipper.finish(self.tag.key, OutputEnd(self.size, self.size), within=within)


@asynccontextmanager
async def running(shipper: Shipper) -> AsyncIterator[Shipper]:
    task = asyncio.create_task(shipper.run())
    try:
        yield shipper
    finally:
        await shipper.close(1.0)
        await asyncio.wait([task], timeout=5.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error


def make(tmp_path: Path, logs: StrictLogs, offsets: Offsets | None = None, **options: Any) -> Shipper:
    options = {"group": "g", "flush": 0.05, **options}
    sink = CloudWatch(logs, **options)
    return Shipper(spool_dir=tmp_path / "spool", sinks=[sink], offsets=offsets or Offsets())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures are retried at once, or the tests would wait for the jitter."""
    monkeypatch.setattr(gate_module, "delay", lambda *_: 0.01)


async def until(condition: Any, within: float = 20.0) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        await asyncio.sleep(0.005)


def run(coroutine: Any) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 60))


STREAM = "job/run-1"


def test_lines_are_visible_while_the_job_runs_and_complete_at_the_end(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs(exists=False)
        async with running(make(tmp_path, logs, flush=1.0)) as shipper:
            job = Job(shipper, tag())
            started = time.monotonic()
            job.write(b"hello\nwor")
            await until(lambda: logs.lines(STREAM) == ["hello"])
            assert time.monotonic() - started < 1.0
            job.write(b"ld\n\nlast")
            report = await job.end()
        assert logs.lines(STREAM) == ["hello", "world", " ", "last"]
        tail = "hello\nworld\n\nlast"
        assert report == OutputReport(17, 17, 0, truncated=False, tail=tail, failed_on=None, missing=None, lines=4)
        assert logs.groups == {"/cron-runner/g": 30}
        assert not logs.violations

    run(scene())


def test_a_run_without_output_makes_no_stream(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs(exists=False)
        async with running(make(tmp_path, logs)) as shipper:
            report = await Job(shipper, tag()).end()
            await shipper.settled(tag().key)
        assert report == OutputReport(0, 0, 0, truncated=False, tail="", failed_on=None, missing=None, lines=0)
        assert not logs.puts
        assert not logs.groups

    run(scene())


def test_a_silent_job_shows_its_partial_line_and_the_rest_later(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag())
            job.write(b"Continue? ")
            await until(lambda: logs.lines(STREAM) == ["Continue? "])
            job.write(b"\nyes\n")
            await job.end()
        assert logs.lines(STREAM) == ["Continue? ", "yes"]

    run(scene())


def test_rules_see_everything_even_when_the_sink_is_away(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()

        def away(_: str) -> None:
            raise AwsUnavailable("PutLogEvents", "EndpointConnectionError", "away", "unreachable")

        logs.before = away
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag(), rules=Rules(("^ERROR",), ("all done", "never")))
            job.write(b"fine\nall done\nno ERROR yet\nERR")
            job.write(b"OR 1\nmore")
            report = await job.end(within=0.1)
            assert (report.failed_on, report.missing) == ("^ERROR", "never")
            assert (report.shipped_bytes, report.bytes, report.lines) == (0, 39, 5)
            assert shipper.backlog() == report.bytes
            logs.before = None
            await shipper.settled(tag().key)
        assert logs.lines(STREAM) == ["fine", "all done", "no ERROR yet", "ERROR 1", "more"]

    run(scene())


def test_a_sink_that_fails_for_a_while_gets_every_line_once(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        calls = iter(range(1_000_000))

        def throttled(_: str) -> None:
            if next(calls) % 3:
                raise AwsUnavailable("PutLogEvents", "ThrottlingException", "slower", "throttled")

        logs.before = throttled
        lines = [f"line {n}" for n in range(50_000)]
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag())
            for start in range(0, len(lines), 5_000):
                job.write("".join(f"{line}\n" for line in lines[start : start + 5_000]).encode())
                await asyncio.sleep(0.01)
            report = await job.end()
        assert logs.lines(STREAM) == lines
        assert report.shipped_bytes == report.bytes
        assert not logs.violations

    run(scene())


@pytest.mark.parametrize("when", ["before", "after"])
def test_after_a_crash_at_most_one_batch_is_repeated(tmp_path: Path, when: str) -> None:
    """The agent dies with a batch in flight: before CloudWatch has it, or after, with the offset not committed."""

    async def scene() -> None:
        logs, offsets = StrictLogs(), Offsets()
        lines = [f"line {n}" for n in range(100_000)]
        data = "".join(f"{line}\n" for line in lines).encode()
        descriptor = -1
        for life in range(4):
            stuck = asyncio.Event()
            puts = iter(range(1_000))

            def hang(_: str, *, stuck: asyncio.Event = stuck, puts: Any = puts, life: int = life) -> Any:
                if life < 3 and next(puts) == 1:
                    stuck.set()
                    return asyncio.Event().wait()
                return None

            setattr(logs, when, hang)
            shipper = make(tmp_path, logs, offsets)
            task = asyncio.create_task(shipper.run())
            if life == 0:
                descriptor = shipper.open(tag(), rules=Rules(("line 99999$",)))
                shipper.learn(tag().key)
            else:
                await shipper.resume(tag(), rules=Rules(("line 99999$",)))
            part = data[len(data) * life // 4 : len(data) * (life + 1) // 4]
            os.write(descriptor, part)
            shipper.grew({tag().key: os.fstat(descriptor).st_size})
            if life < 3:
                await stuck.wait()
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        os.close(descriptor)
        report = await shipper.finish(tag().key, OutputEnd(len(data), len(data)), within=100.0)
        await shipper.close()
        await asyncio.gather(task)
        assert (report.failed_on, report.lines, report.shipped_bytes) == ("line 99999$", len(lines), len(data))
        assert logs.violations == []
        sent = logs.lines(STREAM)
        if when == "before":
            assert sent == lines
        else:
            assert list(dict.fromkeys(sent)) == lines
            assert len(sent) - len(lines) <= 3 * 10_000
            # As they came: repeated lines of one second stand beside their first selves where time orders them.
            assert in_order_with_repeats([text for _, text in logs.events[STREAM]], lines, most=10_000)

    run(scene())


def in_order_with_repeats(sent: Sequence[str], lines: Sequence[str], most: int) -> bool:
    """Whether `sent` is `lines` with steps back of at most `most` lines."""
    numbers = {line: number for number, line in enumerate(lines)}
    steps = [numbers[b] - numbers[a] for a, b in pairwise(sent)]
    return all(step == 1 or -most < step <= 0 for step in steps)


def committed(offsets: Offsets, run_id: str) -> set[str]:
    """Whose places are kept."""
    return {sink for key, sink in offsets.rows if key == tag(run_id).key}


def test_a_place_is_kept_only_for_those_who_may_go_on_there(tmp_path: Path) -> None:
    """A short run's one batch in a stream of its own is followed by its end, which says that all of it is there."""

    async def scene() -> None:
        offsets = Offsets()
        async with running(make(tmp_path, StrictLogs(), offsets)) as shipper:
            short = Job(shipper, tag("short"))
            short.write(b"one\ntwo\n")
            assert (await short.end()).shipped_bytes == 8
            assert shipper.has_settled(short.tag.key)
            assert committed(offsets, "short") == set()
            long = Job(shipper, tag("long"))
            long.write(b"one\n")
            await until(lambda: committed(offsets, "long") == {"cloudwatch", "rules"})
            long.write(b"two\n")
            assert (await long.end()).shipped_bytes == 8
            assert offsets.rows[tag("long").key, "cloudwatch"].offset == 8
            assert offsets.rows[tag("long").key, "rules"].offset == 4  # of no use any more

    run(scene())


def test_in_a_shared_stream_every_batch_is_committed_before_the_next(tmp_path: Path) -> None:
    async def scene() -> None:
        offsets = Offsets()
        async with running(make(tmp_path, StrictLogs(), offsets, log_stream="{job}")) as shipper:
            short = Job(shipper, tag("short"))
            short.write(b"one\n")
            assert (await short.end()).shipped_bytes == 4
            assert committed(offsets, "short") == {"cloudwatch"}

    run(scene())


def test_a_place_is_kept_where_the_end_was_told_before(tmp_path: Path) -> None:
    """Then nothing that is told next says that all is there."""

    async def scene() -> None:
        logs, offsets = StrictLogs(), Offsets()

        def away(_: str) -> None:
            raise AwsUnavailable("PutLogEvents", "ConnectFailed", "away", "unreachable")

        logs.before = away
        async with running(make(tmp_path, logs, offsets)) as shipper:
            short = Job(shipper, tag("short"))
            short.write(b"one\n")
            assert (await short.end(within=0.2)).shipped_bytes == 0
            logs.before = None
            await shipper.settled(short.tag.key)
            assert committed(offsets, "short") == {"cloudwatch"}

    run(scene())


def test_a_slow_sink_does_not_hold_back_a_fast_one(tmp_path: Path) -> None:
    async def scene() -> None:
        fast, slow = StrictLogs(), StrictLogs()
        gate = asyncio.Event()
        slow.before = lambda _: gate.wait()
        slow_sink = CloudWatch(slow, group="g", flush=0.05)
        slow_sink.name = "slow"  # type: ignore[misc]
        sinks = [CloudWatch(fast, group="g", flush=0.05), slow_sink]
        shipper = Shipper(spool_dir=tmp_path, sinks=sinks, offsets=Offsets())
        async with running(shipper):
            job = Job(shipper, tag())
            for number in range(5):
                job.write(b"x" * 99 + b"\n")
                await until(lambda number=number: len(fast.lines(STREAM)) == number + 1)
            report = await job.end(within=0.05)
            assert (report.shipped_bytes, slow.lines(STREAM)) == (500, [])
            gate.set()
            await shipper.settled(tag().key)
        assert slow.lines(STREAM) == fast.lines(STREAM)

    run(scene())


def test_runs_that_share_a_stream_join_in_batches(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        async with running(make(tmp_path, logs, log_stream="{host}/{date}:all")) as shipper:
            jobs = [Job(shipper, tag(f"r{n}", host="h")) for n in range(50)]
            for turn in range(4):
                for job in jobs:
                    job.write(f"turn {turn}\n".encode())
            await asyncio.gather(*(job.end() for job in jobs))
        (stream,) = logs.events
        assert stream == "h/1970-01-01-all"
        for job in jobs:
            prefix = f"{job.tag.run_id} "
            assert [line for line in logs.lines(stream) if line.startswith(prefix)] == [
                f"{prefix}turn {n}" for n in range(4)
            ]
        assert len(logs.puts) < 20
        assert not logs.violations

    run(scene())


def test_few_puts_are_in_flight_for_many_runs(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        logs.before = lambda _: asyncio.sleep(0.01)
        async with running(make(tmp_path, logs)) as shipper:
            jobs = [Job(shipper, tag(f"r{n}")) for n in range(100)]
            for job in jobs:
                job.write(b"hello\n")
            await asyncio.gather(*(job.end() for job in jobs))
        assert all(logs.lines(f"job/r{n}") == ["hello"] for n in range(100))
        assert logs.most_in_flight <= 4
        assert not logs.violations

    run(scene())


def test_a_capped_run_ships_head_marker_and_tail(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        whose = tag(max_bytes=2_000)
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, whose, rules=Rules((), ("number 9$", "number 999$")))
            job.write("".join(f"number {n}\n" for n in range(1_000)).encode())
            os.close(job.descriptor)
            end = OutputEnd(job.size, job.size, (1_000, job.size - 1_000))
            report = await shipper.finish(whose.key, end, within=20.0)
        dropped = job.size - 2_000
        lines = logs.lines(STREAM)
        mark = lines.index(f"[cron-runner: {dropped} bytes dropped here]")
        assert lines[:3] == ["number 0", "number 1", "number 2"]
        assert lines[-1] == "number 999"
        assert len("\n".join(lines[:mark])) + len("\n".join(lines[mark + 1 :])) + 1 == 2_000
        assert (report.bytes, report.shipped_bytes, report.dropped_bytes) == (job.size, 2_000, dropped)
        assert report.truncated
        assert report.missing is None

    run(scene())


@pytest.mark.parametrize("size", [262_118 * 2, 400_000, 327_681, 1_000_000])
def test_a_long_line_that_has_waited_is_split_as_one_that_has_not(tmp_path: Path, size: int) -> None:
    """Every piece but the last has its mark, however old the line is when it is shipped."""

    async def scene() -> None:
        logs, gone = StrictLogs(), asyncio.Event()

        def away(_: str) -> None:
            if not gone.is_set():
                raise AwsUnavailable("PutLogEvents", "EndpointConnectionError", "away")

        logs.before = away
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag())
            job.write(b"x" * size + b"\nnext\n")
            await asyncio.sleep(1.2)
            gone.set()
            await until(lambda: logs.lines(STREAM)[-1:] == ["next"])
            await job.end()
        *pieces, last, following = logs.lines(STREAM)
        assert all(piece.endswith(SPLIT_MARK) for piece in pieces)
        assert not last.endswith(SPLIT_MARK)
        assert "".join(piece.removesuffix(SPLIT_MARK) for piece in [*pieces, last]) == "x" * size
        assert len(pieces) == -(-size // 262_118) - 1 or size == 262_118 * 2
        assert following == "next"

    run(scene())


def test_a_line_over_the_place_where_a_cap_may_begin_to_drop_has_its_mark(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag(max_bytes=2_000))
            job.write(b"a" * 1_500 + b"\n")
            await until(lambda: logs.lines(STREAM))
            report = await job.end()
        first, last = logs.lines(STREAM)
        assert (first, last) == ("a" * 1_000 + SPLIT_MARK, "a" * 500)
        assert (report.shipped_bytes, report.dropped_bytes) == (1_501, 0)

    run(scene())


@pytest.mark.parametrize("paced", [True, False], ids=["state by state", "at once"])
@pytest.mark.parametrize("condense", [True, False], ids=["condense", "keep"])
def test_what_a_carriage_return_overwrites_arrives_or_is_counted(tmp_path: Path, condense: bool, paced: bool) -> None:
    async def scene() -> None:
        logs, states = StrictLogs(), [b"l1\r", b"l2\r", b"l3\r", b"l4\r"]
        shipper = make(tmp_path, logs)
        shipper.condense = condense
        async with running(shipper):
            job = Job(shipper, tag())
            for state in states if paced else [b"".join(states)]:
                job.write(state)
                if paced:
                    await until(lambda: shipper.backlog() == 0)
            report = await job.end()
        text = "".join(logs.lines(STREAM))
        if not condense:
            assert text.encode() == b"".join(states)
        assert report.bytes == 12
        assert report.shipped_bytes + report.dropped_bytes == 12
        assert report.dropped_bytes == (9 if condense and not paced else 0)
        assert not report.truncated

    run(scene())


class Clock:
    """Unix seconds that only the test moves."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def away(logs: StrictLogs) -> asyncio.Event:
    """CloudWatch is away until the event is set."""
    there = asyncio.Event()

    def before(_: str) -> None:
        if not there.is_set():
            raise AwsUnavailable("PutLogEvents", "EndpointConnectionError", "away")

    logs.before = before
    return there


def stamps(logs: StrictLogs, stream: str = STREAM) -> dict[str, float]:
    return {text: ms / 1000 for ms, text in logs.events[stream]}


@pytest.mark.parametrize("every", [0.3, 1.0, 60.0, 3600.0], ids=["often", "each second", "each minute", "each hour"])
@pytest.mark.parametrize("restart", ["none", "while it runs", "after its end"])
def test_after_an_outage_a_line_has_the_time_at_which_it_was_written(
    tmp_path: Path, every: float, restart: str
) -> None:
    """Over restarts the supervisor's marks say it."""

    async def scene() -> None:
        logs, clock, offsets, marks = StrictLogs(), Clock(), Offsets(), SupervisorsMarks()
        there = away(logs)
        written: dict[str, float] = {}

        def shipper() -> Shipper:
            sink = CloudWatch(logs, group="g", flush=0.05)
            return Shipper(spool_dir=tmp_path / "spool", sinks=[sink], offsets=offsets, clock=clock)

        async with running(shipper()) as first:
            job = Job(first, tag())
            for number in range(40):
                clock.now += every
                written[f"line {number}"] = clock.now
                job.write(f"line {number}\n".encode())
                marks.add(clock.now, job.size)
                if number == 20 and restart == "while it runs":
                    break
                await asyncio.sleep(0)
            end = OutputEnd(job.size, job.size, marks=marks.flat())
            if restart == "none":
                clock.now += 4 * 3600
                there.set()
                os.close(job.descriptor)
                await first.finish(tag().key, end, within=20.0)
        if restart != "none":
            clock.now += 4 * 3600
            there.set()
            async with running(shipper()) as second:
                if restart == "while it runs":
                    await second.resume(tag(), marks=marks.flat())
                    clock.now += 5
                    written["last"] = clock.now
                    os.write(job.descriptor, b"last\n")
                    job.size += 5
                    second.grew({tag().key: job.size})
                    await until(lambda: "last" in stamps(logs))
                    await second.finish(tag().key, OutputEnd(job.size, job.size), within=20.0)
                else:
                    # As the journal gives it back.
                    await second.resume(tag(), end=OutputEnd.from_json(json.loads(json.dumps(end.to_json()))))
                    await second.settled(tag().key)
            os.close(job.descriptor)
        found = stamps(logs)
        assert found.keys() == written.keys()
        assert logs.lines(STREAM) == list(written)
        for line, moment in written.items():
            assert abs(found[line] - moment) <= 1.0, line
        assert not logs.violations

    run(scene())


def test_lines_older_than_cloudwatch_takes_go_at_the_edge_of_what_it_takes(tmp_path: Path) -> None:
    async def scene() -> None:
        logs, clock = StrictLogs(), Clock()
        there = away(logs)
        sink = CloudWatch(logs, group="g", flush=0.05, retention_days=3)
        async with running(Shipper(spool_dir=tmp_path, sinks=[sink], offsets=Offsets(), clock=clock)) as shipper:
            job = Job(shipper, tag())
            begin = clock.now
            for day in range(6):
                clock.now = begin + day * 86400
                job.write(f"day {day}\n".encode())
            there.set()
            report = await job.end()
        found = stamps(logs)
        assert list(found) == [f"day {day}" for day in range(6)]
        assert min(found.values()) >= clock.now - 3 * 86400
        assert abs(found["day 4"] - (begin + 4 * 86400)) <= 1.0
        assert not logs.violations
        assert report.dropped_bytes == 0

    run(scene())


def test_runs_that_share_a_stream_after_an_outage_of_days_go_in_batches_of_a_day(tmp_path: Path) -> None:
    async def scene() -> None:
        logs, clock = StrictLogs(), Clock()
        there = away(logs)
        sink = CloudWatch(logs, group="g", flush=0.05, log_stream="all")
        begin = clock.now
        async with running(Shipper(spool_dir=tmp_path, sinks=[sink], offsets=Offsets(), clock=clock)) as shipper:
            jobs = [Job(shipper, tag(f"r{n}")) for n in range(3)]
            for hour in range(60):
                clock.now = begin + hour * 3600
                for job in jobs[hour % 2 :]:
                    job.write(f"{hour}\n".encode() + b"x" * hour + b"\n")
            there.set()
            await asyncio.gather(*(job.end() for job in jobs))
        assert not logs.violations
        for number, job in enumerate(jobs):
            own = [(ms, text.split()) for ms, text in logs.events["all"] if text.startswith(f"{job.tag.run_id} ")]
            hours = [(ms, int(words[1])) for ms, words in own if len(words) > 1 and words[1].isdigit()]
            assert [hour for _, hour in hours] == [hour for hour in range(60) if number >= hour % 2]
            assert all(abs(ms / 1000 - (begin + hour * 3600)) <= 1.0 for ms, hour in hours)

    run(scene())


def test_a_burst_of_many_batches_stays_in_order_and_within_its_second(tmp_path: Path) -> None:
    async def scene() -> None:
        logs, clock = StrictLogs(), Clock()
        there = away(logs)
        sink = CloudWatch(logs, group="g", flush=0.05)
        async with running(Shipper(spool_dir=tmp_path, sinks=[sink], offsets=Offsets(), clock=clock)) as shipper:
            job = Job(shipper, tag())
            job.write("".join(f"{n}\n" for n in range(150_000)).encode())
            moment, clock.now = clock.now, clock.now + 3600
            there.set()
            await job.end()
        assert logs.lines(STREAM) == [str(n) for n in range(150_000)]
        assert all(abs(at - moment) <= 1.0 for at in stamps(logs).values())
        assert len(logs.puts) >= 15

    run(scene())


def test_shipped_bytes_are_given_back_to_the_disk(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag())
            for _ in range(16):
                job.write((b"y" * 1023 + b"\n") * 1024)
                await until(lambda: shipper.backlog() == 0)
            held = os.fstat(job.descriptor).st_blocks * 512
            report = await job.end()
        assert held < spool_file.PUNCH_STEP + spool_file.KEEP_BYTES + (1 << 20)
        assert report.tail == (("y" * 1023 + "\n") * 4)
        assert report.shipped_bytes == 16 << 20

    run(scene())


def test_secrets_are_masked_in_what_is_shipped_and_in_the_tail(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        async with running(make(tmp_path, logs)) as shipper:
            descriptor = shipper.open(tag(), secrets=["hunter2-hunter2"])
            os.write(descriptor, b"from-file-1\n")
            shipper.grew({tag().key: 12})
            await asyncio.sleep(0.2)
            assert logs.lines(STREAM) == []  # not before the secrets of the env files are known
            shipper.learn(tag().key, ["from-file-1"])
            os.write(descriptor, b"pass hunter2-")  # a secret may have begun
            shipper.grew({tag().key: 25})
            await until(lambda: "pass " in logs.lines(STREAM))
            os.write(descriptor, b"hunter2 end\n")
            os.close(descriptor)
            report = await shipper.finish(tag().key, OutputEnd(37, 37))
        assert logs.lines(STREAM) == ["***", "pass ", "*** end"]
        assert report.tail == "***\npass *** end\n"

    run(scene())


def test_rejected_events_are_handled_entry_by_entry(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        now_ms = time.time() * 1000

        def reject(events: Sequence[tuple[int, str]]) -> Rejected | None:
            if len(events) == 10:
                return Rejected(too_new_start=8, too_old_end=3, expired_end=None)
            return Rejected(0, None, None) if events[0][0] > now_ms - 3 * 3600 * 1000 else None

        logs.reject = reject
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag())
            job.write(b"".join(b"%d\n" % n for n in range(10)))
            report = await job.end()
        assert sorted(text for _, text in logs.events[STREAM]) == [str(n) for n in range(10)]
        assert (report.dropped_bytes, report.shipped_bytes) == (0, 20)

    run(scene())


def shipping() -> list[str]:
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("ship ")]


def test_nothing_is_left_running_for_a_settled_run(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag())
            job.write(b"all of it\n")
            await until(lambda: shipper.backlog() == 0)
            assert shipping()
            await job.end()
            shipper.forget(tag().key)
            await until(lambda: not shipping())

    run(scene())


def test_a_silent_job_with_a_possible_secret_at_the_end_is_not_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []

    def counted(path: Path, offset: int, size: int) -> bytes:
        reads.append(offset)
        return read(path, offset, size)

    read = spool_file.read
    monkeypatch.setattr(spool_file, "read", counted)

    async def scene() -> None:
        logs = StrictLogs()
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag(), secrets=["s3cret-value"])
            job.write(b"key: s3cret")
            await until(lambda: logs.lines(STREAM) == ["key: "])
            await asyncio.sleep(0.3)
            before = len(reads)
            await asyncio.sleep(1.5)
            assert len(reads) - before <= 1
            await job.end()
        assert logs.lines(STREAM) == ["key: ", "s3cret"]

    run(scene())


def test_an_event_that_is_refused_as_malformed_takes_no_other_with_it(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        put = logs.put_events

        async def picky(group: str, stream: str, events: Sequence[tuple[int, str]]) -> Rejected | None:
            if any(text == "bad" for _, text in events):
                raise AwsUnavailable("PutLogEvents", "InvalidParameterException", "Log event is malformed")
            return await put(group, stream, events)

        logs.put_events = picky  # type: ignore[method-assign]
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag())
            job.write(b"1\n2\nbad\n3\n4\n")
            report = await job.end()
        assert logs.lines(STREAM) == ["1", "2", "3", "4"]
        assert (report.dropped_bytes, report.bytes, report.shipped_bytes) == (3, 12, 9)

    run(scene())


def test_a_long_line_and_binary_garbage_within_the_limits_and_in_little_memory(tmp_path: Path) -> None:
    async def scene() -> None:
        logs = StrictLogs()
        received = {"bytes": 0, "ascii": 0}

        async def discard(stream: str) -> None:
            await asyncio.sleep(0)
            for _, text in logs.events.pop(stream):
                received["bytes"] += len(text.removesuffix(SPLIT_MARK).encode())
                received["ascii"] += text.count("q")  # not in the marker

        logs.after = discard
        line = b"q" * (10 << 20) + b"\n"
        block = os.urandom(1 << 20).replace(b"\r", b"R")
        async with running(make(tmp_path, logs)) as shipper:
            job = Job(shipper, tag())
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            job.write(line)
            await until(lambda: shipper.backlog() == 0)
            assert received == {"bytes": 10 << 20, "ascii": 10 << 20}
            for _ in range(20):
                job.write(block)
                await until(lambda: shipper.backlog() < 1 << 20)
            report = await job.end()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert report.shipped_bytes == report.bytes == len(line) + 20 * len(block)
        assert received["ascii"] == (10 << 20) + 20 * block.count(b"q")
        assert not logs.violations
        assert grown < 20 * 1024, f"{grown} KiB"

    run(scene())


def test_the_real_client_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(server: StrictLogsServer) -> None:
        session = Session()
        sink = CloudWatch(Logs(session), group="g", flush=0.05, retention_days=7)
        shipper = Shipper(spool_dir=tmp_path, sinks=[sink], offsets=Offsets())
        lines = [f"line {n} \x00\x07\u20ac" for n in range(20_000)]
        async with running(shipper):
            job = Job(shipper, tag())
            job.write("".join(f"{line}\n" for line in lines).encode() + b"\xff\xfe\n\n" + b"z" * 600_000)
            report = await job.end()
        assert report.shipped_bytes == report.bytes
        texts = [text for _, text in server.events[STREAM]]
        assert texts[: len(lines)] == lines
        assert texts[len(lines) : len(lines) + 2] == ["\ufffd\ufffd", " "]
        assert "".join(text.removesuffix(SPLIT_MARK) for text in texts[len(lines) + 2 :]) == "z" * 600_000
        assert server.groups == {"/cron-runner/g": 7}
        assert server.violations == []

    with StrictLogsServer() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.endpoint)
        monkeypatch.setenv("AWS_REGION", "eu-west-1")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        run(scene(server))


def test_terminal_and_stdout(tmp_path: Path) -> None:
    async def scene() -> None:
        raw = os.open(tmp_path / "raw", os.O_RDWR | os.O_CREAT)
        lines = os.open(tmp_path / "lines", os.O_RDWR | os.O_CREAT)
        shipper = Shipper(spool_dir=tmp_path / "spool", sinks=[Terminal(raw), Stdout(lines)], offsets=Offsets())
        async with running(shipper):
            job = Job(shipper, tag(), secrets=["s3cret-value"])
            started = time.monotonic()
            job.write(b"10%\r20% \xff\x1b[0m s3cret-value")
            await until(lambda: (tmp_path / "raw").read_bytes() == b"10%\r20% \xff\x1b[0m ***")
            assert time.monotonic() - started < 0.5
            job.write(b"\n")
            await job.end()
        os.close(raw)
        os.close(lines)
        assert (tmp_path / "raw").read_bytes() == b"10%\r20% \xff\x1b[0m ***\n"
        records = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
        assert "".join(record["message"] for record in records) == "10%\r20% \ufffd\x1b[0m ***"
        assert {key: records[0][key] for key in ("job", "run_id", "attempt")} == {
            "job": "job",
            "run_id": "run-1",
            "attempt": 1,
        }

    run(scene())


class Rows(Offsets):
    """Remembers which rows were removed."""

    def __init__(self, rows: Sequence[tuple[Tag, bool]] = ()) -> None:
        super().__init__()
        self.rows = list(rows)
        self.gone: list[str] = []

    async def known(self) -> Sequence[tuple[Tag, bool]]:
        return self.rows

    async def removed(self, keys: Sequence[str]) -> None:
        self.gone += keys


def kept_file(directory: Path, number: int, size: int = 4096) -> tuple[Tag, Path]:
    """A finished run's file, the older the smaller its number."""
    path, descriptor = spool_file.make(directory, f"r{number}", "e", 1)
    os.write(descriptor, b"x" * size)
    os.close(descriptor)
    os.utime(path, (number, number))
    return Tag(execution="e", attempt=1, job="j", run_id=f"r{number}", started_at=0.0), path


def names_in(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_files_that_were_there_are_kept_within_the_quotas(tmp_path: Path) -> None:
    """Neither an active file goes nor one that is not settled; a row whose file is gone goes."""
    tags = [kept_file(tmp_path, number)[0] for number in range(10)]
    lost = Tag(execution="lost", attempt=1, job="j", run_id="lost", started_at=0.0)
    rows = Rows([(replace(tag, execution=f"e{n}"), n != 1) for n, tag in enumerate(tags)] + [(lost, True)])
    kept = Kept(tmp_path, rows, most_files=5, spare_files=0)
    asyncio.run(kept.keep(lambda: {"r0.out"}))
    assert names_in(tmp_path) == ["r0.out", "r1.out", "r5.out", "r6.out", "r7.out", "r8.out", "r9.out"]
    assert rows.gone == ["lost/1", "e2/1", "e3/1", "e4/1"]


def test_the_oldest_files_go_when_newer_ones_come(tmp_path: Path) -> None:
    rows = Rows()
    kept = Kept(tmp_path, rows, most_files=3, spare_files=2, most_bytes=1 << 20)

    async def scene() -> None:
        await kept.keep(set)
        for number in range(6):
            kept.add(*kept_file(tmp_path, number), 4096)
            await kept.keep(set)
            assert len(names_in(tmp_path)) <= 5
        assert names_in(tmp_path) == ["r3.out", "r4.out", "r5.out"]
        kept.add(*kept_file(tmp_path, 6, 1 << 20), 1 << 20)
        await kept.keep(set)
        assert names_in(tmp_path) == ["r6.out"]

    asyncio.run(scene())


def test_copies_make_way_at_once_and_their_rows_follow(tmp_path: Path) -> None:
    rows, lacking = Rows(), Lack(0, 2)
    kept = Kept(tmp_path, rows, lack=lambda: replace(lacking))
    assert not kept.make_way(), "there are none"
    for number in range(4):
        kept.add(*kept_file(tmp_path, number), 4096)
    assert kept.make_way()
    assert (names_in(tmp_path), rows.gone) == (["r2.out", "r3.out"], [])
    lacking.files = 0
    assert not kept.make_way(), "nothing is lacking"
    asyncio.run(kept.keep(lambda: {"r2.out", "r3.out"}))
    assert rows.gone == ["e/1", "e/1"]


def test_names_of_spool_files(tmp_path: Path) -> None:
    made = [spool_file.make(tmp_path, "r", execution, attempt) for execution, attempt in (("a", 1), ("a", 2), ("b", 1))]
    assert [path.name for path, _ in made] == ["r.out", "r~a~2.out", "r~b~1.out"]
    assert [spool_file.find(tmp_path, "r", *which) for which in (("a", 1), ("a", 2), ("b", 1))] == [
        path for path, _ in made
    ]
    for path, descriptor in made:
        assert path.stat().st_mode & 0o777 == 0o600
        os.close(descriptor)


@pytest.mark.parametrize(
    ("pattern", "line", "beside"),
    [
        ("ERROR", b"an ERROR here\n", False),
        (r"a[ab]{900}c", b"a" + b"ab" * 450 + b"c\n", True),  # seconds of CPU for a mebibyte
        (r"\pL{20}", "é".encode() * 20 + b"\n", True),
    ],
)
def test_what_a_senders_pattern_costs_is_paid_beside_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, line: bytes, beside: bool
) -> None:
    looks: list[tuple[str, int]] = []

    def look(watch: Watch, data: bytes, original: Any = Watch.look) -> Found:
        looks.append((threading.current_thread().name.partition("_")[0], len(data)))
        found: Found = original(watch, data)
        return found

    monkeypatch.setattr(Watch, "look", look)

    async def scene() -> None:
        async with running(make(tmp_path, StrictLogs())) as shipper:
            job = Job(shipper, tag(), rules=Rules((pattern,), (pattern,)))
            job.write(b"ababab nothing\n" * 500)
            await until(lambda: looks)
            job.write(line)
            job.write(b"the end")
            report = await job.end()
        assert (report.failed_on, report.missing, report.lines) == (pattern, None, 502)

    run(scene())
    assert ("rules" in {name for name, _ in looks}) == beside
    assert sum(size for _, size in looks) == 500 * len(b"ababab nothing\n") + len(line) + len(b"the end")
