"""This tree beside an earlier revision of it, and beside the naive consumer: in turn, in one run, as ratios.

The revision is taken from git as it was, and gets an environment of its own. Rounds alternate, so that what the machine
does meanwhile falls on all of them; a ratio of one run says more than figures of two.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import figures
from consumers import PEERS, Consumer, CronRunner

if TYPE_CHECKING:
    from endpoint import Endpoint
    from figures import Figures

ROOT = Path(__file__).resolve().parents[2]
_COMPARED = (("jobs/s", "jobs_per_s"), ("CPU s per 1,000 jobs", "cpu_s_per_1000"))
_WAITED = (("SendMessage to start, median ms", "latency_ms"), ("the same, p99 ms", "latency_p99_ms"))


def installed(revision: str, directory: Path, extras: str = "") -> Path:
    """The command ``cron-runner`` of a revision, in an environment made below ``directory``."""
    source, made = directory / "source", directory / "venv"
    source.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    subprocess.run(["tar", "-x", "-C", source], input=archive.stdout, check=True)
    subprocess.run([sys.executable, "-m", "venv", made], check=True)
    subprocess.run([made / "bin" / "python", "-m", "pip", "install", "-q", f"{source}{extras}"], check=True)
    return made / "bin" / "cron-runner"


def contenders(
    endpoint: Endpoint, directory: Path, command: Path, python: Path | None, user: str
) -> dict[str, Consumer]:
    """Each on queues of its own; ``python`` is the peers', None for no naive one."""
    where = directory / (user or "same")
    found: dict[str, Consumer] = {
        "now": CronRunner(f"now {user}", endpoint, where / "now", user=user),
        "then": CronRunner(f"then {user}", endpoint, where / "then", user=user, installed=command),
    }
    if python is not None:
        line = [str(python), str(PEERS / "naive.py"), user]
        found["naive"] = Consumer(f"naive {user}", endpoint, where / "naive", python, line)
    return found


def measured(consumers: dict[str, Consumer], jobs: int, rounds: int, stamps: int) -> dict[str, Figures]:
    """Their medians over rounds that alternate."""
    found: dict[str, list[Figures]] = {name: [] for name in consumers}
    try:
        for consumer in consumers.values():
            figures.warm(consumer)
        waited = {name: figures.latency(consumer, stamps) for name, consumer in consumers.items()}
        for _ in range(rounds):
            for name, consumer in consumers.items():
                found[name].append(figures.burst(consumer, jobs))
    finally:
        for consumer in consumers.values():
            consumer.stop()
    return {
        name: waited[name] | {key: statistics.median(one[key] for one in each) for key in each[0]}
        for name, each in found.items()
    }


def compare(
    endpoint: Endpoint, directory: Path, revision: str, python: Path | None, sizes: Any
) -> dict[str, dict[str, Figures]]:
    """Jobs as another user, each in its own cgroup where there are any, as packages install it; and as the same."""
    command = installed(revision, directory / "then")
    users = {"jobs as another user": "nobody"} if os.geteuid() == 0 else {}
    users["jobs as the same user"] = ""
    return {
        what: measured(contenders(endpoint, directory, command, python, user), sizes.jobs, sizes.rounds, sizes.stamps)
        for what, user in users.items()
    }


def table(result: dict[str, dict[str, Figures]], revision: str) -> str:
    """Markdown: figures, and what now is to each of the others."""
    names = list(next(iter(result.values())))
    others = [name for name in names if name != "now"]
    titles = {"then": revision}
    head = ["figure", *(titles.get(name, name) for name in names), *(f"to {titles.get(name, name)}" for name in others)]
    lines = [head, ["---"] * len(head)]
    for what, columns in result.items():
        for title, key in (*_COMPARED, *_WAITED):
            ratios = [f"{columns['now'][key] / columns[name][key]:.2f}" for name in others]
            lines.append([f"{what}: {title}", *(f"{columns[name][key]:,.2f}" for name in names), *ratios])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
