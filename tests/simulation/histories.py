"""Named histories: what once went wrong, told step by step. In them no draw decides what happens, only how long each
call takes."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tests.simulation import aside, checkers, course, signing
from tests.simulation.life import Life
from tests.simulation.virtual import CLOCK
from tests.simulation.world import Kind, Message, World

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class History:
    """`live` is told a world of this kind in which nothing fails by itself."""

    name: str
    live: Callable[[World], None]
    kind: Kind


BY_NAME: dict[str, History] = {}


def world_of(history: History) -> World:
    return World(history.kind, random.Random(history.name))


def history(**kind: Any) -> Callable[[Callable[[World], None]], Callable[[World], None]]:
    """One more, under the name of its function."""

    def add(live: Callable[[World], None]) -> Callable[[World], None]:
        name = live.__name__
        BY_NAME[name] = History(name, live, Kind(**{"codes": (0,), **kind}))
        return live

    return add


# -- the words that they are told in


def begin(world: World) -> Life:
    life = Life(world.hosts[0])
    life.begin()
    return life


def killed_when(world: World, life: Life, holds: Callable[[], object], within: float = 300.0) -> None:
    """Let it go on until this holds, and kill it in that very moment."""
    life.when = holds
    if not world.go_on(lambda: life.dead, within):
        raise world.violated("the moment to kill it at never came")


def away(world: World, seconds: float) -> None:
    """Nobody is there for so long."""
    end = CLOCK.mono + seconds
    world.go_on(lambda: CLOCK.mono >= end, seconds + 1.0)


def job(run: str = "r", **more: Any) -> dict[str, Any]:
    return {"job": "j", "run_id": run, "command": "x", **more}


def row(world: World, run: str = "r") -> Any:
    """State, attempt and message of the run's newest execution."""
    rows = world.hosts[0].rows("SELECT state, attempt, message FROM runs WHERE run_id = ? ORDER BY rowid DESC", run)
    return rows[0] if rows else (None, 0, None)


def ends(world: World, run: str = "r") -> list[str]:
    """How it ended, by what was delivered: once each. No end of it is the rejection of another message with its id."""
    told = [event for event in world.terminal(run) if not event["type"].endswith("rejected")]
    return sorted({event["id"]: event["data"].get("outcome", "") for event in told}.values())


def expect(world: World, what: str, *, holds: object) -> None:
    if not holds:
        raise world.violated(what)


# -- the histories


@history(codes=(1,), lasts=(0.05,))
def a_further_attempt_that_was_not_started_is_not_forgotten(world: World) -> None:
    """Accepted for its second attempt, and nothing started: the agent is killed, and away for longer than the lease."""
    world.send(job(retries={"max": 3, "backoff": "3s"}))
    life = begin(world)
    killed_when(world, life, lambda: row(world)[:2] == ("accepted", 2))
    away(world, 100.0)
    course.heal(world)
    expect(world, f"its ends are {ends(world)}", holds=ends(world) == ["failed"])
    expect(world, "it was not tried four times", holds=sum(world.hosts[0].starts.values()) == 4)


@history(lasts=(0.05,))
def a_run_whose_row_has_no_end_is_no_repeat(world: World) -> None:
    """Whatever a row says of an outcome: without an end to tell, its message is not deleted as answered before."""
    world.send(job())
    life = begin(world)
    killed_when(world, life, lambda: row(world)[0] == "running")
    host = world.hosts[0]
    host.supervisor_dies()
    host.disk.execute("UPDATE runs SET state = 'ended', outcome = 'failed', message = 'gone'")
    host.disk.execute("DELETE FROM events")
    away(world, 60.0)
    course.heal(world)
    expect(world, f"its ends are {ends(world)}", holds=ends(world) == ["succeeded"])


@history(lasts=(0.05,))
def a_message_outlives_the_agent_until_its_event_is_delivered(world: World) -> None:
    """Its end is in the journal, the results queue is away, the agent is killed: its successor waits for both."""
    world.send(job())
    world.results_away = True
    killed_when(world, begin(world), lambda: row(world)[:3] == ("ended", 1, "leased"))
    begin(world)
    away(world, 20.0)
    expect(world, "its message is deleted, and nothing was delivered", holds=not world.deleted)
    course.heal(world)
    expect(world, f"its ends are {ends(world)}", holds=ends(world) == ["succeeded"])


@history()
def a_rejected_message_outlives_the_agent_until_its_event_is_delivered(world: World) -> None:
    """As with runs; and it comes to the dead-letter queue."""
    world.send({"job": "j", "run_id": "r", "comand": "x"})
    world.results_away = True
    killed_when(world, begin(world), lambda: row(world)[0] == "ended")
    away(world, 40.0)
    begin(world)
    away(world, 20.0)
    expect(world, "its message is deleted, and nothing was delivered", holds=not world.deleted)
    course.heal(world)


