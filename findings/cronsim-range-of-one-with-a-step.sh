#!/bin/sh
# To cronsim 2.8, which says that it follows Debian's cron, `28-28/2` is `28/2`: a range of one value with a step is that
# value and all that follow it by the step. To Debian's cron (3.0pl1, entry.c) it is the 28th alone, and `28/2` an error:
# a step needs a range. Such fields come out of programs that write a range whose ends happen to be the same.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q 'cronsim==2.8' 2>/dev/null
"$folder/venv/bin/python" - <<'PYTHON'
import sys
from datetime import datetime
from importlib.metadata import version
from itertools import islice

from cronsim import CronSim

print("cronsim", version("cronsim"))
given = {
    field: [f"{due:%m-%d}" for due in islice(CronSim(f"0 3 {field} 10 *", datetime(2026, 1, 1)), 2)]
    for field in ("28-28", "28-28/2", "28/2", "28-29/2")
}
for field, days in given.items():
    print(f"0 3 {field} 10 *".ljust(18), days)
print("Debian's cron:     10-28 alone for the first, second and fourth, and no crontab with the third")
if (given["28-28/2"], given["28/2"]) != (["10-28", "10-30"], ["10-28", "10-30"]):
    sys.exit("changed: a range of one value with a step is another now")
PYTHON
