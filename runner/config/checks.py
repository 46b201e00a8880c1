"""What a value of the right type must still satisfy.

Each fault is a text without file and key; the caller adds them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from typing import TYPE_CHECKING, Any

from runner.config.names import (
    group,
    lifecycle_hook,
    listen_address,
    log_group,
    log_stream,
    plain_log_group,
    queue_name,
    queue_url,
    retention,
    syslog_address,
    table_name,
)
from runner.config.web import host_names, listen_place
from runner.protocol.suggest import unknown
from runner.protocol.units import format_duration, format_size

if TYPE_CHECKING:
    from runner.config.model import Config

SINKS = ("cloudwatch", "journald", "syslog", "stdout")
HOUR = 3600.0
# https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
SQS_LONGEST_WAIT = 20.0
SQS_LONGEST_VISIBILITY = 12 * HOUR
# A renewal comes at a third of it, and must have time for a slow call and for one more try.
SHORTEST_VISIBILITY = 10.0
# sun_path of unix(7) holds 108 bytes with the closing NUL.
LONGEST_SOCKET_PATH = 107

_RESOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

Check = Callable[[Any], None]


def between(low: float, high: float, show: Callable[[float], str]) -> Check:
    """Refuses what is outside ``low`` to ``high``, both allowed."""

    def check(value: float) -> None:
        if not low <= value <= high:
            raise ValueError(f"{show(value)} is out of range: choose {show(low)} to {show(high)}")

    return check


def zero_or(check: Check) -> Check:
    """Allows 0, which turns it off."""

    def checked(value: float) -> None:
        if value:
            check(value)

    return checked


def at_least(low: float, *, above: bool = False) -> Check:
    def check(value: float | None) -> None:
        if value is not None and (value < low or (above and value == low)):
            raise ValueError(f"{value:g} is too small: it must be {'above' if above else 'at least'} {low:g}")

    return check


def _lasts(value: float) -> None:
    if value <= 0:
        raise ValueError("a job needs some time to run: choose more than 0s")


def _at_least_a_kibibyte(value: int) -> None:
    if value < 1024:
        raise ValueError(f"{format_size(value)} is too small: it must be at least 1K")


def _share(value: float) -> None:
    if not 0 < value <= 1:
        raise ValueError(f"{value:g} is not a share of the host's cores: choose above 0, up to 1")


def _whole_seconds(low: float, high: float) -> Check:
    in_range = between(low, high, format_duration)

    def check(value: float) -> None:
        in_range(value)
        if value != int(value):
            raise ValueError(f"{format_duration(value)} must be whole seconds, as SQS counts no others")

    return check


def _absolute(value: str) -> None:
    if not value.startswith("/"):
        raise ValueError(f'"{value}" must be an absolute path')


def _each(check: Check) -> Check:
    def check_all(values: Collection[Any]) -> None:
        for value in values:
            check(value)

    return check_all


def _not_empty(value: str) -> None:
    if not value:
        raise ValueError("an empty text in the list means nothing: take it out")


def _principal(value: str) -> None:
    if not value.removeprefix("%") or " " in value or value == "*":
        raise ValueError(f'"{value}" is neither the name of a user nor, as in "%wheel", of a group')


def _shell(value: tuple[str, ...]) -> None:
    if not value or not value[0]:
        raise ValueError('expected a command, such as ["/bin/sh", "-c"]')


def variable_name(value: str) -> None:
    if not value or "=" in value or "\0" in value:
        raise ValueError(f'"{value}" cannot be the name of an environment variable')


def _job_variable(value: str) -> None:
    variable_name(value)
    if value.startswith("CRON_RUNNER_"):
        raise ValueError(f"{value} is set by cron-runner itself: choose another name")


def _inherited(value: str) -> None:
    variable_name(value)
    if "*" in value and value != "*":
        raise ValueError(f'"{value}" is no pattern: name the variables one by one, or use "*" for all')


def _sinks(value: tuple[str, ...]) -> None:
    for sink in value:
        if sink not in SINKS:
            raise ValueError(f"{unknown('sink', sink, SINKS)} ({', '.join(SINKS)})")
    if len(set(value)) < len(value):
        raise ValueError("names a sink twice")


def _runtime(value: object) -> None:
    if len(f"{value}/supervisor.sock".encode()) > LONGEST_SOCKET_PATH:
        raise ValueError("the path is too long for the sockets in it: choose one of at most 91 bytes")


def _resource_names(value: Any) -> None:
    for name, amount in value.items():
        if not _RESOURCE_NAME.fullmatch(name):
            raise ValueError(f'"{name}" cannot be the name of a resource: use A-Z a-z 0-9 . _ -')
        if name in ("cpu", "memory"):
            raise ValueError(f'{name}: write it one table up, as "{name}" of [admission.resources]')
        if amount < 0:
            raise ValueError(f"{name}: {amount:g} is too small: it must be at least 0")


CHECKS: dict[str, Check] = {
    "group": group,
    "queue.url": queue_url,
    "queue.name": queue_name,
    "queue.wait": _whole_seconds(0, SQS_LONGEST_WAIT),
    "queue.visibility": _whole_seconds(SHORTEST_VISIBILITY, SQS_LONGEST_VISIBILITY),
    "queue.dead_letter_url": queue_url,
    "results.url": queue_url,
    "results.name": queue_name,
    "fleet.table": table_name,
    "fleet.lease": between(10, 900, format_duration),
    "fleet.lifecycle_hook": lifecycle_hook,
    "fleet.report": zero_or(between(10, HOUR, format_duration)),
    "admission.max_jobs": at_least(0),
    "admission.hold": between(0, 11 * HOUR, format_duration),
    "admission.resources.cpu": at_least(0, above=True),
    "admission.resources.memory": at_least(0, above=True),
    "admission.resources.reserve_cpu": at_least(0),
    "admission.resources.max_load": _share,
    "admission.resources.default_cpu": at_least(0),
    "admission.resources.named": _resource_names,
    "control.operate": _each(_principal),
    "control.read": _each(_principal),
    "run.shell": _shell,
    "run.allowed_users": _each(_not_empty),
    "run.allowed_secrets": _each(_not_empty),
    "run.timeout": _lasts,
    "run.min_nice": between(-20, 19, str),
    "run.cwd": _absolute,
    "run.env": _each(_job_variable),
    "run.env_files": _each(_absolute),
    "run.inherit_env": _each(_inherited),
    "output.sinks": _sinks,
    "output.max_bytes": _at_least_a_kibibyte,
    "output.spool_max_bytes": _at_least_a_kibibyte,
    "output.redact": _each(_not_empty),
    "output.cloudwatch.log_group": log_group,
    "output.cloudwatch.log_stream": log_stream,
    "output.cloudwatch.flush": between(0.1, 60, format_duration),
    "output.cloudwatch.retention_days": retention,
    "output.syslog.address": syslog_address,
    "agent.listen": listen_address,
    "web.listen": listen_place,
    "web.names": host_names,
    "agent.cloudwatch_log_group": plain_log_group,
    "paths.runtime": _runtime,
}


def across(config: Config, *, offline: bool) -> Iterator[tuple[str, str]]:
    """Faults between keys, and keys that are missing: (key to name, text)."""
    queue, results = config.queue, config.results
    if not config.group and not offline:
        yield "group", 'is not set: name the group of hosts that this one belongs to, such as "web"'
    if queue.url and queue.name:
        yield "queue.name", "is set beside queue.url: keep one of the two"
    elif not offline and not (queue.url or queue.name):
        yield "queue.url", "is not set: give the job queue's URL here, or its name as queue.name"
    if results.url and results.name:
        yield "results.name", "is set beside results.url: keep one of the two"
    if (queue.url and queue.url == results.url) or (queue.name and queue.name == results.name):
        path = "results.url" if results.url else "results.name"
        yield path, "is the job queue itself: its events would come back as jobs; give another queue"
    for key in ("rebalance", "lifecycle_hook"):
        if getattr(config.fleet, key) and not config.fleet.notices:
            yield f"fleet.{key}", "is only looked at with notices: set fleet.notices = true"
    if config.agent.metrics and not config.agent.cloudwatch_log_group:
        yield "agent.metrics", 'needs a log group: set agent.cloudwatch_log_group, such as "/cron-runner/agents"'
    if queue.url and queue.url == queue.dead_letter_url:
        yield "queue.dead_letter_url", "is the job queue itself: a rejected message would come back for ever"
