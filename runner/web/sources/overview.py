"""What heads the page: what is wrong, what runs against how long it usually does, what waits and why. Pure.

Host and fleet are brought into one shape here, so that the templates know one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.web.words import BAD, span, unix

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.web.sources.past import Standing

DAY_S: Final = 86_400.0
_SHOWN_RUNNING: Final = 50


def of_host(
    status: Mapping[str, Any], past: Sequence[dict[str, Any]], standing: Standing, now: float
) -> dict[str, Any]:
    """Of one host, by its agent's status."""
    group, host = status["group"], status["host"]
    running = [running_entry({**run, "group": group, "host": host}, standing, now) for run in status["runs"]]
    return {
        "kind": "host",
        "title": host,
        "now": now,
        "status": status,
        "wrong": [*_unwell(status), *failing(standing, now), *too_long(running)],
        "running": by_harm(running)[:_SHOWN_RUNNING],
        "running_count": sum(status["running"].values()),
        "waiting": [waiting_entry({**one, "group": group, "host": host}) for one in status["held"]]
        + [backoff_entry(run) for run in running if run["state"] == "backoff"],
        "queued": None if (counts := counts_in(status)) is None else counts["waiting"] + counts["delayed"],
        "dead": None if counts is None else counts["dead"],
        "due": [],
        "off": _off(status),
        "ended": list(past[:10]),
        "ended_24h": ended_within(past, now),
        "hosts": (1, 1),
        "groups": [],
    }


def counts_in(status: Mapping[str, Any]) -> dict[str, Any] | None:
    """How full the host's queue is, and its dead-letter queue; None where SQS has not said it."""
    known = status.get("queues") or {}
    jobs, dead = known.get("jobs"), known.get("dead_letters")
    if jobs is None:
        return None
    counts = {"waiting": jobs["visible"], "in_flight": jobs["in_flight"], "delayed": jobs["delayed"]}
    return {**counts, "dead": None if dead is None else dead["visible"]}


def _unwell(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    if status["health"]["ok"]:
        return []
    since = status["aws"]["since"] if status["aws"]["reachable"] is False else None
    return [
        {
            "state": "away",
            "label": "not well",
            "host": status["host"],
            "why": "; ".join(status["health"]["reasons"]),
            "since": since,
        }
    ]


def _off(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    pause = status["pause"]
    if pause is None:
        return []
    state = "draining" if pause["kind"] == "drain" else "paused"
    return [{"state": state, "what": "host", "host": status["host"], **pause}]


def running_entry(run: Mapping[str, Any], standing: Standing, now: float) -> dict[str, Any]:
    """One that runs, with what is usual of its job."""
    p50, p95 = standing.usual((run.get("group") or "", run.get("job") or ""))
    since, deadline = unix(run.get("since") or run.get("started_at")), unix(run.get("deadline"))
    runs_for = None if since is None else max(0.0, now - since)
    return {
        **run,
        "p50": p50,
        "p95": p95,
        "runs_for": runs_for,
        "timeout_s": float(round(deadline - since)) if deadline is not None and since is not None else None,
        "late": p95 is not None and runs_for is not None and runs_for > p95 and runs_for > 10,
    }


def by_harm(running: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those longest against their usual time first."""
    return sorted(running, key=lambda run: -((run["runs_for"] or 0.0) / (run["p95"] or 3600.0)))


def too_long(running: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            "state": "too_long",
            "group": run["group"],
            "job": run["job"],
            "run_id": run["run_id"],
            "host": run.get("host"),
            "why": f"running for {span(run['runs_for'])}, usually {span(run['p50'])}, p95 {span(run['p95'])}",
            "since": run.get("since") or run.get("started_at"),
            "action": "cancel",
        }
        for run in running
        if run["late"]
    ]


def failing(standing: Standing, now: float, within: float = 7 * DAY_S) -> list[dict[str, Any]]:
    """Jobs whose last run ended badly and has not been made good since, the newest first."""
    found = []
    for run, in_a_row, good in standing.failing():
        ended = unix(run.get("ended_at"))
        if ended is None or now - ended > within:
            continue
        row = f", {in_a_row} in a row" if in_a_row > 1 else ""
        last = f"; last success {span(now - at)} ago" if good and (at := unix(good.get("ended_at"))) else ""
        found.append(
            {
                "state": run["outcome"],
                "group": run.get("group"),
                "job": run.get("job"),
                "run_id": run["run_id"],
                "host": run.get("host"),
                "why": f"{run.get('reason') or run['outcome']}{row}{last}",
                "since": run.get("ended_at"),
                "action": None if run["outcome"] == "rejected" else "rerun",
            }
        )
    return sorted(found, key=lambda one: str(one["since"]), reverse=True)


def waiting_entry(one: Mapping[str, Any]) -> dict[str, Any]:
    """Received and held by a host, with the reason."""
    return {**one, "state": "held", "for_s": one["waited_s"], "more": f"delivery {one['delivery']}"}


def backoff_entry(run: Mapping[str, Any]) -> dict[str, Any]:
    """Between two attempts."""
    at = unix(run.get("next_attempt"))
    return {
        **run,
        "state": "backoff",
        "for_s": None,
        "reason": f"attempt {run['attempt'] + 1} of {run['attempts']}" + ("" if at is None else " comes next"),
        "next": run.get("next_attempt"),
        "more": f"attempt {run['attempt']} ended {run.get('last_outcome') or ''}",
    }


def ended_within(past: Sequence[Mapping[str, Any]], now: float) -> tuple[int, int]:
    """How many ended within a day, and how many of them badly."""
    count = bad = 0
    for run in past:
        ended = unix(run.get("ended_at"))
        if ended is not None and now - ended > DAY_S:
            break
        count += 1
        bad += run.get("outcome") in BAD
    return count, bad
