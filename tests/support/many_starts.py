"""Direct starts and nothing else: what is held before and after them.

python tests/support/many_starts.py COUNT      prints descriptors, children and resident KiB, twice, as JSON
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from runner.supervisor.starting import command, direct


def start(starter: direct.Direct, output: int, number: int) -> None:
    made = command.Command(("/dev/null" if number % 10 == 0 else "true",), "/", output)
    made.env = {"PATH": "/usr/bin:/bin"}
    if os.geteuid() == 0:
        made.uid = made.gid = 65534
    try:
        pid = starter.start(made)
    except command.SpawnError:
        return
    if pid is not None:
        os.waitpid(pid, 0)


def holdings() -> tuple[int, int, int]:
    status = Path("/proc/self/status").read_text()
    resident = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return len(list(Path("/proc/self/fd").iterdir())), len(children), int(resident)


def main() -> None:
    starter, output = direct.Direct(), os.open("/dev/null", os.O_WRONLY)
    found = []
    count = int(sys.argv[1])
    for some in (500 + count // 4, count):  # what is made once is made by the first
        for number in range(some):
            start(starter, output, number)
        found.append(holdings())
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
