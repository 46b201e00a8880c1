"""Where the program begins: a Ctrl-C and closed descriptors are seen to before anything else is imported.

Until a command says otherwise an interrupt ends the process at once. A `KeyboardInterrupt` would come out of whatever
import, thread or event loop it hits, as a traceback, or not at all; what a command has to put in order, it says by a
handler of its own (`demo`, `status --watch`, `run-once`, the daemons).
"""

from __future__ import annotations

# Modules of the interpreter itself, one of ours that needs no more, and no others, not even `signal` (it imports enum)
# or `typing`: until `entry` is called an interrupt is still a traceback.
import _signal  # type: ignore[import-not-found] # typeshed has the public module alone
import atexit
import gc
import os
import sys

from runner.cli.interrupted import leave_at_once

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def entry() -> NoReturn:
    """The ``cron-runner`` program."""
    _heed_interrupts()
    gc.disable()  # until it is known how long the command lives: `runner.cli.main`
    # Exec hands both on. With SIGCHLD ignored (a parent's `trap '' CHLD`) no child's end can be asked for, and what
    # is blocked is never heard.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    _fill_descriptors()
    from runner.cli.main import main  # noqa: PLC0415 - after the lines above
    from runner.cli.printing import finish  # noqa: PLC0415

    try:
        status = main(sys.argv[1:])
    except SystemExit as end:  # argparse's, after `--help` and of what it cannot understand
        status = end.code if isinstance(end.code, int) else 0
    _heed_interrupts()  # asyncio and demo put Python's own handler back, which raises in the shutdown too
    finish()
    atexit._run_exitfuncs()  # noqa: SLF001 - of libraries; ours have nothing there
    # The interpreter's shutdown would wait for threads that nobody needs, and ends by a signal when Ctrl-C comes then.
    os._exit(status)


def _heed_interrupts() -> None:
    # Ignored, as of `cron-runner … &` in a script without job control, it stays ignored.
    if _signal.getsignal(_signal.SIGINT) is not _signal.SIG_IGN:
        _signal.signal(_signal.SIGINT, leave_at_once)


def _fill_descriptors() -> None:
    """Open /dev/null on what is closed of 0, 1 and 2; else the next file or socket is what a command writes to.

    Standard output only for reading, so that a write to it fails as it did before: `printing.ready`.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # the lowest number that is free, which is this one
            os.set_inheritable(number, True)
    if sys.stdin is None:
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - a descriptor, for good
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
    if sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - as above
