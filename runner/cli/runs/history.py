"""``cron-runner history``: what ran, when, for how long, how it ended, what it cost; of this host or of the fleet."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.cli import fleet, numbers, printing
from runner.errors import AwsUnavailable, WrongUsage

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table

EXAMPLE: Final = """\
cron-runner history
cron-runner history nightly --outcome timed_out
cron-runner history --failed --since 24h
cron-runner history nightly --limit 100 --json
cron-runner history --running --table cron
cron-runner history --audit --since 24h
"""
# What `--outcome` knows: the outcomes of an attempt, and of a message that became none.
OUTCOMES: Final = (
    *("succeeded", "failed", "timed_out", "cancelled", "killed", "oom_killed", "start_failed", "lost", "interrupted"),
    *("skipped", "rejected"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Whose history, and how much of it."""
    parser.set_defaults(soon_over=True)
    parser.add_argument("job", metavar="JOB", nargs="?", help="a job; without one, all runs that ended")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--failed", action="store_true", help="only those that ended badly")
    which.add_argument(
        "--outcome", action="append", choices=OUTCOMES, metavar="OUTCOME", help="only those that ended so; repeatable"
    )
    which.add_argument("--running", action="store_true", help="only those that are not over")
    which.add_argument("--audit", action="store_true", help="instead of runs: who changed what by hand, and why")
    parser.add_argument(
        "--since", metavar="DURATION", help="from so long ago on (of all jobs of a fleet: 24h where not given)"
    )
    parser.add_argument(
        "--limit", type=numbers.whole(1, 10_000), metavar="N", default=20, help="how many runs at most (20)"
    )
    fleet.add_options(parser)
    parser.add_argument(
        "--socket", type=Path, metavar="PATH", help="the agent's control socket (default: [paths] runtime/agent.sock)"
    )
    parser.epilog = (
        "Of this host, which remembers 15 days; where a table is known, of the fleet. COST is the CPU time and the\n"
        "most memory of the last attempt.\n"
        "Exit status: 0, also where nothing ran; 1 no such job in the fleet; 3 no agent, and no journal to read.\n\n"
        f"{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Show the runs, the newest first."""
    since = since_of(args.since)
    if args.audit:
        from runner.cli.runs.audit_trail import show  # noqa: PLC0415 - `--help` needs none of it

        return show(args, since)
    if not fleet.table_name(args):
        return _of_host(args, since)
    if args.socket is not None:
        raise WrongUsage("cannot use --socket with a table: the fleet is asked, and no agent; leave one of them out")
    return _of_fleet(args, since)


def _of_fleet(args: argparse.Namespace, since: float | None) -> int:
    async def work(_: Session, table: Table) -> tuple[list[dict[str, Any]], list[str]]:
        runs = await _runs(table, args, since)
        if args.job and not runs:
            await _need(table, args)
        runs = await _with_children(table, runs)
        return runs, await _heading(table, args, runs) if args.job and not args.json else []

    runs, head = fleet.run(args, work)
    if args.json:
        from runner.control.shown import as_json  # noqa: PLC0415

        printing.document([as_json(run) for run in runs])
        return 0
    if head:
        printing.lines(*head)
    if not runs:
        _say_none(args)
        return 0
    several = len({run["group"] for run in runs}) > 1
    titles = ["STARTED", "TOOK", "OUTCOME", "EXIT", "COST", "HOST", "RUN", "REASON"]
    rows = [_row(run, args) for run in runs]
    if any(run.get("signed_by") for run in runs):
        titles.insert(-1, "SIGNED BY")
        rows = [[*row[:-1], run.get("signed_by") or "-", row[-1]] for row, run in zip(rows, runs, strict=True)]
    for title, words in _chain(runs):
        titles.insert(-1, title)
        rows = [[*row[:-1], said or "-", row[-1]] for row, said in zip(rows, words, strict=True)]
    if several:
        titles.insert(6, "GROUP")
        rows = [[*row[:6], run["group"], *row[6:]] for row, run in zip(rows, runs, strict=True)]
    printing.lines(*([""] if head else []), *fleet.aligned(titles, rows, "RUN"))
    return 0


async def _with_children(table: Table, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs with what became of the runs after them; as they are where this user may not read that."""
    from runner.control.chains.shown import children_of  # noqa: PLC0415 - `--help` needs none of it

    try:
        children = await children_of(table, runs)
    except AwsUnavailable:
        return runs
    return [{**run, "children": children.get((run["group"], run["run_id"]), [])} for run in runs]


def _chain(runs: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """A column for the runs that these were fired after, and one for what they fired, where there are some."""
    from runner.control.chains.shown import after_of, in_words  # noqa: PLC0415 - as above

    columns = [
        ("AFTER", [" ".join(after_of(run)) for run in runs]),
        ("FIRED", [in_words(run.get("children") or ()) for run in runs]),
    ]
    return [(title, words) for title, words in columns if any(words)]


def _of_host(args: argparse.Namespace, since: float | None) -> int:
    from runner.cli.runs.local_history import Asked, runs  # noqa: PLC0415 - `--help` needs none of it

    state = "open" if args.running else "" if args.job and _outcomes(args) is None else "ended"
    found = runs(args, Asked(args.job, _outcomes(args), since, state, args.limit))
    found = [run for run in found if args.group in (None, run["group"])]
    if args.json:
        printing.document(found)
        return 0
    if not found:
        _say_none(args)
        return 0
    rows = [_row(run, args) for run in found]
    titles = ["STARTED", "TOOK", "OUTCOME", "EXIT", "COST", "RUN", "REASON"]
    printing.lines(*fleet.aligned(titles, [[*row[:5], *row[6:]] for row in rows], "RUN"))
    return 0


def _outcomes(args: argparse.Namespace) -> list[str] | None:
    from runner.control.recording.run_state import FAILURES  # noqa: PLC0415 - as above

    return sorted(FAILURES) if args.failed else args.outcome


def _say_none(args: argparse.Namespace) -> None:
    what = f"run of {args.job}" if args.job else "run that failed" if args.failed else "run"
    printing.say(f"no {what} is known{f' since {args.since}' if args.since else ''}")


async def _heading(table: Table, args: argparse.Namespace, runs: list[dict[str, Any]]) -> list[str]:
    """How the job stands, in each group that has it."""
    from runner.cli.runs.job_heading import heading, standings  # noqa: PLC0415

    try:
        found = await standings(table, args.job, args.group, {run["group"] for run in runs})
    except AwsUnavailable as error:
        # Who may read the runs only still sees them.
        printing.say(f"cannot tell how {args.job} stands: {error}")
        return []
    heads = [heading(one, time.time()) for one in found]
    return [line for place, head in enumerate(heads) for line in ([""] if place else []) + head]


async def _need(table: Table, args: argparse.Namespace) -> None:
    """Raise where no job of the name is known, neither by a file nor by a run; a slip of the pen is no empty list."""
    from runner.control import store  # noqa: PLC0415 - `--help` needs none of it

    try:
        if not await store.named(table, args.job, args.group) and not await store.history(
            table, args.job, limit=1, in_group=args.group
        ):
            await store.job(table, args.job, args.group)
    except AwsUnavailable:
        return  # who may read the runs only has seen that there are none


async def _runs(table: Table, args: argparse.Namespace, since: float | None) -> list[dict[str, Any]]:
    from runner.control import store  # noqa: PLC0415 - `--help` needs none of it
    from runner.control.recording.run_state import FAILURES  # noqa: PLC0415
    from runner.protocol.units import parse_time  # noqa: PLC0415

    now = time.time()
    outcomes = _outcomes(args)
    if args.running:
        return [run for run in await _open(table, args) if since is None or parse_time(run["seen_at"]) >= since]
    if args.job:
        return await store.history(
            table, args.job, limit=args.limit, in_group=args.group, outcomes=outcomes, since=since
        )
    start = since if since is not None else now - 86_400.0
    runs: list[dict[str, Any]] = []
    for failed in (True, False):
        if outcomes is None or any((outcome in FAILURES) is failed for outcome in outcomes):
            runs += await store.ended_since(table, start, now, failed=failed)
    runs = [
        run for run in runs if args.group in (None, run["group"]) and (outcomes is None or run["state"] in outcomes)
    ]
    return sorted(runs, key=lambda run: str(run["ended_at"]), reverse=True)[: args.limit]


async def _open(table: Table, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Those that are not over, the newest first."""
    from runner.control import store  # noqa: PLC0415 - as above

    runs = [run for run in await store.open_runs(table) if args.job in (None, run["job"])]
    runs = [run for run in runs if args.group in (None, run["group"])]
    return sorted(runs, key=lambda run: str(run["at"]), reverse=True)[: args.limit]


def _row(run: dict[str, Any], args: argparse.Namespace) -> list[str]:
    began = run["started_at"] or run.get("at") or run["seen_at"]
    exit_text = run["signal"] or ("-" if run["exit_code"] is None else str(run["exit_code"]))
    return [
        fleet.clock(began),
        fleet.span(run["duration_s"]) if run["duration_s"] is not None else "-",
        run["state"],
        exit_text,
        _cost(run.get("usage")),
        run["host"] or "-",
        run["run_id"] if args.job else f"{run['job'] or '?'}: {run['run_id']}",
        run["reason"] or "",
    ]


def _cost(usage: dict[str, Any] | None) -> str:
    """CPU time and the most memory of the last attempt, as far as they are known."""
    from runner.cli.host.status_text import short  # noqa: PLC0415 - as above
    from runner.protocol.units import format_size  # noqa: PLC0415

    if not usage or usage.get("cpu_user_s") is None:
        return "-"
    memory = usage.get("max_rss_bytes")
    return short(usage["cpu_user_s"] + usage["cpu_system_s"]) + (f" {format_size(memory)}" if memory else "")


def latest(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The last runs of a job, as the fleet's table has them."""
    from runner.control import store  # noqa: PLC0415 - `--help` needs none of it

    async def work(_: Session, table: Table) -> list[dict[str, Any]]:
        return await store.history(table, args.job, limit=10, in_group=args.group)

    found: list[dict[str, Any]] = fleet.run(args, work)
    return found


def since_of(text: str | None, what: str = "history") -> float | None:
    """Unix seconds of what `--since` says: so long ago, or a time."""
    from runner.protocol.units import parse_since  # noqa: PLC0415

    if text is None:
        return None
    try:
        return parse_since(text, time.time())
    except ValueError as error:
        raise WrongUsage(f"cannot show {what} since {text}: {error}; or a duration such as 24h") from error
