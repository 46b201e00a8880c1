"""What a supervisor that died has left behind: found by mark, session and descent, as it would have done, and killed.

Its runs count as lost and come again; they must not go on beside their own repetition.
"""

from __future__ import annotations

import os
import time

from runner.supervisor.failing import persistently
from runner.supervisor.placing import processes

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Collection

    from runner.supervisor.notes import Note

_LOOKS = 100
_BETWEEN = 0.005


def end(marks: Collection[bytes], notes: Collection[Note] = ()) -> int:
    """SIGKILL to all that is found, again until nothing is: it may be forking. How many were found first."""
    first = -1
    noted = {note.session: note for note in notes}
    for _ in range(_LOOKS):
        left = persistently(lambda: _find(marks, noted))
        first = len(left) if first < 0 else first
        if not left:
            break
        processes.send(left, 9)
        time.sleep(_BETWEEN)
    return first


def _find(marks: Collection[bytes], noted: dict[int, Note]) -> list[processes.Process]:
    seen = processes.Snapshot()
    roots = {pid for pid in seen.table if any(processes.marked(pid, mark) for mark in marks)}
    for session, note in noted.items():
        leader = seen.table.get(session)
        if leader is not None and leader.start != note.start:
            continue  # another process's number by now, and another session
        if note.keep and leader is None:
            continue  # its main process has ended: what it left behind may stay
        roots |= {pid for pid in seen.sessions.get(session, ()) if seen.table[pid].start >= note.start}
    found = seen.below(roots)
    me: int | None = os.getpid()
    while me:  # ourselves, and whoever has started us: an agent that was itself started by a job
        found.discard(me)
        above = seen.table.get(me)
        me = above.parent if above else None
    return [seen.table[pid] for pid in found]
