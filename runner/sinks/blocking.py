"""Writes that may block, off the event loop, on one daemon thread for each sink.

concurrent.futures is not used for it: its threads are joined when the interpreter ends, so a reader that does not
read would keep a stopped agent from exiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_Work = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]", "Callable[[], None]"]


class Blocking:
    """Runs functions one after another; `name` is the thread's, which is started by the first of them."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def __call__(self, function: Callable[[], None]) -> None:
        """Wait until the function has returned; what it raises is raised here.

        Cancelling the waiting task abandons the outcome, not the function.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        self._work.put((loop, future, function))
        await future

    def close(self) -> None:
        """Let the thread end when it is through; nobody waits for it."""
        self._work.put(None)
        self._thread = None

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            loop, future, function = work
            error: BaseException | None = None
            try:
                function()
            except BaseException as exception:  # noqa: BLE001 - handed on to the coroutine that waits
                error = exception
            del work, function  # an idle thread keeps no batch alive
            with contextlib.suppress(RuntimeError):  # the loop has ended, nobody waits any more
                loop.call_soon_threadsafe(_settle, future, error)
            del future, error


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
