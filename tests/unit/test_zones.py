"""Which tz database counts, and where clocks change."""

from __future__ import annotations

import zoneinfo
from datetime import UTC, datetime
from pathlib import Path

import pytest

from runner.control.timetable import zones
from runner.control.timetable.zones import Change, Database, changes, newest, zone

SYSTEM = Database("2025b", "", "/usr/share/zoneinfo")


@pytest.mark.parametrize(
    ("system", "package", "counts"),
    [
        ("2025b", "2026a", "package"),
        ("2026a", "2025b", "system"),
        ("2026a", "2026a", "system"),
        ("2026z", "2026za", "package"),
        ("", "2026a", "package"),  # a system that does not say how old it is
        ("2026a", None, "system"),
    ],
)
def test_the_newer_database_counts(system: str, package: str | None, counts: str) -> None:
    given = None if package is None else Database(package, "/package", "package")
    assert newest(Database(system, "", "system"), given).name == counts


@pytest.mark.parametrize("first_line", ["# version 2019c\n", "# redo version 2019c\n", "2019c\n"])
def test_the_system_says_its_version(first_line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ("+VERSION" if first_line.startswith("2") else "tzdata.zi")).write_text(first_line)
    monkeypatch.setattr(zoneinfo, "TZPATH", (str(tmp_path),))
    zones.database.cache_clear()
    zones.zone.cache_clear()
    try:
        found = zones.database()
        assert found.name == "the tzdata package"  # which is a requirement of the jobs commands, and newer than 2019
        # Of a zone whose law has changed since, the package's word is taken though the system has the zone.
        (tmp_path / "America").mkdir()
        (tmp_path / "America" / "Vancouver").write_bytes(Path(found.path, "UTC").read_bytes())
        assert datetime(2026, 7, 1, tzinfo=zone("America/Vancouver")).utcoffset() != datetime.now(UTC).utcoffset()
        monkeypatch.setattr(zones, "_of_package", lambda: None)
        zones.database.cache_clear()
        assert zones.database() == Database("2019c", "", str(tmp_path))
    finally:
        monkeypatch.undo()
        zones.database.cache_clear()
        zones.zone.cache_clear()


@pytest.mark.parametrize(
    "name", ["../zoneinfo/UTC", "Europe", "Europe/", "/etc/passwd", "zone.tab", "leapseconds", "", "Nowhere/Atoll"]
)
def test_no_path_is_a_zone(name: str) -> None:
    with pytest.raises((zoneinfo.ZoneInfoNotFoundError, ValueError, OSError)):
        zone(name)


def test_changes_are_found_to_the_second() -> None:
    spring = int(datetime(2027, 3, 28, 1, tzinfo=UTC).timestamp())
    autumn = int(datetime(2027, 10, 31, 1, tzinfo=UTC).timestamp())
    coming = changes(zone("Europe/Berlin"), float(spring - 1))
    real = [change for change, _ in zip(coming, range(3), strict=False) if change.before != change.after]
    assert real == [Change(spring, 3600, 7200), Change(autumn, 7200, 3600)]
    assert next(changes(zone("Europe/Berlin"), float(spring))).at == autumn
