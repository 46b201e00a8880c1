"""``cron-runner run-once --dry-run``: what would run, as whom, and whether it could start here; nothing is run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing
from runner.errors import CronRunnerError, MessageRejected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.config import Config
    from runner.once.once import Given
    from runner.protocol.job import Job

# Of a job, what admission looks at: the rest may be large, or secret.
_DECIDING: Final = frozenset({"job", "run_id", "resources", "overlap", "not_after"})


def dry_run(settings: Config, given: Given, *, as_json: bool) -> int:
    """Show it; 0, or 125 where it cannot be a run."""
    from runner.check.starting import faults, user_of  # noqa: PLC0415 - for this option alone
    from runner.once.explain import explain  # noqa: PLC0415
    from runner.once.refused import job_of  # noqa: PLC0415

    try:
        job = job_of(settings, given.body, given.message_id)
    except MessageRejected as error:
        fault = {"rejected": error.fault.reason, "detail": error.fault.detail}
        if as_json:
            printing.document(fault, indent=None)
        else:
            printing.lines(f"rejected: {fault['rejected']}: {fault['detail']}")
        return 125
    user, cannot = user_of(settings, job)
    told = explain(
        settings, job, user=user, cannot_start=[cannot] if cannot else faults(job, settings.run.env, user),
        decided=_asked(settings, job),
    )  # fmt: skip
    if as_json:
        printing.document(told)
    else:
        printing.lines(*_lines(told))
    return 0


def _asked(settings: Config, job: Job) -> dict[str, Any] | None:
    """What the running agent would decide; None where there is none that answers."""
    from runner.cli.agent_socket import NAME, ask  # noqa: PLC0415

    shape = {name: value for name, value in job.to_json().items() if name in _DECIDING}
    try:
        decided = ask(settings.paths.runtime / NAME, "admission", job={**shape, "argv": []})
    except CronRunnerError:
        return None
    return {"policy": settings.admission.policy, "by": "the running agent, now", **decided}


def _lines(told: dict[str, Any]) -> Iterator[str]:
    """Name and value of what was said, one to a line; what was not said is left out."""
    width = max(len(name) for name in told)
    for name, value in told.items():
        for index, text in enumerate(_texts(name, value)):
            yield f"{'' if index else name:<{width}}  {text}"


def _texts(name: str, value: Any) -> list[str]:
    if name == "admission":
        return [f"{value['decision']}: {value['detail']} ({value['policy']}, by {value['by']})"]
    if name == "cannot_start":
        return list(value)
    if isinstance(value, dict):
        return [f"{key}={_text(entry)}" for key, entry in value.items() if entry is not None and entry != []]
    return [] if value is None or value == [] else [_text(value)]


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
