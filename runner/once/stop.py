"""How a `run-once` is asked to stop, and what of its work it still does then."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from typing import TYPE_CHECKING, Any, Final

from runner.protocol.outcome import SIGNAL_BASE

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# What has begun is given this long once a signal has told us to leave.
LEAVE_WITHIN_S: Final = 2.0
AGAIN: Final = "Ctrl-C again"


class Stop:
    """The signals that came, and whether to leave for them. `asked` is called at each, with whether it is not the
    first one. Made in a running loop."""

    def __init__(self, asked: Callable[[bool], None]) -> None:
        self._asked = asked
        self.signals: list[int] = []
        self.leaving = asyncio.Event()

    @property
    def status(self) -> int:
        """The exit status where a signal came before a job, or ended it."""
        return SIGNAL_BASE + self.signals[0]

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Hear the signals inside the block."""
        loop = asyncio.get_running_loop()
        # SIGHUP is a closed terminal, but under nohup it is ignored, and stays so.
        handled = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
        for number in handled:
            loop.add_signal_handler(number, self._came, number)
        try:
            yield
        finally:
            for number in handled:
                loop.remove_signal_handler(number)
                if number == signal.SIGINT:
                    # asyncio puts Python's own in its place, whose KeyboardInterrupt would come out of the last steps.
                    signal.signal(number, signal.SIG_IGN)

    def _came(self, number: int) -> None:
        self.signals.append(number)
        self._asked(len(self.signals) > 1)

    async def unless_leaving(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it, or what can be done of it within a moment once we are told to leave."""
        # No task of the group: that takes none while it ends, and this is for its last moments too.
        task = asyncio.create_task(work)
        leaving = asyncio.create_task(self.leaving.wait())
        try:
            await asyncio.wait({task, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done():
                await asyncio.wait({task}, timeout=LEAVE_WITHIN_S)
        finally:
            leaving.cancel()
            task.cancel()
            await asyncio.wait({task})
        if not task.cancelled():
            task.result()
