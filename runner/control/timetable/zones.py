"""Timezones by the newest tz database there is, and where their clocks change. Pure but for reading the database.

`zoneinfo` prefers the system's files to the tzdata package even where the package knows of newer laws (PEP 615,
"Sources for time zone data"), so that a host and a function beside it disagree about a zone whose law has changed.
Here the newer of the two counts, whichever it is.
"""

from __future__ import annotations

import functools
import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DAY_S: Final = 86_400
_VERSION: Final = re.compile(r"(?:# version |# redo version )?(\d{4}[a-z]{1,2})\b")
_NAME: Final = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*")
LAST_MOMENT: Final = datetime(9999, 12, 30, tzinfo=UTC).timestamp()
"""The last moment (unix seconds) that every zone can show."""


@dataclass(frozen=True, slots=True)
class Database:
    """A tz database: its version, such as `2026b` ("" where it does not say), and where it is ("" for zoneinfo's own
    search path)."""

    version: str
    path: str
    name: str

    def __str__(self) -> str:
        return f"tz database {self.version or 'of an unknown version'} of {self.name}"


@dataclass(frozen=True, slots=True)
class Change:
    """At ``at`` (unix seconds) the clock goes from ``before`` to ``after``, both seconds east of UTC. A change by
    nothing is only a place where the search for changes goes on."""

    at: int
    before: int
    after: int


def newest(system: Database, package: Database | None) -> Database:
    """The one that counts: the package's where it is newer, or the system's does not say what it is."""
    if package is not None and _age(package.version) > _age(system.version):
        return package
    return system


@functools.lru_cache(maxsize=1)
def database() -> Database:
    """The tz database that counts in this process."""
    return newest(_of_system(), _of_package())


@functools.lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """A zone of the newest database; ZoneInfoNotFoundError, ValueError or OSError where there is none of the name."""
    path = database().path
    if not path:
        return ZoneInfo(name)
    if not _NAME.fullmatch(name):
        raise ZoneInfoNotFoundError(name)
    try:
        with Path(path, name).open("rb") as file:
            return ZoneInfo.from_file(file, key=name)
    except FileNotFoundError:  # a zone that the newer database has no more, or never had
        return ZoneInfo(name)


def changes(timezone: ZoneInfo, after: float) -> Iterator[Change]:
    """Where the clock changes after a moment, in order, until `LAST_MOMENT`; with a change by nothing at each end of
    a year, so that nobody pays for years that are not looked at."""
    year = datetime.fromtimestamp(after, UTC).year
    while year < 9999:
        for change in _changes_of(timezone, year):
            if change.at > after:
                yield change
        year += 1


@functools.lru_cache(maxsize=4096)
def _changes_of(timezone: ZoneInfo, year: int) -> tuple[Change, ...]:
    """The changes of a year of UTC, and its end. A clock that changes twice within a day and comes back is not seen;
    the database has no such day since 1970."""
    start = int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    end = int(datetime(year + 1, 1, 1, tzinfo=UTC).timestamp())
    found: list[Change] = []
    moment, before = start, offset_at(timezone, start)
    while moment < end:
        later = min(moment + _DAY_S, end)
        after = offset_at(timezone, later)
        if after != before:
            found.append(Change(_first_with(timezone, moment, later, after), before, after))
        moment, before = later, after
    if not found or found[-1].at != end:
        found.append(Change(end, before, before))
    return tuple(found)


def _first_with(timezone: ZoneInfo, low: int, high: int, offset: int) -> int:
    """The first moment in (low, high] at which the clock shows ``offset``."""
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if offset_at(timezone, middle) == offset else (middle, high)
    return high


def offset_at(timezone: ZoneInfo, moment: float) -> int:
    """Seconds that the clock there is ahead of UTC."""
    ahead = datetime.fromtimestamp(moment, UTC).astimezone(timezone).utcoffset()
    return int(ahead.total_seconds()) if ahead is not None else 0


def _of_system() -> Database:
    for directory in zoneinfo.TZPATH:
        # tzdata.zi says it in its first line; Debian, Fedora and Alpine ship it, some images a +VERSION instead.
        for name in ("tzdata.zi", "+VERSION"):
            try:
                with Path(directory, name).open(encoding="ascii", errors="replace") as file:
                    match = _VERSION.match(file.readline(100))
            except OSError:
                continue
            if match is not None:
                return Database(match[1], "", directory)
    return Database("", "", "the system")


def _of_package() -> Database | None:
    try:
        import tzdata  # noqa: PLC0415 - of the control extra: a host without it has the system's
    except ImportError:
        return None
    path = Path(tzdata.__file__).parent / "zoneinfo"
    return Database(tzdata.IANA_VERSION, str(path), "the tzdata package") if path.is_dir() else None


def _age(version: str) -> tuple[str, int, str]:
    """2025b is before 2026a, and 2026z before 2026za."""
    return version[:4], len(version), version
