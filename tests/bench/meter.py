"""What processes have used of CPU and memory, as the kernel counts it (proc(5)): any tree, whoever its parent is."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_TICKS = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class _Stat:
    pid: int
    parent: int
    ticks: int  # user and system, its reaped children's too


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    # The name before it may hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    return _Stat(pid, int(fields[1]), sum(int(field) for field in fields[11:15]))


def tree(roots: Iterable[int]) -> list[int]:
    """The living processes among ``roots`` and everything below them."""
    stats = [stat for entry in _PROC.iterdir() if entry.name.isdecimal() and (stat := _stat(int(entry.name)))]
    children: dict[int, list[int]] = {}
    for stat in stats:
        children.setdefault(stat.parent, []).append(stat.pid)
    alive = {stat.pid for stat in stats}
    found = [pid for pid in dict.fromkeys(roots) if pid in alive]
    for pid in found:
        found += [child for child in children.get(pid, ()) if child not in found]
    return found


def cpu_s(roots: Iterable[int]) -> float:
    """CPU seconds of the whole tree with all that it has reaped: ended jobs count once they were waited for."""
    return sum(stat.ticks for pid in tree(roots) if (stat := _stat(pid))) / _TICKS


def fine_cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds of the living threads to the nanosecond: for what uses next to nothing. Children do not count."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            for task in (_PROC / str(pid) / "task").iterdir():
                with suppress(OSError):
                    total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def pss_mb(pids: Sequence[int]) -> float:
    """Proportional set size: memory that is shared counts to each of its users in part."""
    return sum(_kb(pid, "smaps_rollup", "Pss:") for pid in pids) / 1024


def peak_mb(pids: Sequence[int]) -> float:
    """The sum of each process's largest resident size; what they share counts once for each."""
    return sum(_kb(pid, "status", "VmHWM:") for pid in pids) / 1024


def forget_peak(pid: int) -> None:
    """Let `peak_mb` count from now on."""
    (_PROC / str(pid) / "clear_refs").write_text("5")


def _kb(pid: int, name: str, field: str) -> int:
    with suppress(OSError):
        for line in (_PROC / str(pid) / name).read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1])
    return 0
