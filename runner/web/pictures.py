"""Strips, calendars, durations and days as SVG, made on the server: positions are attributes, colours are classes.

Each is hidden from readers of the page's text: the same facts stand beside it.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from markupsafe import Markup, escape

from runner.web.words import BAD, label, percentile, span, tone, unix

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

DAY_S: Final = 86_400.0
STRIP: Final = 30
MOST_BARS: Final = 24
"""Of a line of a day that are links; more are one picture."""

_CROSS: Final = "M-3.5-3.5l7 7m0-7l-7 7"


def strip(states: Sequence[str]) -> Markup:
    """The last runs of a job, oldest first: height tells how each ended, before its colour does."""
    paths: dict[str, list[str]] = {}
    for place, state in enumerate(states[-STRIP:]):
        x = place * 6
        if state in ("running", "starting", "stopping", "backoff", "held"):
            paths.setdefault("v-live", []).append(f"M{x + 0.75} 5.75h3.5v11.5h-3.5z")
        elif state == "succeeded":
            paths.setdefault("v-ok", []).append(f"M{x} 11h5v7h-5z")
        elif state == "timed_out":
            paths.setdefault("v-bad", []).append(f"M{x} 1h5v7h-5zM{x} 10h5v8h-5z")
        elif state == "lost":
            paths.setdefault("v-bad", []).append(f"M{x} 1h5v4h-5zM{x} 7.5h5v4h-5zM{x} 14h5v4h-5z")
        elif state in BAD:
            paths.setdefault("v-bad", []).append(f"M{x} 1h5v17h-5z")
        elif state == "interrupted":
            paths.setdefault("v-warn", []).append(f"M{x} 6h5v12h-5z")
        else:
            paths.setdefault("v-off", []).append(f"M{x} 16h5v2h-5z")
    drawn = "".join(f'<path class="{name}" d="{"".join(parts)}"/>' for name, parts in paths.items())
    return Markup('<svg class="strip" viewBox="0 0 180 18" aria-hidden="true">' + drawn + "</svg>")  # noqa: S704 - numbers


def strip_words(states: Sequence[str]) -> str:
    """The same in words."""
    shown = states[-STRIP:]
    counts = Counter("ok" if state == "succeeded" else label(state) for state in shown)
    ordered = sorted(counts.items(), key=lambda one: (one[0] != "ok", -one[1]))
    return f"last {len(shown)} runs: " + ", ".join(f"{count} {name}" for name, count in ordered) if shown else "no runs"


def usual(now: float, p50: float | None, p95: float | None, timeout: float | None) -> Markup:
    """How long a run has been going on, against how long its job usually takes."""
    end = timeout or (p95 * 4 / 3 if p95 else 0) or max(now, 1.0)
    if p95:
        end = min(end, max(p95 * 4 / 3, now))
    scale = 136 / max(end, now, 0.001)
    late = p95 is not None and now > p95
    parts = [
        '<rect class="v-track" y="5" width="136" height="6" rx="1"/>',
        f'<rect class="{"v-warn" if late else "v-run"}" y="5" width="{now * scale:.1f}" height="6" rx="1"/>',
    ]
    parts += [
        f'<rect class="v-tick" x="{min(134.5, tick * scale):.1f}" y="2" width="1.5" height="12"/>'
        for tick in (p50, p95)
        if tick is not None
    ]
    if late and p95 is not None:
        first = int(p95 * scale) + 2
        cuts = "".join(f"M{x} 11l4-6" for x in range(first, int(now * scale) - 3, 5))
        parts.append(f'<path class="v-cut" d="{cuts}"/>' if cuts else "")
    return Markup('<svg class="usual" viewBox="0 0 136 14" aria-hidden="true">' + "".join(parts) + "</svg>")  # noqa: S704


def share(used: float, of: float) -> Markup:
    """How much of something is taken."""
    width = 136 * min(1.0, used / of) if of else 0.0
    return Markup(  # noqa: S704 - numbers
        '<svg class="usual" viewBox="0 0 136 14" aria-hidden="true"><rect class="v-track" y="5" width="136" height="6"'
        f' rx="1"/><rect class="v-run" y="5" width="{width:.1f}" height="6" rx="1"/></svg>'
    )


def hours(runs: Iterable[Mapping[str, Any]], now: float) -> Markup:
    """The runs that ended in the last 24 hours, by half hours, bad ones on top."""
    good, bad = [0] * 48, [0] * 48
    for run in runs:
        ended = unix(run.get("ended_at"))
        if ended is not None and 0 <= now - ended < DAY_S:
            place = 47 - int((now - ended) // 1800)
            (bad if run.get("outcome") in BAD else good)[place] += 1
    most = max(map(sum, zip(good, bad, strict=True)), default=0)
    if not most:
        inner = '<line class="v-line" x1="0" x2="100%" y1="33" y2="33"/>'
    else:
        inner = "".join(_hour(place, good[place], bad[place], most) for place in range(48))
    return Markup(f'<svg aria-hidden="true">{inner}</svg>')  # noqa: S704 - numbers


def _hour(place: int, good: int, bad: int, most: int) -> str:
    x, high = place * 100 / 48, good * 26 / most
    drawn = f'<rect class="v-ok" x="{x:.2f}%" width="1.63%" y="{34 - high:.1f}" height="{high:.1f}"/>' if good else ""
    if bad:
        over = max(4.0, bad * 26 / most)
        drawn += f'<rect class="v-bad" x="{x:.2f}%" width="1.63%" y="{33 - high - over:.1f}" height="{over:.1f}"/>'
    return drawn


def calendar(runs: Sequence[Mapping[str, Any]], now: float, href: str, days: int = 90) -> tuple[Markup, str]:
    """The days of a job, a column a week, and the same in words. `href` is the address of its runs."""
    today = datetime.fromtimestamp(now, UTC).date()
    by_day: dict[date, list[str]] = {}
    for run in runs:
        moment = unix(run.get("ended_at") or run.get("started_at"))
        if moment is not None:
            by_day.setdefault(datetime.fromtimestamp(moment, UTC).date(), []).append(str(run.get("outcome") or ""))
    first = today - timedelta(days=days - 1)
    monday = first - timedelta(days=first.weekday())
    parts = [f'<text x="0" y="{30 + n * 38}">{name}</text>' for n, name in enumerate(("Mon", "Wed", "Fri", "Sun"))]
    good = bad = mended = none = 0
    month = first.month
    for n in range(days):
        day = first + timedelta(days=n)
        x, y = 28 + (day - monday).days // 7 * 19, 18 + day.weekday() * 19
        if day.month != month:
            month = day.month
            parts.append(f'<text x="{x}" y="10">{day:%b}</text>')
        outcomes = by_day.get(day, [])  # newest first
        drawn, said = _day(outcomes, x, y)
        good += said == "all ok"
        bad += said not in ("all ok", "no run", "failed, then ok")
        mended += said == "failed, then ok"
        none += said == "no run"
        title = escape(f"{day:%a %-d %b}: {said}")
        ring = (
            f'<rect class="v-ring" x="{x - 0.5}" y="{y - 0.5}" width="17" height="17" rx="3"/>' if n == days - 1 else ""
        )
        link = escape(f"{href}&since={day}&until={day + timedelta(days=1)}")
        parts.append(f'<a href="{link}" tabindex="-1"><title>{title}</title>{drawn}{ring}</a>')
    words = f"{good} good, {bad} bad, {mended} bad then good, {none} without a run"
    width = 28 + ((today - monday).days // 7 + 1) * 19 + 4
    svg = f'<svg class="cal" viewBox="0 0 {max(296, width)} 152" aria-hidden="true">{"".join(parts)}</svg>'
    return Markup(svg), words  # noqa: S704 - numbers, and what was escaped


def _day(outcomes: list[str], x: int, y: int) -> tuple[str, str]:
    if not outcomes:
        return f'<rect class="v-none" x="{x + 6}" y="{y + 6}" width="4" height="4"/>', "no run"
    bad = [one for one in outcomes if one in BAD]
    box = f'x="{x}" y="{y}" width="16" height="16" rx="2"'
    if not bad:
        return f'<rect class="v-ok" {box}/>', "all ok"
    if outcomes[0] not in BAD:
        return f'<rect class="v-ok" {box}/><path class="v-bad" d="M{x} {y}h16l-16 16z"/>', "failed, then ok"
    cut = f'<path class="v-cut" d="M{x + 4.5} {y + 4.5}l7 7m0-7l-7 7"/>'
    return f'<rect class="v-bad" {box}/>{cut}', label(bad[0])


def durations(runs: Sequence[Mapping[str, Any]]) -> tuple[Markup, str]:
    """How long the last runs took, oldest first, and the same in words."""
    shown = [run for run in runs if run.get("duration_s") is not None][:60][::-1]
    good = sorted(float(run["duration_s"]) for run in shown if run.get("outcome") == "succeeded")
    if not shown:
        return Markup(""), "no run has ended yet"
    p50, p95 = (percentile(good, 0.5), percentile(good, 0.95)) if good else (None, None)
    most = max(0.001, *(float(run["duration_s"]) for run in shown)) * 1.1

    def y(seconds: float) -> float:
        return 116 - seconds / most * 108

    parts = ['<line class="v-line" x1="0" x2="100%" y1="116" y2="116"/>', '<text x="0" y="111">0</text>']
    for name, value in (("p50", p50), ("p95", p95)):
        if value is not None:
            parts.append(f'<line class="v-{name}" x1="0" x2="100%" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
            parts.append(f'<text x="100%" text-anchor="end" y="{y(value) - 4:.1f}">{name} {span(value)}</text>')
    for place, run in enumerate(shown):
        x = 1.28 + place * 82 / max(59, len(shown))
        at, title = y(float(run["duration_s"])), f"{span(float(run['duration_s']))}, {label(run.get('outcome'))}"
        mark = (
            f'<svg x="{x:.2f}%" y="{at:.1f}" overflow="visible"><path class="v-x" d="M-3.5-3.5l7 7m0-7l-7 7"/></svg>'
            if run.get("outcome") in BAD
            else f'<circle class="v-ok" cx="{x:.2f}%" cy="{at:.1f}" r="3.2"/>'
        )
        href = escape(f"/runs/{quote(str(run['run_id']), safe='')}")
        parts.append(f'<a href="{href}" tabindex="-1"><title>{escape(title)}</title>{mark}</a>')
    parts.append(
        f'<text x="0" y="148">oldest of {len(shown)}</text><text x="83%" text-anchor="end" y="148">newest</text>'
    )
    words = f"half below {span(p50)}, 95 of 100 below {span(p95)}" if p50 is not None else "none succeeded"
    svg = f'<svg class="dur" height="152" aria-hidden="true">{"".join(parts)}</svg>'
    return Markup(svg), words  # noqa: S704 - numbers, and what was escaped


def day_scale() -> Markup:
    """The hours above a day."""
    texts = "".join(f'<text x="{n * 100 / 12:.3f}%" dx="4" y="16">{n * 2:02}:00</text>' for n in range(12))
    return Markup(f'<svg aria-hidden="true">{texts}</svg>')  # noqa: S704 - numbers


def day_bars(runs: Iterable[Mapping[str, Any]], due: Iterable[float], begin: float, now: float) -> Markup:
    """The runs of a day on one line; `due` are times to come. `begin` is the day's first second."""
    shown = list(runs)
    parts = [_bar(run, begin, now) for run in shown] if len(shown) <= MOST_BARS else _dense(shown, begin, now)
    parts += [
        f'<circle class="v-due" cx="{(moment - begin) / DAY_S:.4%}" cy="12" r="2.5"></circle>'
        for moment in due
        if begin <= moment < begin + DAY_S
    ]
    if begin <= now < begin + DAY_S:
        place = f"{(now - begin) / DAY_S:.4%}"
        parts.append(f'<line class="v-now" x1="{place}" x2="{place}" y1="0" y2="24"/>')
    return Markup(f'<svg height="24" aria-hidden="true">{"".join(parts)}</svg>')  # noqa: S704 - numbers, and what was escaped


