"""Agents under a steady load for minutes, with faults injected: nothing lost, nothing twice, and nothing that grows.

    python tests/support/soak.py --minutes 10 --agents 12 --rate 4     # tests/soak.sh does this

Faults, by chance (--seed): an agent is killed and started again, a supervisor is killed under its jobs, AWS is away,
answers fail, answers come late. Every other agent is never killed: its memory, descriptors, threads and files are
looked at all the while, and what counts is how they rise, with the error of that, once it has settled: the first
outages and slow answers still bring threads. The spool is apart: it keeps copies of what was shipped while there is
room.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parent))

from aws import Aws
from faults import Proxy
from fleet import Fleet, Host
from standin import FastStandIn

LOOK_EVERY_S: Final = 5.0
FAULT_EVERY_S: Final = 15.0
SETTLED_S: Final = 180.0
"""After its start an agent still fills its caches: what it has before is no sign of growth."""
# What may be had more at the end of an hour than at its beginning; the slope less twice its error beyond it fails.
ALLOWED: Final = {"rss_mb": 12.0, "descriptors": 6.0, "threads": 3.0, "files": 3.0}


@dataclass(slots=True)
class Look:
    """What an agent has at a moment; `life` counts its starts."""

    at: float
    host: str
    life: int
    figures: dict[str, float]


@dataclass(slots=True)
class Soak:
    """One run of it."""

    fleet: Fleet
    proxy: Proxy
    chance: random.Random
    ran: Path
    sent: dict[str, int] = field(default_factory=dict)
    lives: Counter[str] = field(default_factory=Counter)
    since: dict[str, float] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)

    def start(self, host: Host) -> None:
        """An agent, the first or the next of its host."""
        host.start()
        self.lives[host.name] += 1
        self.since[host.name] = time.monotonic()

    def send(self, count: int) -> None:
        """So many jobs: most short, some that write, some that fail."""
        bodies = []
        for _ in range(count):
            number = len(self.sent)
            run_id, code = f"soak-{number:06}", (0, 0, 0, 3)[number % 4]
            self.sent[run_id] = code
            write = f"i=0; while [ $i -lt {self.chance.choice((1, 20, 400))} ]; do echo line $i; i=$((i+1)); done"
            pause = f"sleep {self.chance.uniform(0.0, 2.0):.2f}"
            command = f"echo $CRON_RUNNER_RUN_ID >> {self.ran}; {write}; {pause}; exit {code}"
            bodies.append({"job": f"j{number % 20}", "run_id": run_id, "command": command})
        self.fleet.send(*bodies)

    def look(self) -> None:
        """At every agent that lives on and has settled."""
        for host in self.fleet.hosts[::2]:
            process = host.process
            if process is None or time.monotonic() - self.since[host.name] < SETTLED_S:
                continue
            with suppress(psutil.Error, OSError):
                seen = psutil.Process(process.pid)
                figures = {
                    "rss_mb": seen.memory_info().rss / 1e6,
                    "descriptors": float(seen.num_fds()),
                    "threads": float(seen.num_threads()),
                    "files": float(sum(entry.is_file() for entry in host.state.iterdir())),
                    "spool_files": float(sum(1 for _ in (host.state / "spool").iterdir())),
                    "journal_mb": (host.state / "journal.db").stat().st_size / 1e6,
                }
                self.looks.append(Look(time.monotonic(), host.name, self.lives[host.name], figures))

    def fault(self) -> None:
        """One of them."""
        self.proxy.heal()
        kind = self.chance.choice(("agent", "agent", "supervisor", "away", "lost", "late"))
        self.faults[kind] += 1
        if kind == "agent":
            host = self.chance.choice(self.fleet.hosts[1::2])
            host.kill()
            self.start(host)
        elif kind == "supervisor":
            host = self.chance.choice(self.fleet.hosts)
            if (pid := host.supervisor()) is not None:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        elif kind == "away":
            self.proxy.refuse()
        elif kind == "lost":
            self.proxy.fail(0.2)
        else:
            self.proxy.slow(0.5)

    def drive(self, seconds: float, rate: float) -> None:
        """The load, the faults and the looks."""
        begun = time.monotonic()
        looked = faulted = begun
        while (now := time.monotonic()) < begun + seconds:
            due = int((now - begun) * rate) - len(self.sent)
            if due > 0:
                self.send(due)
            if now - looked >= LOOK_EVERY_S:
                looked = now
                self.look()
                self.fleet.events.collect()
            if now - faulted >= FAULT_EVERY_S:
                faulted = now
                self.fault()
            time.sleep(0.2)
        self.proxy.heal()

    def finish(self, within: float) -> None:
        """Wait until every run has ended."""
        until = time.monotonic() + within
        while time.monotonic() < until:
            self.fleet.events.collect()
            if all(self.fleet.events.ended(run_id) is not None for run_id in self.sent):
                return
            time.sleep(1.0)

    def wrong(self) -> list[str]:
        """What does not hold, a line each."""
        times = Counter(self.ran.read_text().split())
        found = []
        for run_id, code in self.sent.items():
            finished = {event["id"]: event for event in self.fleet.events.of(run_id, "finished")}
            outcomes = [event["data"]["outcome"] for event in finished.values()]
            last = [event for event in finished.values() if event["data"]["outcome"] != "lost"]
            if not finished:
                found.append(f"{run_id}: nothing was told of its end")
            elif len(last) > 1:
                found.append(f"{run_id}: ended {len(last)} times: {outcomes}")
            elif last and last[0]["data"]["exit_code"] != code:
                found.append(f"{run_id}: exit code {last[0]['data']['exit_code']}, not {code}")
            elif times[run_id] > 1 + outcomes.count("lost"):
                found.append(f"{run_id}: ran {times[run_id]} times with outcomes {outcomes}")
        return found


def slope(points: list[tuple[float, float]]) -> tuple[float, float]:
    """By least squares, for an hour, and its standard error."""
    count = len(points)
    x0, y0 = (sum(values) / count for values in zip(*points, strict=True))
    spread = sum((x - x0) ** 2 for x, _ in points)
    if count < 3 or not spread:
        return 0.0, math.inf
    rise = sum((x - x0) * (y - y0) for x, y in points) / spread
    rest = sum((y - y0 - rise * (x - x0)) ** 2 for x, y in points)
    return rise * 3600, math.sqrt(rest / (count - 2) / spread) * 3600


def slopes(looks: list[Look]) -> dict[str, tuple[float, float, float]]:
    """By figure: the mean, and the rise in an hour with its error, over all agents' lives, each about its own mean."""
    found = {}
    lives: dict[tuple[str, int], list[Look]] = defaultdict(list)
    for look in looks:
        lives[look.host, look.life].append(look)
    for name in looks[0].figures if looks else ():
        points = []
        for life in lives.values():
            if len(life) >= 3:
                at = sum(look.at for look in life) / len(life)
                mean = sum(look.figures[name] for look in life) / len(life)
                points += [(look.at - at, look.figures[name] - mean) for look in life]
        mean = sum(look.figures[name] for look in looks) / len(looks)
        found[name] = (mean, *(slope(points) if points else (0.0, math.inf)))
    return found