@history(lasts=(0.05,))
def what_was_not_delivered_is_sent_after_a_restart_whatever_else_happens(world: World) -> None:
    """Nothing is received any more, no run goes on, nobody says that anything is new: it is sent all the same."""
    world.send(job())
    world.results_away = True
    killed_when(world, begin(world), lambda: row(world)[0] == "ended")
    world.results_away = False
    world.messages.clear()
    world.hosts[0].disk.execute("UPDATE runs SET message = 'gone'")
    begin(world)
    away(world, 10.0)
    expect(world, "its end was not delivered", holds=ends(world) == ["succeeded"])


@history(codes=(1,), lasts=(0.05,))
def the_end_of_an_attempt_is_acknowledged_after_a_crash_in_backoff(world: World) -> None:
    """It is told and waits for its next attempt; the supervisor has not heard that it may forget the last one."""
    world.send(job(retries={"max": 1, "backoff": "10m"}))
    killed_when(world, begin(world), lambda: row(world)[0] == "backoff" and world.hosts[0].records)
    begin(world)
    away(world, 30.0)
    expect(world, "its record is still there", holds=not world.hosts[0].records)
    course.heal(world)


@history(lasts=(0.05,))
def the_end_of_a_run_is_acknowledged_after_a_crash(world: World) -> None:
    """The same for a run that is over, and whose message is still there."""
    world.send(job())
    killed_when(world, begin(world), lambda: row(world)[0] == "ended" and world.hosts[0].records)
    begin(world)
    away(world, 30.0)
    expect(world, "its record is still there", holds=not world.hosts[0].records)
    course.heal(world)


@history(lasts=(30.0,))
def messages_of_one_run_that_is_skipped_are_one_run(world: World) -> None:
    """A second one comes while the first is being skipped."""
    world.send(job("first", overlap="skip"))
    begin(world)
    away(world, 1.0)
    world.send(job("second", overlap="skip"))
    world.go_on(
        lambda: any(event for event in world.messages.values() if event.run == "second" and event.count),
        60.0,
        every=0.0005,
    )
    world.send(job("second", overlap="skip"))
    course.heal(world)
    told = {event["id"] for event in world.terminal("second")}
    expect(world, f"the second run is told as {told}", holds=len(told) == 1)


@history(lasts=(30.0,))
def another_jobs_message_with_the_same_run_id_is_rejected(world: World) -> None:
    """While that run is active, while it is held, and when it has ended."""
    world.send(job("r"))
    life = begin(world)
    away(world, 5.0)
    others = [world.send(job("r", command="y"))]
    away(world, 60.0)
    others.append(world.send(job("r", job="other")))
    away(world, 10.0)
    life.kill()
    course.heal(world)
    for message in others:
        expect(world, f"{message.id} was not rejected", holds=len(checkers.rejected(world, message)) == 1)
    expect(world, f"the ends of the run are {ends(world)}", holds=ends(world) == ["succeeded"])


@history(lasts=(0.05,), visibility=10.0)
def a_deletion_whose_answer_is_lost_is_no_lost_lease(world: World) -> None:
    """SQS has deleted the message; its answer never comes, and for a while no other deletion gets through."""
    world.send(job())
    world.deletions_unanswered = True
    life = begin(world)
    away(world, 40.0)
    world.deletions_unanswered = False
    expect(world, "a lease is counted as lost", holds=life.services.keeper.lost == 0)
    course.heal(world)


@history(lasts=(1.0,))
def a_run_that_is_taken_over_can_be_cancelled_at_once(world: World) -> None:
    """Before the next agent has gone through its journal it knows nothing of it; what it answers is so all the same."""
    world.send(job(retries={"max": 1}))
    killed_when(world, begin(world), lambda: row(world)[0] == "running")
    life = begin(world)
    answers: list[dict[str, Any]] = []

    async def ask() -> None:
        answers.append(await life.operations.cancel("r", by="somebody"))

    world.go_on(lambda: hasattr(life, "operations"), 60.0, every=0.0001)
    life.do(ask())
    world.go_on(lambda: answers, 60.0)
    expect(world, f"the answer is {answers}", holds=answers[0]["cancelled"] and answers[0]["state"] != "elsewhere")
    course.heal(world)


@history(visibility=600.0, wait=20.0, lasts=(course.HOURS_12 + 1200.0,))
def a_run_of_more_than_twelve_hours_is_taken_over(world: World) -> None:
    """The agent is killed before, and after it has answered for the run alone; the job lives on."""
    world.send(job(timeout="2d"))
    killed_when(world, begin(world), lambda: CLOCK.mono > course.HOURS_12 - 3600.0, course.HOURS_12)
    killed_when(world, begin(world), lambda: row(world)[2] == "taken_over", course.HOURS_12)
    course.heal(world)
    expect(world, f"its ends are {ends(world)}", holds=ends(world) == ["succeeded"])


