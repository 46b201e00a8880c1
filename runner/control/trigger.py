"""A run of a job that somebody asks for, beside its schedule. Pure but for the id's chance."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from runner.control.definition import time_in_id
from runner.control.signatures import body, signed_run

if TYPE_CHECKING:
    from runner.control.definition import JobDefinition
    from runner.protocol.signed import Signer

_LASTS_S: Final = 12 * 3600.0


def triggered(
    job: JobDefinition, *, now: float, by: str, signer: Signer | None = None, run_id: str | None = None
) -> tuple[str, str]:
    """(run id, message), signed for this run where there is a signer. An id that is made never is that of a fire time,
    or the scheduled run would be its repeat."""
    name = job.name[: 128 - len("-2030-01-31T06-00-00Z-xxxxxx")]
    run_id = run_id or f"{name}-{time_in_id(now).replace(':', '-')}-{secrets.token_hex(3)}"
    run = {"run_id": run_id, "labels": {"triggered-by": by}}
    if signer is not None:
        return run_id, signed_run(job.name, job.group, job.message, run, signer, until=now + _LASTS_S)
    return run_id, body(job.name, job.message, job.signed, run)
