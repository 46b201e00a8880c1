"""When a job runs, in words, for `jobs next`, `jobs show` and the page. Pure.

"03:07 Europe/Berlin on working days but not on bank-holidays, after extract and load": one sentence of schedule, zone,
the days of calendars, splay, and the jobs that it comes after.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from runner.control.chains import chain
from runner.control.timetable.aws_cron import AwsCron
from runner.control.timetable.cron import Cron
from runner.control.timetable.schedule import Rate
from runner.protocol.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.control.timetable.schedule import Schedule
    from runner.control.timetable.timing import Timing

_WORKING: Final = re.compile(r"on Monday(?: through Friday|, Tuesday, Wednesday, Thursday,? and Friday)")
_AT: Final = re.compile(r"At ((?:\d\d:\d\d)(?:(?:, | and |, and )\d\d:\d\d)*)(?: (.*))?")


def in_words(
    job: str,
    schedule: Schedule | None,
    timing: Timing,
    *,
    after: Sequence[str] = (),
    after_when: str = "success",
    by_aws: bool = False,
) -> str:
    """The sentence; "" of a job that nothing starts by itself. ``by_aws``: its splay is a window of EventBridge
    Scheduler's."""
    parts = [] if schedule is None else [f"{_times(schedule, timing)}{_late(job, timing, by_aws=by_aws)}"]
    if after:
        parts.append(f"after {listed(after, 'and')}" if after_when == "success" else chain.words(after, after_when))
    return ", ".join(parts)


def _times(schedule: Schedule, timing: Timing) -> str:
    said = _explained(schedule)
    match = _AT.fullmatch(said)
    zoned = "" if isinstance(schedule.rule, Rate) else schedule.timezone
    if match is None:
        text, days = f"{said[:1].lower()}{said[1:]}{f', {zoned}' if zoned else ''}", ""
    else:
        days = _WORKING.sub("on working days", match[2] or "")
        text = f"{match[1]} {zoned}"
    if timing.only:
        days = "" if days in ("", "every day") else f"{days}, and only"
        days = f"{days} on {listed(timing.only, 'or')}".strip()
    if timing.but:
        days = f"{days} but not on {listed(timing.but, 'or')}".strip()
    return f"{text} {days}".strip()


def _explained(schedule: Schedule) -> str:
    rule = schedule.rule
    if isinstance(rule, AwsCron) and rule.years is None and rule.weekday_near is None:
        return Cron(rule.fields).words()
    return rule.words()


def _late(job: str, timing: Timing, *, by_aws: bool) -> str:
    if not timing.splay:
        return ""
    splay = format_duration(timing.splay)
    if by_aws:
        return f", within the {splay} that follow"
    return f", {format_duration(timing.delay(job))} later by its splay of {splay}"


def listed(names: Sequence[str], word: str) -> str:
    """Names as people list them: `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} {word} {names[-1]}"