@history(power=True, lasts=(0.05,))
def what_was_told_survives_a_power_cut(world: World) -> None:
    """The supervisor has forgotten the end, the message is still there: nothing is told twice, or otherwise."""
    world.send(job())
    life = begin(world)
    life.when = lambda: row(world)[0] == "ended"
    world.go_on(lambda: life.dead, 60.0)
    world.hosts[0].power_cut()
    away(world, 40.0)
    course.heal(world)


@history(lasts=(0.05,))
def a_run_that_is_cancelled_while_the_disk_is_full_shuts_nobody_out(world: World) -> None:
    """It waited for room for its output, and was the only one to look whether there is some by now."""
    world.send(job())
    world.disk_full = True
    life = begin(world)
    away(world, 5.0)
    life.do(life.operations.cancel("r", by="somebody"))
    away(world, 5.0)
    world.disk_full = False
    world.send(job("next"))
    away(world, 30.0)
    expect(world, f"the next run's ends are {ends(world, 'next')}", holds=ends(world, "next") == ["succeeded"])
    course.heal(world)


@history(lasts=(0.05,))
def an_end_of_which_the_lost_journal_alone_had_the_event_is_told(world: World) -> None:
    """The results queue is away with the first run's events, and the second run's are in the journal only."""
    world.results_away = True
    world.send(job("first"))
    life = begin(world)
    world.go_on(lambda: row(world, "first")[0] == "ended", 60.0)
    world.send(job("second"))
    world.go_on(lambda: row(world, "second")[0] == "ended", 60.0)
    aside.put_aside(world.hosts[0])
    away(world, 5.0)
    world.results_away = False
    away(world, 30.0)
    for run in ("first", "second"):
        expect(world, f"the ends of the {run} run are {ends(world, run)}", holds=ends(world, run) == ["succeeded"])
    expect(world, "a message is still held", holds=not life.services.keeper.holding)
    course.heal(world)


@history(lasts=(30.0,))
def what_the_lost_journal_alone_knew_is_adopted_from_the_supervisor(world: World) -> None:
    """One run has ended meanwhile, one goes on, and their messages come again."""
    world.send(job("first"))
    life = begin(world)
    world.go_on(lambda: row(world, "first")[0] == "running", 60.0)
    away(world, 20.0)
    world.send(job("second"))
    killed_when(world, life, lambda: row(world, "second")[0] == "running")
    away(world, 15.0)
    aside.put_aside(world.hosts[0])
    course.heal(world)
    for run in ("first", "second"):
        expect(world, f"the ends of the {run} run are {ends(world, run)}", holds=ends(world, run) == ["succeeded"])
    expect(world, "a run was started again", holds=sum(world.hosts[0].starts.values()) == 2)


@history(lasts=(60.0,))
def a_run_that_is_adopted_twice_is_told_under_the_same_numbers(world: World) -> None:
    """The agent is killed when it has written the run's row, and not its start; the next one tells that, and its
    journal is lost too."""
    world.send(job())
    killed_when(world, begin(world), lambda: row(world)[0] == "running")
    aside.put_aside(world.hosts[0])
    killed_when(world, begin(world), lambda: row(world)[0] == "accepted")
    life = begin(world)
    away(world, 5.0)
    life.kill()
    aside.put_aside(world.hosts[0])
    course.heal(world)
    expect(world, f"its ends are {ends(world)}", holds=ends(world) == ["succeeded"])


def _comes_again(world: World, message: Message) -> None:
    """A copy of it, to whoever holds it; SQS may do so at any time."""
    world.copies.append(message)
    count = message.count
    world.go_on(lambda: message.count > count, 30.0)


@history(signed=True, lasts=(20.0,))
def what_nobody_signed_and_what_is_replayed_starts_nothing(world: World) -> None:
    """A signed message runs once, over a crash; what somebody makes of it without a key is rejected."""
    good = job()
    world.send(good)
    for number in range(6):
        signing.intrude(world, good, number)
    life = begin(world)
    killed_when(world, life, lambda: world.hosts[0].alive)
    begin(world)
    away(world, 60.0)
    expect(world, f"the run's ends are {ends(world)}", holds=ends(world) == ["succeeded"])
    reasons = sorted(event["data"]["reason"] for event in world.delivered if event["type"].endswith("rejected"))
    wanted = ["bad_signature"] * 2 + ["not_allowed"] * 3 + ["not_signed"]
    expect(world, f"it was rejected as {reasons}", holds=reasons == wanted)
    course.heal(world)


