"""The resolved job: everything a host needs to know to run it, with every default in place.

Durations are seconds, sizes bytes, instants unix seconds; all numbers are finite.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Overlap = Literal["allow", "skip", "wait", "replace"]
Ack = Literal["on-finish", "on-start"]
Commands = Literal["any", "declared"]
Command = str | tuple[str, ...]

OVERLAPS: tuple[Overlap, ...] = ("allow", "skip", "wait", "replace")
ACKS: tuple[Ack, ...] = ("on-finish", "on-start")
STOP_SIGNALS = ("TERM", "INT", "HUP", "QUIT", "USR1", "USR2")


def what_is_said(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without those that say nothing."""
    return {name: value for name, value in fields.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Resources:
    """What a job needs to be admitted; None where it says nothing and the host's default counts."""

    cpu: float | None = None
    memory: int | None = None
    named: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        return {"cpu": self.cpu, "memory": self.memory, "named": dict(self.named)}

    def said(self) -> dict[str, Any]:
        """What it says, as a message has it."""
        return what_is_said({"cpu": self.cpu, "memory": self.memory, **self.named})

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Resources:
        return cls(**_known(cls, kept))


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run is held to; None where there is no limit."""

    memory: int | None = None
    cpu: float | None = None
    pids: int | None = None

    def to_json(self) -> dict[str, object]:
        return {"memory": self.memory, "cpu": self.cpu, "pids": self.pids}

    def said(self) -> dict[str, Any]:
        """What it says, as a message has it."""
        return what_is_said(self.to_json())

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Limits:
        return cls(**_known(cls, kept))


@dataclass(frozen=True, slots=True)
class Retries:
    """How often a failed attempt is repeated, and how long each repetition waits."""

    max: int = 0
    backoff: float = 30.0
    factor: float = 2.0
    max_backoff: float = 600.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait after failed attempt number `attempt` (1, 2, …) before the next one."""
        try:
            wait = self.backoff * self.factor ** max(attempt - 1, 0)
        except OverflowError:
            return self.max_backoff
        return min(wait, self.max_backoff)

    def to_json(self) -> dict[str, object]:
        return {
            "max": self.max,
            "backoff": self.backoff,
            "factor": self.factor,
            "max_backoff": self.max_backoff,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Retries:
        return cls(**_known(cls, kept))


@dataclass(frozen=True, slots=True)
class Success:
    """What counts as success: exit codes, and patterns (google-re2 syntax) searched in each output line."""

    exit_codes: tuple[int, ...] = (0,)
    fail_on: tuple[str, ...] = ()
    require: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        return {
            "exit_codes": list(self.exit_codes),
            "fail_on": list(self.fail_on),
            "require": list(self.require),
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Success:
        return cls(**{name: tuple(value) for name, value in _known(cls, kept).items()})


@dataclass(frozen=True, slots=True)
class Defaults:
    """What the configuration says for jobs that do not say otherwise. `group` is the host's; "": it takes any."""

    shell: tuple[str, ...] = ("/bin/sh", "-c")
    user: str = ""
    timeout: float = 3600.0
    grace: float = 10.0
    cwd: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    commands: Commands = "any"
    group: str = ""
    allowed_users: tuple[str, ...] = ()
    min_nice: int = 0
    allowed_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """One run's job, ready to start.

    `argv` is what is executed, shell included; `command` is what people are shown. `user` "" leaves the
    choice to the supervisor. `env` is the configured, declared and sent environment, in rising precedence.
    `signed_by` is the id of the key that let it run, `traceparent` the W3C trace context that it belongs to, `envelope`
    its signed message without `run`, where that is small enough to be kept.
    `secrets` are variables by name and where their values are: never the values.
    """

    job: str
    run_id: str
    argv: tuple[str, ...]
    command: Command
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = ""
    unix_group: str | None = None
    umask: int | None = None
    nice: int | None = None
    stdin: str | None = None
    timeout: float = 3600.0
    grace: float = 10.0
    stop_signal: str = "TERM"
    resources: Resources = field(default_factory=Resources)
    limits: Limits = field(default_factory=Limits)
    retries: Retries = field(default_factory=Retries)
    overlap: Overlap = "allow"
    success: Success = field(default_factory=Success)
    no_output_timeout: float | None = None
    min_duration: float | None = None
    scheduled_at: float | None = None
    not_after: float | None = None
    ack: Ack = "on-finish"
    labels: Mapping[str, str] = field(default_factory=dict)
    declared: bool = False
    signed_by: str | None = None
    traceparent: str | None = None
    envelope: Mapping[str, object] | None = None
    secrets: Mapping[str, str] = field(default_factory=dict)

    def same_run(self, other: Job) -> bool:
        """Whether this and a job of the same run id are one run: the same job, and told to do the same.

        What a host has changed meanwhile (its shell, a declared command) makes no other run of it.
        """
        if self.job != other.job:
            return False
        if self.declared and other.declared and isinstance(self.command, str) and isinstance(other.command, str):
            return self._arguments() == other._arguments()
        return self.command == other.command

    def mark(self) -> str:
        """Whose run it is, for those who have not the room for more: its job, and a digest of what that is told to do.
        "" where nobody knows what it is."""
        if not self.command:
            return ""
        told = ("args", self._arguments()) if self.declared else ("command", self.command)
        return f"{self.job} {told[0]}:{sha256(json.dumps(told[1]).encode()).hexdigest()[:16]}"

    def _arguments(self) -> tuple[str, ...]:
        """What follows the command in the shell's own arguments."""
        return self.argv[self.argv.index(self.command) + 1 :] if self.command in self.argv else ()

    def to_json(self) -> dict[str, object]:
        """This job as JSON-ready values, as the journal keeps it."""
        kept: dict[str, object] = {name: getattr(self, name) for name in _PLAIN}
        kept["argv"] = list(self.argv)
        kept["command"] = self.command if isinstance(self.command, str) else list(self.command)
        kept["env"] = dict(self.env)
        kept["labels"] = dict(self.labels)
        for name in _NESTED:
            kept[name] = getattr(self, name).to_json()
        kept |= what_is_said({name: getattr(self, name) for name in _RARE})
        if self.secrets:
            kept["secrets"] = dict(self.secrets)
        return kept

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Job:
        """The job that `to_json` wrote, also by another version: what it did not know gets its default.

        Raises KeyError where a job's name, run id or argv are missing: that was never a job.
        """
        values = _known(cls, kept)
        values["argv"] = tuple(kept["argv"])
        command = kept.get("command", values["argv"])
        values["command"] = command if isinstance(command, str) else tuple(command)
        for name, kind in _NESTED.items():
            if name in values:
                values[name] = kind.from_json(values[name])
        return cls(**{"job": kept["job"], "run_id": kept["run_id"], **values})


_NESTED: dict[str, type[Resources | Limits | Retries | Success]] = {
    "resources": Resources,
    "limits": Limits,
    "retries": Retries,
    "success": Success,
}
_RARE = ("signed_by", "traceparent", "envelope")  # left out where there is none
_PLAIN = tuple(
    f.name for f in fields(Job) if f.name not in {*_NESTED, *_RARE, "argv", "command", "env", "labels", "secrets"}
)


def _known(cls: type[Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of `kept` that `cls` has fields for; a newer version may have written more."""
    return {name: kept[name] for name in cls.__slots__ if name in kept}
