"""The table of a run: every way through it, walked. The orders keep what is promised, whatever comes in between."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from executions import execution
from structlog.testing import capture_logs

from runner.agent.engine import run as driver
from runner.agent.engine.recovered import Recovered
from runner.agent.engine.run import Run
from runner.agent.runs import inputs
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
from runner.agent.runs.output import OutputEnd, OutputReport
from runner.agent.runs.process import ExitRecord, Started
from runner.agent.runs.run import Execution, MessageState
from runner.agent.runs.standing import Phase
from runner.agent.runs.step import HANDED_BACK, RETRIED, TABLE, Impossible, Order, Rule, Stop, step
from runner.protocol.job import Retries
from runner.protocol.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = ExitRecord("e/1")
REPORT = OutputReport(0, 0, 0, truncated=False, tail="", failed_on=None, missing=None, lines=0)
BEGAN, NOT_EXECUTED = Started("e/1"), Started("e/1", exit=ExitRecord("e/1", start_error=(2, "no such file")))
STOP = Stop("cancel")
COLLECTED = [
    Collected(RECORD, REPORT, outcome, end, shipped=True) for outcome in Outcome for end in (None, OutputEnd(0, 0))
]
FOUND = [Found(seen, same, over) for seen in Seen for same in (False, True) for over in (False, True)]
ANSWERS = [
    ClaimAnswered(said, overlap, leaving, ends, welcome, goes_back)
    for said in Said
    for overlap in ("allow", "wait", "skip", "replace")
    for leaving in (False, True)
    for ends in (False, True)
    for welcome in (False, True)
    for goes_back in (False, True)
]
HAPPENINGS: list[Input] = [
    *ANSWERS,
    *(SecretsFetched(), SecretsRefused("why")),
    *(Accepted(), Continued(), SpoolMade(3), SpoolRefused(), Began(BEGAN), Began(NOT_EXECUTED), Withdrawn()),
    *(Ended(RECORD), Lost(), *COLLECTED, EndTold(), EndTold(begun=False), Due(), StopAsked(True), StopAsked(False)),
    *(LeaseLost("why", "kill"), LeaseLost("why", "continue"), LimitNear(), *FOUND),
]
# What can happen when; all else is a fault of ours.
ALWAYS = {StopAsked, LeaseLost, LimitNear}
CAN_HAPPEN = {
    Phase.WAITING: set[type[Input]](),
    Phase.CLAIMING: {ClaimAnswered},
    Phase.ACCEPTED: {
        Accepted,
        Continued,
        SecretsFetched,
        SecretsRefused,
        SpoolMade,
        SpoolRefused,
        Began,
        Withdrawn,
        Lost,
        Found,
    }
    | ALWAYS,
    Phase.RUNNING: {Ended, Lost, Found} | ALWAYS,
    Phase.COLLECTING: {Collected} | ALWAYS,
    Phase.BACKOFF: {EndTold, Due, Found} | ALWAYS,
    Phase.ENDED: {EndTold, Found} | ALWAYS,
}


def _runs() -> Iterator[tuple[Execution, Stop | None]]:
    """Every kind of run that the table tells apart."""
    for attempt, most in ((1, 0), (1, 2), (3, 2)):
        for ack in ("on-success", "on-start"):
            for message in MessageState:
                for outcome in (None, *Outcome):
                    for stop in (None, STOP):
                        made = execution(attempt=attempt, message=message, outcome=outcome)
                        secrets = {"A": "ssm:/a"} if outcome in (None, Outcome.FAILED) else {}
                        made.job = replace(made.job, ack=ack, retries=Retries(max=most), secrets=secrets)
                        if message is not MessageState.LEASED:
                            made.lease = None
                        yield made, stop


RUNS = list(_runs())


def test_every_input_is_decided_on_or_impossible() -> None:
    assert set(inputs.INPUTS) == {type(happened) for happened in HAPPENINGS}
    for phase in Phase:
        for happened in HAPPENINGS:
            if type(happened) not in CAN_HAPPEN[phase]:
                with pytest.raises(Impossible, match=f"^{type(happened).__name__} of a run that is {phase}$"):
                    step(phase, happened, *RUNS[0])


def test_each_rule_is_reached() -> None:
    reached = {
        id(step(phase, happened, run, stop))
        for phase in Phase
        for happened in HAPPENINGS
        if type(happened) in CAN_HAPPEN[phase]
        for run, stop in (RUNS if phase is not Phase.CLAIMING else RUNS[:1])
    }
    assert [rule for rule in TABLE if id(rule) not in reached] == []


def test_each_order_of_a_run_can_be_carried_out() -> None:
    for rule in TABLE:
        who = Recovered if rule.on is Found else Run
        if rule.phase is not Phase.CLAIMING:
            assert [order for order in rule.orders if not hasattr(who, f"do_{order.name.lower()}")] == []
    assert {order for rule in TABLE for order in rule.orders} == set(Order)


# -- every way through it


class State(NamedTuple):
    """Of a walk: where it stands, and what was done so far."""

    phase: Phase
    attempt: int
    stopped: bool
    leased: bool
    outcome: Outcome | None
    done: tuple[tuple[Order, int], ...]


# What an order may bring, when it is the last of its rule.
BRINGS: dict[Order, list[Input]] = {
    Order.BEGIN: [Accepted()],
    Order.TAKE_OVER: [Continued()],
    Order.FETCH_SECRETS: [SecretsFetched(), SecretsRefused("why")],
    Order.MAKE_SPOOL: [SpoolMade(3), SpoolRefused()],
    Order.WAIT_FOR_ROOM: [Continued()],
    Order.START: [Began(BEGAN), Began(NOT_EXECUTED), Lost()],
    Order.WATCH: [Ended(RECORD), Lost()],
    Order.WATCH_AGAIN: [Ended(RECORD), Lost()],
    Order.TELL_END: [EndTold()],
    Order.WAIT: [Due()],
    Order.WRITE_ROW: [Continued()],
}
MOST = 2
LOOKING = (Order.WAIT_FOR_ROOM, Order.MAKE_SPOOL, Order.FETCH_SECRETS)


def brought(order: Order, state: State) -> list[Input]:
    if order is Order.START and state.stopped:
        return [*BRINGS[order], Withdrawn()]
    if order is Order.COLLECT:
        # Whatever stops a run, it may have succeeded before; what nobody had is lost.
        ends = (Outcome.SUCCEEDED, Outcome.FAILED, Outcome.LOST, *((Outcome.INTERRUPTED,) if state.stopped else ()))
        return [Collected(RECORD, REPORT, outcome, OutputEnd(0, 0)) for outcome in ends]
    if order is Order.END_UNSTARTED:
        return [
            Collected(RECORD, REPORT, outcome, None)
            for outcome in (Outcome.CANCELLED, Outcome.INTERRUPTED, Outcome.START_FAILED)
        ]
    return BRINGS.get(order, [])


def row(state: State, ack: str) -> Execution:
    made = execution(attempt=state.attempt, outcome=state.outcome)
    secrets = {"A": "ssm:/a"} if ack == "on-start" else {}
    made.job = replace(made.job, ack=ack, retries=Retries(max=MOST - 1), secrets=secrets)
    if not state.leased:
        made.lease, made.message = None, MessageState.TAKEN_OVER
    return made


def after(state: State, happened: Input, rule: Rule) -> State:
    done = Counter(dict(state.done))
    outcome = happened.outcome if isinstance(happened, Collected) else state.outcome
    attempt, leased = state.attempt, state.leased
    for order in rule.orders:
        check(order, done, outcome, leased=leased)
        done[order] += 1
        attempt += order is Order.NEXT_ATTEMPT
        leased = leased and order is not Order.TAKE_OVER
    assert rule.then is not None
    return State(
        rule.then, attempt, state.stopped, leased, outcome, tuple(sorted(done.items(), key=lambda one: one[0].name))
    )


def check(order: Order, done: Counter[Order], outcome: Outcome | None, *, leased: bool) -> None:
    """What must have been done before an order is carried out, and what must not."""
    told = done[Order.TELL_END]
    match order:
        case Order.START:
            assert done[Order.START] <= told, "a second process beside the first"
            assert not done[Order.FREE_ROOM], "a start without room"
        case Order.SAY_STARTED:
            assert done[Order.SAY_STARTED] < done[Order.START]
        case Order.ACKNOWLEDGE:
            assert done[Order.ACKNOWLEDGE] < told, "the supervisor forgets an end that is not told"
        case Order.DELETE:
            assert told, "deleted with nothing told"
            assert done[Order.AWAIT_EVENT], "deleted before its event is delivered"
            assert outcome not in HANDED_BACK, "deleted, and nobody runs it again"
        case Order.AWAIT_EVENT | Order.GIVE_UP_MESSAGE:
            assert done[Order.LEAVE_CLAIM] + done[Order.RETURN_CLAIM] == done[Order.AWAIT_CLAIM] == 1
        case Order.RELEASE:
            assert done[Order.GIVE_UP_MESSAGE], "put back while its row says that it is held"
            assert outcome in HANDED_BACK
        case Order.FORGET:
            assert done[Order.ACKNOWLEDGE] == told
        case Order.NEXT_ATTEMPT:
            assert outcome in RETRIED
    if order in (Order.DELETE, Order.RELEASE, Order.DROP):
        assert leased


@pytest.mark.parametrize("ack", ["on-success", "on-start"])
def test_every_way_from_acceptance_keeps_what_is_promised(ack: str) -> None:
    begin = State(Phase.ACCEPTED, 1, False, True, None, ())
    seen, ways = set[Any](), 0
    todo: list[tuple[State, Input]] = [(begin, Accepted())]
    while todo:
        state, happened = todo.pop()
        for stopped in {state.stopped, True}:  # a stop may come before anything
            now = state._replace(stopped=stopped)
            rule = step(now.phase, happened, row(now, ack), STOP if stopped else None)
            then = after(now, happened, rule)
            following = brought(rule.orders[-1], then)
            if not following:
                at_the_end(then)
                ways += 1
            for one in following:
                # Once more looking for room, or for secrets, says nothing new.
                done = tuple(one for one in then.done if one[0] not in LOOKING)
                if (key := (then._replace(done=done), one)) not in seen:
                    seen.add(key)
                    todo.append((then, one))
    assert ways > 50


def at_the_end(state: State) -> None:
    done = Counter(dict(state.done))
    assert state.phase is Phase.ENDED
    assert done[Order.FORGET] == 1
    assert done[Order.TELL_END] == state.attempt, "each attempt is told once"
    assert done[Order.FREE_ROOM] >= 1, "its room is never free"
    assert done[Order.LEAVE_CLAIM] + done[Order.RETURN_CLAIM] == 1
    assert done[Order.RETURN_CLAIM] == (state.outcome in HANDED_BACK and state.leased)
    assert done[Order.DELETE] + done[Order.RELEASE] == state.leased, "its message is neither deleted nor put back"
    assert done[Order.RELEASE] == (state.outcome in HANDED_BACK and state.leased)


# -- after a restart


@pytest.mark.parametrize("found", FOUND, ids=str)
def test_what_was_started_is_never_started_again(found: Found) -> None:
    for run, stop in RUNS:
        for phase in (Phase.ACCEPTED, Phase.RUNNING, Phase.BACKOFF):
            orders = step(phase, found, run, stop).orders
            if Order.BEGIN in orders:
                # Only what the supervisor that was told of it has never heard of, or has not made a process of yet.
                assert phase is Phase.ACCEPTED
                assert found.seen is Seen.PENDING or (found.seen is Seen.NOTHING and found.same)
            if Order.DISOWN in orders:
                assert run.attempt == 1, "what has told of an end is not forgotten"
                assert found.over


@pytest.mark.parametrize("found", FOUND, ids=str)
def test_what_has_ended_pays_what_it_owes_and_nothing_else(found: Found) -> None:
    for run, stop in RUNS:
        orders = step(Phase.ENDED, found, run, stop).orders
        assert Order.NOTE_GONE in orders
        assert (Order.DELETE in orders) == (run.lease is not None and run.outcome not in HANDED_BACK)
        if Order.DELETE in orders:
            assert orders.index(Order.AWAIT_EVENT) < orders.index(Order.DELETE) < orders.index(Order.NOTE_GONE)


# -- before its row


def test_nothing_starts_or_is_told_without_a_claim() -> None:
    for answer in ANSWERS:
        rule = step(Phase.CLAIMING, answer)
        if Order.BEGIN_HERE in rule.orders:
            assert (answer.said, answer.ends, answer.leaving, answer.welcome) == (Said.CLEAR, False, False, True)
        if Order.TELL in rule.orders:
            assert answer.said in (Said.CLEAR, Said.BUSY), "told by one who has no claim"
        if rule.then is Phase.WAITING and answer.said in (Said.CLEAR, Said.BUSY):
            assert Order.FREE_CLAIM in rule.orders, "it waits with its claim"


# -- what cannot happen


async def test_what_cannot_happen_is_raised_under_test_and_logged_in_production(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = Run(object(), execution())  # type: ignore[arg-type]
    with pytest.raises(Impossible):
        await run.drive(Due())
    monkeypatch.setattr(driver, "STRICT", False)
    with capture_logs() as logs:
        await run.drive(Due())
    assert [(line["event"], line["error"]) for line in logs] == [("impossible_input", "Due of a run that is accepted")]
    assert run.execution.state == "accepted"
