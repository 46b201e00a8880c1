"""What follows for a run from what happens to it: one table, phase and input → phase and orders.

Whoever drives a run (engine/run.py, also after a restart, and clearing.py before its start) asks `step`, and carries
out the orders of the rule one after the other; the last one brings the next input. Nothing here waits, or asks a clock.
docs/way-of-a-run.md is made from the table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from runner.agent.runs.inputs import (
    Accepted,
    Began,
    ClaimAnswered,
    Collected,
    Continued,
    Due,
    Ended,
    EndTold,
    Found,
    Input,
    LeaseLost,
    LimitNear,
    Lost,
    Said,
    SecretsFetched,
    SecretsRefused,
    Seen,
    SpoolMade,
    SpoolRefused,
    StopAsked,
    Withdrawn,
)
from runner.agent.runs.run import MessageState
from runner.agent.runs.standing import Phase
from runner.protocol.outcome import Outcome

if TYPE_CHECKING:
    from runner.agent.runs.run import Execution

# After these a further attempt makes sense; the others were decided by somebody, or would end the same way.
RETRIED = frozenset({Outcome.FAILED, Outcome.TIMED_OUT, Outcome.KILLED, Outcome.OOM_KILLED, Outcome.START_FAILED})
# These ended here, but the message says that the run is still wanted: it goes back to the queue.
HANDED_BACK = frozenset({Outcome.INTERRUPTED, Outcome.LOST})


@dataclass(frozen=True, slots=True)
class Stop:
    """Why we stop a run: `cause` is the supervisor's word. `grace` in seconds, None: the job's own."""

    cause: str
    detail: str = ""
    grace: float | None = None


class Impossible(Exception):
    """This cannot happen to a run in this phase: a fault of ours."""


class Order(Enum):
    """What is to be done, in the imperative, with what it waits for before it is done."""

    # before its row
    GIVE_UP = "put its message back, and give up its claim"
    HAND_BACK = "hand its message to another host, after a while"
    ASK_AGAIN = "ask the fleet again in a few seconds"
    DROP_COPY = "delete its message: it is a copy of a run that is over"
    REFUSE = "reject it: its run id is another run's"
    TELL = "tell what becomes of it instead of a start; then its claim says that it is over"
    SKIP = "note that it is skipped for the run that is active elsewhere"
    BEGIN_HERE = "make a run of it: its row, written before anything else"
    FREE_CLAIM = "give up its claim, for whoever is asked first"
    REPLACE = "ask the host of the other run to end it"
    TO_LINE = "put it into the line again"
    TO_LINE_LATER = "put it into the line again, to be asked for in a few seconds"
    # to a process
    TAKE_OVER = "answer for it alone: note that in its row, for good, then delete its message"
    FETCH_SECRETS = "fetch its secrets, for as long as it has patience; without its room if that takes longer"
    MAKE_SPOOL = "make the file for its output, and its row"
    WAIT_FOR_ROOM = "look again in a moment whether the disk has room"
    START = "let the supervisor start it, under its key"
    SAY_STARTED = "write that it runs, with its started event"
    STOP = "let the supervisor stop it: signal, grace, kill"
    WATCH = "wait for its end, with heartbeats"
    # to its end
    FREE_ROOM = "free its room: nothing more of it is to be started"
    COLLECT = "wait for the rest of its output, not for long"
    END_UNSTARTED = "end it as one that never had a process"
    END_OUTPUT = "write how its output ended, in one transaction with what follows"
    TELL_END = "write how it ended with its finished event, and flush that"
    ACKNOWLEDGE = "let the supervisor forget its end, and the output go"
    WAIT = "wait until its next attempt is due"
    NEXT_ATTEMPT = "count its next attempt, for the supervisor of now"
    WRITE_ROW = "write where it stands"
    # what is owed for it
    LEAVE_CLAIM = "let the fleet's table say that it is over"
    RETURN_CLAIM = "let the fleet's table give it to another host"
    AWAIT_CLAIM = "wait until the fleet's table has taken that"
    AWAIT_EVENT = "wait until the results queue has its finished event"
    GIVE_UP_MESSAGE = "write that its message is nothing of ours any more, and flush that"
    RELEASE = "put its message back on the queue"
    DELETE = "delete its message, by its newest receipt"
    DROP = "renew its message no more"
    FORGET = "let it leave the table: a message of it is answered from the journal"
    NOTE_GONE = "write that its message is gone"
    WARN_LOST = "warn that its message may come again"
    NOTE_LOST = "note that its lease is lost"
    KILL = "end it, for its lost lease"
    # after a restart
    FOLLOW = "go on with its output where its sinks have come to"
    TAKE_UP = "learn from the supervisor who its process is, and what is to be masked"
    SAY_STARTED_AGAIN = "write that it runs, with the started event that was never written"
    ENLIST = "let it take its room, hold its message and take its claim again"
    BEGIN = "go on as if it had been accepted now"
    WATCH_AGAIN = "ask what became of it, or wait for its end"
    DISOWN = "end it untold: nothing of it was started, and any host may have its message"
    HOLD = "hold its message"
    END_CLAIM = "let the fleet's table say that it is over, and wait for that"
    FREE_OLD_CLAIM = "let the fleet's table give it to another host, and wait for that"


Test = Callable[[Any, Stop | None, Any], bool]


@dataclass(frozen=True, slots=True)
class Rule:
    """`when` says in words under which `test` it holds. `then`: the phase that the run is in while the orders are
    carried out; None: it is no run of this host any more."""

    phase: Phase
    on: type[Input]
    then: Phase | None
    orders: tuple[Order, ...]
    when: str = ""
    test: Test | None = None


def _last(run: Execution, stop: Stop | None, _: Input) -> bool:
    return stop is not None or run.attempt > run.job.retries.max


def _again(run: Execution, stop: Stop | None, happened: Collected) -> bool:
    return happened.outcome in RETRIED and not _last(run, stop, happened)


def _stopped(_run: Execution, stop: Stop | None, _: Input) -> bool:
    return stop is not None


def _secret(run: Execution, _stop: Stop | None, _: Input) -> bool:
    return bool(run.job.secrets)


def _handed_back(run: Execution, _stop: Stop | None, _: Input) -> bool:
    return run.outcome in HANDED_BACK


def _not_executed(_run: Execution, _stop: Stop | None, happened: Began) -> bool:
    return happened.started.exit is not None and happened.started.exit.start_error is not None


def _startable(_run: Execution, _stop: Stop | None, found: Found) -> bool:
    return found.seen is Seen.PENDING or (found.seen is Seen.NOTHING and found.same)


def _too_late(run: Execution, _stop: Stop | None, found: Found) -> bool:
    # Of its first attempt alone: what has told of an end and a further attempt goes on, whatever its lease.
    return found.seen is Seen.NOTHING and found.same and found.over and run.attempt == 1


def _gone(_run: Execution, _stop: Stop | None, found: Found) -> bool:
    return found.seen is Seen.NOTHING


def _collects(phase: Phase, on: type[Input]) -> tuple[Rule, Rule]:
    """With and without a further attempt: the room is free as soon as none can come."""
    return (
        Rule(phase, on, Phase.COLLECTING, (Order.FREE_ROOM, Order.COLLECT), "stopped, or the last attempt", _last),
        Rule(phase, on, Phase.COLLECTING, (Order.COLLECT,)),
    )


_UNHELD: Final = (Said.ELSEWHERE, Said.AWAY)
_UNSTARTED: Final = (Order.FREE_ROOM, Order.END_UNSTARTED)
_SETTLED: Final = (Order.AWAIT_EVENT, Order.DELETE, Order.DROP)

_P, _O = Phase, Order

_GOING: Final = (_P.ACCEPTED, _P.RUNNING, _P.COLLECTING, _P.BACKOFF)


def _asked(then: Phase | None, orders: tuple[Order, ...], when: str, test: Callable[[ClaimAnswered], bool]) -> Rule:
    return Rule(_P.CLAIMING, ClaimAnswered, then, orders, when, lambda _run, _stop, answered: test(answered))


TABLE: Final = (
    # -- the fleet is asked
    _asked(None, (_O.GIVE_UP,), "the agent stops, or its lease is lost", lambda a: a.leaving),
    _asked(None, (_O.HAND_BACK,), "no start, not ours to tell, and it may go back",
           lambda a: a.ends and a.said in _UNHELD and a.goes_back),
    _asked(_P.CLAIMING, (_O.ASK_AGAIN,), "no start, and not ours to tell", lambda a: a.ends and a.said in _UNHELD),
    _asked(None, (_O.DROP_COPY,), "over elsewhere", lambda a: a.said is Said.OVER),
    _asked(None, (_O.REFUSE,), "its run id is another run's", lambda a: a.said is Said.ANOTHER),
    _asked(None, (_O.TELL,), "no start", lambda a: a.ends),
    _asked(_P.ACCEPTED, (_O.BEGIN_HERE,), "clear, and still welcome", lambda a: a.said is Said.CLEAR and a.welcome),
    _asked(_P.WAITING, (_O.FREE_CLAIM, _O.TO_LINE), "clear, and no longer welcome", lambda a: a.said is Said.CLEAR),
    _asked(None, (_O.SKIP, _O.TELL), "its job is active elsewhere, `skip`",
           lambda a: a.said is Said.BUSY and a.overlap == "skip"),
    _asked(_P.WAITING, (_O.FREE_CLAIM, _O.REPLACE, _O.TO_LINE_LATER), "its job is active elsewhere, `replace`",
           lambda a: a.said is Said.BUSY and a.overlap == "replace"),
    _asked(_P.WAITING, (_O.FREE_CLAIM, _O.TO_LINE_LATER), "its job is active elsewhere", lambda a: a.said is Said.BUSY),
    Rule(_P.CLAIMING, ClaimAnswered, _P.WAITING, (_O.TO_LINE_LATER,)),
    # -- to a process
    Rule(_P.ACCEPTED, Accepted, _P.ACCEPTED, (_O.TAKE_OVER,), "`ack = on-start`",
         lambda run, _stop, _: run.job.ack == "on-start" and run.lease is not None),
    Rule(_P.ACCEPTED, Accepted, _P.COLLECTING, _UNSTARTED, "stopped", _stopped),
    Rule(_P.ACCEPTED, Accepted, _P.ACCEPTED, (_O.FETCH_SECRETS,), "it has `secrets`", _secret),
    Rule(_P.ACCEPTED, Accepted, _P.ACCEPTED, (_O.MAKE_SPOOL,)),
    Rule(_P.ACCEPTED, Continued, _P.COLLECTING, _UNSTARTED, "stopped", _stopped),
    Rule(_P.ACCEPTED, Continued, _P.ACCEPTED, (_O.FETCH_SECRETS,), "it has `secrets`", _secret),
    Rule(_P.ACCEPTED, Continued, _P.ACCEPTED, (_O.MAKE_SPOOL,)),
    Rule(_P.ACCEPTED, SecretsFetched, _P.COLLECTING, _UNSTARTED, "stopped", _stopped),
    Rule(_P.ACCEPTED, SecretsFetched, _P.ACCEPTED, (_O.MAKE_SPOOL,)),
    Rule(_P.ACCEPTED, SecretsRefused, _P.COLLECTING, _UNSTARTED, "stopped, or the last attempt", _last),
    Rule(_P.ACCEPTED, SecretsRefused, _P.COLLECTING, (_O.END_UNSTARTED,)),
    Rule(_P.ACCEPTED, SpoolRefused, _P.ACCEPTED, (_O.WAIT_FOR_ROOM,)),
    Rule(_P.ACCEPTED, SpoolMade, _P.ACCEPTED, (_O.START,)),
    Rule(_P.ACCEPTED, Began, _P.COLLECTING, (_O.FREE_ROOM, _O.COLLECT), "it could not be executed, the last attempt",
         lambda run, stop, began: _not_executed(run, stop, began) and _last(run, stop, began)),
    Rule(_P.ACCEPTED, Began, _P.COLLECTING, (_O.COLLECT,), "it could not be executed", _not_executed),
    Rule(_P.ACCEPTED, Began, _P.RUNNING, (_O.SAY_STARTED, _O.STOP, _O.WATCH), "stopped meanwhile", _stopped),
    Rule(_P.ACCEPTED, Began, _P.RUNNING, (_O.SAY_STARTED, _O.WATCH)),
    Rule(_P.ACCEPTED, Withdrawn, _P.COLLECTING, (_O.FREE_ROOM, _O.COLLECT)),
    # -- to its end
    *_collects(_P.ACCEPTED, Lost),
    *_collects(_P.RUNNING, Ended),
    *_collects(_P.RUNNING, Lost),
    Rule(_P.COLLECTING, Collected, _P.BACKOFF, (_O.END_OUTPUT, _O.TELL_END), "it is tried again", _again),
    Rule(_P.COLLECTING, Collected, _P.ENDED, (_O.END_OUTPUT, _O.FREE_ROOM, _O.TELL_END)),
    Rule(_P.BACKOFF, EndTold, _P.BACKOFF, (_O.ACKNOWLEDGE, _O.WAIT)),
    Rule(_P.BACKOFF, Due, _P.COLLECTING, (_O.NEXT_ATTEMPT, *_UNSTARTED), "stopped", _stopped),
    Rule(_P.BACKOFF, Due, _P.ACCEPTED, (_O.NEXT_ATTEMPT, _O.WRITE_ROW)),
    # -- what is owed for it
    Rule(_P.ENDED, EndTold, _P.ENDED, (_O.LEAVE_CLAIM, _O.ACKNOWLEDGE, _O.FORGET), "nothing is owed to the queue",
         lambda run, _stop, _: run.lease is None or run.message is not MessageState.LEASED),
    Rule(_P.ENDED, EndTold, _P.ENDED,
         (_O.RETURN_CLAIM, _O.ACKNOWLEDGE, _O.AWAIT_CLAIM, _O.GIVE_UP_MESSAGE, _O.FORGET, _O.RELEASE, _O.DROP),
         "lost or interrupted", _handed_back),
    Rule(_P.ENDED, EndTold, _P.ENDED,
         (_O.LEAVE_CLAIM, _O.ACKNOWLEDGE, _O.AWAIT_CLAIM, *_SETTLED, _O.FORGET, _O.NOTE_GONE)),
    # -- from outside
    *(Rule(phase, StopAsked, phase, (_O.STOP,), "a start is under way, or its process is there",
           lambda _run, _stop, asked: asked.there) for phase in (_P.ACCEPTED, _P.RUNNING)),
    *(Rule(phase, StopAsked, phase, ()) for phase in (*_GOING, _P.ENDED)),
    *(Rule(phase, LeaseLost, phase, (_O.NOTE_LOST, _O.KILL), "`on_lost_lease = kill`",
           lambda _run, _stop, lost: lost.policy == "kill") for phase in _GOING),
    *(Rule(phase, LeaseLost, phase, (_O.NOTE_LOST,)) for phase in _GOING),
    Rule(_P.ENDED, LeaseLost, _P.ENDED, (_O.WARN_LOST,)),
    *(Rule(phase, LimitNear, phase, (_O.TAKE_OVER,)) for phase in (*_GOING, _P.ENDED)),
    # -- after a restart
    Rule(_P.ACCEPTED, Found, _P.ENDED, (_O.DISOWN, _O.FREE_OLD_CLAIM), "never started, and its lease is over",
         _too_late),
    Rule(_P.ACCEPTED, Found, _P.ACCEPTED, (_O.ENLIST, _O.BEGIN), "never started", _startable),
    Rule(_P.ACCEPTED, Found, _P.RUNNING, (_O.FOLLOW, _O.ENLIST, _O.WATCH_AGAIN), "gone with its supervisor", _gone),
    Rule(_P.ACCEPTED, Found, _P.RUNNING, (_O.FOLLOW, _O.TAKE_UP, _O.ENLIST, _O.WATCH_AGAIN), "it could not be executed",
         lambda _run, _stop, found: found.seen is Seen.NOT_EXECUTED),
    Rule(_P.ACCEPTED, Found, _P.RUNNING,
         (_O.FOLLOW, _O.TAKE_UP, _O.SAY_STARTED_AGAIN, _O.ENLIST, _O.WATCH_AGAIN)),
    Rule(_P.RUNNING, Found, _P.RUNNING, (_O.FOLLOW, _O.ENLIST, _O.WATCH_AGAIN), "gone with its supervisor", _gone),
    Rule(_P.RUNNING, Found, _P.RUNNING, (_O.FOLLOW, _O.TAKE_UP, _O.ENLIST, _O.WATCH_AGAIN)),
    Rule(_P.BACKOFF, Found, _P.BACKOFF, (_O.ENLIST, _O.WAIT)),
    Rule(_P.ENDED, Found, _P.ENDED, (_O.FREE_OLD_CLAIM, _O.NOTE_GONE, _O.RELEASE), "lost or interrupted", _handed_back),
    Rule(_P.ENDED, Found, _P.ENDED, (_O.NOTE_GONE,), "no message is held", lambda run, _stop, _: run.lease is None),
    Rule(_P.ENDED, Found, _P.ENDED, (_O.HOLD, _O.END_CLAIM, *_SETTLED, _O.NOTE_GONE)),
)  # fmt: skip

_BY_INPUT: Final[dict[tuple[Phase, type[Input]], tuple[Rule, ...]]] = {
    (rule.phase, rule.on): tuple(other for other in TABLE if (other.phase, other.on) == (rule.phase, rule.on))
    for rule in TABLE
}


def step(phase: Phase, happened: Input, run: Execution | None = None, stop: Stop | None = None) -> Rule:
    """The first rule that fits. Raises Impossible where there is none. `run` None: it has no row yet."""
    for rule in _BY_INPUT.get((phase, type(happened)), ()):
        if rule.test is None or rule.test(run, stop, happened):
            return rule
    raise Impossible(f"{type(happened).__name__} of a run that is {phase}")
