"""Maintenance: a paused agent receives nothing and hands back what it holds; what runs goes on.

Draining is a pause in which further attempts are another host's to make: the host becomes empty.

The pause is a small file beside the journal, so that it lasts over a restart of the agent or of the host.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

import structlog

from runner.agent.runs.pause import Pause
from runner.errors import CronRunnerError
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger()

NAME = "pause.json"
_NOT_FORGOTTEN = "the host is paused again after a restart of the agent unless the file is removed"
_UNREADABLE = "the host stays paused until somebody resumes it: `cron-runner resume`"


class Pausing:
    """Whether this agent is paused. `changed` is called after every change, from the caller's context."""

    def __init__(self, state: Path, *, now: Callable[[], float] = time.time) -> None:
        self._path = state / NAME
        self._now = now
        self._pause = self._load()
        self.changed: Callable[[], None] = lambda: None
        self._told: dict[str, Pause] = {}

    @property
    def current(self) -> Pause | None:
        """The pause that holds now, whoever made it; a drain before any other."""
        own = self.own
        if not self._told:
            return own
        holding = [*([] if own is None else [own]), *self._told.values()]
        return next((pause for pause in holding if pause.drain), holding[0])

    @property
    def own(self) -> Pause | None:
        """This host's; one whose time is over ends here."""
        pause = self._pause
        if pause is not None and pause.until is not None and self._now() >= pause.until:
            self.resume("its own end")
            return None
        return pause

    def pause(self, by: str, note: str = "", until: float | None = None, *, drain: bool = False) -> Pause:
        """Pause, or change the pause there is, which keeps its note where none is given.

        Raises CronRunnerError where it cannot be kept over a restart.
        """
        before = self.own
        if not note and before is not None and before.drain == drain:
            note = before.note  # said again, perhaps for another time: why it began is still why
        made = Pause(by, self._now(), note, until, drain)
        self._keep(made)
        self._pause = made
        until_when = None if until is None else format_time(until)
        log.warning("drained" if drain else "paused", by=by, note=note, until=until_when)
        self.changed()
        return made

    def tell(self, source: str, pause: Pause | None) -> None:
        """What holds here and is decided elsewhere; None: no more. Not kept, as its source says it again."""
        before = self._told.pop(source, None)
        if pause is not None:
            self._told[source] = pause
        if before == pause:
            return
        if pause is not None:
            log.warning("drained" if pause.drain else "paused", by=pause.by, note=pause.note, source=source)
        elif before is not None:
            log.warning("resumed", by=f"the end of the pause of {before.by}", source=source)
        self.changed()

    def told(self, source: str) -> Pause | None:
        """What this source says now."""
        return self._told.get(source)

    def resume(self, by: str) -> bool:
        """End the pause; False where there was none."""
        if self._pause is None:
            return False
        self._pause = None
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            log.error("pause_not_forgotten", path=str(self._path), error=error.strerror, detail=_NOT_FORGOTTEN)
        log.warning("resumed", by=by)
        self.changed()
        return True

    def _load(self) -> Pause | None:
        try:
            text = self._path.read_text(encoding="utf-8")
        except OSError:
            return None
        try:
            kept = json.loads(text)
            known = {name: kept[name] for name in Pause.__slots__ if name in kept}
            return Pause(**known)
        except (ValueError, TypeError):
            # Somebody wanted a pause: what cannot be read is kept until a person has looked.
            log.error("pause_unreadable", path=str(self._path), detail=_UNREADABLE)
            return Pause("an unreadable pause.json", self._now(), "resume, or remove the file")

    def _keep(self, pause: Pause) -> None:
        keep(self._path, pause)


def keep(path: Path, pause: Pause) -> None:
    """Write a pause down, for the agent that is started next too. Raises CronRunnerError."""
    beside = path.with_suffix(".new")
    try:
        with beside.open("w", encoding="utf-8") as file:
            json.dump(asdict(pause), file)
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(0o644)  # the agent may be another user than who says it
        beside.replace(path)
    except OSError as error:
        raise CronRunnerError(f"cannot pause: {path}: {error.strerror}; free or repair the disk") from error
