"""What ran at the same time, and what it had reserved: forty jobs of mixed sizes under each policy, as a table.

``python tests/support/admission_trace.py`` starts a stand-in for AWS and an agent for each policy, and prints for
every moment at which a run started or ended how many ran and how much they had declared, beside what is offered.
All of it is taken from the events, which say when the processes began and ended.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fleet import Fleet

M = 2**20
JOBS = 40
POLICIES: Mapping[str, Mapping[str, str]] = {
    "one-at-a-time": {},
    "free-for-all": {"MAX_JOBS": "6"},
    "resources": {
        "MAX_JOBS": "0",
        "RESOURCES__CPU": "4",
        "RESOURCES__MEMORY": "768M",
        "RESOURCES__NAMED": '{"slots": 2}',
        # Whatever else keeps this machine busy is not what is looked at.
        "RESOURCES__MAX_LOAD": "1.0",
    },
}
OFFERED: Mapping[str, Mapping[str, float]] = {
    "one-at-a-time": {"runs": 1},
    "free-for-all": {"runs": 6},
    "resources": {"cpu": 4, "memory": 768 * M, "slots": 2},
}


@dataclass(frozen=True, slots=True)
class Moment:
    """What ran and was reserved from this moment on; ``at`` is seconds since the first start."""

    at: float
    taken: Mapping[str, float]


def mixed_jobs(policy: str, seed: int = 7) -> list[dict[str, Any]]:
    """Forty messages, from very small ones to such as take the whole host."""
    draw = random.Random(seed)
    # One after the other takes as long as all together.
    longest = 0.06 if policy == "one-at-a-time" else 0.3
    jobs = []
    for number in range(JOBS):
        needs = {"cpu": draw.choice([0.25, 0.5, 1, 1, 2, 4]), "memory": draw.choice([16, 64, 128, 256, 512]) * M}
        if draw.random() < 0.3:
            needs["slots"] = draw.choice([1, 2])
        run = {"job": f"job-{number % 7}", "run_id": f"{policy}-{number}", "resources": needs}
        jobs.append(run | {"command": ["sleep", f"{draw.uniform(0.03, longest):.2f}"]})
    return jobs


def trace(fleet: Fleet, policy: str, within: float = 90.0) -> list[Moment]:
    """Run the jobs on a new host of the fleet, and say what ran when."""
    host = fleet.host(policy)
    settings = {"POLICY": policy, **POLICIES[policy]}
    host.start(**{f"CRON_RUNNER_ADMISSION__{name}": value for name, value in settings.items()})
    jobs = {job["run_id"]: job for job in mixed_jobs(policy)}
    fleet.send(*jobs.values())
    changes: list[tuple[float, int, Mapping[str, float]]] = []
    for event in fleet.events.wait_ended(list(jobs), within=within):
        data = event["data"]
        assert data["outcome"] == "succeeded", data
        taken = {"runs": 1, **jobs[data["run_id"]]["resources"]}
        # At the same instant the end comes first: its room is what the start waited for.
        changes.append((datetime.fromisoformat(data["finished_at"]).timestamp(), -1, taken))
        changes.append((datetime.fromisoformat(data["started_at"]).timestamp(), 1, taken))
    host.stop()
    return _summed(sorted(changes, key=lambda change: change[:2]))


def _summed(changes: list[tuple[float, int, Mapping[str, float]]]) -> list[Moment]:
    first = changes[0][0]
    now = {"runs": 0.0, "cpu": 0.0, "memory": 0.0, "slots": 0.0}
    moments = []
    for at, sign, taken in changes:
        for name, amount in taken.items():
            now[name] += sign * amount
        moments.append(Moment(at - first, dict(now)))
    return moments


def most(moments: list[Moment]) -> dict[str, float]:
    """The most of each thing that was taken at any one moment."""
    return {name: max(moment.taken[name] for moment in moments) for name in moments[0].taken}


def table(policy: str, moments: list[Moment]) -> str:
    """The trace as people read it."""
    offered = OFFERED[policy]
    limits = "  ".join(f"{name} {_shown(name, amount)}" for name, amount in offered.items())
    lines = [f"{policy}: offered {limits}", f"{'seconds':>8} {'runs':>5} {'cpu':>6} {'memory':>8} {'slots':>6}"]
    for moment in moments:
        taken = moment.taken
        over = [name for name, amount in offered.items() if taken[name] > amount + 1e-9]
        lines.append(
            f"{moment.at:8.3f} {taken['runs']:5.0f} {taken['cpu']:6.2f} {_shown('memory', taken['memory']):>8}"
            f" {taken['slots']:6.0f} {'#' * round(taken['runs'])}{' OVER ' + ', '.join(over) if over else ''}"
        )
    peak = most(moments)
    lines.append(f"{'most':>8} {peak['runs']:5.0f} {peak['cpu']:6.2f} {_shown('memory', peak['memory']):>8}"
                 f" {peak['slots']:6.0f}")  # fmt: skip
    return "\n".join(lines)


def _shown(name: str, amount: float) -> str:
    return f"{amount / M:.0f}M" if name == "memory" else f"{amount:g}"


def main() -> None:
    """Trace every policy, or those that are named."""
    from aws import Aws
    from fleet import Fleet
    from standin import FastStandIn

    for policy in sys.argv[1:] or POLICIES:
        directory = Path(tempfile.mkdtemp(prefix="crt-"))
        directory.chmod(0o755)
        with FastStandIn() as stand_in:
            aws = Aws(stand_in.endpoint)
            fleet = Fleet(aws, directory)
            try:
                sys.stdout.write(table(policy, trace(fleet, policy)) + "\n\n")
            finally:
                fleet.remove()
                aws.close()
                shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
