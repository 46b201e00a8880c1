"""SIGHUP: the configuration read anew. What can change changes, what cannot is said, a bad file changes nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from runner.agent.output.sinks_in_use import reloaded as reloaded_sinks
from runner.config import load, reload_differences, reloadable
from runner.config.changes import Reload
from runner.errors import ConfigError
from runner.log import set_level
from runner.signing.load import trust_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.services import Services

log = structlog.get_logger()


def reload(services: Services, environ: Mapping[str, str]) -> Reload:
    """Read the configuration and put in force what can be; runs that go on keep what they were started with."""
    services.reload = made = _reload(services, environ)
    return made


def _reload(services: Services, environ: Mapping[str, str]) -> Reload:
    old = services.config
    try:
        new = load(old.source, environ)
        services.trust = trust_of(new)  # also where no line changed: a file may hold another key
    except ConfigError as error:
        log.error("reload_refused", faults=list(error.faults), detail="the configuration in use stays")
        return Reload(time.time(), refused=tuple(error.faults))
    changed, fixed = reload_differences(old, new)
    services.config = config = reloadable(old, new)
    set_level(config.agent.log_level)
    services.shipper.use(reloaded_sinks(config))
    services.shipper.condense = config.output.carriage_return == "condense"
    services.roster.changed.set()
    services.roster.freed.set()  # whoever is held may fit now, or has been held for long enough
    if fixed:
        log.error("reload_needs_restart", keys=fixed, detail="these keep their values until the agent is restarted")
    log.info("reloaded", changed=changed)
    return Reload(time.time(), changed=tuple(changed), restart=tuple(fixed))
