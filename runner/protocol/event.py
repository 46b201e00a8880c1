"""Facts of runs and agents as CloudEvents 1.0, structured JSON, for the results queue."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from runner.protocol.shorten import LIMIT, encode, shorten
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping

RunKind = Literal["started", "heartbeat", "finished", "skipped", "rejected"]
AgentKind = Literal["started", "stopped"]

_TIMES: Final = ("started_at", "finished_at", "scheduled_at", "sent_at")


@dataclass(frozen=True, slots=True)
class HostFacts:
    """Which machine speaks, and with which agent."""

    name: str
    instance_id: str | None
    boot_id: str
    os: str
    agent_version: str


@dataclass(frozen=True, slots=True)
class Source:
    """Whose events these are: CloudEvents' `source` is cron-runner/GROUP/HOST."""

    group: str
    host: HostFacts


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What every event of one execution says; times are unix seconds.

    `job` is None, and `run_id` the MessageId, in the rejection of a message whose own could not be read.
    `traceparent` stands beside `data`: CloudEvents' distributed tracing extension.
    """

    execution: str
    job: str | None
    run_id: str
    delivery: int
    scheduled_at: float | None = None
    sent_at: float | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One event as it is sent: `body` is ASCII JSON of at most 256 KiB."""

    id: str
    type: str
    body: str
    subject: str | None = None


def run_event(
    source: Source,
    facts: RunFacts,
    *,
    kind: RunKind,
    attempt: int,
    sequence: int,
    time: float,
    data: Mapping[str, object],
    beat: int | None = None,
) -> Event:
    """The event of one fact of a run.

    `data` holds what the kind adds, under the contract's names; started_at, finished_at, scheduled_at and
    sent_at are unix seconds there, and formatted here. A heartbeat's id ends with `beat`, or with its
    sequence where none is given; it must be stable over repetitions.
    """
    event_type = f"cron-runner.run.{kind}"
    event_id = f"{facts.execution}/{attempt}/{event_type}"
    if kind == "heartbeat":
        event_id = f"{event_id}/{sequence if beat is None else beat}"
    said: dict[str, object] = {
        "sequence": sequence,
        "job": facts.job,
        "run_id": facts.run_id,
        "execution": facts.execution,
        "attempt": attempt,
        "delivery": facts.delivery,
        "group": source.group,
        "host": _host(source.host),
        "scheduled_at": facts.scheduled_at,
        "sent_at": facts.sent_at,
        "labels": dict(facts.labels),
        **data,
    }
    return _event(source, event_id, event_type, facts.run_id, time, said, facts.traceparent)


def agent_event(
    source: Source,
    *,
    kind: AgentKind,
    time: float,
    instance: str,
    version: str,
    policy: str,
    reason: str,
) -> Event:
    """The event of an agent's own start or stop; `instance` is an id of this life of the agent.

    It has the fields of every event: the instance stands for the execution, and there is no run.
    """
    event_type = f"cron-runner.agent.{kind}"
    said: dict[str, object] = {
        "sequence": 1 if kind == "started" else 2,
        "job": None,
        "run_id": None,
        "execution": instance,
        "attempt": 0,
        "delivery": None,
        "group": source.group,
        "host": _host(source.host),
        "scheduled_at": None,
        "sent_at": None,
        "labels": {},
        "version": version,
        "policy": policy,
        "reason": reason,
    }
    return _event(source, f"{instance}/0/{event_type}", event_type, None, time, said)


def _event(
    source: Source,
    event_id: str,
    event_type: str,
    subject: str | None,
    time: float,
    data: dict[str, object],
    traceparent: str | None = None,
) -> Event:
    for name in _TIMES:
        moment = data.get(name)
        if isinstance(moment, int | float):
            data[name] = format_time(moment)
    envelope: dict[str, object] = {
        "specversion": "1.0",
        "id": event_id,
        "source": f"cron-runner/{source.group}/{source.host.name}",
        "type": event_type,
        "time": format_time(time),
        "datacontenttype": "application/json",
    }
    if subject is not None:
        envelope["subject"] = subject
    if traceparent is not None:
        envelope["traceparent"] = traceparent
    envelope["data"] = data
    body = encode(envelope)
    if len(body) > LIMIT:
        body = shorten(envelope, data)
    return Event(event_id, event_type, body, subject)


def _host(host: HostFacts) -> dict[str, object]:
    return {
        "name": host.name,
        "instance_id": host.instance_id,
        "boot_id": host.boot_id,
        "os": host.os,
        "agent_version": host.agent_version,
    }
