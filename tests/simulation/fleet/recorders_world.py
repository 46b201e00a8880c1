"""Recorders that remember what they wrote, side by side, in worlds where calls fail and answers are lost."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from runner.control.definition import GroupDefinition, JobDefinition, run_id_at
from runner.control.recording.ends import unpacked
from runner.control.recording.recorder import Recorder
from runner.control.recording.run_state import attempt_told, run_of
from runner.control.recording.told import parse_event
from runner.protocol import table as keys
from runner.protocol.event import HostFacts, RunFacts, Source, run_event

from .cloud import Violation
from .virtual import now

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .cloud import World

AT = 1_900_000_020.0
OUTCOMES = ("succeeded", "failed", "timed_out", "succeeded")


def story(job: str, number: int, host: str) -> list[str]:
    """The events of a run with two attempts in every fifth."""
    due = AT + 60 * number
    facts = RunFacts(f"e{number}{host}", job, run_id_at(job, due), 1, due, due)
    source = Source("web", HostFacts(host, None, "boot", "linux", "1"))
    found: list[str] = []

    def add(kind: Any, at: float, attempt: int, **data: Any) -> None:
        event = run_event(source, facts, kind=kind, attempt=attempt, sequence=len(found), time=at, data=data)
        found.append(event.body)

    again = number % 5 == 0
    for attempt in (1, 2) if again else (1,):
        at = due + 20 * attempt
        add("started", at, attempt, started_at=at, timeout_s=60.0, log={"stream": "s"})
        add("heartbeat", at + 5, attempt)
        retry = again and attempt == 1
        outcome = "failed" if retry else OUTCOMES[number % len(OUTCOMES)]
        end = {"outcome": outcome, "will_retry": retry, "duration_s": 10.0, "log": {"stream": "s"}}
        add("finished", at + 10, attempt, started_at=at, finished_at=at + 10, **end)
    return found


async def recorded(world: World, bodies: Sequence[str]) -> None:
    """Deliver every event until some recorder has it; several batches at once, as two functions have them."""
    recorders = [Recorder(world.table(who)) for who in ("a", "a", "b")]
    left = [(f"m{n}", body) for n, body in enumerate(bodies)]
    while left:
        flight = [left[start : start + 10] for start in range(0, min(len(left), 40), 10)]
        left = left[40:]
        answers = await asyncio.gather(*(world.random.choice(recorders).record(batch, now=now()) for batch in flight))
        failed = {message_id for answer in answers for message_id in answer}
        left += [one for batch in flight for one in batch if one[0] in failed]


def expected(bodies: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each run's attempts, folded in order and once."""
    attempts: dict[str, dict[str, Any]] = {}
    for body in sorted(set(bodies), key=lambda text: parse_event(text).at):  # type: ignore[union-attr]
        told = parse_event(body)
        assert told is not None
        sk = keys.attempt("web", told.run_id, told.execution, told.attempt).sk
        of_run = attempts.setdefault(told.run_id, {})
        of_run[sk] = attempt_told(of_run.get(sk), told)
    return attempts


def random_world(world: World) -> None:
    """Events of 36 runs of three jobs, in nearly their order or in none, some of them twice."""
    world.faults = world.random.random() < 0.7
    world.stale = world.random.random() < 0.5
    bodies = [body for n in range(36) for body in story(f"job-{n % 3}", n, f"host-{n % 2}")]
    copies = bodies + world.random.sample(bodies, len(bodies) // 4)
    apart = world.random.choice((1, 15, 1000))
    copies = [copies[at] for at in sorted(range(len(copies)), key=lambda at: at + world.random.uniform(0, apart))]
    faults, world.faults = world.faults, False

    async def play() -> None:
        table = world.table()
        jobs = [JobDefinition("web", f"job-{n}", retention=1e9) for n in range(3)]
        await table.put_many([GroupDefinition("web", "https://sqs/1/web").item(), *(job.item() for job in jobs)])
        world.faults = faults
        await recorded(world, copies)

    world.run(play())
    _check(world, bodies)


def _check(world: World, bodies: Sequence[str]) -> None:
    """What is in the table is what one would leave that remembers nothing and is told everything once, in order."""
    items = world.dynamo.items
    ends: dict[str, list[tuple[str, str, str]]] = {}
    for run_id, attempts in expected(bodies).items():
        there = {sk: dict(item) for (pk, sk), item in items.items() if pk == keys.run("web", run_id).pk}
        run = there.pop(keys.RUN)
        for item in there.values():
            del item["expires_at"]
        _same("attempts", there, attempts)
        wanted = run_of(attempts.values(), None, None)
        _same("run", *({k: v for k, v in one.items() if k not in _OWN} for one in (run, wanted)))
        ends.setdefault(run["job"], []).append((run["ended_at"], run_id, run["state"]))
    for job, of_job in ends.items():
        status = items[keys.status("web", job).pk, keys.STATUS]
        last = [(end["ended_at"], end["run_id"], end["state"]) for end in unpacked(status["last"], job)]
        _same("ends", last, sorted(of_job)[-20:])
        _same("status", (status["ended_at"], status["run_id"], status["state"]), last[-1])


_OWN = ("version", "expires_at", "too_long_told", "state_at")


def _same(what: str, found: object, wanted: object) -> None:
    if found != wanted:
        raise Violation(f"{what}: {found} in place of {wanted}")
