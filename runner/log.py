"""The agent's own log: structlog, one line per event, on standard error.

Three renderings, chosen by what standard error is:

- the journal (systemd's ``JOURNAL_STREAM`` names it): JSON behind a ``<N>`` priority prefix, sd-daemon(3);
- a terminal: coloured text for a person;
- anything else (a file, a container's log driver): JSON, no prefix.

Every line passes `mask`'s list of secrets before it is written. Lines of other libraries (botocore, urllib3,
asyncio) come in through the standard `logging` module, from warnings up, and leave in the same form.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal, TextIO

import structlog

from runner.visible import visible, visible_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping

    Event = MutableMapping[str, Any]

Level = Literal["debug", "info", "warning", "error", "critical"]

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
    "critical": logging.CRITICAL,
}
# syslog(3)'s priorities, as sd-daemon(3) reads them from the line's beginning.
_PRIORITIES: Final[Mapping[str, int]] = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}
# A shorter value would be found by chance in ordinary words and numbers.
SHORTEST_SECRET: Final = 6


_ENCODER: Final = json.JSONEncoder(default=str, ensure_ascii=False)


class Secrets:
    """The values that may not be seen in the log, counted, since two runs may hold the same one."""

    def __init__(self) -> None:
        self._held: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._pattern: re.Pattern[str] | None = None
        self._stale = False

    def add(self, values: Iterable[str]) -> None:
        """Mask these from now on; values of fewer than `SHORTEST_SECRET` characters are left."""
        long = [value for value in values if len(value) >= SHORTEST_SECRET]
        if not long:
            return
        with self._lock:
            before = len(self._held)
            self._held.update(long)
            self._stale |= len(self._held) != before

    def discard(self, values: Iterable[str]) -> None:
        """Take back one `add` of each value."""
        long = [value for value in values if len(value) >= SHORTEST_SECRET]
        if not long:
            return
        with self._lock:
            self._held.subtract(long)
            before = len(self._held)
            self._held = +self._held
            self._stale |= len(self._held) != before

    def mask(self, line: str) -> str:
        """The line with every secret as ``***``, also where a renderer has escaped the secret."""
        if self._stale:
            with self._lock:
                self._compile()
        return self._pattern.sub("***", line) if self._pattern else line

    def _compile(self) -> None:
        # Not at each add: many runs hold the same few values, and most lines are far between.
        self._stale = False
        forms = {form for value in self._held for form in _escaped(value)}
        # The longest first, or a secret that begins with another one would leave its end in sight.
        ordered = sorted(forms, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _escaped(value: str) -> Iterator[str]:
    """The value as it may stand in a line: as it is, in JSON (with and without ASCII escapes), in a repr."""
    yield value
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield repr(value)[1:-1]


secrets: Final = Secrets()


class Traces:
    """Which trace a run belongs to, so that each line that names the run names it too. Those last heard of, up to a
    bound: a run says it again before it is told of."""

    _MOST: Final = 4096

    def __init__(self) -> None:
        self._of: dict[str, str] = {}

    def note(self, run_id: str, traceparent: str | None) -> None:
        """None: it belongs to none."""
        self._of.pop(run_id, None)
        if traceparent is not None:
            self._of[run_id] = traceparent
            if len(self._of) > self._MOST:
                del self._of[next(iter(self._of))]

    def add(self, _logger: Any, _method: str, event: Event) -> Event:
        """A processor of structlog."""
        if self._of and (found := self._of.get(str(event.get("run_id")))) is not None:
            event.setdefault("traceparent", found)
        return event


traces: Final = Traces()


@contextlib.contextmanager
def masked(values: Iterable[str]) -> Iterator[None]:
    """Mask the values in every line written inside the block, whoever writes it."""
    held = tuple(values)
    secrets.add(held)
    try:
        yield
    finally:
        secrets.discard(held)


class _Lines:
    """Writes finished lines to standard error, and hands a copy to the sink where there is one."""

    def __init__(self, stream: TextIO, copy: Callable[[str], None] | None) -> None:
        self._stream = stream
        self._copy = copy
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        line = secrets.mask(line)
        # A reader of the log that went away must not take the agent along; there is nowhere left to say so.
        with contextlib.suppress(OSError, ValueError), self._lock:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        if self._copy is not None:
            self._copy(line)

    log = debug = info = warn = warning = error = critical = fatal = exception = failure = msg


def under_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Whether the stream is the journal's: ``JOURNAL_STREAM`` is its device and inode (systemd.exec(5)).

    The variable alone proves nothing: it is inherited by processes whose standard error is something else.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def configure(
    level: str = "info",
    *,
    stream: TextIO | None = None,
    environ: Mapping[str, str] = os.environ,
    copy: Callable[[str], None] | None = None,
) -> None:
    """Set the log up; may be called again (a reload that changes the level).

    Args:
        level: the least level that is written: ``debug``, ``info``, ``warning``, ``error`` or ``critical``.
        stream: where to write; standard error by default.
        environ: where ``JOURNAL_STREAM`` and ``NO_COLOR`` are looked up.
        copy: gets every written line too (`runner.log_shipping`); must not block and must not raise.

    Raises:
        ValueError: the level is none of the five.
    """
    if level not in _LEVELS:
        raise ValueError(f"cannot log at level {level!r}: it is none of {', '.join(_LEVELS)}")
    stream = sys.stderr if stream is None else stream
    shared = _processors()
    renderer = _renderer(stream, environ)
    lines = _Lines(stream, copy)
    structlog.configure(
        processors=[*shared, *renderer],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=lambda *_: lines,
        # A cached logger would keep the level and the stream of before a reload.
        cache_logger_on_first_use=False,
    )
    _take_in_standard_logging(lines, [*shared, *renderer], max(_LEVELS[level], logging.WARNING))


def set_level(level: str) -> None:
    """Change the level and nothing else, after `configure`: a reload of the configuration."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]))
    logging.getLogger().setLevel(max(_LEVELS[level], logging.WARNING))


