"""What must hold: at each start, deletion and acknowledgement, and when everything has come to rest."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from tests.simulation.signing import INTRUDER
from tests.simulation.virtual import CLOCK

if TYPE_CHECKING:
    from runner.agent.runs.process import StartSpec
    from tests.simulation.hosts import Host
    from tests.simulation.life import Life
    from tests.simulation.world import Message, World

# An execution that ended so leaves its run to be run again.
AGAIN = ("lost", "interrupted")


# -- at once


def may_start(host: Host, spec: StartSpec) -> None:
    """A process is started: its row is there, it is the first of its key, and the only one of its run."""
    world = host.world
    execution = spec.key.partition("/")[0]
    rows = host.rows("SELECT message_id FROM runs WHERE execution = ?", execution)
    if not rows:
        raise world.violated(f"{spec.key} is started before its row is written")
    world.ran.setdefault(rows[0][0], set()).add(execution)
    if spec.run_id.startswith(INTRUDER):
        raise world.violated(f"{spec.run_id} is started, and nobody has signed it")
    if host.starts.get(spec.key):
        raise world.violated(f"{spec.key} is started twice")
    for other in world.hosts:
        for process in other.alive.values():
            if process.run == spec.run_id and (other is host or process.run not in world.lapsed):
                raise world.violated(f"{spec.run_id} runs beside itself: {process.key} and {spec.key}")
            same_group = world.kind.fifo and _group(world, process.run) == _group(world, spec.run_id)
            if other is host and same_group:
                raise world.violated(f"two runs of one group at once: {process.run} and {spec.run_id}")


def _group(world: World, run: str) -> str:
    return next((message.group or message.id for message in world.sent if message.run == run), run)


def may_come_again(world: World, life: Life, message: Message) -> None:
    """A message is received: not by the very agent that holds it, where no call about it has failed."""
    if message.keeper == life.name and not world.kind.long:
        raise world.violated(f"{message.id} of {message.run} comes again to {life.name}, which holds it")


def may_forget(host: Host, key: str) -> None:
    """The supervisor forgets an end: it is told, and a power cut does not take that back."""
    world = host.world
    told = f"{key}/cron-runner.run.finished"
    there = host.safe_rows("SELECT 1 FROM events WHERE id = ?", told)
    if not there and told not in host.told_aside and not any(event["id"] == told for event in world.delivered):
        raise world.violated(f"{key} is acknowledged and not told")


def may_delete(world: World, life: Life, message: Message) -> None:
    """A message goes: what became of its run has been delivered, or this host answers for it alone."""
    if any(other is not message and other.same_run(message) for other in world.messages.values()):
        return
    if any(answers(event, message) for event in world.terminal(message.run)) or rejected(world, message):
        return
    if forgotten(world, message) or message.run in life.host.answered_aside:
        return
    sql = "SELECT 1 FROM runs WHERE run_id = ? AND message = 'taken_over'"
    if life.host.safe_rows(sql, message.run):
        return
    told = "SELECT 1 FROM events WHERE subject = ? AND terminal = 1"
    # What was changed after it was signed is told of by its message, whatever run it names.
    if life.impatient and (life.host.safe_rows(told, message.run) or life.host.safe_rows(told, message.id)):
        return
    if world.kind.table and any(host.safe_rows(told, message.run) for host in world.hosts if host is not life.host):
        return  # the fleet's table says that it is over; the host that has its end will deliver it
    raise world.violated(f"{message.id} of {message.run} is deleted, and nothing was delivered")


def forgotten(world: World, message: Message) -> bool:
    """Whether what became of it was known to a journal alone that is no more."""
    return message.run in world.forgotten or message.id in world.forgotten


def answers(event: dict[str, Any], message: Message) -> bool:
    """Whether a terminal event is the end of this message's run, and not of another with its id."""
    return bool(event["data"]["job"] == message.said.get("job")) and not event["type"].endswith("rejected")


def rejected(world: World, message: Message) -> list[str]:
    """The ids of the rejections of this message."""
    told = [event for event in world.terminal(message.run) if event["type"].endswith("rejected")]
    told += [event for event in world.terminal(message.id) if event["type"].endswith("rejected")]
    return sorted({event["id"] for event in told if event["data"]["message_id"] == message.id})


# -- at the end


def at_rest(world: World) -> bool:
    """Whether nothing is to be done by anybody."""
    return not world.messages and not world.unsent and all(_host_at_rest(host) for host in world.hosts)


def _host_at_rest(host: Host) -> bool:
    life = host.life
    return (
        life is not None
        and life.up
        and not host.alive
        and not host.records
        and not life.services.roster.all()
        and not life.services.spawned
        and not host.rows("SELECT 1 FROM events WHERE sent_at IS NULL")
        and not host.rows("SELECT 1 FROM runs WHERE state != 'ended' OR message = 'leased'")
    )


def in_the_end(world: World) -> None:
    """Everything healed long ago."""
    if world.messages:
        left = {message.id: (message.run, message.count) for message in world.messages.values()}
        raise world.violated(f"stranded: {left}")
    for host in world.hosts:
        if host.records:
            raise world.violated(f"never acknowledged: {sorted(host.records)}")
        if host.alive:
            raise world.violated(f"still running: {sorted(host.alive)}")
        _nothing_owed(host)
        _nothing_left(host)
    for message in world.sent:
        _answered_once(world, message)
    _numbered(world)


