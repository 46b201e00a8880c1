"""One measurement of the fleet's half, in the environment of one revision: ``python fleet_worker.py PART < facts``.

Uses only what every revision has, and says what it found as JSON. Units and requests are the stand-in's count.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import json
import logging
import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.request import ProxyHandler, build_opener

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from runner.aws.session import Session
    from runner.aws.table import Table

Facts = dict[str, Any]
NOW = 1_900_000_021.0
_OPENER = build_opener(ProxyHandler({}))


def counted(endpoint: str) -> Facts:
    """What the stand-in has counted so far."""
    with _OPENER.open(f"{endpoint}/counts", timeout=60) as answer:
        return dict(json.loads(answer.read()))


def peak_mb() -> float:
    """Of this process alone: what getrusage says is that of who started it, where that was larger (getrusage(2))."""
    status = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024


class Span:
    """What happens between its beginning and `end`: seconds, CPU, requests to the table, units."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._before = counted(endpoint)
        self._cpu, self._began = time.process_time(), time.perf_counter()

    def end(self) -> Facts:
        took, cpu = time.perf_counter() - self._began, time.process_time() - self._cpu
        after = counted(self._endpoint)
        calls = Counter(after["counts"]) - Counter(self._before["counts"])
        units = Counter(after["units"])
        units.subtract(self._before["units"])
        table = {name: n for name, n in calls.items() if name.endswith("Item") or name in _TABLE}
        return {
            "s": took,
            "cpu_s": cpu,
            "requests": sum(table.values()),
            "write_units": units["write"] + units["index"],
            "read_units": units["read"],
            "calls": table,
        }


_TABLE = ("Query", "TransactWriteItems", "TransactGetItems")


async def fleet() -> tuple[Session, Table]:
    """A session and the table, made where it is not there."""
    from runner.aws.session import Session
    from runner.aws.table import Table

    session = Session()
    table = Table(session, "fleet")
    await table.make()
    return session, table


async def applied(table: Table) -> None:
    """The group and the jobs whose events are recorded."""
    from runner.control.definition import GroupDefinition, JobDefinition

    jobs = [JobDefinition("web", f"nightly-{n}", schedule="47 17 * * *", since=1.0) for n in range(10)]
    group = GroupDefinition("web", "https://sqs.eu-west-1.amazonaws.com/123456789012/web")
    await table.put_many([group.item(), *(job.item() for job in jobs)])


async def record(facts: Facts) -> Facts:
    """The recorder on batches as Lambda gives them."""
    room = of_control("recorder")

    _, table = await fleet()
    await applied(table)
    recorder = room.Recorder(table)
    warm, batches = facts["batches"][0], facts["batches"][1:]
    await recorder.record([(f"w{n}", body) for n, body in enumerate(warm)], now=NOW)
    span = Span(facts["endpoint"])
    for place, batch in enumerate(batches):
        failed = await recorder.record([(f"{place}/{n}", body) for n, body in enumerate(batch)], now=NOW)
        assert not failed, failed
    return span.end()


async def local(facts: Facts) -> Facts:
    """`control --local` on a queue full of events, until it is empty."""
    from runner.aws.sqs import Queue
    from runner.control.local import serve

    session, table = await fleet()
    await applied(table)
    stop = asyncio.Event()
    span = Span(facts["endpoint"])
    name, wanted = facts["queue"].rpartition("/")[2], facts["events"]
    served = asyncio.create_task(serve(session, table, Queue(session, url=facts["queue"]), every=60.0, stop=stop))

    def deleted() -> int:
        return int(counted(facts["endpoint"])["queues"][name]["deleted"])

    while await asyncio.to_thread(deleted) < wanted:
        await asyncio.sleep(0.02)
    found = span.end()
    stop.set()
    served.cancel()
    await asyncio.gather(served, return_exceptions=True)
    return found


