"""The processes that outlive whoever started them: finding and ending a detached supervisor."""

from __future__ import annotations

import os
import select
import signal
import socket
import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

_TERM_WITHIN_S: Final = 5.0


def supervisor_pid(runtime: Path) -> int | None:
    """The process that listens on the runtime directory's supervisor socket; None where nobody does.

    SO_PEERCRED of a connected stream socket is the listener's, as it was at listen(2) (unix(7)).
    """
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(runtime / "supervisor.sock"))
        except OSError:
            return None
        pid, _uid, _gid = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)


def end_supervisor(runtime: Path) -> None:
    """SIGTERM, which stops its jobs by their own stop signal and grace, and SIGKILL to what ignores it."""
    pid = supervisor_pid(runtime)
    if pid is None:
        return
    with suppress(ProcessLookupError):
        # A pidfd names this process and no later one with the same number (pidfd_open(2)).
        handle = os.pidfd_open(pid)
        try:
            for number in (signal.SIGTERM, signal.SIGKILL):
                signal.pidfd_send_signal(handle, number)
                if select.select([handle], [], [], _TERM_WITHIN_S)[0]:
                    return
        finally:
            os.close(handle)


def processes_with_mark(mark: str) -> int:
    """How many processes have ``NAME=value`` in their environment, of those that we may look at."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                found += mark.encode() in (entry / "environ").read_bytes().split(b"\0")
    return found
