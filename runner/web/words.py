"""How states, spans and sizes are said on the page. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from runner.protocol.units import parse_time

TONES: Final = {
    **dict.fromkeys(("failed", "timed_out", "oom_killed", "killed", "start_failed", "lost", "rejected"), "bad"),
    **dict.fromkeys(("not_started", "silent", "dead", "away", "refused"), "bad"),
    **dict.fromkeys(("too_long", "backoff", "retrying", "interrupted", "paused", "draining", "stopping"), "warn"),
    **dict.fromkeys(("running", "starting", "accepted", "full", "yielding"), "run"),
    **dict.fromkeys(("succeeded", "polling", "done"), "ok"),
}
"""Every other state is off: waiting, due, cancelled, skipped, disabled, maintenance."""
_LABELS: Final = {
    "oom_killed": "out of memory",
    "start_failed": "could not start",
    "timed_out": "timed out",
    "not_started": "not started",
    "too_long": "too long",
    "accepted": "starting",
    "silent": "host silent",
}
_GLYPHS: Final = {
    "starting": "running",
    "accepted": "running",
    "stopping": "running",
    "backoff": "retrying",
    "waiting": "held",
    "queued": "held",
    "done": "succeeded",
    "refused": "rejected",
    "away": "lost",
    "yielding": "full",
    "blocked": "full",
}
OUTCOMES: Final = (
    *("succeeded", "failed", "timed_out", "oom_killed", "killed", "start_failed", "lost", "interrupted"),
    *("cancelled", "skipped", "rejected"),
)
BAD: Final = frozenset(one for one in OUTCOMES if TONES.get(one) == "bad")


def tone(state: str | None) -> str:
    return TONES.get(state or "", "off")


def label(state: str | None) -> str:
    return _LABELS.get(state or "", (state or "unknown").replace("_", " "))


def glyph(state: str | None) -> str:
    return _GLYPHS.get(state or "", state or "due")


_UNITS: Final = ((86_400, "d", 0, ""), (3600, "h", 60, "m"), (600, "m", 0, ""), (60, "m", 1, "s"))


def span(seconds: float | None) -> str:
    """As it is said, the two largest units where they matter: `12 m`, `2 m 07 s`, `3 h 05 m`."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s".replace(".0 s", " s")
    whole = int(seconds)
    for least, unit, smaller, name in _UNITS:
        if whole >= least:
            size = 60 if unit == "m" else least
            rest = f" {whole % size // smaller:02} {name}" if smaller else ""
            return f"{whole // size} {unit}{rest}"
    return f"{whole} s"


_OURS: Final = len("2030-01-31T03:00:00.000000Z")


def unix(time: str | None) -> float | None:
    """Unix seconds of a time of the wire."""
    if not time:
        return None
    try:
        if len(time) == _OURS and time[-1] == "Z" and time[10] == "T":
            return datetime.fromisoformat(time).timestamp()  # as all here are written: thousands on a page
        return parse_time(time)
    except ValueError:
        return None


def exact(moment: float) -> str:
    """The whole time, for a title."""
    return f"{datetime.fromtimestamp(moment, UTC):%a %-d %b %Y %H:%M:%S} UTC"


def iso(moment: float) -> str:
    return f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%dT%H:%M:%SZ}"


def relative(moment: float, now: float) -> str:
    """`2 m ago`, `in 3 h 20 m`."""
    return f"{span(now - moment)} ago" if moment <= now else f"in {span(moment - now)}"


def amount(size: float | None) -> str:
    """Bytes, in powers of 1024 as everywhere here."""
    if size is None:
        return "?"
    for unit, of in (("G", 1 << 30), ("M", 1 << 20), ("K", 1 << 10)):
        if size >= of:
            said = size / of
            return f"{said:.1f}{unit}" if said < 10 else f"{said:.0f}{unit}"
    return f"{size:.0f}"


def plural(count: int, thing: str) -> str:
    return f"{count:,} {thing}" + ("" if count == 1 else "s")


def percentile(sorted_values: list[float], share: float) -> float:
    """Of values in order, the one that so many are not above; 0 < share <= 1."""
    place = min(len(sorted_values) - 1, max(0, round(share * len(sorted_values)) - 1))
    return sorted_values[place]