def _processors() -> list[Any]:
    return [
        structlog.processors.add_log_level,
        traces.add,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.StackInfoRenderer(),
    ]


def _renderer(stream: TextIO, environ: Mapping[str, str]) -> list[Any]:
    if stream.isatty():
        colors = not environ.get("NO_COLOR") and environ.get("TERM") != "dumb"
        return [_visible_values, structlog.dev.ConsoleRenderer(colors=colors, timestamp_key="time")]
    as_json: list[Any] = [
        structlog.processors.format_exc_info,
        lambda _logger, _method, event: visible_json(_ENCODER.encode(event)),
    ]
    return [_with_priority(as_json)] if under_journal(stream, environ) else as_json


def _visible_values(_logger: Any, _method: str, event: Event) -> Event:
    """What a terminal gets: JSON escapes what steers one, and the renderer for people would not."""
    return {
        name: value if name == "exc_info" or isinstance(value, int | float | None) else visible(str(value))
        for name, value in event.items()
    }


def _with_priority(processors: list[Any]) -> Callable[[Any, str, Event], str]:
    def render(logger: Any, method: str, event: Event) -> str:
        priority = _PRIORITIES.get(str(event.get("level")), 6)
        result: Any = event
        for processor in processors:
            result = processor(logger, method, result)
        return f"<{priority}>{result}"

    return render


class _StandardLogging(logging.Handler):
    """Renders the records of other libraries as our own events are."""

    def __init__(self, lines: _Lines, processors: list[Any]) -> None:
        super().__init__()
        self._lines = lines
        self._processors = processors

    def emit(self, record: logging.LogRecord) -> None:
        result: Any = {"event": record.getMessage(), "logger": record.name}
        if record.exc_info:
            result["exc_info"] = record.exc_info
        for processor in self._processors:
            result = processor(None, record.levelname.lower(), result)
        self._lines.msg(result)


def _take_in_standard_logging(lines: _Lines, processors: list[Any], level: int) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _StandardLogging)]:
        root.removeHandler(handler)
    root.addHandler(_StandardLogging(lines, processors))
    root.setLevel(level)
    logging.captureWarnings(capture=True)
