"""How fast and how light: cron-runner beside its peers, in one run on one machine.

    .venv/bin/python tests/bench/bench.py            the whole of it, about twelve minutes
    .venv/bin/python tests/bench/bench.py --quick    everything once, at tiny sizes: only to see that it works
    .venv/bin/python tests/bench/bench.py --against v1.2.3    this tree beside that revision and the naive consumer only

The peers are installed into an environment of their own (``--peers``, kept for the next time).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parent / "support")]

import against  # noqa: E402 - found by the path above
import figures  # noqa: E402
from consumers import CronRunner, peers, peers_python  # noqa: E402
from endpoint import Endpoint, ceiling  # noqa: E402
from standin import FastStandIn  # noqa: E402
from table import compared, single  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumers import Consumer
    from figures import Figures


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything; rounds are repeated and the median taken."""

    jobs: int = 2000
    rounds: int = 3
    stamps: int = 100
    idle_s: float = 60.0
    lines: int = 1_000_000
    runs: int = 500
    held_s: float = 20.0
    queued: int = 100_000
    remembered: int = 1_000_000
    calls: int = 1000


QUICK = Sizes(
    jobs=20, rounds=1, stamps=3, idle_s=1.0, lines=2000, runs=10, held_s=1.0, queued=200, remembered=1000, calls=20
)


def main() -> int:
    """Measure what was asked for, print the table, write the JSON."""
    arguments = _arguments()
    sizes = QUICK if arguments.quick else Sizes()
    if arguments.against:
        return _against(arguments, sizes)
    python = peers_python(arguments.peers) if "peers" in arguments.parts else Path(sys.executable)
    with tempfile.TemporaryDirectory(prefix="crb-") as name, FastStandIn() as stand_in:
        endpoint, directory = Endpoint(stand_in.endpoint), Path(name)
        directory.chmod(0o755)
        result: dict[str, Any] = {"machine": _machine(), "ceiling": ceiling(endpoint, sizes.calls)}
        result["side_by_side"] = _side_by_side(endpoint, directory, python, sizes, arguments.parts)
        result["cron-runner"] = _alone(endpoint, directory, sizes, arguments.parts)
    result["machine"]["load_after"] = os.getloadavg()[0]
    print(compared(result))  # noqa: T201 - what it is for
    print(single(result))  # noqa: T201 - as above
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


def _against(arguments: argparse.Namespace, sizes: Sizes) -> int:
    python = peers_python(arguments.peers) if "peers" in arguments.parts else None
    before = _machine()
    with tempfile.TemporaryDirectory(prefix="crb-") as name, FastStandIn() as stand_in:
        directory = Path(name)
        directory.chmod(0o755)
        found = against.compare(Endpoint(stand_in.endpoint), directory, arguments.against, python, sizes)
    print(against.table(found, arguments.against))  # noqa: T201 - what it is for
    if arguments.json:
        result = {"machine": before, "against": arguments.against, "found": found, "load_after": os.getloadavg()[0]}
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 0


_PARTS = ("peers", "user", "streams", "output", "runs", "backlog", "journal")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--against", metavar="REV", help="a revision in git, to be measured in turn with this tree")
    parser.add_argument("--peers", type=Path, default=_HERE / ".venv", help="the peers' virtual environment")
    parser.add_argument(
        "--only", dest="parts", type=lambda text: text.split(","), default=_PARTS, help=f"some of {','.join(_PARTS)}"
    )
    return parser.parse_args()


def _machine() -> dict[str, Any]:
    return {
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_before": os.getloadavg()[0],
    }


def _say(what: str) -> None:
    print(f"… {what}", file=sys.stderr, flush=True)  # noqa: T201 - progress


def _measured(consumer: Consumer, *measure: Callable[[], Figures]) -> Figures:
    """Start it, take the figures, end it; its log is shown where that fails."""
    found: Figures = {}
    try:
        figures.warm(consumer)
        for one in measure:
            found |= one()
    except BaseException:
        log = consumer.directory / "log"
        _say(f"the last words of {consumer.name}:\n{log.read_text()[-3000:] if log.exists() else ''}")
        raise
    finally:
        consumer.stop()
    return found


def _rounds(consumer: Consumer, sizes: Sizes) -> Figures:
    rounds = [figures.burst(consumer, sizes.jobs) for _ in range(sizes.rounds)]
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def _side_by_side(
    endpoint: Endpoint, directory: Path, python: Path, sizes: Sizes, parts: tuple[str, ...]
) -> dict[str, Figures]:
    _say("the bare limit")
    found = {"spawn limit": figures.spawn_limit(sizes.jobs)}
    # As packages install it: jobs as another user, each in a cgroup of its own where there are any.
    user = "nobody" if os.geteuid() == 0 else ""
    contenders = peers(endpoint, directory, python, user) if "peers" in parts else []
    for consumer in [*contenders, CronRunner("cron-runner", endpoint, directory / "cron-runner", user=user)]:
        _say(consumer.name)
        found[consumer.name] = _measured(
            consumer,
            lambda consumer=consumer: figures.idle(consumer, sizes.idle_s),
            lambda consumer=consumer: figures.latency(consumer, sizes.stamps),
            lambda consumer=consumer: _rounds(consumer, sizes),
        )
    return found


def _alone(endpoint: Endpoint, directory: Path, sizes: Sizes, parts: tuple[str, ...]) -> dict[str, Figures]:
    """What only cron-runner has."""

    def one(name: str, **settings: Any) -> CronRunner:
        _say(name)
        return CronRunner(name, endpoint, directory / name.replace(" ", "-"), **settings)

    found: dict[str, Figures] = {}
    if "user" in parts and os.geteuid() == 0:
        same = one("same user")
        found["jobs as the same user"] = _measured(same, lambda: _rounds(same, sizes))
    if "streams" in parts:
        streams = one("own streams", stream="{job}/{run_id}")
        found["a log stream for each run"] = _measured(streams, lambda: _rounds(streams, sizes))
    if "output" in parts:
        secrets = '[run.env]\nAPI_TOKEN = "a-secret-that-is-not-there"'
        loud = one("output", stream="{job}/{run_id}", more=secrets)
        found["lines of output"] = _measured(loud, lambda: figures.output(loud, sizes.lines))
    if "runs" in parts:
        many = one("many", max_jobs=sizes.runs + 16)
        found[f"{sizes.runs} running"] = _measured(many, lambda: figures.many_running(many, sizes.runs, sizes.held_s))
    if "backlog" in parts:
        for queued in (sizes.jobs // 2, sizes.queued):
            long = one(f"queue of {queued}")
            found[f"queue of {queued:,}"] = _measured(
                long, lambda long=long, queued=queued: figures.backlog(long, sizes.jobs // 2, queued)
            )
    if "journal" in parts:
        old = one("journal")
        figures.fill_journal(old.state, sizes.remembered)
        found[f"journal of {sizes.remembered:,} runs"] = _measured(old, lambda: _rounds(old, sizes))
    return found


if __name__ == "__main__":
    sys.exit(main())
