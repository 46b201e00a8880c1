"""Each secret that a declared job names: whether it can be had, and masked. Its value is shown nowhere."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from runner.check.finding import Finding, failed, ok, warning
from runner.supervisor.masking import SHORTEST_SECRET

if TYPE_CHECKING:
    from runner.agent.secret_store import SecretStore
    from runner.aws.session import Session
    from runner.config import Config


async def secrets(session: Session, config: Config) -> list[Finding]:
    """One line for each reference."""
    users: dict[str, list[str]] = {}
    for name, job in config.jobs.items():
        for reference in (job.secrets or {}).values():
            users.setdefault(reference, []).append(name)
    if not users:
        return []
    from runner.agent.secret_store import SecretStore  # noqa: PLC0415 - for hosts whose jobs have some

    store = SecretStore(session)
    looks = (_look(store, reference, names, config) for reference, names in users.items())
    return list(await asyncio.gather(*looks))


async def _look(store: SecretStore, reference: str, names: list[str], config: Config) -> Finding:
    from runner.agent.secret_store import NoSecret  # noqa: PLC0415 - as above

    of = f"of {', '.join(dict.fromkeys(names))}"
    try:
        value = (await store.values([reference]))[reference]
    except NoSecret as error:
        what, _, remedy = str(error).removeprefix("secret ").rpartition("; ")
        return failed("secret", f"{what or remedy} ({of})", remedy if what else "try again when its store answers")
    if len(value.strip()) >= SHORTEST_SECRET:
        return ok("secret", f"{reference} can be read ({of})")
    short = f"{reference} has fewer than {SHORTEST_SECRET} characters, too few to be masked ({of})"
    if config.output.mask_short:
        return failed(
            "secret", f"{short}: the job does not start", "choose a longer one, or [output] mask_short = false"
        )
    return warning("secret", f"{short}: what prints it shows it", "choose a longer one")
