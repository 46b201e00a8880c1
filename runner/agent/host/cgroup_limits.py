"""What a control group allows: the limits of the container, or of the unit, that the jobs run in.

Both versions, alone or mixed. A limit may stand at any level of the tree, so the way up to the mount is walked.
Facts from https://docs.kernel.org/admin-guide/cgroup-v2.html and …/cgroup-v1/memory.html, cgroups(7), proc(5).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

# Version 1 says "no limit" with the largest number of whole pages that fits into 63 bits.
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class CpuLimit:
    """`cores` allowed, and the seconds of cpu time that all in the limited group have used so far."""

    cores: float
    used_s: float


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """Bytes: allowed, and used by all in the limited group without the cache that the kernel gives back at need."""

    allowed: int
    used: int

    @property
    def available(self) -> int:
        return max(0, self.allowed - self.used)


class Cgroups:
    """The groups of one process. `root` is where the file system begins, for tests."""

    def __init__(self, pid: int | str = "self", root: Path = Path("/")) -> None:
        self._root = root
        mounts = list(_mounts(root))
        where = _read(root / f"proc/{pid}/cgroup") or _unit_above(_read(root / "proc/self/cgroup"))
        self._unified: list[Path] = []
        self._memory: list[Path] = []
        self._cpu: list[Path] = []
        self._account: list[Path] = []
        for line in where.splitlines():
            _, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            for mount in mounts:
                levels = list(mount.levels(path))
                if not controllers and mount.unified:
                    self._unified = levels
                for name, found in (("memory", "_memory"), ("cpu", "_cpu"), ("cpuacct", "_account")):
                    if name in controllers.split(",") and name in mount.controllers:
                        setattr(self, found, levels)

    def cpu(self) -> CpuLimit | None:
        """The tightest limit of cpu time; None where there is none."""
        found = [
            (int(quota) / int(period), level)
            for level in self._unified
            for quota, period in [_pair(_read(level / "cpu.max"))]
            if quota.isdigit() and period.isdigit()
        ]
        limits = [CpuLimit(cores, _table(level / "cpu.stat").get("usage_usec", 0) / 1e6) for cores, level in found]
        for depth, level in enumerate(self._cpu):
            quota, period = _number(level / "cpu.cfs_quota_us"), _number(level / "cpu.cfs_period_us")
            if quota is not None and quota > 0 and period:
                used = _number(self._account[depth] / "cpuacct.usage") if depth < len(self._account) else None
                limits.append(CpuLimit(quota / period, (used or 0) / 1e9))
        return min(limits, key=lambda limit: limit.cores, default=None)

    def memory(self) -> list[MemoryLimit]:
        """Every limit of memory that applies; none where there is none."""
        limits = []
        for level in self._unified:
            allowed, used = _number(level / "memory.max"), _number(level / "memory.current")
            if allowed is not None:
                cache = _table(level / "memory.stat").get("inactive_file", 0)
                limits.append(MemoryLimit(allowed, max(0, (used or 0) - cache)))
        for level in self._memory:
            allowed, used = _number(level / "memory.limit_in_bytes"), _number(level / "memory.usage_in_bytes")
            if allowed is not None and allowed < _NO_LIMIT:
                cache = _table(level / "memory.stat").get("total_inactive_file", 0)
                limits.append(MemoryLimit(allowed, max(0, (used or 0) - cache)))
        return limits


@dataclass(frozen=True, slots=True)
class _Mount:
    """One line of mountinfo: which part of the hierarchy is seen here."""

    part: str
    point: Path
    unified: bool
    controllers: frozenset[str]

    def levels(self, path: str) -> Iterator[Path]:
        """The group at `path` and all above it, as far as they are to be seen here."""
        part = self.part.rstrip("/")
        # In a container without its own namespace the path is the host's, and the mount shows its end only.
        below = path[len(part) :] if path == part or path.startswith(f"{part}/") else ""
        level = self.point / below.strip("/")
        if not level.is_dir():
            level = self.point
        yield level
        while level != self.point:
            level = level.parent
            yield level


def _mounts(root: Path) -> Iterator[_Mount]:
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) > 4 and len(kind) > 2 and kind[0] in ("cgroup", "cgroup2"):
            point = root / fields[4].lstrip("/")
            yield _Mount(fields[3], point, kind[0] == "cgroup2", frozenset(kind[2].split(",")))


def _unit_above(where: str) -> str:
    """For want of the jobs' own groups, ours without the unit of the agent alone: its limits are not the jobs'."""
    lines = []
    for line in where.splitlines():
        parent, _, last = line.rpartition("/")
        lines.append((parent if parent[-1:] != ":" else f"{parent}/") if last.endswith(".service") else line)
    return "\n".join(lines)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _pair(text: str) -> tuple[str, str]:
    words = text.split()
    return (words[0], words[1]) if len(words) == 2 else ("", "")


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.lstrip("-").isdigit() else None


def _table(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {words[0]: int(words[1]) for words in pairs if len(words) == 2 and words[1].isdigit()}