@history(lasts=(150.0,))
def a_message_that_comes_again_while_its_run_is_active_is_held_by_its_newest_receipt(world: World) -> None:
    """And the next agent goes on with that one too."""
    message = world.send(job())
    life = begin(world)
    world.go_on(lambda: row(world)[0] == "running", 60.0)
    _comes_again(world, message)
    away(world, 50.0)
    life.kill()
    begin(world)
    away(world, 50.0)
    expect(world, f"it was received {message.count} times", holds=message.count == 2)
    course.heal(world)


@history(lasts=(150.0,), hold=300.0)
def a_message_that_comes_again_while_it_waits_is_held_by_its_newest_receipt(world: World) -> None:
    """Its run waits for one of its job."""
    world.send(job("first", overlap="wait"))
    begin(world)
    world.go_on(lambda: row(world, "first")[0] == "running", 60.0)
    message = world.send(job("second", overlap="wait"))
    world.go_on(lambda: message.count, 30.0)
    _comes_again(world, message)
    away(world, 100.0)
    expect(world, f"it was received {message.count} times", holds=message.count == 2)
    course.heal(world)


@history()
def a_message_that_comes_again_while_it_is_answered_is_held_by_its_newest_receipt(world: World) -> None:
    """It is rejected, and that cannot be told yet."""
    world.results_away = True
    message = world.send({"job": "j", "run_id": "r", "comand": "x"})
    begin(world)
    world.go_on(lambda: row(world)[0] == "ended", 60.0)
    _comes_again(world, message)
    away(world, 50.0)
    expect(world, f"it was received {message.count} times", holds=message.count == 2)
    course.heal(world)


@history(lasts=(0.05,))
def a_message_runs_where_the_lost_journal_alone_knew_why_it_was_rejected(world: World) -> None:
    """Its run id is another run's. That is told, and it has not come to the dead-letter queue when the journal goes."""
    world.dead_letters_away = True
    world.send(job())
    life = begin(world)
    world.go_on(lambda: len(world.deleted) == 1, 60.0)
    other = world.send(job(command="y"))
    killed_when(world, life, lambda: checkers.rejected(world, other))
    aside.put_aside(world.hosts[0])
    course.heal(world)
    expect(world, "it is neither run nor buried", holds=other.id in world.ran or other.id in world.buried)
    expect(world, f"the ends are {ends(world)}", holds=ends(world) == ["succeeded"] * 2)


@history(policy="resources", most_receives=2, lasts=(0.05,))
def a_rejection_that_was_told_stands_whatever_has_changed_of_its_ground(world: World) -> None:
    """It does not fit the host, which is told; the next agent is configured so that it would."""
    world.dead_letters_away = True
    message = world.send(job(resources={"cpu": 64}))
    killed_when(world, begin(world), lambda: checkers.rejected(world, message))
    world.kind = replace(world.kind, policy="free-for-all")
    course.heal(world)
    expect(world, "it ran after all", holds=not world.ran)
    expect(world, "it is not buried", holds=message.id in world.buried)


@history(fifo=True, lasts=(60.0,))
def the_group_of_a_run_whose_message_is_gone_is_known_over_restarts(world: World) -> None:
    """SQS gives the group's next message out; it waits for the run, also where only the supervisor knows of that."""
    world.send(job("first", ack="on-start"), group="g")
    killed_when(world, begin(world), lambda: row(world, "first")[0] == "running")
    world.send(job("second"), group="g")
    killed_when(world, begin(world), lambda: any(message.count for message in world.messages.values()))
    aside.put_aside(world.hosts[0])
    begin(world)
    away(world, 35.0)
    expect(world, "the second one was started beside it", holds=sum(world.hosts[0].starts.values()) == 1)
    course.heal(world)
    for run in ("first", "second"):
        expect(world, f"the ends of the {run} run are {ends(world, run)}", holds=ends(world, run) == ["succeeded"])


@history(hosts=2, table=True, policy="one-at-a-time", lasts=(30.0,))
def a_message_with_the_run_id_of_another_hosts_run_is_rejected_there(world: World) -> None:
    """While that one goes on, and when it is over; a copy of its own is no other's."""
    own = world.send(job())
    begin(world)
    world.go_on(lambda: row(world)[0] == "running", 60.0)
    other = Life(world.hosts[1])
    other.begin()
    while_it_runs = world.send(job(job="other"))
    away(world, 10.0)
    expect(world, "it is not rejected while the run goes on", holds=while_it_runs.id in world.buried)
    away(world, 60.0)
    assert world.hosts[0].life is not None
    world.hosts[0].life.kill()
    copy, afterwards = world.send(job()), world.send(job(command="y"))
    away(world, 10.0)
    expect(world, "another's is not rejected afterwards", holds=afterwards.id in world.buried)
    expect(world, "a copy of its own is not deleted", holds=copy.id in world.deleted and copy.id not in world.buried)
    course.heal(world)
    expect(world, f"{own.id} ended as {ends(world)}", holds=ends(world) == ["succeeded"])