def main() -> int:
    """Run it, tell what was found; 1 where something does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--agents", type=int, default=12)
    parser.add_argument("--rate", type=float, default=4.0, help="jobs a second")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write what was seen to this file")
    asked = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="crs-"))
    directory.chmod(0o755)
    (directory / "ran").touch()
    (directory / "ran").chmod(0o666)
    with FastStandIn() as stand_in, Proxy(stand_in.endpoint) as proxy:
        aws = Aws(stand_in.endpoint)
        fleet = Fleet(aws, directory, endpoint=proxy.endpoint)
        soak = Soak(fleet, proxy, random.Random(asked.seed), directory / "ran")
        try:
            for number in range(asked.agents):
                # Leases that outlast the outages: a message whose lease is lost is another host's to run as well.
                soak.start(fleet.host(f"host-{number}", max_jobs=4, visibility="2m"))
            soak.drive(asked.minutes * 60, asked.rate)
            soak.finish(180.0)
            wrong, grown = soak.wrong(), slopes(soak.looks)
        finally:
            fleet.remove()
            aws.close()
            shutil.rmtree(directory, ignore_errors=True)
    return told(soak, wrong, grown, asked.json)


def told(soak: Soak, wrong: list[str], grown: dict[str, tuple[float, float, float]], to: Path | None) -> int:
    """Print it."""
    lost = sum(
        event["data"]["outcome"] == "lost" for run in soak.sent for event in soak.fleet.events.of(run, "finished")
    )
    out = [f"{len(soak.sent)} runs, {lost} ends told as lost; faults: {dict(soak.faults)}; {len(soak.looks)} looks"]
    for name, (mean, rise, error) in grown.items():
        grows = name in ALLOWED and rise - 2 * error > ALLOWED[name]
        out.append(f"{name}: {mean:.1f} on average, {rise:+.2f} ± {error:.2f} in an hour{'  GROWS' if grows else ''}")
        if grows:
            wrong.append(f"{name} grows by {rise:.2f} ± {error:.2f} in an hour")
    sys.stdout.write(
        "\n".join([*out, *wrong[:40], "nothing lost, nothing twice" if not wrong else f"{len(wrong)} wrong"])
    )
    sys.stdout.write("\n")
    if to is not None:
        to.write_text(
            json.dumps({"slopes": grown, "faults": soak.faults, "wrong": wrong}, indent=2, default=vars) + "\n"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
