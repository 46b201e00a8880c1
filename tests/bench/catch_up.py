"""A week's catch-up of the scheduler: CPU of each turn, and what one turn of every day costs, as a ratio.

    .venv/bin/python tests/bench/catch_up.py                 10,000 jobs of every five minutes, some seconds
    .venv/bin/python tests/bench/catch_up.py --jobs 500      tiny, only to see that it works
    .venv/bin/python tests/bench/catch_up.py --jobs 500 --against REV    beside that revision

The real scheduler on a table and queues in memory: only its own work is measured. Exits 1 where a group does not fire
on time within two turns, or a turn takes 20 s of CPU.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Behind what is installed: the scheduler is that of the environment.
sys.path.append(str(Path(__file__).resolve().parents[2]))

import structlog

from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.scheduler import minute
from runner.protocol import table as keys
from runner.protocol.units import format_time
from tests.simulation.fleet.cloud import Session, World

NOW = 1_900_000_021.0
WEEK_S = 7 * 86_400.0
QUEUE = "https://sqs.eu-west-1.amazonaws.com/1/"
MOST_CPU_S = 20.0


async def measured(world: World, now: float) -> tuple[float, set[str]]:
    """CPU of one turn, and the jobs that fired on time in it."""
    before, began = len(world.sqs.sent), time.process_time()
    report = await minute(Session(world), world.table(), now=now)  # type: ignore[arg-type]
    took = time.process_time() - began
    if report.failed:
        print(f"failed: {report.failed}", file=sys.stderr)  # noqa: T201 - what it is for
    fresh = format_time(now - 300)[:19]
    return took, {message["job"] for _, _, message in world.sqs.sent[before:] if message["scheduled_at"] >= fresh}


async def compare(world: World, jobs: int) -> dict[str, object]:
    table = world.table()
    policies = ("skip", "last", "all")
    made = [
        JobDefinition("g", f"j{n}", schedule="*/5 * * * *", missed=policies[n % 3], since=1.0)  # type: ignore[arg-type]
        for n in range(jobs)
    ]
    small = JobDefinition("small", "small", schedule="* * * * *", since=1.0)
    await table.put_many([GroupDefinition(name, QUEUE + name).item() for name in ("g", "small")])
    await table.put_many([job.item() for job in (*made, small)])

    async def away(seconds: float, now: float) -> None:
        until = {"until": format_time(now - seconds), "number": 1}
        await table.put_many([keys.tick(name).attributes() | until for name in ("g", "small")])

    await away(60.0, NOW - WEEK_S)  # 17:47: nothing of "g" is due; five minutes later all of it
    await measured(world, NOW - WEEK_S)
    await away(300.0, NOW - WEEK_S + 240)
    usual, _ = await measured(world, NOW - WEEK_S + 240)
    await away(WEEK_S, NOW)
    turns, fired = [], set[str]()
    for number in range(2):
        took, fresh = await measured(world, NOW + 60 * number)
        turns.append(took)
        fired |= fresh
    late = {job.name for job in (*made, small)} - fired
    return {
        "jobs": jobs,
        "usual_turn_cpu_s": round(usual, 2),
        "catch_up_turns_cpu_s": [round(took, 2) for took in turns],
        "ratio_to_usual": round(max(turns) / usual, 2),
        "not_on_time_within_two_turns": len(late),
        "holds": not late and max(turns) < MOST_CPU_S,
    }


def then(revision: str, jobs: int) -> dict[str, object]:
    """What the same measurement says in a revision's own environment."""
    from against import installed

    with tempfile.TemporaryDirectory(prefix="crc-") as name:
        python = installed(revision, Path(name) / "then", extras="[control]").parent / "python"
        asked = [str(python), str(Path(__file__).resolve()), "--jobs", str(jobs)]
        done = subprocess.run(asked, stdout=subprocess.PIPE, text=True, check=False, cwd="/")
    if not done.stdout:
        raise SystemExit(f"cannot measure {revision}: see above")
    return dict(json.loads(done.stdout))


def main() -> int:
    """Measure, print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--against", metavar="REV", default="", help="a revision in git, measured beside this one")
    args = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # what is printed is the answer
    world = World(1)
    world.slow = False
    found: dict[str, Any] = asyncio.run(compare(world, args.jobs))
    holds = bool(found["holds"])
    if args.against:
        before: dict[str, Any] = then(args.against, args.jobs)
        ratio = max(found["catch_up_turns_cpu_s"]) / max(before["catch_up_turns_cpu_s"])
        found = {"now": found, args.against: before, "ratio_of_catch_up_turns": round(ratio, 3)}
    print(json.dumps(found, indent=2))  # noqa: T201 - what it is for
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