def _dense(runs: Iterable[Mapping[str, Any]], begin: float, now: float) -> list[str]:
    """Many runs of one line: a path a tone, with no links, which the list below has."""
    paths: dict[str, list[str]] = {}
    for run in runs:
        started, ended = unix(run.get("started_at")), unix(run.get("ended_at"))
        left = max(begin, started if started is not None else ended if ended is not None else now)
        right = min(begin + DAY_S, ended if ended is not None else now)
        kind = _KINDS_OF_BARS.get(tone(str(run.get("outcome") or "running")), "v-off")
        wide = max(2, int((right - left) / DAY_S * 1440))
        paths.setdefault(kind, []).append(f"M{(left - begin) / DAY_S * 1440:.0f} 4h{wide}v16h-{wide}z")
    drawn = "".join(f'<path class="{kind}" d="{"".join(parts)}"/>' for kind, parts in paths.items())
    return [f'<svg width="100%" height="24" viewBox="0 0 1440 24" preserveAspectRatio="none">{drawn}</svg>']


_KINDS_OF_BARS: Final = {"bad": "v-bad", "run": "v-run", "ok": "past", "warn": "v-warn"}


def _bar(run: Mapping[str, Any], begin: float, now: float) -> str:
    started = unix(run.get("started_at"))
    ended = unix(run.get("ended_at"))
    left = max(begin, started if started is not None else ended if ended is not None else now)
    right = min(begin + DAY_S, ended if ended is not None else now)
    if right < begin or left >= begin + DAY_S:
        return ""
    x, width = (left - begin) / DAY_S * 100, max(0.12, (right - left) / DAY_S * 100)
    state = str(run.get("outcome") or "running")
    title = escape(
        f"{run.get('job') or '?'}: {label(state)}, {datetime.fromtimestamp(left, UTC):%H:%M} to "
        + (f"{datetime.fromtimestamp(right, UTC):%H:%M}" if ended is not None else "now")
    )
    kind = _KINDS_OF_BARS.get(tone(state), "v-off")
    box = 'y="2" height="20"' if kind == "v-bad" else 'y="4" height="16"'
    cut = (
        f'<svg x="{x + width / 2:.2f}%" y="12" overflow="visible"><path class="v-cut" d="{_CROSS}"/></svg>'
        if kind == "v-bad" and width > 0.6
        else ""
    )
    href = escape(f"/runs/{quote(str(run['run_id']), safe='')}")
    return (
        f'<a href="{href}" tabindex="-1"><title>{title}</title>'
        f'<rect class="{kind}" x="{x:.2f}%" width="{width:.2f}%" {box} rx="1.5"/>{cut}</a>'
    )
