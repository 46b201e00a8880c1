"""Puts a message on the group's queue, for ``cron-runner send``."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, Final, NoReturn

from runner.cli import printing
from runner.cli.interrupted import leave_at_once
from runner.errors import AwsUnavailable, CronRunnerError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from pathlib import Path

    from runner.aws.sqs import Outgoing, Queue
    from runner.config.model import Config

# A queue that is away for a moment is asked again; a person or a script that waits longer wants to be told.
_TRIES: Final = 3
_LATE_S: Final = 8.0  # more than the tries take where AWS says at once that it will not
# Where AWS may have taken it all the same: the failure is of the answer, or nobody knows.
_PERHAPS_SENT: Final = frozenset({"timeout", "unreachable", "server", "bad_answer", "throttled", "other"})


def send(
    config_path: Path | None,
    body: str,
    job: str,
    run_id: str,
    *,
    delay_s: int | None = None,
    group_id: str | None = None,
) -> dict[str, str]:
    """What was sent, and where to. `delay_s`: SQS hands it out so much later; `group_id`: its message group, its job's
    where the queue is a FIFO one and none is given."""
    import asyncio  # noqa: PLC0415 - `--help` and `--print` need none of it

    from runner import config  # noqa: PLC0415
    from runner.cli import unit_environment  # noqa: PLC0415

    unit_environment.take(config_path)
    settings = config.load(config_path, os.environ)
    return asyncio.run(_deliver(settings, body, job, run_id, delay_s, group_id))


async def _deliver(
    settings: Config, body: str, job: str, run_id: str, delay_s: int | None, group_id: str | None
) -> dict[str, str]:
    """Send it; on a FIFO queue in the order of its job, and once per run id within SQS's five minutes."""
    from runner.aws.session import Session  # noqa: PLC0415
    from runner.aws.sqs import Outgoing, Queue  # noqa: PLC0415

    again = f"send it again with --run-id {run_id}, and it is one run even if the queue has it already"
    session = Session(queue_url=settings.queue.url)
    queue = Queue(session, url=settings.queue.url, name=settings.queue.name)
    fifo = queue.fifo
    if fifo and delay_s:
        raise WrongUsage(f"cannot delay a message of {queue.label}: a FIFO queue delays all of its messages or none")
    outgoing = Outgoing("0", body, group_id or (job if fifo else None), run_id if fifo else None, delay_s or None)
    try:
        await deliver(queue, outgoing, again)
    finally:
        session.close()
    return {"job": job, "run_id": run_id, "queue": queue.label}


async def deliver(queue: Queue, outgoing: Outgoing, again: str) -> None:
    """Send it, whatever it takes. `again`: what to type where nobody can tell whether the queue has it."""
    signal.signal(signal.SIGINT, lambda *_: _given_up(again))
    try:
        refused = await _told_when_late(_insist(queue, [outgoing]), f"{queue.label} has not answered yet; {again}")
    except AwsUnavailable as error:
        may_be_there = f"; {again}" if error.kind in _PERHAPS_SENT else ""
        raise CronRunnerError(f"cannot send to {queue.label}: {error.code}: {error.detail}{may_be_there}") from error
    if refused:
        raise CronRunnerError(
            f"cannot send to {queue.label}: {refused[0].code}: {refused[0].detail}; mend that, or send it again"
        )


def _given_up(again: str) -> NoReturn:
    """Ctrl-C: the message may be on its way."""
    try:
        printing.note(f"given up; {again}")
    finally:
        leave_at_once(signal.SIGINT, None)


async def _told_when_late(work: Coroutine[Any, Any, Sequence[Any]], late: str) -> Sequence[Any]:
    """Do the work, and say this where it takes longer than a person waits without a word."""
    import asyncio  # noqa: PLC0415 - as above

    task = asyncio.create_task(work)
    done, _ = await asyncio.wait({task}, timeout=_LATE_S)
    if not done:
        printing.note(late)
    return await task


async def _insist(queue: Any, outgoing: Sequence[Any]) -> Sequence[Any]:
    from runner.aws.backoff import pause  # noqa: PLC0415

    for _ in range(_TRIES - 1):
        try:
            return tuple(await queue.send(outgoing))
        except AwsUnavailable:
            await pause(1.0)
    return tuple(await queue.send(outgoing))
