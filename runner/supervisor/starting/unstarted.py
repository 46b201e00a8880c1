"""What is said of a command that could not be executed: what is wrong with it, and what to do."""

from __future__ import annotations

import errno
import os
import resource
import stat

from runner.supervisor.starting.command import SpawnError

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.supervisor.starting.command import Command

_REMEDIES = {
    errno.ENOENT: "; install it, or correct the path",
    errno.EACCES: "; make it a file that the job's user may execute (chmod +x)",
    errno.ENOEXEC: "; give it a #! line, or name its interpreter",
}
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")  # of UTF-8 and UTF-16
# Of one argument or variable with its end: 32 pages, MAX_ARG_STRLEN of linux/binfmts.h.
_MOST_OF_ONE = 32 * resource.getpagesize()


def explain_exec(
    error: OSError, command: Command, environment: Mapping[bytes, bytes], paths: list[bytes]
) -> SpawnError:
    """``paths`` are those that were tried; where they are relative, the working directory is still the job's."""
    number, name = error.errno or errno.EIO, command.name
    there = next((path for path in paths if os.path.lexists(path)), None)
    text = os.strerror(number) + _REMEDIES.get(number, "")
    if number == errno.E2BIG:
        text = _too_long(command.argv, environment)
    elif number == errno.ENOENT and "/" not in name and there is None:
        text = f"{os.strerror(number)} in its PATH; install it, give its full path, or set PATH in [run] env"
    elif number == errno.ENOENT and there is not None:
        text = _interpreter(there)
    elif number == errno.ENOEXEC and there is not None and _beginning(there).startswith(_MARKS):
        text = (
            f"{os.strerror(number)}: a byte order mark stands before its #! line, which therefore is none; save it as "
            "UTF-8 without one"
        )
    return SpawnError(number, f"cannot execute {name!r}: {text}")


def _interpreter(path: bytes) -> str:
    line = _beginning(path).partition(b"\n")[0]
    if not line.startswith(b"#!"):
        return "its interpreter (#! line or loader) does not exist; install that, or correct the #! line"
    named = line[2:].strip(b" \t").split(b" ")[0].decode("utf-8", "backslashreplace")
    if named.endswith("\r"):
        return (
            f"its interpreter {named!r} does not exist: the #! line ends in CR LF, as Windows writes it; save the file "
            "with LF (`dos2unix`)"
        )
    return f"its interpreter {named!r} does not exist; install that, or correct the #! line"


def _beginning(path: bytes) -> bytes:
    """As much as the kernel looks at; nothing where it is no plain file, which might never be opened."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # executable and not readable: then its #! line is nobody's to tell
        return b""
    try:
        return os.read(fd, 256) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    except OSError:
        return b""
    finally:
        os.close(fd)


def _too_long(argv: list[bytes], environment: Mapping[bytes, bytes]) -> str:
    most = _MOST_OF_ONE - 1
    for at, word in enumerate(argv):
        if len(word) > most:
            what = f"its argument {at}" if at else "its name"
            return (
                f"{what} has {len(word)} bytes, and Linux takes at most {most} in one; give what is long as the "
                "message's stdin"
            )
    for name, value in environment.items():
        if len(name) + 1 + len(value) > most:
            shown = name.decode("utf-8", "backslashreplace")[:80]
            size = len(name) + 1 + len(value)
            return (
                f"the variable {shown} has {size} bytes, and Linux takes at most {most} in one; give what is long as "
                "the message's stdin"
            )
    size = sum(len(word) + 1 for word in argv) + sum(len(n) + len(v) + 2 for n, v in environment.items())
    return (
        f"arguments and environment have {size} bytes together, more than this host takes (a quarter of its stack "
        "limit); give what is long as the message's stdin"
    )


def explain_cwd(error: OSError, cwd: str) -> SpawnError:
    # ENOENT is kept for "the command was not found", which a shell and the contract call 127.
    number = errno.ENOTDIR if error.errno == errno.ENOENT else error.errno or errno.EIO
    return SpawnError(
        number,
        f"cannot enter the working directory {cwd!r}: {os.strerror(error.errno or errno.EIO)}; make it, open it to the "
        "job's user, or name another cwd",
    )


def explain_nice(error: OSError, nice: int | None) -> SpawnError:
    text = f"cannot set nice {nice}: {os.strerror(error.errno or 0)}; below 0 is for a supervisor that runs as root"
    return SpawnError(error.errno or errno.EPERM, text)


def explain_preparation(error: OSError) -> SpawnError:
    """For every other step on the way to exec. ENOENT is the command's, and this is not about that."""
    number = errno.EIO if error.errno in (None, errno.ENOENT) else error.errno
    return SpawnError(number or errno.EIO, f"cannot prepare the process: {error}")
