"""What the fleet's half takes: recorder, scheduler, claims and Lambda's imports, in units as DynamoDB bills them.

    .venv/bin/python tests/bench/fleet.py --against REV     this tree beside that revision, in turn; ratios
    .venv/bin/python tests/bench/fleet.py --quick           tiny sizes, only to see that it works

Time and CPU are of a process on this machine; requests and units are counted by the table's stand-in
(`tests/support/table_units.py`), and are the same wherever it runs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "support")]

from runner.cli.demos.stand_in import aws_environment  # noqa: E402
from runner.control.definition import run_id_at  # noqa: E402
from runner.protocol.event import HostFacts, RunFacts, Source, run_event  # noqa: E402

from against import installed  # noqa: E402 - found by the path above
from endpoint import Endpoint  # noqa: E402
from standin import FastStandIn  # noqa: E402
from table import markdown  # noqa: E402

T0 = 1_900_000_000.0
EACH_CALL_S = 0.005
Facts = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    events: int = 1000
    jobs: tuple[int, ...] = (1000, 10_000)
    hosts: tuple[int, ...] = (100, 1000, 5000)
    rounds: int = 3


QUICK = Sizes(events=20, jobs=(20,), hosts=(5,), rounds=1)
FULL = Sizes(jobs=(1000, 10_000, 100_000))


def events(run: int) -> tuple[str, str]:
    """What the agent reports of a run: its start and its end, as large as they are in practice."""
    at = T0 + 60 * run + 0.25
    source = Source(
        "web", HostFacts("ip-10-0-1-17.eu-west-1.compute.internal", "i-0abcdef1234567890", "b" * 36, "linux", "1.0")
    )
    job, due = f"nightly-{run % 10}", T0 + 60 * run
    facts = RunFacts(f"{run:032x}", job, run_id_at(job, due), 1, due, due)
    url = "https://console.aws.amazon.com/cloudwatch/home?region=eu-west-1#logsV2:log-groups/log-group/cron-runner-web"
    log = {"group": "/cron-runner/web", "stream": f"nightly/{facts.run_id}", "url": url}
    began = {"pid": 4242, "command": "/srv/app/bin/nightly --full", "user": "cron-runner-job", "started_at": at}
    started = run_event(
        source, facts, kind="started", attempt=1, sequence=1, time=at,
        data=began | {"queue_latency_s": 0.12, "timeout_s": 3600.0, "log": log},
    )  # fmt: skip
    output = {"bytes": 2048, "shipped_bytes": 2048, "dropped_bytes": 0, "truncated": False, "tail": "done\n" * 20}
    usage = {"cpu_user_s": 1.5, "cpu_system_s": 0.2, "max_rss_bytes": 52_428_800}
    ended = {"outcome": "succeeded", "reason": "exit code 0", "exit_code": 0, "signal": None, "will_retry": False}
    finished = run_event(
        source, facts, kind="finished", attempt=1, sequence=2, time=at + 10,
        data=ended | {"started_at": at, "finished_at": at + 10, "duration_s": 10.0, "usage": usage, "output": output,
                      "log": log},
    )  # fmt: skip
    return started.body, finished.body


def batches(count: int, *, together: bool) -> list[list[str]]:
    """Ten events each: of a run both in one batch, or all starts before all ends. The first batch is for warmth."""
    pairs = [events(run) for run in range(count // 2 + 5)]
    warm, pairs = [body for pair in pairs[:5] for body in pair], pairs[5:]
    flat = [body for pair in pairs for body in pair]
    if not together:
        flat = [start for start, _ in pairs] + [end for _, end in pairs]
    return [warm, *(flat[start : start + 10] for start in range(0, len(flat), 10))]


@dataclass(slots=True)
class Contender:
    """A revision in its environment."""

    name: str
    python: Path
    cache: Path

    def ask(self, part: str, **facts: Any) -> Facts:
        """One measurement, on a stand-in of its own: what another has left there weighs on nobody."""
        with FastStandIn() as stand_in:
            endpoint = Endpoint(stand_in.endpoint)
            bodies, jobs = facts.pop("bodies", None), facts.get("jobs")
            if bodies is not None or jobs is not None:
                facts["queue"] = endpoint.queue("bench")
            if bodies is not None:
                endpoint.fill(facts["queue"], bodies)
                urlopen(Request(f"{stand_in.endpoint}/delay", json.dumps({"seconds": EACH_CALL_S}).encode())).close()  # noqa: S310 - our own
            return self.run(part, facts | {"endpoint": stand_in.endpoint})

    def run(self, part: str, facts: Facts) -> Facts:
        asked = [str(self.python), str(_HERE / "fleet_worker.py"), part]
        environment = os.environ | aws_environment(facts.get("endpoint", "http://127.0.0.1:9"))
        environment["PYTHONPATH"] = ""
        # All alike: what an environment had compiled before, or may not write, is no difference of the revisions.
        environment["PYTHONPYCACHEPREFIX"] = str(self.cache)
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        done = subprocess.run(
            asked, input=json.dumps(facts), env=environment, capture_output=True,
            text=True, check=False, cwd="/", timeout=900,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"cannot measure {part} of {self.name}: {done.stderr[-2000:]}")
        return dict(json.loads(done.stdout))


def parts(sizes: Sizes) -> dict[str, Any]:
    """What is measured, by name: a part and what it is given."""
    local = [body for batch in batches(sizes.events, together=True) for body in batch]
    return {
        "recorder, together": ("record", {"batches": batches(sizes.events, together=True)}),
        "recorder, apart": ("record", {"batches": batches(sizes.events, together=False)}),
        "local recorder": ("local", {"bodies": local, "events": len(local)}),
        **{f"scheduler, {count}": ("schedule", {"jobs": count}) for count in sizes.jobs},
        **{f"hosts, {count}": ("hosts", {"hosts": count}) for count in sizes.hosts},
        **{f"imports, {name}": ("imports", {"function": name}) for name in ("recorder", "scheduler")},
    }


def measured(contenders: list[Contender], sizes: Sizes, only: list[str]) -> dict[str, dict[str, Facts]]:
    """Medians over rounds that alternate, by part and contender."""
    found: dict[str, dict[str, list[Facts]]] = {}
    for name, (part, facts) in parts(sizes).items():
        if only and part not in only:
            continue
        for _ in range(1 if part in ("hosts", "schedule") else sizes.rounds):
            for one in contenders:
                found.setdefault(name, {}).setdefault(one.name, []).append(one.ask(part, **facts))
    return {name: {who: _median(each) for who, each in all_.items()} for name, all_ in found.items()}


def _median(each: list[Facts]) -> Facts:
    first = each[0]
    return {
        key: _median([one[key] for one in each])
        if isinstance(value, dict) and key != "calls"
        else statistics.median(one[key] for one in each)
        if isinstance(value, (int, float))
        else value
        for key, value in first.items()
    }


def rows(found: dict[str, dict[str, Facts]], sizes: Sizes) -> list[tuple[str, dict[str, float]]]:
    """The figures that are compared: a title, and each contender's."""
    runs = sizes.events // 2
    made: list[tuple[str, dict[str, float]]] = []

    def row(title: str, part: str, figure: Any) -> None:
        if part in found:
            made.append((title, {who: figure(facts) for who, facts in found[part].items()}))

    for how in ("together", "apart"):
        part = f"recorder, {how}"
        row(f"{part}: events/s", part, lambda f: sizes.events / f["s"])
        row(f"{part}: CPU ms an event", part, lambda f: 1000 * f["cpu_s"] / sizes.events)
        row(f"{part}: requests a run", part, lambda f: f["requests"] / runs)
        row(f"{part}: write units a run", part, lambda f: f["write_units"] / runs)
        row(f"{part}: read units a run", part, lambda f: f["read_units"] / runs)
    row("local recorder, each call 5 ms: events/s", "local recorder", lambda f: (sizes.events + 10) / f["s"])
    for count in sizes.jobs:
        part = f"scheduler, {count}"
        row(f"{count:,} jobs due in a minute: s", part, lambda f: f["due"]["s"])
        row(f"{count:,} jobs due: CPU s", part, lambda f: f["due"]["cpu_s"])
        row(f"{count:,} jobs: peak MB", part, lambda f: f["peak_mb"])
        row(f"{count:,} jobs, idle minute: read units", part, lambda f: f["idle"]["read_units"])
        row(f"{count:,} jobs, idle minute: CPU s", part, lambda f: f["idle"]["cpu_s"])
    for count in sizes.hosts:
        part = f"hosts, {count}"
        for what in ("look", "claim", "renew", "finish"):
            row(f"{count:,} hosts, {what} of each: CPU s", part, lambda f, w=what: f[w]["cpu_s"])
        row(f"{count:,} hosts, a look: read units", part, lambda f, n=count: f["look"]["read_units"] / n)
        row(
            f"{count:,} hosts, claim, renewal and end of a run: write units",
            part,
            lambda f, n=count: sum(f[w]["write_units"] for w in ("claim", "renew", "finish")) / n,
        )
    for name in ("recorder", "scheduler"):
        row(f"Lambda, {name}: import, CPU s", f"imports, {name}", lambda f: f["cpu_s"])
        row(f"Lambda, {name}: import, MB", f"imports, {name}", lambda f: f["peak_mb"])
    return made


