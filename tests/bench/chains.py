"""What a fleet of 10,000 jobs costs, 2,000 of them in chains: ``python tests/bench/chains.py [--jobs N --chained M]``.

Chains are of four: a head with a schedule, two jobs after it, and one after both. All heads end in one minute, and all
that is after them is fired. Against the stand-in on this machine, which costs as much CPU as what is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

_HERE = Path(__file__).parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "support")]

from endpoint import Endpoint  # noqa: E402
from standin import FastStandIn  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterable

NOW = 1_900_000_021.0  # 2030-03-17T17:47:01Z
DUE = NOW - 1


def job_file(jobs: int, chained: int, queue: str) -> str:
    lines = [f'[groups.web]\nqueue = "{queue}"\n[defaults]\ngroup = "web"\ncommand = "make all"']
    for n in range(chained // 4):
        lines.append(f'[jobs.head-{n:05}]\nschedule = "47 17 * * *"')
        lines += [f'[jobs.{side}-{n:05}]\nafter = "head-{n:05}"' for side in ("left", "right")]
        lines.append(f'[jobs.last-{n:05}]\nafter = ["left-{n:05}", "right-{n:05}"]')
    lines += [f'[jobs.job-{n:05}]\nschedule = "47 17 * * *"' for n in range(jobs - chained)]
    return "\n".join(lines)


def ended(messages: Iterable[dict[str, Any]]) -> list[str]:
    """The events of these runs, as if each had succeeded on its host."""
    from runner.protocol.event import HostFacts, RunFacts, Source, run_event
    from runner.protocol.units import parse_time

    source = Source("web", HostFacts("h", None, "boot", "linux", "1"))
    found = []
    for message in messages:
        run_id, due = message["run_id"], parse_time(message["scheduled_at"])
        facts = RunFacts(f"{run_id}x", message["job"], run_id, 1, due, due, message.get("labels", {}))
        took = {"started_at": due, "finished_at": due + 1, "duration_s": 1.0}
        data = {"outcome": "succeeded", "will_retry": False, **took}
        found.append(run_event(source, facts, kind="finished", attempt=1, sequence=2, time=due + 1, data=data).body)
    return found


async def measure(endpoint: Endpoint, jobs: int, chained: int, queue: str) -> None:
    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control import store
    from runner.control.applying.apply import Who, apply
    from runner.control.applying.files import read_files
    from runner.control.applying.plan import plan
    from runner.control.recording.recorder import Recorder
    from runner.control.scheduler import minute

    session = Session()
    table = Table(session, "fleet")
    await table.make()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "jobs.toml"
        path.write_text(job_file(jobs, chained, queue))
        began = _now()
        wanted = read_files([path])
        there, groups = await store.jobs(table), await store.groups(table)
        made = plan(wanted, there, groups, prune=True)
        _say("read and planned", began)
        await apply(session, table, made, there, groups, Who("ann", NOW - 60))
        _say("applied", began)
    began = _now()
    report = await minute(session, table, now=NOW)
    _say(f"a minute that fires {report.enqueued}", began)
    recorder = Recorder(table, session=session)
    heads = [json.loads(body) for body in endpoint.take_all(queue)]
    messages = [message for message in heads if message["job"].startswith("head-")]
    total, chains = 0, _now()
    while messages:
        events = ended(messages)
        batches = [events[start : start + 10] for start in range(0, len(events), 10)]
        turns = asyncio.Semaphore(8)

        async def one(place: int, batch: list[str], turns: asyncio.Semaphore = turns) -> None:
            async with turns:
                assert not await recorder.record([(f"{place}/{n}", body) for n, body in enumerate(batch)], now=NOW + 5)

        await asyncio.gather(*(one(place, batch) for place, batch in enumerate(batches)))
        messages = [json.loads(body) for body in await asyncio.to_thread(endpoint.take_all, queue)]
        total += len(messages)
    assert total == 3 * (chained // 4), total
    _say(f"{chained // 4} heads end, and {total} runs after them are fired and end", chains)


def _now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _say(what: str, began: tuple[float, float]) -> None:
    took, cpu = (now - then for now, then in zip(_now(), began, strict=True))
    print(f"{what:60} {took:6.1f} s, of which CPU of this process {cpu:5.1f} s", flush=True)  # noqa: T201


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--chained", type=int, default=2_000)
    asked = parser.parse_args()
    with FastStandIn() as standin:
        os.environ |= {
            "AWS_ENDPOINT_URL": standin.endpoint,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "eu-west-1",
        }
        endpoint = Endpoint(standin.endpoint)
        asyncio.run(measure(endpoint, asked.jobs, asked.chained, endpoint.queue("web")))


if __name__ == "__main__":
    main()
