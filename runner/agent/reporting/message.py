"""The message of a run, made again of its job: what has to be sent so that the same comes of it, and as much of that
as others may see. Pure."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

from runner.agent.runs.secrets import MASK, masked, matches
from runner.protocol.job import Job, what_is_said
from runner.protocol.params import arguments, variables
from runner.protocol.resending import LARGEST_KEPT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from runner.config import Config
    from runner.protocol.job import Defaults
    from runner.protocol.message import Declaration

_SAME: Final = (
    *("cwd", "unix_group", "nice", "stdin", "timeout", "grace", "stop_signal", "overlap", "ack"),
    *("no_output_timeout", "min_duration", "user"),
)
_USUAL: Final = Job("", "", (), ())


def message_of(job: Job, declaration: Declaration | None, defaults: Defaults) -> dict[str, Any]:
    """Without run id, labels and times. Of a signed job its envelope, as it came.

    What was as this host's configuration has it is left out, since most likely the message did not say it.
    """
    if job.envelope is not None:
        return dict(job.envelope)
    if job.declared:
        return _of_declared(job, declaration)
    usual = {name: getattr(defaults, name, getattr(_USUAL, name)) for name in _SAME}
    said = {name: value for name in _SAME if (value := getattr(job, name)) != usual[name]}
    message: dict[str, Any] = {
        "job": job.job,
        "command": job.command if isinstance(job.command, str) else list(job.command),
        "env": {name: value for name, value in job.env.items() if defaults.env.get(name) != value} or None,
        **what_is_said(said),
        "umask": None if job.umask is None else f"{job.umask:04o}",
        "resources": job.resources.said() if job.resources != _USUAL.resources else None,
        "limits": job.limits.said() if job.limits != _USUAL.limits else None,
        "retries": job.retries.to_json() if job.retries != _USUAL.retries else None,
        "success": job.success.to_json() if job.success != _USUAL.success else None,
    }
    return {name: value for name, value in message.items() if value not in (None, "")}


def _of_declared(job: Job, declaration: Declaration | None) -> dict[str, Any]:
    message: dict[str, Any] = {"job": job.job}
    if declaration is None:
        return message
    most = arguments(declaration.params)
    if declaration.allow_args or most:
        command = declaration.command or ()
        if isinstance(command, str):
            after = job.argv[job.argv.index(command) + 2 :] if command in job.argv else ()
        else:
            after = job.argv[len(command) :]
        message["args"] = list(after[-most:] if most else after)
    allowed = (*declaration.allow_env, *variables(declaration.params))
    if sent := {name: job.env[name] for name in allowed if name in job.env}:
        message["env"] = sent
    return message


def message_told(config: Config, job: Job, secrets: Sequence[str]) -> dict[str, Any]:
    """What an event says of the message, for who wants it run again and has not this host's journal."""
    return told(job, config.jobs.get(job.job), config.defaults(), secrets, config.output.redact)


def told(
    job: Job,
    declaration: Declaration | None,
    defaults: Defaults,
    secrets: Sequence[str],
    patterns: Sequence[str],
) -> dict[str, Any]:
    """The same for an event: `message`, and `masked`, which names what of it is hidden, where anything is.

    Hidden are the values of an environment that is neither signed nor declared, those of variables whose names match
    one of the ``patterns``, and ``secrets`` wherever they stand. `message` is null where it is signed and would have
    to be changed for that, or too large: then `message_bytes` says how large.
    """
    message = message_of(job, declaration, defaults)
    if (size := len(json.dumps(message))) > LARGEST_KEPT:
        return {"message": None, "message_bytes": size}
    if job.envelope is not None:
        hidden = _of_payload(message, secrets, patterns)
        return {"message": None, "masked": hidden} if hidden else {"message": message}
    if job.signed_by is not None:  # an earlier version's, or one that was too large: unsigned nobody may send it
        return {"message": None, "masked": ["payload"]}
    shown: dict[str, Any] = {}
    hidden = []
    for name, value in message.items():
        if name == "env":
            every = not job.declared
            shown[name] = {one: MASK if every or matches(one, patterns) else said for one, said in value.items()}
            hidden += [f"env.{one}" for one, said in shown[name].items() if said is MASK]
        else:
            shown[name] = _without(value, secrets)
            hidden += [name] if shown[name] != value else []
    return {"message": shown, **({"masked": hidden} if hidden else {})}


def _of_payload(message: Mapping[str, Any], secrets: Sequence[str], patterns: Iterable[str]) -> list[str]:
    """What of a signed message nobody else may see: it cannot be hidden, so nothing is shown."""
    payload = base64.b64decode(message["payload"]).decode("utf-8", "replace")
    env = json.loads(payload).get("env") or {}
    names = [f"env.{name}" for name in env if matches(name, tuple(patterns))]
    return names or (["payload"] if masked(payload, secrets) != payload else [])


def _without(value: Any, secrets: Sequence[str]) -> Any:
    if not secrets or not isinstance(value, str | list | dict):
        return value
    if isinstance(value, str):
        return masked(value, secrets)
    if isinstance(value, list):
        return [_without(one, secrets) for one in value]
    return {name: _without(one, secrets) for name, one in value.items()}
