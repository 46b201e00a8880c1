"""The figures as people read them: Markdown tables, as in docs/benchmarks.md."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

OURS = "cron-runner"
_ROWS = (
    ("jobs/s", "jobs_per_s", 0),
    ("CPU s per 1,000 jobs", "cpu_s_per_1000", 2),
    ("AWS requests per 1,000 jobs", "requests_per_1000", 0),
    ("of them receive, results, delete", "queue_requests_per_1000", 0),
    ("idle PSS, MB", "idle_pss_mb", 1),
    ("idle CPU, s/min", "idle_cpu_s_per_min", 3),
    ("idle receives per hour", "idle_receives_per_hour", 0),
    ("SendMessage to process start, median ms", "latency_ms", 1),
    ("the same, p99 ms", "latency_p99_ms", 1),
    ("peak memory (RSS), MB", "peak_mb", 0),
)


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def compared(result: Mapping[str, Any]) -> str:
    """Everybody beside everybody, and how cron-runner's throughput and CPU time relate to the others'."""
    columns: Mapping[str, Mapping[str, float]] = result["side_by_side"]
    rows = [[name, *(_number(figures.get(key), digits) for figures in columns.values())] for name, key, digits in _ROWS]
    ours = columns[OURS]
    for name, key in (("cron-runner's jobs/s to its", "jobs_per_s"), ("cron-runner's CPU to its", "cpu_s_per_1000")):
        rows.append([name, *(f"{ours[key] / figures[key]:.2f}" for figures in columns.values())])
    return markdown(["figure", *columns], rows)


def single(result: Mapping[str, Any]) -> str:
    """What only cron-runner was measured for."""
    rows = [
        [name, ", ".join(f"{key} {value:,.4g}" for key, value in figures.items())]
        for name, figures in {**result[OURS], "ceiling of the stand-in, calls/s": result["ceiling"]}.items()
    ]
    machine = ", ".join(f"{key} {value}" for key, value in result["machine"].items())
    return "\n" + markdown(["cron-runner alone", "figures"], [*rows, ["machine", machine]])
