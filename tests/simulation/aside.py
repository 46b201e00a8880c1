"""A journal that is damaged: it is put aside, and a new one begun with what the running agent, if there is one, still
knows (journal/database.py). What only the old one knew is forgotten, and named so that the checkers know it too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.hosts import Host


def put_aside(host: Host) -> None:
    """All of it is gone, as when the first page is overwritten."""
    world, life = host.world, host.life
    world.note(host.name, "the journal is put aside")
    services = getattr(life, "services", None)
    remembered = {run.execution.id for run in services.roster.all()} if services is not None else set()
    _forget(host, remembered)
    if life is not None:  # it may be just about to say so to the supervisor
        host.told_aside.update(id_ for (id_,) in host.rows("SELECT id FROM events"))
        host.answered_aside.update(run for (run,) in host.rows("SELECT run_id FROM runs WHERE message = 'taken_over'"))
        host.answered_aside.update(run for (run,) in host.rows("SELECT subject FROM events WHERE terminal = 1"))
    host.begin_journal()
    if services is not None:
        services.journal.database.begin_anew()


def _forget(host: Host, remembered: Iterable[str]) -> None:
    """Of what is over, and of what waits without a message and without a process, nobody else knows."""
    supervised = {key.partition("/")[0] for key in (*host.alive, *host.records)}
    known = supervised.union(remembered)
    rows = host.rows("SELECT execution, run_id, message_id, state, message FROM every_run")
    for execution, run, message_id, state, message in rows:
        if execution in known:
            continue
        if state == "ended" or message != "leased":
            host.world.forgotten.update((run, message_id))
        else:
            host.world.nameless.add(message_id)  # it comes again; until then another one may take its run id


def forget_unadopted(host: Host) -> None:
    """The supervisor goes: with it what it alone knew, where the new journal has not adopted it yet."""
    for key in (*host.alive, *host.records):
        if not host.safe_rows("SELECT 1 FROM runs WHERE execution = ?", key.partition("/")[0]):
            host.world.forgotten.add(host.notes[key][0])
