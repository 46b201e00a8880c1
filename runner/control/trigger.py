"""A run of a job that somebody asks for, beside its schedule. Pure but for the id's chance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runner.control.signatures import body, signed_run
from runner.protocol.run_id import by_hand

if TYPE_CHECKING:
    from runner.control.definition import JobDefinition
    from runner.protocol.signed import Signer

_LASTS_S: Final = 12 * 3600.0


def triggered(
    job: JobDefinition, *, now: float, by: str, signer: Signer | None = None, run_id: str | None = None
) -> tuple[str, str]:
    """(run id, message), signed for this run where there is a signer; its id is made where none is given."""
    run_id = run_id or by_hand(job.name, now)
    run = {"run_id": run_id, "labels": {"triggered-by": by}}
    if signer is not None:
        return run_id, signed_run(job.name, job.group, job.message, run, signer, until=now + _LASTS_S)
    return run_id, body(job.name, job.message, job.signed, run)
