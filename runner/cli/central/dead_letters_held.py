"""The messages of the dead-letter queue, held while something is done with them."""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from runner.errors import AwsUnavailable, CronRunnerError, MessageRejected

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from runner.aws.sqs import Queue, Received
    from runner.config import Config

_HOLD_S: Final = 60.0
_BATCH: Final = 10


@dataclass(slots=True)
class Letter:
    """One message. `reason` is the word of a rejection, or `received too often`; `shown` is its body's beginning
    without the values of variables. `sent_as` is the run id under which it was redriven."""

    message_id: str
    receipt: str
    body: str
    sent_at: float
    received: int
    job: str | None
    run_id: str | None
    reason: str
    detail: str
    shown: str
    sha256: str
    attributes: Sequence[str]
    of: Received
    sent_as: str = ""


def do(args: argparse.Namespace, named: Sequence[str], limit: int) -> list[Letter]:
    """Hold the messages that are meant, the named or all, and list, redrive or drop them; those are returned."""
    from runner import config  # noqa: PLC0415 - `--help` needs none of it
    from runner.cli import unit_environment  # noqa: PLC0415

    unit_environment.take(args.config)
    return asyncio.run(_do(config.load(args.config, os.environ), args, named, limit))


async def _do(settings: Config, args: argparse.Namespace, named: Sequence[str], limit: int) -> list[Letter]:
    from runner.aws.session import Session  # noqa: PLC0415 - as above
    from runner.aws.sqs import Queue  # noqa: PLC0415
    from runner.once.explain import dead_letter_url  # noqa: PLC0415

    session = Session(queue_url=settings.queue.url)
    try:
        jobs = Queue(session, url=settings.queue.url, name="" if settings.queue.url else settings.queue.name)
        dead = Queue(session, url=await dead_letter_url(settings, jobs))
        held = await _hold(dead, limit, named)
        gone: set[str] = set()
        try:
            meant = [one for one in held if not named or one.message_id in named]
            letters = [_letter(settings, one) for one in meant]
            if args.what in ("redrive", "drop"):
                for letter in letters:
                    if args.what == "redrive":
                        await _redrive(jobs, letter, new=args.new_run_id)
                    await _delete(dead, letter)
                    gone.add(letter.receipt)
        finally:
            await _hand_back(dead, [one.receipt for one in held if one.receipt not in gone])
    except AwsUnavailable as error:
        raise CronRunnerError(f"{error}; check the queue and the credentials, and what of it is done") from error
    else:
        return letters
    finally:
        session.close()


async def _hold(dead: Queue, limit: int, named: Sequence[str]) -> list[Received]:
    """Those there are, as far as SQS gives them; none twice."""
    found: dict[str, Received] = {}
    # A long poll asks all of SQS's servers: an answer without messages says that there are no more.
    while len(found) < limit and (received := await dead.receive(min(_BATCH, limit - len(found)), 1, _HOLD_S)):
        found.update((one.message_id, one) for one in received)
        if named and set(named) <= found.keys():
            break
    return sorted(found.values(), key=lambda one: one.sent_at)


def _letter(settings: Config, one: Received) -> Letter:
    from runner.once.refused import job_of  # noqa: PLC0415 - as above
    from runner.protocol.message import rejected_body  # noqa: PLC0415

    shown, sha256 = rejected_body(one.body)
    job: str | None
    run_id: str | None
    try:
        made = job_of(settings, one.body, one.message_id)
        job, run_id = made.job, made.run_id
        reason, detail = "received too often", "a host could run it: it was received as often as its queue allows"
    except MessageRejected as error:
        fault = error.fault
        job, run_id, reason, detail = fault.job, fault.run_id, fault.reason, fault.detail
    return Letter(
        one.message_id,
        one.receipt,
        one.body,
        one.sent_at,
        one.delivery,
        job,
        run_id,
        reason,
        detail,
        shown,
        sha256,
        sorted(one.attributes),
        one,
    )


async def _redrive(jobs: Queue, letter: Letter, *, new: bool) -> None:
    """Send it; before it is deleted, so that nothing is lost in between: the same run id makes twice once."""
    from runner.aws.sqs import Outgoing  # noqa: PLC0415 - as above
    from runner.cli.runs.send import new_run_id  # noqa: PLC0415

    run_id = new_run_id(time.time()) if new else letter.run_id or letter.message_id
    body = letter.body if letter.run_id is not None and not new and _says(letter) else _named(letter.body, run_id)
    of = letter.of
    fifo = jobs.fifo
    group = of.group_id or (letter.job or "redriven" if fifo else None)
    refused = await jobs.send(
        [Outgoing("0", body, group, run_id if fifo else None, attributes=of.attributes, trace=of.trace)]
    )
    if refused:
        raise CronRunnerError(
            f"cannot redrive {letter.message_id}: {refused[0].code}: {refused[0].detail}; it is a dead letter still"
        )
    letter.sent_as = run_id


def _says(letter: Letter) -> bool:
    """Whether the message names its run itself: else it would be the one of its new message id."""
    return letter.run_id != letter.message_id


def _named(body: str, run_id: str) -> str:
    """The message under this run id; one that is nothing of the kind goes as it is."""
    from runner.protocol.envelope import unwrap  # noqa: PLC0415 - as above
    from runner.protocol.invalid import InvalidMessage  # noqa: PLC0415
    from runner.protocol.resending import with_run  # noqa: PLC0415

    try:
        said = unwrap(body)
    except (InvalidMessage, ValueError):
        return body
    if not isinstance(said, dict):
        return body
    return json.dumps(with_run(cast("Mapping[str, Any]", said), run_id=run_id))


async def _delete(dead: Queue, letter: Letter) -> None:
    if failed := await dead.delete([letter.receipt]):
        raise CronRunnerError(
            f"cannot delete {letter.message_id} from the dead-letter queue: {failed[0].code}; do it again"
            f"{f': it is on the job queue as run {letter.sent_as}' if letter.sent_as else ''}"
        )


async def _hand_back(dead: Queue, receipts: Sequence[str]) -> None:
    for start in range(0, len(receipts), _BATCH):
        await dead.extend([(receipt, 0) for receipt in receipts[start : start + _BATCH]])
