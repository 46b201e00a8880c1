"""All that is known of a run, as text for people. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.cli.host.status_text import short
from runner.cli.tables import Column, Paint, table
from runner.protocol.units import format_duration, format_size
from runner.visible import visible

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Run = Mapping[str, Any]

_ATTEMPTS: Final = (
    Column("ATTEMPT", key=True),
    Column("STARTED"),
    Column("TOOK", right=True),
    Column("OUTCOME"),
    Column("EXIT", right=True),
    Column("CPU", right=True),
    Column("MEM", right=True),
    Column("OUTPUT", right=True),
    Column("REASON", 12),
)


def text(run: Run, width: int | None) -> list[str]:
    """The lines; `width` None: no line is cut."""
    said = [(name, value) for name, value in (*_standing(run), *_what(run), *_whence(run)) if value]
    wide = max(len(name) for name, _ in said)
    lines = [f"run {run['run_id']} of {run['job'] or 'no job'}"]
    lines += [f"  {name.ljust(wide)}  {visible(value)}" for name, value in said]
    if attempts := run["attempts"]:
        rows = [_attempt(run, attempt) for attempt in attempts]
        lines += ["", *table(_ATTEMPTS, rows, width, Paint(False))]
    return lines


def _standing(run: Run) -> list[tuple[str, str]]:
    ended = run.get("outcome") is not None
    state = str(run["state"] or "")
    phase = run.get("phase")
    said = [("state", state if phase in (None, "ended", state) else f"{state} ({phase})")]
    if ended:
        at = f" at {_second(run['ended_at'])}" if run.get("ended_at") else ""
        said = [("outcome", f"{run['outcome']}{f': {reason}' if (reason := run['reason']) else ''}{at}")]
    said.append(("stopping", run.get("stopping") or ""))
    if held := run.get("held"):
        said.append(("held", f"for {short(held['waited_s'])}, since {_second(held['since'])}"))
        said.append(("waits for", held["reason"] or "a decision"))
        said.append(("starts when", held["starts_when"]))
    elif not ended or run.get("owes"):
        said.append(("waits for", run.get("waits_for") or ""))
    said.append(("owes", ", ".join(run.get("owes") or ())))
    if run.get("pid"):
        using = [f"pid {run['pid']}"]
        if run.get("running_s") is not None:
            using.append(f"for {short(run['running_s'])}")
        if run.get("cpu_s") is not None:
            using.append(f"CPU {short(run['cpu_s'])}")
        if run.get("memory_bytes") is not None:
            using.append(f"memory {format_size(run['memory_bytes'])}")
        if run.get("processes") is not None:
            using.append(f"processes {run['processes']}")
        said.append(("process", ", ".join(using)))
    said.append(("deadline", _second(run.get("deadline"))))
    said.append(("next attempt", _second(run.get("next_attempt"))))
    said.append(("lease", "lost: another host may run it too" if run.get("lease_lost") else ""))
    return said


def _what(run: Run) -> list[tuple[str, str]]:
    user = run.get("user") or ""
    if user and run.get("unix_group"):
        user += f", group {run['unix_group']}"
    limits = [
        (f"{name} {_amount(name, amount)}")
        for part in ("resources", "limits")
        for name, amount in (run.get(part) or {}).items()
    ]
    terms = [f"timeout {format_duration(run['timeout_s'])}"] if run.get("timeout_s") else []
    if run.get("grace_s") is not None:
        terms.append(f"SIG{run['stop_signal']}, SIGKILL {format_duration(run['grace_s'])} later")
    if run.get("retries"):
        terms.append(f"{run['retries']} retries")
    if run.get("overlap", "allow") != "allow":
        terms.append(f"overlap {run['overlap']}")
    return [
        ("command", run.get("command") or ""),
        ("user", user),
        ("directory", run.get("cwd") or ""),
        ("variables", ", ".join(run.get("env") or ())),
        ("terms", "; ".join(terms)),
        ("asks for", ", ".join(limits)),
        ("labels", ", ".join(f"{name}={value}" for name, value in (run.get("labels") or {}).items())),
    ]


def _whence(run: Run) -> list[tuple[str, str]]:
    message = run.get("message") or {}
    words = [message["id"]] if message.get("id") else []
    if message.get("delivery"):
        words.append(f"delivery {message['delivery']}")
    words += [
        f"{name.removesuffix('_at')} {_second(message[name])}"
        for name in ("sent_at", "received_at")
        if message.get(name)
    ]
    if message.get("state") not in (None, "none"):
        words.append(str(message["state"]).replace("_", " "))
    log = run.get("log") or {}
    return [
        ("group", f"{run['group']}, host {run['host']}" if run.get("host") else str(run.get("group") or "")),
        ("due", _second(run.get("scheduled_at"))),
        ("not after", _second(run.get("not_after"))),
        ("after", ", ".join(run.get("after") or ())),
        *((str(one["said"]), _child(one)) for one in run.get("children") or ()),
        ("message", ", ".join(words)),
        ("trace", run.get("traceparent") or ""),
        ("log", f"{log['group']}: {log['stream']}" if log.get("stream") else ""),
        ("console", log.get("url") or ""),
    ]


def _child(one: Mapping[str, Any]) -> str:
    why = one.get("why")
    return f"{one['run_id']}{f', {why}' if why else ''}"


def _attempt(run: Run, one: Run) -> Sequence[str]:
    usage, output = one.get("usage") or {}, one.get("output") or {}
    cpu = usage.get("cpu_user_s")
    name = str(one["attempt"])
    if one["execution"] != run.get("execution"):
        name += f" of {one['execution']}"
    exit_text = one.get("signal") or ("-" if one.get("exit_code") is None else str(one["exit_code"]))
    written = output.get("bytes")
    return (
        name,
        _second(one["started_at"]) or "-",
        "-" if one.get("duration_s") is None else short(one["duration_s"]),
        one.get("outcome") or "running",
        exit_text,
        "-" if cpu is None else short(cpu + (usage.get("cpu_system_s") or 0.0)),
        "-" if usage.get("max_rss_bytes") is None else format_size(usage["max_rss_bytes"]),
        "-" if written is None else format_size(written),
        one.get("reason") or "",
    )


def _amount(name: str, amount: float) -> str:
    return format_size(int(amount)) if name == "memory" else f"{amount:g}"


def _second(moment: str | None) -> str:
    return f"{moment[:19]}Z" if moment else ""
