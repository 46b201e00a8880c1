"""Run ids as they are typed on the command line."""

from __future__ import annotations

from runner.errors import WrongUsage


def run_id_of(given: str, purpose: str) -> str:
    """The run id as its run bears it: what a message calls a:b is the run a-b. `purpose`: "cancel a run"."""
    from runner.protocol import fields  # noqa: PLC0415 - `--help` needs none of it
    from runner.protocol.invalid import InvalidMessage  # noqa: PLC0415

    if not given:
        raise WrongUsage(f"cannot {purpose} without an id: give its RUN_ID")
    try:
        return fields.run_id("RUN_ID", given)
    except InvalidMessage as error:
        raise WrongUsage(f"cannot {purpose}: {error}") from error
