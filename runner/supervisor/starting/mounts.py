"""Which file systems may hang: to look at a path on one of them may take for ever, and the loop must not."""

from __future__ import annotations

import os
import select

from runner.supervisor.failing import persistently
from runner.supervisor.placing.delegation import unescaped

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Iterable

    from runner.supervisor.loop import Loop

_REMOTE = frozenset(
    {"9p", "afs", "autofs", "beegfs", "ceph", "cifs", "coda", "gfs2", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2",
     "smb3", "smbfs"}
)  # fmt: skip


def remote(mountinfo: str) -> tuple[str, ...]:
    """The mount points of network and user-space file systems in the text of /proc/self/mountinfo."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        if kind in _REMOTE or kind.startswith("fuse"):
            found.append(unescaped(before.split()[4]))
    return tuple(found)


class Mounts:
    """Kept up to date by the kernel's word: mountinfo polls as an error when it has changed (proc(5))."""

    def __init__(self, loop: Loop) -> None:
        self._file = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
        self._remote: tuple[str, ...] = ()
        self._read()
        # The kernel says it once for each change.
        loop.watch(self._file, select.EPOLLPRI | select.EPOLLERR, lambda _events: persistently(self._read))

    def _read(self) -> None:
        os.lseek(self._file, 0, os.SEEK_SET)
        data = b""
        while piece := os.read(self._file, 65536):
            data += piece
        self._remote = remote(data.decode("utf-8", "surrogateescape"))

    def may_hang(self, paths: Iterable[str]) -> bool:
        """Whether one of these absolute paths is on such a file system, as far as its name tells."""
        if not self._remote:
            return False
        return any(
            path == point or path.startswith(f"{point.rstrip('/')}/") for path in paths for point in self._remote
        )
