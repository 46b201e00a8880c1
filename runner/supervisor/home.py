"""Where a supervisor is found: its socket and its lock, and what is done when somebody takes them away.

A runtime directory is cleared by a tidy script, by hand, or by systemd. The supervisor and its jobs live on, and must
be found again: otherwise the next agent starts a second supervisor, and every job a second time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket

from runner.supervisor import users
from runner.supervisor.placing import processes
from runner.supervisor.wire import close_all


class Home:
    """One supervisor for one path. ``lock`` is held until the process ends, also over self-replacement."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.lock = -1
        self._made = (0, 0)  # device and inode of our socket

    def take(self) -> bool:
        """The lock; False where another supervisor has it. Raises OSError."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        lock = os.open(self.path + ".lock", flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            close_all([lock])
            return False
        except OSError:
            close_all([lock])
            raise
        close_all([self.lock])
        self.lock = lock
        return True

    def take_over(self, lock: int) -> None:
        """The lock that a predecessor in this process has taken; its socket is ours where it is there."""
        self.lock = lock
        with contextlib.suppress(OSError):
            self._note()

    def listen(self) -> socket.socket:
        """A listening socket in its place. Raises OSError."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            self._bind(listener)
        except BaseException:
            listener.close()
            raise
        return listener

    def _bind(self, listener: socket.socket) -> None:
        made = self.path + ".new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)  # noqa: PTH108 - pathlib would cost most of a megabyte
        before = os.umask(0o117)
        try:
            listener.bind(made)
        finally:
            os.umask(before)
        gid = users.agent_gid()
        if os.geteuid() == 0 and gid is not None:
            os.chown(made, 0, gid)
        listener.listen(64)
        # We hold the lock: whoever made the old one is gone. The path never names a socket that does not listen.
        os.rename(made, self.path)  # noqa: PTH104 - as above
        self._note()

    def _note(self) -> None:
        found = os.stat(self.path)  # noqa: PTH116 - as above
        self._made = found.st_dev, found.st_ino

    def lost(self) -> bool:
        """Whether our socket is not in its place any more."""
        try:
            found = os.stat(self.path)  # noqa: PTH116 - as above
        except (FileNotFoundError, NotADirectoryError):
            return True
        except OSError:  # it cannot be known at this moment
            return False
        return (found.st_dev, found.st_ino) != self._made

    def make_again(self, identity: str) -> socket.socket | None:
        """Directory, lock and socket anew, under the identity that our runs are marked with; None while another
        supervisor has the place. Raises OSError."""
        os.makedirs(os.path.dirname(self.path), 0o750, exist_ok=True)  # noqa: PTH103, PTH120 - as above
        gid = users.agent_gid()
        if os.geteuid() == 0 and gid is not None:
            os.chown(os.path.dirname(self.path), -1, gid)  # noqa: PTH120 - as above
        if not self._lock_is_there():
            if not self.take():
                return None
            os.ftruncate(self.lock, 0)
            os.pwrite(self.lock, identity.encode(), 0)
        return self.listen()

    def _lock_is_there(self) -> bool:
        """Whether what we hold is the file that others would ask for."""
        held = os.fstat(self.lock)
        try:
            found = os.stat(self.path + ".lock")  # noqa: PTH116 - as above
        except FileNotFoundError:
            return False
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)


def identity_of(path: str) -> str:
    """What tells this supervisor and those before it on its socket from all others, also from one in a container
    whose processes we see and whose socket has the same name: the lock file that they share, or, where that was made
    anew, what it says that the first one was."""
    said = processes.read(path + ".lock").decode("ascii", "replace").strip()
    if said:
        return said
    lock = os.stat(path + ".lock")  # noqa: PTH116 - pathlib would cost most of a megabyte
    return f"{lock.st_dev:x}.{lock.st_ino:x}"


def another(path: str) -> int | None:
    """The pid of an older supervisor that serves this path and has lost it; None where there is none that we see."""
    me = os.getpid()
    ours = processes.start_ticks(me), me  # of two that start at once the second one goes back
    for name in os.listdir("/proc"):  # noqa: PTH208 - as above
        if name.isdecimal() and int(name) != me and _serves(name, path):
            with contextlib.suppress(OSError):
                if (processes.start_ticks(int(name)), int(name)) < ours and _sees_what_we_see(name):
                    return int(name)
    return None


def _serves(pid: str, path: str) -> bool:
    try:
        line = processes.read(f"/proc/{pid}/cmdline")
    except OSError:
        return False
    line = line.partition(b"\0--agent\0")[0] + b"\0"
    if b"runner.supervisor" not in line or b"\0--probe\0" in line:
        return False
    where = os.fsencode(path) + b"\0"
    return b"\0--socket\0" + where in line or b"\0--socket=" + where in line


def _sees_what_we_see(pid: str) -> bool:
    """Whether a path is the same file to it: one in a container may serve a path of the same name."""
    return os.readlink(f"/proc/{pid}/ns/mnt") == os.readlink("/proc/self/ns/mnt")  # noqa: PTH115 - as above
