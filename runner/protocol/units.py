"""Durations, sizes and instants, as people write them and as they are shown.

Durations are seconds (float), sizes bytes (int, powers of 1024), instants unix seconds (float).
Every parser raises ValueError with a text that says what was wrong and what is right.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final

from runner.protocol.suggest import shown

LONGEST: Final = 36_500 * 86_400.0  # a hundred years: beyond any job, within every timer
LARGEST: Final = 2**63 - 1

_DURATION_HELP: Final = 'give seconds or text such as "90s", "15m", "1h30m" or "2d"'
_SIZE_HELP: Final = 'give bytes or text such as "512M", "1G" or "1.5GiB"'
_TIME_HELP: Final = 'give RFC 3339 such as "2026-01-31T06:00:00Z"'

_NUMBER: Final = r"[0-9]{1,18}(?:\.[0-9]{1,18})?"
_PLAIN: Final = re.compile(_NUMBER)
_DURATION: Final = re.compile(
    rf"(?:({_NUMBER})d)?\s*(?:({_NUMBER})h)?\s*(?:({_NUMBER})m)?\s*(?:({_NUMBER})s)?\s*(?:({_NUMBER})ms)?"
)
_SECONDS: Final = (86_400.0, 3_600.0, 60.0, 1.0, 0.001)
_SIZE: Final = re.compile(rf"({_NUMBER})\s*(?:([KMGTP])(?:I?B)?|B)?", re.IGNORECASE)
_SCALE: Final = {letter: 1024**power for power, letter in enumerate(("", "K", "M", "G", "T", "P"))}
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,18}))?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_LAST_SECOND: Final = 253_402_300_799.0  # 9999-12-31T23:59:59Z


def parse_duration(value: object) -> float:
    """Seconds of a number or of text such as "90s", "15m", "1h30m", "2d"; plain digits are seconds."""
    seconds: float | None = None
    if isinstance(value, str):
        seconds = _duration_of(value.strip())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = _finite(value)
    if seconds is None:
        raise ValueError(f"{shown(value)} is not a duration; {_DURATION_HELP}")
    if seconds < 0:
        raise ValueError(f"{shown(value)} is negative; {_DURATION_HELP}")
    if seconds > LONGEST:
        raise ValueError(f"{shown(value)} is longer than the longest duration, 36500d")
    return seconds


def parse_since(text: str, now: float) -> float:
    """Unix seconds of so long ago, as a duration says it, or of a time."""
    try:
        return now - parse_duration(text)
    except ValueError:
        return parse_time(text)


def _duration_of(text: str) -> float | None:
    if _PLAIN.fullmatch(text):
        return float(text)
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        return None
    return math.fsum(float(part) * scale for part, scale in zip(match.groups(), _SECONDS, strict=True) if part)


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:
        return -1.0 if value < 0 else LONGEST * 2  # as wrong as the number that float cannot hold
    return number if math.isfinite(number) else None


def parse_size(value: object) -> int:
    """Bytes of a whole number or of text such as "512M", "1G", "1.5GiB"; fractions are rounded down."""
    size: int | None = None
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match:
            scale = _SCALE[(match[2] or "").upper()]
            size = int(match[1]) * scale if match[1].isdigit() else int(float(match[1]) * scale)
            if scale == 1 and "." in match[1]:
                size = None
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    elif isinstance(value, float) and value.is_integer():
        size = int(value)
    if size is None:
        raise ValueError(f"{shown(value)} is not a size; {_SIZE_HELP}")
    if size < 0:
        raise ValueError(f"{shown(value)} is negative; {_SIZE_HELP}")
    if size > LARGEST:
        raise ValueError(f"{shown(value)} is larger than any memory or disk; {_SIZE_HELP}")
    return size


def parse_time(value: object) -> float:
    """Unix seconds of an RFC 3339 date and time with any offset, from 1970 to 9999."""
    text = value.strip() if isinstance(value, str) else ""
    match = _TIME.fullmatch(text)
    if match is None and _TIME.fullmatch(text + "Z"):
        raise ValueError(f"{shown(value)} has no offset from UTC; end it with Z or an offset such as +02:00")
    if match is None:
        raise ValueError(f"{shown(value)} is not a time; {_TIME_HELP}")
    try:
        unix = _unix(match)
    except ValueError as error:
        raise ValueError(f"{shown(value)} is not a time: {error}; {_TIME_HELP}") from None
    if not 0 <= unix <= _LAST_SECOND:
        raise ValueError(f"{shown(value)} is outside the years 1970 to 9999; {_TIME_HELP}")
    return unix


def _unix(match: re.Match[str]) -> float:
    year, month, day, hour, minute, second = (int(part) for part in match.group(1, 2, 3, 4, 5, 6))
    # RFC 3339 knows leap seconds, unix time does not: 23:59:60 is the first second of the next day.
    leap = second == 60
    offset = timedelta()
    if match[9]:
        hours, minutes = int(match[10]), int(match[11])
        if hours > 23 or minutes > 59:
            raise ValueError("the offset must be within 23:59")
        offset = timedelta(hours=hours, minutes=minutes) * (-1 if match[9] == "-" else 1)
    whole = datetime(year, month, day, hour, minute, 59 if leap else second, tzinfo=timezone(offset)).timestamp()
    return whole + leap + (float(f"0.{match[7]}") if match[7] else 0.0)


def format_duration(seconds: float) -> str:
    """Seconds as "10m", "1h30m", "1.5s": rounded to milliseconds, what is zero left out."""
    whole, milliseconds = divmod(round(seconds * 1000), 1000)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    day, hour = divmod(hours, 24)
    text = "".join(f"{n}{unit}" for n, unit in ((day, "d"), (hour, "h"), (minute, "m")) if n)
    if milliseconds:
        return f"{text}{second}.{milliseconds:03d}".rstrip("0") + "s"
    return f"{text}{second}s" if second or not text else text


def format_size(size: int) -> str:
    """Bytes as "512M", "1.5G", "100B": at most one digit after the point."""
    value, letter = float(size), "B"
    for larger in "KMGTP":
        if round(value, 1) < 1024:
            break
        value, letter = value / 1024, larger
    return f"{value:.1f}".removesuffix(".0") + letter


def format_time(unix: float) -> str:
    """Unix seconds as RFC 3339 in UTC with six digits and Z."""
    second = math.floor(unix)
    more, microseconds = divmod(round((unix - second) * 1_000_000), 1_000_000)
    return f"{_second(second + more)}.{microseconds:06d}Z"


def time_of(unix: float | None) -> str | None:
    """The same of an instant that may not be known; None then."""
    return None if unix is None else format_time(unix)


@lru_cache(maxsize=64)
def _second(unix: int) -> str:
    return datetime.fromtimestamp(unix, UTC).replace(tzinfo=None).isoformat()
