"""Which part of the cgroup v2 tree is ours to use. Facts: the kernel's cgroup-v2.rst, systemd's CGROUP_DELEGATION.

- A directory that is named (``--cgroup``, ``CRON_RUNNER_CGROUP``) is used.
- Else our own cgroup, where systemd says by the ``delegate`` attribute that it is ours (Delegate=yes).
- Else, where we are in the root of the tree that we can see (a container's own, or a host without systemd's order),
  and may write there, a child ``cron-runner-ID`` is made, with ID from the socket's lock file, and removed at the end.
- Anything else belongs to somebody who does not expect us: no cgroups.

Mounts and paths are read from /proc/self/mountinfo and /proc/self/cgroup; nothing is assumed about where they are.
"""

from __future__ import annotations

import contextlib
import os
import zlib

from runner.supervisor.placing import processes

WANTED = ("memory", "cpu", "pids")
LEAF = "supervisor"


class NoCgroup(Exception):
    """There is no cgroup to use; the text says why."""


class Delegation:
    """``base`` is where runs get their cgroups, ``own`` where the supervisor itself is."""

    __slots__ = ("base", "controllers", "own", "temporary")

    def __init__(self, base: str, own: str, *, temporary: bool) -> None:
        self.base = base
        self.own = own
        self.temporary = temporary
        self.controllers: tuple[str, ...] = ()


def mount(mountinfo: str) -> tuple[str, str] | None:
    """Root and mount point of the cgroup2 mount in the text of /proc/self/mountinfo; None if there is none."""
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] == "cgroup2":
            fields = before.split()
            return unescaped(fields[3]), unescaped(fields[4])
    return None


def unescaped(path: str) -> str:
    """A path of mountinfo, with its octal escapes undone."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        path = path.replace(code, char)
    return path


def membership(text: str) -> str | None:
    """The cgroup v2 path in the text of /proc/self/cgroup."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line[3:].removesuffix(" (deleted)")
    return None


def directory(root: str, point: str, path: str) -> str | None:
    """Where a cgroup's directory is seen; None if it is outside of what is mounted."""
    if path.startswith("/.."):
        return None
    if root not in ("/", path) and not path.startswith(root + "/"):
        return None
    rest = path if root == "/" else path[len(root) :]
    return (point + rest).rstrip("/")


def find(named: str | None, identity: str) -> Delegation:
    """The delegation of this process; ``identity`` tells this supervisor from others. Raises NoCgroup."""
    found = mount(processes.read("/proc/self/mountinfo").decode(errors="surrogateescape"))
    if found is None:
        raise NoCgroup("there is no cgroup v2 mount")
    path = membership(processes.read("/proc/self/cgroup").decode(errors="surrogateescape"))
    own = directory(*found, path) if path is not None else None
    if path is None or own is None:
        raise NoCgroup("this process's cgroup is outside of the cgroup v2 mount")
    if named:
        delegation = _named(named, own)
    elif os.path.basename(own) == LEAF and _delegated(os.path.dirname(own)):  # noqa: PTH119, PTH120 - no pathlib here
        delegation = Delegation(os.path.dirname(own), own, temporary=False)  # noqa: PTH120 - as above
    elif _delegated(own):
        delegation = Delegation(own, f"{own}/{LEAF}", temporary=False)
    elif path == "/":
        delegation = Delegation(f"{own}/cron-runner-{zlib.crc32(identity.encode()):08x}", own, temporary=True)
    else:
        raise NoCgroup(f"{path} is not delegated to us: give the unit Delegate=yes, or name a cgroup of ours")
    _make(delegation)
    return delegation


def _named(named: str, own: str) -> Delegation:
    base = named.rstrip("/")
    inside = own == base
    return Delegation(base, f"{own}/{LEAF}" if inside else own, temporary=False)


def _delegated(path: str) -> bool:
    for name in ("user.delegate", "trusted.delegate"):
        try:
            if os.getxattr(path, name) == b"1":
                return True
        except OSError:
            continue
    return False


def _make(delegation: Delegation) -> None:
    """Move into the leaf where we are in the base itself: a cgroup with processes cannot hand on controllers."""
    try:
        for path in (delegation.base, delegation.own):
            if not os.path.isdir(path):  # noqa: PTH112 - no pathlib here
                os.mkdir(path)  # noqa: PTH102 - as above
        write(delegation.own, "cgroup.procs", "0")
        _prove(delegation)
    except OSError as error:
        raise NoCgroup(f"cannot use {delegation.base}: {error.strerror}") from error
    controllers = []
    for name in WANTED:
        try:
            write(delegation.base, "cgroup.subtree_control", f"+{name}")
        except OSError:
            continue
        controllers.append(name)
    delegation.controllers = tuple(controllers)


def _prove(delegation: Delegation) -> None:
    """That a run's cgroup can be entered and left is known only from doing it.

    What a trial before us left, as one that was killed in it does, is in nobody's way and is taken away with ours.
    """
    probe = f"{delegation.base}/probe-{os.getpid()}"
    with contextlib.suppress(FileExistsError):
        os.mkdir(probe)  # noqa: PTH102 - no pathlib here
    try:
        write(probe, "cgroup.procs", "0")
    finally:
        write(delegation.own, "cgroup.procs", "0")
        for name in os.listdir(delegation.base):  # noqa: PTH208 - as above
            if name.partition("-")[0] == "probe":
                with contextlib.suppress(OSError):  # another supervisor may be in its own at this moment
                    os.rmdir(f"{delegation.base}/{name}")  # noqa: PTH106 - as above


def write(path: str, name: str, value: str) -> None:
    """Write a cgroup's file. Raises OSError."""
    fd = os.open(f"{path}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, value.encode())
    finally:
        os.close(fd)
