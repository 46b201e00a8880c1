"""The agent's overview as text for people. Pure: the overview, the width and the colours come in, lines go out.

`before` is an earlier overview of the same agent, where there is one: then CPU is the share since that, as in top(1);
else the share over the run's whole life, as in ps(1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.cli.tables import Column, Paint, cut, one_line, table
from runner.protocol.units import format_size, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Overview = Mapping[str, Any]

_RED, _YELLOW, _GREEN, _BOLD, _DIM = "31", "33", "32", "1", "2"
_PAUSED: Final = ("paused by ", "drained by ")
_OUTCOMES: Final = {"succeeded": _GREEN, "skipped": _DIM, "cancelled": _YELLOW, "interrupted": _YELLOW}
_STATES: Final = {"away": _RED, "blocked": _RED, "paused": _YELLOW, "draining": _YELLOW, "stopping": _YELLOW}


_RUNNING: Final = (
    Column("RUN", key=True),
    Column("JOB", 8),
    Column("USER", 6),
    Column("STATE"),
    Column("FOR", right=True),
    Column("LEFT", right=True),
    Column("TRY", right=True),
    Column("CPU", right=True),
    Column("MEM", right=True),
)
_HELD: Final = (
    Column("RUN", key=True),
    Column("JOB", 8),
    Column("FOR", right=True),
    Column("WAITS FOR", 20),
)
_RECENT: Final = (
    Column("RUN", key=True),
    Column("JOB", 8),
    Column("OUTCOME"),
    Column("AGO", right=True),
    Column("TOOK", right=True),
    Column("REASON", 12),
)


def lines(overview: Overview, *, width: int | None, colours: bool = False, before: Overview | None = None) -> list[str]:
    """The whole text. `width` None: nothing is cut, as for a pipe."""
    paint = Paint(colours)
    now = parse_time(overview["time"])
    text = [_clip(line, width) for line in _head(overview, now)]
    text[0] = paint(text[0], _BOLD)
    text += [_clip(line, width, paint, code) for line, code in _standing(overview, now)]
    runs, held, recent = overview["runs"], overview["held"], overview["recent"]
    text += ["", paint(f"RUNNING {len(runs)}", _BOLD)]
    if runs:
        text += table(_RUNNING, [_run(run, now, before) for run in runs], width, paint, _run_colour(runs))
    if held:
        text += ["", paint(f"HELD {len(held)}", _BOLD)]
        rows = [(run["run_id"], run["job"], short(run["waited_s"]), run["reason"]) for run in held]
        text += table(_HELD, rows, width, paint)
    if recent:
        text += ["", paint("RECENT", _BOLD)]
        codes = [_OUTCOMES.get(run["outcome"] or "", _RED) for run in recent]
        text += table(_RECENT, [_ended(run, now) for run in recent], width, paint, codes)
    elif recent is None:
        text += ["", "RECENT: the journal does not answer"]
    return text


# -- the head


def _head(overview: Overview, now: float) -> list[str]:
    agent = overview["agent"]
    started = f"up {short(agent['up_s'])}, pid {agent['pid']}"
    head = [f"cron-runner {agent['version']} on {overview['host']}, group {overview['group']}, {started}"]
    if agent["supervisor_version"] not in (None, agent["version"]):
        head.append(f"supervisor {agent['supervisor_version']}, pid {agent['supervisor_pid']}")
    if start := agent.get("supervisor_start"):
        head.append("starting   jobs directly" if start == "direct" else f"starting   jobs by {start}")
    aws = overview["aws"]
    last = f"last receive {_ago(aws['last_receive'], now)} ago" if aws["last_receive"] else "nothing received yet"
    head.append(f"queue      {overview['queue']}")
    if aws["reachable"]:
        head.append(f"aws        answering for {_ago(aws['since'], now)}; {last}")
    elif aws["reachable"] is None:
        head.append("aws        not asked yet")
    return head


def _standing(overview: Overview, now: float) -> list[tuple[str, str]]:
    """What the agent does, on what terms, and what is wrong; each with its colour."""
    aws, pause, backlog = overview["aws"], overview["pause"], overview["backlog"]
    said: list[tuple[str, str]] = []
    if aws["reachable"] is False:
        said.append((f"aws        AWAY since {_ago(aws['since'], now)}: {aws['error']}", _RED))
    state = overview["state"]
    line = f"state      {state}"
    if overview["waiting_for"] and pause is None:
        line += f": {overview['waiting_for']}"
    elif pause is not None:
        line += f": {paused(pause, now)}"
    said.append((line, _STATES.get(state, "")))
    said.append((f"policy     {_policy(overview['admission'])}", ""))
    said += [(f"unhealthy  {reason}", _RED) for reason in overview["health"]["reasons"]]
    # The pause stands in the line of the state already.
    notes = [note for note in overview["health"]["notes"] if pause is None or not note.startswith(_PAUSED)]
    said += [(f"note       {note}", _YELLOW) for note in notes]
    if aws["results_error"]:
        said.append((f"results    AWAY since {_ago(aws['results_away_since'], now)}: {aws['results_error']}", _RED))
    if (depth := _depths(overview.get("queues") or {})) is not None:
        said.append((f"depth      {depth}", ""))
    if (waits := _backlog(backlog)) is not None:
        said.append((f"backlog    {waits}", ""))
    return said


def paused(pause: Mapping[str, Any], now: float) -> str:
    """Who paused or drained the host, since when, until when and why."""
    words = f"by {pause['by']}, {_ago(pause['since'], now)} ago"
    if pause["until"]:
        words += f", for another {short(max(0.0, parse_time(pause['until']) - now))}"
    return f"{words}: {pause['note']}" if pause["note"] else words


def _policy(admission: Mapping[str, Any]) -> str:
    offered, used, load = admission["offered"], admission["used"], admission["load"]
    words = [f"{name} {_amount(name, used[name])} of {_amount(name, offered[name])}" for name in offered]
    if load is not None and load["busy_cores"] is not None:
        share = load["busy_cores"] / load["cores"] if load["cores"] else 0.0
        words.append(f"load {share:.0%} (max {admission['max_load']:.0%})")
    return f"{admission['policy']}{': ' if words else ''}{', '.join(words)}"


def _amount(name: str, amount: float) -> str:
    return format_size(int(amount)) if name == "memory" else f"{amount:.3f}".rstrip("0").rstrip(".")


def _depths(queues: Mapping[str, Any]) -> str | None:
    """What is on the queue, where there is something; what is held here is in flight."""
    jobs, dead = queues.get("jobs"), queues.get("dead_letters")
    words = []
    if jobs is not None and (jobs["visible"] or jobs["delayed"]):
        words = [f"{jobs['visible']} on the queue", f"{jobs['in_flight']} in flight"]
        words += [f"{jobs['delayed']} delayed"] if jobs["delayed"] else []
        words.append(f"not empty for {short(jobs['oldest_age_s'])}")
    if dead is not None and dead["visible"] + dead["in_flight"]:
        words.append(f"{dead['visible'] + dead['in_flight']} dead letters (`cron-runner dead-letters list`)")
    return ", ".join(words) or None


def _backlog(backlog: Mapping[str, Any]) -> str | None:
    words = []
    if backlog["events"]:
        words.append(f"{backlog['events']} event{'' if backlog['events'] == 1 else 's'} unsent")
    if backlog["events"] is None:
        words.append("events unknown, the journal does not answer")
    if backlog["output_bytes"]:
        words.append(f"{format_size(backlog['output_bytes'])} of output not shipped")
    if backlog["ended_runs"]:
        words.append(f"{backlog['ended_runs']} ended runs not settled with the queue")
    return ", ".join(words) or None


# -- rows


def _run(run: Mapping[str, Any], now: float, before: Overview | None) -> tuple[str, ...]:
    attempt = f"{run['attempt']}/{run['attempts']}" if run["attempts"] > 1 else "-"
    if run["state"] == "backoff" and run["next_attempt"]:
        left = f"in {short(max(0.0, parse_time(run['next_attempt']) - now))}"
    else:
        left = "-" if run["deadline"] is None else short(max(0.0, parse_time(run["deadline"]) - now))
    share = _share(run, now, before)
    return (
        run["run_id"],
        run["job"],
        run["user"] or "-",
        run["state"],
        "-" if run["running_s"] is None else short(run["running_s"]),
        left,
        attempt,
        "-" if share is None else f"{share:.0%}",
        "-" if run["memory_bytes"] is None else format_size(run["memory_bytes"]),
    )


def _share(run: Mapping[str, Any], now: float, before: Overview | None) -> float | None:
    """How many cores it uses."""
    used, span = run["cpu_s"], run["running_s"]
    if used is None or not span:
        return None
    if before is not None:
        key = run["execution"], run["attempt"]
        was = next((old for old in before["runs"] if (old["execution"], old["attempt"]) == key), None)
        since = now - parse_time(before["time"])
        if was is not None and was["cpu_s"] is not None and since > 0:
            return max(0.0, float(used - was["cpu_s"])) / since
    return float(used) / float(span)


def _run_colour(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [_RED if run["lease_lost"] else _YELLOW if run["state"] in ("stopping", "backoff") else "" for run in runs]


def _ended(run: Mapping[str, Any], now: float) -> tuple[str, ...]:
    return (
        run["run_id"],
        run["job"] or "-",
        run["outcome"] or "-",
        _ago(run["ended"], now) if run["ended"] else "-",
        "-" if run["duration_s"] is None else short(run["duration_s"]),
        run["reason"] or "",
    )


# -- the layout


def _clip(line: str, width: int | None, paint: Paint | None = None, code: str = "") -> str:
    line = one_line(line)
    if width is not None:
        line = cut(line, width)
    return paint(line, code) if paint is not None else line


def short(seconds: float) -> str:
    """A duration in at most two units: "0.4s", "12s", "3m10s", "15m", "2h05m", "4d3h"."""
    if seconds < 0.95:
        return f"{seconds:.1f}s" if seconds >= 0.05 else "0s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, second = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{second:02}s" if minutes < 10 else f"{minutes}m"
    hours, minute = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}h{minute:02}m"
    days, hour = divmod(hours, 24)
    return f"{days}d{hour}h"


def _ago(moment: str, now: float) -> str:
    return short(max(0.0, now - parse_time(moment)))
