"""Which jobs of `jobs apply` are signed anew, and which may not be changed without it. Pure but for the signer."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from runner.control.applying.eventbridge import expression
from runner.control.applying.files import LARGEST_MESSAGE
from runner.control.parameters import asks
from runner.control.signatures import sign, signature_in
from runner.control.timetable.cron import Cron
from runner.errors import JobFilesInvalid

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from runner.control.definition import GroupDefinition, JobDefinition
    from runner.protocol.signed import Signer

LASTS_S: Final = 400 * 86_400.0
"""How long a job's signature is good; an apply with a key in the second half of it makes another."""


def with_signatures(
    jobs: Iterable[JobDefinition],
    there: Iterable[JobDefinition],
    groups: Mapping[str, GroupDefinition],
    signer: Signer | None,
    *,
    required: Collection[str] = (),
    now: float,
) -> tuple[JobDefinition, ...]:
    """The jobs of files with their signatures: those that they have while they say the same, else new ones where there
    is a signer. ``required``: groups whose hosts take signed jobs alone. Raises JobFilesInvalid."""
    known = {(job.group, job.name): job for job in there}
    found, faults = [], list[str]()
    for job in jobs:
        group = groups.get(job.group)
        made = _signed(job, known.get((job.group, job.name)), group, signer, now)
        keys = group.keys if group is not None else ()
        found.append(made)
        if fault := _fault(made, keys, needs=bool(keys) or job.group in required):
            faults.append(f"jobs.{job.name}: {fault}")
    if faults:
        raise JobFilesInvalid(faults)
    return tuple(found)


def _fault(job: JobDefinition, keys: tuple[str, ...], *, needs: bool) -> str | None:
    signature = signature_in(job.signed)
    if signature is None:
        if asks(job.params) or not needs:  # it is signed when it is triggered, with what is given then
            return None
        return f"the hosts of group {job.group} take signed jobs alone; add --key"
    if keys and signature.keyid not in keys:
        return f"is signed by key {signature.keyid}, which group {job.group} does not know; it knows {', '.join(keys)}"
    if len(job.signed) > LARGEST_MESSAGE:
        return f"is {len(job.signed)} bytes, signed; the most is {LARGEST_MESSAGE}"
    return None


def _signed(
    job: JobDefinition, old: JobDefinition | None, group: GroupDefinition | None, signer: Signer | None, now: float
) -> JobDefinition:
    if asks(job.params):
        return replace(job, signed="")
    says = json.loads(json.dumps(payload_of(job, group)))
    signature = signature_in(old.signed) if old is not None else None
    same = signature is not None and signature.says == says
    if signer is None:
        return replace(job, signed=old.signed if old is not None and same else "")
    stays = same and signature is not None and signature.until > now + LASTS_S / 2
    if old is not None and signature is not None and stays and signature.keyid == signer.keyid:
        return replace(job, signed=old.signed)
    return replace(job, signed=sign(says, signer, until=now + LASTS_S))


def payload_of(job: JobDefinition, group: GroupDefinition | None) -> dict[str, Any]:
    """What is signed of a job beside its end: its message, and when it is due by whoever fires it."""
    said: dict[str, Any] = {"job": job.name, "group": job.group, **job.sent()}
    if job.schedule:
        read = job.parsed()
        # EventBridge Scheduler's cron has another change of the clock than ours.
        by_aws = group is not None and group.fire == "eventbridge" and read is not None and isinstance(read.rule, Cron)
        said |= {"schedule": expression(job) if by_aws else job.schedule, "timezone": job.timezone}
        if job.timing.splay:
            said["splay"] = job.timing.splay
    return said
