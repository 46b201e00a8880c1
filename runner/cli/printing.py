"""Where commands write: all that they say on standard output and standard error goes through here, at once.

What cannot be written is an error like any other (`Unwritable`, `ReaderLeft`), and nothing is left in a buffer on which
the interpreter's shutdown could stumble: it would end with status 120. What is said on standard error
is said as well as can be; there is nobody to tell when that fails.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import stat
import sys
from typing import TYPE_CHECKING, Any, Final

from runner.errors import CronRunnerError
from runner.visible import visible

if TYPE_CHECKING:
    from typing import TextIO

READER_LEFT: Final = 141
_OUT: Final = 1
# More than a command that changes something says of it.
_ROOM: Final = 4096


class Unwritable(CronRunnerError):
    """Standard output takes nothing."""


class ReaderLeft(CronRunnerError):
    """Whoever read standard output has what it wanted: an end without a word, as SIGPIPE makes it (128 + 13)."""

    exit_status = READER_LEFT


def lines(*texts: str) -> None:
    """Lines on standard output; whatever others have put into them, it can be printed and stays in its line."""
    _write("".join(f"{visible(line)}\n" for text in texts for line in text.split("\n")).encode())


def document(value: Any, *, indent: int | None = 2) -> None:
    """A value as JSON, which escapes what steers a terminal."""
    _write(f"{json.dumps(value, indent=indent)}\n".encode())


def data(piece: bytes | str) -> None:
    """Bytes as they are: a job's own output, a script, what draws on a terminal."""
    _write(piece if isinstance(piece, bytes) else piece.encode())


def width() -> int | None:
    """The terminal's columns; None where standard output is none, and nothing is cut."""
    import shutil  # noqa: PLC0415 - few commands make a table

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def note(text: str) -> None:
    """A line on standard error under the program's name. Never fails."""
    say(f"cron-runner: {text}")


def say(text: str) -> None:
    """Lines on standard error without the program's name before them. Never fails."""
    try:
        sys.stderr.write("".join(f"{visible(line)}\n" for line in text.split("\n")))
        sys.stderr.flush()
    except (OSError, ValueError):
        _give_up(sys.stderr)


def ready() -> None:
    """Raise where standard output takes nothing: asked before a command does what it could not tell of afterwards.

    A run that is sent although its id cannot be printed is sent again by the script that sees the failure.
    """
    fault = _fault()
    if fault:
        raise _explained(OSError(fault, os.strerror(fault)))


def _fault() -> int:
    """The errno of a write that would fail; 0 where it may succeed."""
    if not _is_open_for_writing():
        return errno.EBADF
    kind = os.fstat(_OUT).st_mode
    if stat.S_ISREG(kind):
        room = os.fstatvfs(_OUT)
        return errno.ENOSPC if room.f_blocks and room.f_bfree * room.f_frsize < _ROOM else 0
    try:
        if stat.S_ISCHR(kind):
            os.write(_OUT, b"")  # /dev/full refuses nothing at all too
    except OSError as error:
        return error.errno or errno.EIO
    # Of a pipe without a reader, poll(2) says POLLERR whatever it was asked for.
    polling = select.poll()
    polling.register(_OUT, 0)
    return errno.EPIPE if any(event & select.POLLERR for _, event in polling.poll(0)) else 0


def to_nowhere() -> None:
    """For a command whose work does not depend on what it prints: a closed standard output is /dev/null."""
    if not _is_open_for_writing():
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, _OUT)
        os.close(nowhere)


def finish() -> None:
    """Empty the buffers that others may have written to, so that the shutdown has nothing to stumble over."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            _give_up(stream)


def _is_open_for_writing() -> bool:
    return fcntl.fcntl(_OUT, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY


def _write(text: bytes) -> None:
    try:
        sys.stdout.buffer.write(text)
        sys.stdout.buffer.flush()
    except OSError as error:
        _give_up(sys.stdout)
        raise _explained(error) from error


def _explained(error: OSError) -> CronRunnerError:
    if error.errno == errno.EPIPE:
        return ReaderLeft("cannot write the output: its reader has left")
    why = "it is closed" if error.errno == errno.EBADF else error.strerror or str(error)
    return Unwritable(f"cannot write to standard output: {why}; redirect it to a file or a pipe that takes it")


def _give_up(stream: TextIO) -> None:
    """What is left in the buffer goes nowhere, so that the shutdown's flush finds an open file."""
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
    except (OSError, ValueError):  # no descriptor left, and nobody to tell
        return
