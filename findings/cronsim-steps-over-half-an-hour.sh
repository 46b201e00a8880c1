#!/bin/sh
# cronsim 2.8 says that it follows Debian's cron over changes of the clock. It does where a clock changes by whole hours
# behind midnight, which is what its tests try. Where the change is half an hour (Australia/Lord_Howe) a job of every
# hour loses a run on each of the two days; where midnight is left out (Asia/Beirut) a job at minutes of the first hour
# loses its day's runs, and one of an hour that does not exist fires all the same. It advances by 3,600 s, and
# builds local times without asking whether they exist. Debian's cron starts what the clock shows, minute by minute.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'cronsim==2.8' 'tzdata==2026.3' 2>/dev/null ||
    "$folder/venv/bin/pip" install -q 'cronsim==2.8' 'tzdata==2025.2'
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

CASES = (
    # expression, zone, local beginning, hours looked at
    ("30 * * * *", "Australia/Lord_Howe", "2027-04-04T00:00", 4),
    ("*/30 1 * * 0", "Asia/Beirut", "2027-03-27T22:00", 6),
    ("*/30 0 * * 0", "Asia/Beirut", "2027-03-27T22:00", 6),
)


def matching(expression, zone, start, hours):
    """Every minute at which the clock on the wall shows a matching time."""
    minute, hour, *_ = expression.split()
    minutes = {0, 30} if minute == "*/30" else {30}
    wanted = set(range(24)) if hour == "*" else {int(hour)}
    for count in range(1, hours * 60 + 1):
        moment = start + timedelta(minutes=count)
        there = moment.astimezone(zone)
        if there.minute in minutes and there.hour in wanted:
            yield f"{moment:%H:%M}Z"


print("cronsim", version("cronsim"))
differ = 0
for expression, name, begin, hours in CASES:
    zone = ZoneInfo(name)
    local = datetime.fromisoformat(begin).replace(tzinfo=zone)
    start = local.astimezone(UTC)
    end = start + timedelta(hours=hours)
    found = takewhile(lambda due: due.astimezone(UTC) <= end, CronSim(expression, local))
    given = [f"{due.astimezone(UTC):%H:%M}Z" for due in found]
    shown = list(matching(expression, zone, start, hours))
    differ += given != shown
    print(f"{expression:14} {name:20} cronsim {given}\n{'':35} the clock shows it at {shown}")
if differ != len(CASES):
    sys.exit(f"changed: {differ} of {len(CASES)} cases differ now")
PYTHON