def _nothing_owed(host: Host) -> None:
    for what, sql in (
        ("runs that have not ended", "SELECT execution, state FROM runs WHERE state != 'ended'"),
        ("messages that are still held", "SELECT execution, run_id FROM runs WHERE message = 'leased'"),
        ("events that are not delivered", "SELECT id FROM events WHERE sent_at IS NULL"),
    ):
        if left := host.rows(sql):
            raise host.world.violated(f"{what}: {left}")


def _answered_once(world: World, message: Message) -> None:
    if rejections := rejected(world, message):
        if len(rejections) > 1 and world.kind.hosts == 1 and not forgotten(world, message):
            raise world.violated(f"{message.id} was rejected as {rejections}")
        ran = world.ran.get(message.id, set())
        # In a fleet, or with its journal, the id of a run that was lost goes to whoever comes for it next.
        again = (world.kind.hosts > 1 or message.id in world.nameless) and not any(
            _stands(world, end) for end in _ends_of(world, message, ran)
        )
        if ran and not again and not forgotten(world, message):
            raise world.violated(f"{message.id} was rejected, and ran as {sorted(ran)}")
        # What only a lost journal knew was the ground of it: then it is a run like any other, and has its end.
        if message.id not in world.buried and not _ends_of(world, message, ran):
            raise world.violated(f"{message.id} was rejected and not sent to the dead-letter queue")
        return
    ends = {event["id"]: event for event in world.terminal(message.run) if answers(event, message)}
    stands = {name: end["data"].get("outcome", "skipped") for name, end in ends.items() if _stands(world, end)}
    if forgotten(world, message):
        return
    if not ends:
        raise world.violated(f"nothing was ever said of {message.run}")
    if not stands:
        raise world.violated(f"{message.run} was to be run again, and never was: {sorted(ends)}")
    if world.kind.hosts > 1:
        # Two messages of one run on two hosts: one that starts nothing (skipped, cancelled before) asks nobody for it.
        stands = {name: how for name, how in stands.items() if _started(world, name)}
    if len(stands) > 1 and message.run not in world.lapsed:
        raise world.violated(f"{message.run} has ended more than once: {stands}")


def _ends_of(world: World, message: Message, executions: set[str]) -> list[dict[str, Any]]:
    told = [event for event in world.terminal(message.run) if answers(event, message)]
    return [event for event in told if event["data"]["execution"] in executions]


def _started(world: World, event_id: str) -> bool:
    return any(host.starts.get(event_id.rpartition("/")[0]) for host in world.hosts)


def _stands(world: World, end: dict[str, Any]) -> bool:
    """Whether its run is not to be run again: `lost` and `interrupted` stand where the message may have been gone."""
    if end["data"].get("outcome") not in AGAIN:
        return True
    sql = "SELECT 1 FROM runs WHERE execution = ? AND message = 'taken_over'"
    return any(host.rows(sql, end["data"]["execution"]) for host in world.hosts)


def _numbered(world: World) -> None:
    """Each event of an execution has a number of its own, and one id always says the same."""
    numbers: dict[tuple[str, int], set[str]] = defaultdict(set)
    said: dict[str, str] = {}
    for event in world.delivered:
        data = event["data"]
        if "execution" in data:
            numbers[data["execution"], data["sequence"]].add(event["id"])
        outcome = str(data.get("outcome"))
        if said.setdefault(event["id"], outcome) != outcome:
            raise world.violated(f"{event['id']} was told as {said[event['id']]} and as {outcome}")
    for (execution, number), names in numbers.items():
        if len(names) > 1:
            raise world.violated(f"sequence {number} of {execution} is {sorted(names)}")


def _nothing_left(host: Host) -> None:
    """No part of the agent remembers a run that is over."""
    life = host.life
    assert life is not None
    services = life.services
    link, keeper = vars(services.link), vars(services.keeper)
    left = {
        "room": services.roster.taking_room,
        "ledger": len(services.roster.ledger),
        "leases": services.keeper.holding,
        "limits": len(keeper["_limited"]),
        "deletions": len(keeper["_deletions"]),
        "ends": len(link["_ends"]),
        "starting": len(link["_starting"]),
        "acknowledgements": len(link["_unacknowledged"]),
        "acceptances": len(vars(services.outbox)["_waiting"]),
        "sizes": len(services.spools.sizes),
        "outputs": len(life.shipper.open_),
        "held": len(life.intake.held),
        "groups": len(services.roster.ledger.groups()),
        "stakes": len(vars(services.fleet.stakes)["_stakes"]) if services.fleet else 0,
    }
    if any(left.values()):
        raise host.world.violated(f"left over: { {name: count for name, count in left.items() if count} }")


def loss_told(life: Life, event: dict[str, Any]) -> None:
    """The agent says that it has lost a lease: not of a message that it has deleted, or could have any moment."""
    run = life.services.roster.get(event["run_id"])
    if run is not None and not run.active:
        raise life.world.violated(f"the loss of a lease is told at {CLOCK.mono} of {event['run_id']}, which has ended")
