"""Whether the keys of [signing] can be read and are good, and what is needed for them is installed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from runner.check.finding import Finding, failed, ok, warning
from runner.errors import ConfigError
from runner.protocol.units import format_time
from runner.signing.load import trust_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.config import Config
    from runner.signing.trust import Trust


def looks(config: Config, install: str) -> list[Finding]:
    """Nothing where there is no [signing]. ``install`` says what to type for what is missing, "" where nothing is."""
    signing = config.signing
    if signing.keys and install:
        return [failed("signing", "what checks signatures is not installed: the agent's next start fails", install)]
    try:
        trust = trust_of(config)
    except ConfigError as error:
        return [_fault(fault) for fault in error.faults]
    return [] if trust is None else list(_trusted(trust))


def _fault(fault: str) -> Finding:
    detail, _, remedy = fault.rpartition("; ")
    return failed("signing", detail or fault, remedy if detail else "mend it: the agent's next start fails")


def _trusted(trust: Trust) -> Iterator[Finding]:
    now = time.time()
    over = [key for key in trust.keys if key.until is not None and key.until <= now]
    for key in over:
        assert key.until is not None
        detail = f"key {key.keyid} was good until {format_time(key.until)}: what it has signed is rejected"
        yield warning("signing", detail, "sign with another key, and take this one out of [[signing.keys]]")
    good = [key for key in trust.keys if key not in over]
    unsigned = "unsigned messages are rejected" if trust.require else "unsigned messages are taken too"
    if good:
        yield ok("signing", f"{', '.join(dict.fromkeys(key.keyid for key in good))} may sign; {unsigned}")
    elif trust.require:
        yield failed("signing", "no key may sign, so every message is rejected", "name one as [[signing.keys]]")
