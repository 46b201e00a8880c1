"""A run of a job that somebody asks for, beside its schedule. Pure but for the id's chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.control.signatures import body, signed_run
from runner.errors import CronRunnerError
from runner.protocol.run_id import by_hand

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.control.definition import JobDefinition
    from runner.protocol.signed import Signer

_LASTS_S: Final = 12 * 3600.0


def triggered(
    job: JobDefinition,
    *,
    now: float,
    by: str,
    signer: Signer | None = None,
    run_id: str | None = None,
    params: Mapping[str, object] | None = None,
    labels: Mapping[str, str] | None = None,
) -> tuple[str, str]:
    """(run id, message), signed for this run where there is a signer; its id is made where none is given.

    Raises InvalidMessage for parameters that are wrong, and CronRunnerError where a signed job is to get others than
    were signed.
    """
    run_id = run_id or by_hand(job.name, now)
    run = {"run_id": run_id, "labels": {"triggered-by": by, **(labels or {})}}
    said = job.sent(params)
    if signer is not None:
        return run_id, signed_run(job.name, job.group, said, run, signer, until=now + _LASTS_S)
    if job.signed and said != job.sent():
        raise CronRunnerError(
            f"cannot give {job.name} parameters: it was signed with their defaults, and the hosts would refuse it; "
            f"sign this one run: cron-runner jobs trigger {job.name} --key FILE"
        )
    return run_id, body(job.name, said, job.signed, run)
