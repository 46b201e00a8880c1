"""Cron with five fields, as Debian's cron fires it. Pure.

cronsim reads the fields and walks the clock on the wall; what a change of that clock does is Debian's cron's, minute by
minute as its main loop has it (cron 3.0pl1, cron.c):

- A job with `*` at the beginning of its minute or hour follows the clock: it fires whenever the clock shows its time,
  twice in what comes twice, and not at what is left out.
- Any other job is due once on each day: what a change of less than three hours leaves out fires right after the change,
  once, and what comes twice fires the first time.
- A change of three hours and more is a new time, and nothing is caught up with.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from runner.control.timetable.zones import changes, offset_at
from runner.protocol.suggest import shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

_SMALL_S: Final = 5 * 60
"""A leap of the clock that is smaller is a minute that came late: every job runs for each of its minutes."""
_LARGE_S: Final = 3 * 3600
_MINUTES_PER_HOUR: Final = 60
_ONE: Final = re.compile(r"\b([0-9]+)-\1/[0-9]+\b")
"""A range of one value with a step: for cron that value, for cronsim all that follow it by the step."""
_SETTING: Final = re.compile(r"(?:CRON_)?TZ=(\S*)\s+(.*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Cron:
    """Five fields."""

    fields: str

    @property
    def follows_the_clock(self) -> bool:
        minute, hour, *_ = self.fields.split()
        return minute.startswith("*") or hour.startswith("*")

    def after(self, moment: float, zone: ZoneInfo) -> Iterator[float]:
        """The fire times (unix seconds) after a moment, in order."""
        last = moment
        for due in self._walked(moment, zone):
            if due > last:  # what is left out fires with what is due right after it: once
                last = due
                yield due

    def _walked(self, moment: float, zone: ZoneInfo) -> Iterator[float]:
        begin = moment
        if not self.follows_the_clock and offset_at(zone, moment) < offset_at(zone, moment - _LARGE_S):
            # Within what comes twice, or just behind it: which of it has fired already shows on the way there.
            begin = moment - _LARGE_S
        offset = offset_at(zone, begin)
        walk = _Walk(self.fields, begin + offset)
        for change in changes(zone, begin):
            while walk.at < change.at + change.before:
                yield walk.at - offset
                walk.step()
            leap = change.after - change.before
            if leap > 0:
                # At `change.at` the clock leaps from + before to + after.
                while walk.at < change.at + change.after:
                    if leap < _SMALL_S or (leap < _LARGE_S and not self.follows_the_clock):
                        yield float(change.at)
                    walk.step()
            elif leap < 0 and (self.follows_the_clock or -leap > _LARGE_S):
                walk = _Walk(self.fields, change.at + change.after - 1)
            offset = change.after
            if walk.over:
                return

    def words(self) -> str:
        """In English, such as "At 03:00 on Monday through Friday"."""
        from cronsim import CronSim  # noqa: PLC0415 - for those who look at a schedule

        return CronSim(_as_fired(self.fields), datetime(2000, 1, 1, tzinfo=UTC)).explain()


class _Walk:
    """The minutes that fields match on a clock that never changes. ``at``: seconds since 1970 as that clock shows them,
    infinite once there are no more."""

    def __init__(self, fields: str, after: float) -> None:
        from cronsim import CronSim  # noqa: PLC0415 - for those who look at a schedule

        self._times = CronSim(fields, _EPOCH + timedelta(seconds=after))
        self.at = 0.0
        self.step()

    @property
    def over(self) -> bool:
        return self.at == float("inf")

    def step(self) -> None:
        try:
            self.at = (next(self._times) - _EPOCH).total_seconds()
        except (StopIteration, OverflowError, ValueError):  # beyond the year 9999 there are no dates
            self.at = float("inf")


_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - of a clock on a wall


def parse_cron(said: str, right: str) -> Cron:
    """Five fields; ValueError says which one is wrong, and then what is ``right``."""
    from cronsim import CronSim, CronSimError  # noqa: PLC0415

    if "?" in said:
        raise ValueError(f'{shown(said)} has a "?", which belongs to six fields; give "*" instead, or cron(…)')
    try:
        CronSim(said, datetime(2000, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        wrong = str(error)[:1].lower() + str(error)[1:]
        raise ValueError(f"{shown(said)} is not a schedule: {wrong}; {right}") from None
    return Cron(_ONE.sub(r"\1", said))


def sets_timezone(said: str) -> str | None:
    """What is wrong where a line of a crontab brings its timezone along; None where it does not."""
    match = _SETTING.fullmatch(said)
    if match is None:
        return None
    fields = match[2] or "0 3 * * *"
    return f'{shown(said)} sets a timezone; give "{fields}" as the schedule, and timezone = "{match[1]}" beside it'


def has_seconds(said: str) -> str:
    """What is wrong with six fields of which none is "?"."""
    return (
        f'{shown(said)} has six fields, and none of the day fields is "?": if the first one is seconds, leave it out'
        f' ("{said.partition(" ")[2]}"), for nothing here is finer than a minute; AWS\'s six fields end with the year'
        ' and have "?" in one of the day fields'
    )


def _as_fired(fields: str) -> str:
    """The fields written so that what they are described by is what they fire by: a field that holds all its values
    says nothing, and where one of two day fields that are each enough holds all days, every day is one."""
    from cronsim import CronSim  # noqa: PLC0415

    parts = fields.split()
    walked = CronSim(fields, datetime(2000, 1, 1, tzinfo=UTC))
    full = (
        len(walked.minutes) == _MINUTES_PER_HOUR,
        len(walked.hours) == 24,
        walked.days >= set(range(1, 32)),
        len(walked.months) == 12,
        {number % 7 for number in walked.weekdays if isinstance(number, int)} == set(range(7)),
    )
    parts = ["*" if whole else part for part, whole in zip(parts, full, strict=True)]
    if not walked.day_and and (full[2] or full[4]):
        parts[2] = parts[4] = "*"
    return " ".join(parts)
