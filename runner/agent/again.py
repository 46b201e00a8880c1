"""Runs that somebody asks for by hand: a declared job, or a run once more, sent to the group's own queue.

They come back as any message does, to whichever host of the group has room. The agent's role does not need to send to
its queue, so AWS may refuse it: then that is told.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from runner.agent.reporting.message import message_of
from runner.agent.runs.secrets import secrets_in, shown
from runner.aws.sqs import Outgoing
from runner.errors import AwsUnavailable, CronRunnerError, NotThere, Refused
from runner.protocol.invalid import InvalidMessage
from runner.protocol.job import Job
from runner.protocol.message import read_job
from runner.protocol.params import placed, values
from runner.protocol.resending import LARGEST_KEPT, named, resent, with_run
from runner.protocol.run_id import by_hand

if TYPE_CHECKING:
    from runner.agent.services import Services
    from runner.aws.sqs import Queue
    from runner.protocol.message import Declaration


class Again:
    """Called on the agent's event loop."""

    def __init__(self, services: Services, queue: Queue) -> None:
        self._services = services
        self._queue = queue

    def declared(self) -> list[dict[str, Any]]:
        """The jobs that this host's configuration declares, as people may see them."""
        config = self._services.config
        return [
            {
                "job": name,
                "group": config.group,
                "command": shown(one.command or "", secrets_in(one.env or {}, config.output.redact)),
                "user": one.user or config.run.user or None,
                "timeout_s": one.timeout if one.timeout is not None else config.run.timeout,
                "retries": one.retries.max if one.retries is not None else 0,
                "overlap": one.overlap or "allow",
                "allow_args": one.allow_args,
                "allow_env": list(one.allow_env),
                "params": {param.name: param.said() for param in one.params},
                "labels": dict(one.labels or {}),
            }
            for name, one in config.jobs.items()
        ]

    async def start(self, job: str, *, args: object, env: object, params: object, by: str) -> dict[str, Any]:
        """Send a run of a declared job. Raises NotThere, Refused."""
        declaration = self._services.config.jobs.get(job)
        if declaration is None:
            raise NotThere(f"cannot run {job}: this host declares no such job; give [jobs.{job}] a command")
        message: dict[str, Any] = {"job": job, "labels": {"triggered-by": by[:128]}}
        if args:
            if not isinstance(args, list) or not all(isinstance(one, str) for one in args):
                raise Refused("invalid", 'cannot read the request: "args" is no list of texts')
            if not declaration.allow_args:
                raise Refused("not_allowed", f"cannot give {job} arguments: its declaration has no allow_args = true")
            message["args"] = args
        if env:
            if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
                raise Refused("invalid", 'cannot read the request: "env" is no object of texts')
            if refused := sorted(set(env) - set(declaration.allow_env)):
                raise Refused("not_allowed", f"cannot set {refused[0]} for {job}: its allow_env does not have it")
            message["env"] = env
        _add_params(message, declaration, params)
        return await self._send(message)

    async def rerun(self, run_id: str, *, by: str) -> dict[str, Any]:
        """Send the message of a run once more, under a new run id. Raises NotThere, Refused."""
        rows = await self._services.journal.latest([run_id])
        if not rows:
            raise NotThere(f"cannot run {run_id} again: this host does not know it; ask the host that had it")
        try:
            job = Job.from_json(json.loads(rows[0].spec))
        except (KeyError, TypeError, ValueError, AttributeError):
            job = None
        if job is None or not job.argv:
            raise Refused("ended", f"cannot run {run_id} again: its message is no longer kept; send the job anew")
        if job.signed_by is not None and job.envelope is None:
            raise Refused(
                "ended",
                f"cannot run {run_id} again: it was signed, and its signed message was not kept, since an earlier"
                f" version had it or it has more than {LARGEST_KEPT} bytes; send it anew: cron-runner send --key FILE",
            )
        config = self._services.config
        message = message_of(job, config.jobs.get(job.job), config.defaults())
        labels = {**job.labels, "rerun_of": run_id, "triggered-by": by[:128]}
        return {**await self._send(resent(message, labels, job.scheduled_at)), "rerun_of": run_id, "from": "journal"}

    async def _send(self, message: dict[str, Any]) -> dict[str, Any]:
        """Refused where this host would not take it, for the reason that it would reject it with."""
        services, config = self._services, self._services.config
        job = named(message)
        run_id = by_hand(job, services.now())
        body = json.dumps(with_run(message, run_id=run_id))
        try:
            read_job(
                body,
                message_id=run_id,
                defaults=config.defaults(),
                declarations=config.jobs,
                trust=services.trust,
            )
        except InvalidMessage as error:
            text = f"cannot run {job}: this host would reject the message: {error.detail}"
            raise Refused("invalid", text) from error
        queue = self._queue
        try:
            failed = await queue.send([Outgoing.of_run(body, job, run_id, fifo=queue.fifo)])
        except AwsUnavailable as error:
            raise CronRunnerError(
                f"cannot send to {queue.label}: {error.code}: {error.detail}; allow this host sqs:SendMessage on it, "
                "or use `cron-runner send` where it is allowed"
            ) from error
        if failed:
            raise CronRunnerError(f"cannot send to {queue.label}: {failed[0].code}: {failed[0].detail}")
        return {"job": job, "group": services.config.group, "run_id": run_id, "queue": queue.label}


def _add_params(message: dict[str, Any], declaration: Declaration, given: object) -> None:
    """The parameters as a message has them. Raises Refused where one is wrong, or is missing."""
    if given is not None and not isinstance(given, dict):
        raise Refused("invalid", 'cannot read the request: "params" is no object')
    try:
        args, env = placed(values(given or {}, declaration.params), declaration.params)
    except InvalidMessage as error:
        raise Refused("invalid", f"cannot run {declaration.name}: {error.detail}") from error
    if args:
        message["args"] = args
    if env:
        message["env"] = {**message.get("env", {}), **env}
