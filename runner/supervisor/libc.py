"""The few system calls that the standard library has no name for, through ctypes.

Facts from the manual pages clone(2), fallocate(2) and prctl(2); numbers from the kernel's uapi headers.
"""

from __future__ import annotations

import ctypes
import os
import struct

PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36
CLONE_INTO_CGROUP = 0x2_0000_0000
SIGCHLD = 17
SYS_CLONE3 = 435  # the same on every architecture: it is younger than the common table
FALLOC_FL_KEEP_SIZE = 1
FALLOC_FL_PUNCH_HOLE = 2

# PyDLL keeps the interpreter's lock: a child that returns from clone3 must find it held, as after fork.
_libc = ctypes.PyDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long
_fallocate = _libc.fallocate64 if hasattr(_libc, "fallocate64") else _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
_clone_args = bytearray(88)
_clone_buffer = (ctypes.c_char * 88).from_buffer(_clone_args)


def become_subreaper() -> bool:
    """Have orphaned descendants handed to this process instead of PID 1; false where the kernel refuses."""
    return int(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0


def keep_from_dumps() -> bool:
    """No core of this process is written, and nobody but root may look into its memory, whatever their user id; what it
    executes is not held to that. False where the kernel refuses."""
    return int(_libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)) == 0


def punch_hole(fd: int, start: int, end: int) -> None:
    """Give the blocks of [start, end) back to the file system, the file's size unchanged. Raises OSError."""
    if _fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def fork_into(cgroup_fd: int | None) -> int:
    """fork(2), the child already inside the cgroup whose directory is open as ``cgroup_fd``.

    None of the interpreter's fork hooks run, which is right for a child that only makes system calls and then
    executes. Returns as fork does. Raises OSError: ENOSYS or EPERM where clone3 is unknown or filtered, EAGAIN at
    a limit of processes.
    """
    flags = CLONE_INTO_CGROUP if cgroup_fd is not None else 0
    struct.pack_into("11Q", _clone_args, 0, flags, 0, 0, 0, SIGCHLD, 0, 0, 0, 0, 0, cgroup_fd or 0)
    pid = int(_syscall(SYS_CLONE3, _clone_buffer, ctypes.c_size_t(88)))
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid
