"""What commands that only look take, as ratios to `python -c pass` and beside an earlier revision, all in one run.

    .venv/bin/python tests/bench/commands.py --against REV

The interpreter alone is the machine's share: a ratio says more than seconds do. Least of some rounds, as whatever else
the machine does can only add to it.
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

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "support")]

from runner.cli.demos.stand_in import aws_environment  # noqa: E402
from runner.protocol.units import format_time  # noqa: E402

from against import installed  # noqa: E402 - found by the path above
from standin import FastStandIn  # noqa: E402
from table import markdown  # noqa: E402

TABLE = "fleet"
COMMANDS = (
    ("history",),
    ("history", "nightly"),
    ("jobs", "list"),
    ("jobs", "next"),
    ("logs", "nobody-knows"),
    ("status",),
    ("--version",),
    ("history", "--help"),
)


async def fill(runs: int, jobs: int) -> None:
    """A table as a small fleet has it."""
    from runner.aws.session import Session
    from runner.aws.table import Table
    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.control.recording.recorder import Recorder
    from runner.protocol.event import HostFacts, RunFacts, Source, run_event

    session = Session()
    table = Table(session, TABLE)
    await table.make()
    await table.put(GroupDefinition("web", "https://queue").item())
    names = ["nightly", *(f"job-{number}" for number in range(1, jobs))]
    await table.put_many([JobDefinition("web", name, schedule="0 3 * * *").item() for name in names])
    source, now = Source("web", HostFacts("host-a", None, "boot", "linux", "1")), time.time()
    bodies = []
    for number in range(runs):
        at = now - 60 * number - 60
        name = names[number % jobs]
        data = {
            "outcome": "succeeded", "reason": "exit code 0", "exit_code": 0, "started_at": format_time(at - 5),
            "finished_at": format_time(at), "duration_s": 5.0, "will_retry": False,
        }  # fmt: skip
        facts = RunFacts(f"e-{number}", name, f"{name}-{number}", 1)
        event = run_event(source, facts, kind="finished", attempt=1, sequence=1, time=at, data=data)
        bodies.append((str(number), event.body))
    for start in range(0, runs, 10):
        await Recorder(table).record(bodies[start : start + 10], now=now)
    session.close()


def taken(line: list[str]) -> tuple[float, float]:
    """CPU seconds and seconds of one command; what it prints is nobody's."""
    began = time.perf_counter()
    pid = os.posix_spawn(line[0], line, os.environ, file_actions=[
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0), (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
    ])  # fmt: skip
    _, _, usage = os.wait4(pid, 0)
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began


def measured(programs: dict[str, list[str]], rounds: int) -> dict[str, dict[str, tuple[float, float]]]:
    """The least of the rounds, by command and program."""
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for words in COMMANDS:
        each: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
        for _ in range(rounds + 1):
            for name, program in programs.items():
                each[name].append(taken([*program, *words] if name != "python" else program))
        # The first round writes what is compiled.
        found[" ".join(words)] = {
            name: (min(cpu for cpu, _ in some[1:]), min(wall for _, wall in some[1:])) for name, some in each.items()
        }
    return found


def table(found: dict[str, dict[str, tuple[float, float]]], then: str) -> str:
    """Markdown."""
    names = ["now", *([then] if then else [])]
    head = ["command", "python -c pass, CPU s"]
    head += [f"{name}, {what}" for name in names for what in ("CPU s", "to it", "s")]
    rows = []
    for command, by in found.items():
        base = by["python"][0]
        cells = [f"{cell}" for name in names for cell in (
            f"{by[name][0]:.3f}", f"{by[name][0] / base:.1f}", f"{by[name][1]:.3f}")]  # fmt: skip
        rows.append([f"`{command}`", f"{base:.3f}", *cells])
    return markdown(head, rows)


def main() -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", metavar="REV", default="", help="a revision in git, to be measured in turn")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    asked = parser.parse_args()
    with FastStandIn() as stand_in, tempfile.TemporaryDirectory(prefix="crc-") as name:
        for setting in [name for name in os.environ if name.startswith("PYTHON")]:
            del os.environ[setting]  # PYTHONDONTWRITEBYTECODE makes each command compile what it imports
        os.environ |= aws_environment(stand_in.endpoint) | {"CRON_RUNNER_FLEET__TABLE": TABLE}
        asyncio.run(fill(200, 20))
        programs = {"python": [sys.executable, "-c", "pass"]}
        programs["now"] = [str(Path(sys.executable).with_name("cron-runner"))]
        if asked.against:
            programs[asked.against] = [str(installed(asked.against, Path(name) / "then", extras="[control]"))]
        found = measured(programs, asked.rounds)
    print(table(found, asked.against))  # noqa: T201 - what it is for
    if asked.json:
        asked.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