async def schedule(facts: Facts) -> Facts:
    """Jobs that are due in one minute, then minutes in which none is."""
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.scheduler import minute
    from runner.protocol import table as keys
    from runner.protocol.units import format_time

    session, table = await fleet()
    jobs = [
        JobDefinition("web", f"job-{n:06}", message={"command": "make all"}, schedule="47 17 * * *", since=1.0)
        for n in range(facts["jobs"])
    ]
    await table.put_many([GroupDefinition("web", facts["queue"]).item(), *(job.item() for job in jobs)])
    del jobs
    await table.put_many([keys.tick("web").attributes() | {"until": format_time(NOW - 60), "number": 1}])
    kept = await _kept(minute, table)
    span = Span(facts["endpoint"])
    report = await minute(session, table, now=NOW, **kept)
    found = {"due": span.end()}
    assert (report.enqueued, report.failed) == (facts["jobs"], {}), report
    for n in range(1, 4):  # what was read is known for certain after the second
        await minute(session, table, now=NOW + 60 * n, **kept)
    span = Span(facts["endpoint"])
    await minute(session, table, now=NOW + 240, **kept)
    found["idle"] = span.end()
    return found | {"peak_mb": peak_mb()}


async def _kept(minute: Callable[..., Awaitable[object]], table: Table) -> Facts:
    """What a function keeps between two minutes, in revisions that keep anything."""
    if "definitions" not in inspect.signature(minute).parameters:
        return {}
    from runner.control.definitions import Definitions, told

    await told(table, ["web"])  # as `jobs apply` does
    return {"definitions": Definitions(table)}


def _look(directives: Any) -> Callable[..., Awaitable[object]]:
    """An idle host's look in which nothing has changed: each revision's own."""
    number = getattr(directives, "number", None)
    if number is None:
        return cast("Callable[..., Awaitable[object]]", directives.read)
    if "consistent" in inspect.signature(number).parameters:
        return partial(number, consistent=False)
    return cast("Callable[..., Awaitable[object]]", number)


async def hosts(facts: Facts) -> Facts:
    """What hosts ask the table: a look at the directives, and a run's claim from its start to its end."""
    from runner.aws import directives, leases

    _, table = await fleet()
    await directives.pause(table, "web", on=False, by="ann", why="", now=NOW)
    look = _look(directives)
    count, found = facts["hosts"], {}

    async def each(work: Callable[[int], Awaitable[object]]) -> Facts:
        span, turns = Span(facts["endpoint"]), asyncio.Semaphore(8)

        async def one(n: int) -> None:
            async with turns:
                await work(n)

        await asyncio.gather(*(one(n) for n in range(count)))
        return span.end()

    held: dict[int, Any] = {}

    async def claim(n: int) -> None:
        held[n] = await leases.claim_run(table, "web", f"nightly-{n}", f"e{n}", 120.0, now=NOW)

    async def finish(n: int) -> None:
        await leases.finish_run(table, held[n], now=NOW + 30)

    found["look"] = await each(lambda _: look(table, "web"))
    found["claim"] = await each(claim)
    found["renew"] = await each(lambda n: leases.renew(table, held[n], 120.0, now=NOW + 20))
    found["finish"] = await each(finish)
    return found


def of_control(name: str) -> Any:
    """A module of `runner.control`, where it stands or where an earlier revision had it."""
    for room in (".recording", ".notices"):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(f"runner.control{room}.{name}")
    return importlib.import_module(f"runner.control.{name}")


async def imports(facts: Facts) -> Facts:
    """What a new environment of a function loads before its first answer: the module, and its own half of the rest."""
    began, before = time.process_time(), time.perf_counter()
    import runner.control.functions  # noqa: F401

    for name in _OF_A_FUNCTION[facts["function"]]:
        with contextlib.suppress(ModuleNotFoundError):  # of an earlier revision
            of_control(name)
    return {
        "s": time.perf_counter() - before,
        "cpu_s": time.process_time() - began,
        "modules": len(sys.modules),
        "peak_mb": peak_mb(),
    }


_OF_A_FUNCTION = {
    "recorder": ("recorder",),
    "scheduler": ("scheduler", "definitions", "delivery", "senders"),
}


PARTS: dict[str, Callable[[Facts], Awaitable[Facts]]] = {
    "record": record,
    "local": local,
    "schedule": schedule,
    "hosts": hosts,
    "imports": imports,
}

if __name__ == "__main__":
    logging.disable(logging.INFO)
    answer = os.dup(1)
    os.dup2(2, 1)  # what is logged is no answer
    found = asyncio.run(PARTS[sys.argv[1]](json.load(sys.stdin)))  # type: ignore[arg-type]
    os.write(answer, json.dumps(found).encode())
