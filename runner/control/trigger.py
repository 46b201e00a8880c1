"""A run of a job that somebody asks for, beside its schedule. Pure but for the id's chance."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

from runner.control.definition import time_in_id

if TYPE_CHECKING:
    from runner.control.definition import JobDefinition


def triggered(job: JobDefinition, *, now: float, by: str) -> tuple[str, str]:
    """(run id, message). The id never is that of a fire time, or the scheduled run would be its repeat."""
    name = job.name[: 128 - len("-2030-01-31T06-00-00Z-xxxxxx")]
    run_id = f"{name}-{time_in_id(now).replace(':', '-')}-{secrets.token_hex(3)}"
    labels = {**job.message.get("labels", {}), "triggered-by": by}
    return run_id, json.dumps({"job": job.name, "run_id": run_id, **job.message, "labels": labels})
