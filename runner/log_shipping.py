"""The agent's own log in CloudWatch Logs, beside standard error: ``[agent] cloudwatch_log_group``.

A convenience for fleets without a log collector; it may lose lines, as jobs' output may not. Nothing here
blocks the agent: watchtower calls AWS from its constructor on, so all of it lives on a thread of its own.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Lines that wait while CloudWatch is away; beyond it the newest are dropped, standard error has them all.
_MOST_WAITING: Final = 10_000
_RETRY_S: Final = 30.0
_CLOSE_S: Final = 3.0


class CloudWatchCopy:
    """A bounded queue of lines and the thread that ships them.

    Args:
        group: the log group; made where it does not exist.
        stream: the log stream, usually the host's name.
        client: makes a boto3 Logs client (``runner.aws``); called on the thread.
    """

    def __init__(self, group: str, stream: str, client: Callable[[], Any]) -> None:
        self._group = group
        self._stream = stream
        self._client = client
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._ship, name="agent-log", daemon=True)
        self._thread.start()

    def __call__(self, line: str) -> None:
        """Take a line; `runner.log.configure`'s ``copy``."""
        if threading.current_thread() is self._thread:
            return  # shipping that logs about itself would go round for ever
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(line)

    def close(self) -> None:
        """Ship what waits, for at most three seconds; the thread is a daemon and holds nothing up for longer.

        watchtower's own close waits for AWS, on the thread; once it has begun, `logging.shutdown` does not.
        """
        self._ending.set()
        with contextlib.suppress(queue.Full):
            self._lines.put_nowait(None)
        self._thread.join(_CLOSE_S)

    def _ship(self) -> None:
        handler = self._handler()
        if handler is None:
            return
        for line in iter(self._lines.get, None):
            handler.handle(logging.LogRecord("cron-runner", _level(line), "", 0, line, None, None))
        handler.close()

    def _handler(self) -> logging.Handler | None:
        """watchtower's handler, as soon as AWS lets it be made; None when the agent stops before that."""
        import watchtower  # noqa: PLC0415 - brings boto3 along; only those who ask for it pay

        while True:
            with contextlib.suppress(Exception):
                return watchtower.CloudWatchLogHandler(
                    log_group_name=self._group,
                    log_stream_name=self._stream,
                    boto3_client=self._client(),
                    send_interval=5,
                )
            if self._ending.wait(_RETRY_S):
                return None


def _level(line: str) -> int:
    try:
        name = json.loads(line.partition(">")[2] if line.startswith("<") else line).get("level", "info")
    except ValueError:
        return logging.INFO  # the console's rendering
    return logging.getLevelNamesMapping().get(str(name).upper(), logging.INFO)