def table(made: list[tuple[str, dict[str, float]]], then: str) -> str:
    """Markdown, with the ratio of now to then where there is one."""
    head = ["figure", "now", *([then, "ratio"] if then else [])]
    lines = []
    for title, by in made:
        more = [f"{by[then]:,.4g}", f"{by['now'] / by[then]:.2f}" if by[then] else "–"] if then else []
        lines.append([title, f"{by['now']:,.4g}", *more])
    return markdown(head, lines)


def main() -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REV", default="", help="a revision in git, to be measured in turn")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--full", action="store_true", help="100,000 jobs, too")
    parser.add_argument("--only", default="", help="some of record,local,schedule,hosts,imports")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    asked = parser.parse_args()
    sizes = QUICK if asked.quick else FULL if asked.full else Sizes()
    with tempfile.TemporaryDirectory(prefix="crf-") as name:
        cache = Path(name) / "cache"
        contenders = [Contender("now", Path(sys.executable), cache)]
        if asked.against:
            command = installed(asked.against, Path(name) / "then", extras="[control]")
            contenders.append(Contender(asked.against, command.parent / "python", cache))
        found = measured(contenders, sizes, [part for part in asked.only.split(",") if part])
    print(table(rows(found, sizes), asked.against))  # noqa: T201 - what it is for
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
