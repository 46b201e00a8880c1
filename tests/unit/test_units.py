from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.protocol.suggest import shown, unknown
from runner.protocol.units import (
    LARGEST,
    LONGEST,
    format_duration,
    format_size,
    format_time,
    parse_duration,
    parse_size,
    parse_time,
)

# A busy machine is slow, not wrong.
PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (90, 90.0),
        (1.5, 1.5),
        (0, 0.0),
        ("90s", 90.0),
        ("90", 90.0),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("1h 30m", 5400.0),
        ("2d", 172800.0),
        ("1.5h", 5400.0),
        ("1d2h3m4s", 93784.0),
        ("250ms", 0.25),
        (" 10s ", 10.0),
        ("36500d", LONGEST),
    ],
)
def test_duration(value: object, seconds: float) -> None:
    assert parse_duration(value) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        [],
        {},
        "",
        " ",
        "soon",
        "-5s",
        -1,
        -0.1,
        float("nan"),
        float("inf"),
        -float("inf"),
        10**400,
        -(10**400),
        "30m1h",
        "1h1h",
        "5M",
        "1e3",
        "36501d",
        "9" * 100,
        "٣s",
        "1_0s",
    ],
    ids=shown,
)
def test_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"duration|negative|seconds"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (1024.0, 1024),
        ("512M", 512 << 20),
        ("512m", 512 << 20),
        ("512 MB", 512 << 20),
        ("1G", 1 << 30),
        ("1.5GiB", 3 << 29),
        ("64k", 65536),
        ("100", 100),
        ("100B", 100),
        ("2T", 2 << 40),
        (LARGEST, LARGEST),
    ],
)
def test_size(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize(
    "value",
    [True, None, [], "", "lots", "1.5", "1.5B", 1.5, -1, "-1G", float("nan"), float("inf"), 1e300, 2**63, "9" * 30],
    ids=shown,
)
def test_no_size(value: object) -> None:
    with pytest.raises(ValueError, match=r"size|negative|larger"):
        parse_size(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (600, "10m"),
        (5400, "1h30m"),
        (1.5, "1.5s"),
        (90000, "1d1h"),
        (60.25, "1m0.25s"),
        (0.001, "0.001s"),
        (59.9999, "1m"),
        (100, "1m40s"),
    ],
)
def test_format_duration(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1K"),
        (512 << 20, "512M"),
        (3 << 29, "1.5G"),
        ((1 << 20) - 1, "1M"),
        (5 << 60, "5120P"),
    ],
)
def test_format_size(size: int, text: str) -> None:
    assert format_size(size) == text


@PATIENT
@given(st.floats(0, LONGEST))
def test_shown_durations_can_be_typed_in(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=0.001)


@PATIENT
@given(st.integers(0, 2**62))
def test_shown_sizes_can_be_typed_in(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.06)


@PATIENT
@given(st.text(max_size=40) | st.integers() | st.floats() | st.none() | st.booleans())
def test_only_value_errors(value: object) -> None:
    for parse in (parse_duration, parse_size, parse_time):
        said = ""
        try:
            assert parse(value) >= 0
        except ValueError as error:
            said = str(error)
        assert said.isprintable()


@pytest.mark.parametrize(
    ("text", "unix"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2026-01-01T00:00:00Z", 1767225600.0),
        ("2026-01-01T01:30:00+01:30", 1767225600.0),
        ("2025-12-31T19:00:00-05:00", 1767225600.0),
        ("2026-01-01t00:00:00.25z", 1767225600.25),
        ("2026-01-01 00:00:00.123456789Z", 1767225600.123456789),
        ("2016-12-31T23:59:60Z", 1483228800.0),
        ("9999-12-31T23:59:59Z", 253402300799.0),
    ],
)
def test_time(text: str, unix: float) -> None:
    assert parse_time(text) == pytest.approx(unix, abs=1e-6)


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("2026-01-01T00:00:00", "has no offset from UTC"),
        ("2026-02-30T00:00:00Z", "day"),
        ("2026-01-01T25:00:00Z", "hour"),
        ("2026-01-01T00:00:00+24:00", "offset"),
        ("0001-01-01T00:00:00Z", "1970"),
        ("9999-12-31T23:59:59-10:00", "1970 to 9999"),
        ("2026-01-01", "RFC 3339"),
        ("", "RFC 3339"),
        (1767225600, "RFC 3339"),
        (None, "null is not a time"),
    ],
)
def test_no_time(value: object, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_time(value)


@PATIENT
@given(st.datetimes(datetime(1970, 1, 2), datetime(2200, 1, 1)))  # noqa: DTZ001 -- hypothesis wants naive bounds
def test_times_survive_a_round_trip(moment: datetime) -> None:
    unix = moment.replace(tzinfo=UTC).timestamp()
    shown_time = format_time(unix)
    assert len(shown_time) == len("2026-01-01T00:00:00.000000Z")
    assert parse_time(shown_time) == pytest.approx(unix, abs=2e-6)


@PATIENT
@given(st.floats(-1e9, 1e11))
def test_times_are_rounded_as_datetime_does(unix: float) -> None:
    assert format_time(unix) == datetime.fromtimestamp(unix, UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def test_suggestion() -> None:
    assert unknown("field", "timout", ["timeout", "grace"]) == 'unknown field "timout", did you mean "timeout"?'
    assert unknown("field", "Timeout", ["timeout"]) == 'unknown field "Timeout", did you mean "timeout"?'
    assert unknown("key", "zzz", ["timeout"]) == 'unknown key "zzz"'
    assert unknown("key", "x" * 1_000_000, ["timeout"]).endswith('..."')


@PATIENT
@given(st.text(st.characters(), max_size=200) | st.integers() | st.floats() | st.booleans() | st.none())
def test_shown_is_one_short_printable_line(value: object) -> None:
    text = shown(value)
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 1100
