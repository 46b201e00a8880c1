"""`run-once`: one message, run here and now, with everything that the agent would do for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from runner.agent.answers import Answers
from runner.agent.assembly import Parts, assemble
from runner.agent.execution import Execution, MessageState
from runner.agent.lease import Lease
from runner.agent.reconcile import own_name
from runner.agent.run import Run
from runner.errors import CronRunnerError, MessageRejected, explained
from runner.protocol.message import InvalidMessage, parse_message, resolve
from runner.protocol.outcome import exit_status
from runner.sinks.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.agent.services import Services
    from runner.aws.sqs import Received
    from runner.config import Config
    from runner.protocol.job import Job

log = structlog.get_logger()

NO_MESSAGE = 75
# What is still on its way at the end is waited for this long; the agent beside us delivers the rest.
DELIVER_WITHIN_S = 30.0
SHIP_WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Given:
    """A message that did not come from a queue."""

    body: str
    message_id: str


def once(config: Config, *, given: Given | None, wait: float, offline: bool) -> int:
    """Run one message and return the exit status of the contract, section 6. Raises CronRunnerError."""
    with _own_paths(config, temporary=offline) as usable:
        return asyncio.run(_in_group(usable, given, wait, offline=offline))


async def _in_group(config: Config, given: Given | None, wait: float, *, offline: bool) -> int:
    try:
        async with asyncio.TaskGroup() as tasks:
            return await Once(config, tasks, offline=offline).run(given, wait)
    except BaseExceptionGroup as group:
        raise explained(group) from None


@contextlib.contextmanager
def _own_paths(config: Config, *, temporary: bool) -> Iterator[Config]:
    """The host's own directories where they may be used, else temporary ones that are removed at the end."""
    with contextlib.ExitStack() as stack:
        state, runtime = config.paths.state, config.paths.runtime
        if temporary or not _usable(state):
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cron-runner-once-")))
        if not _reachable(runtime):
            runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cron-runner-once-")))
        yield replace(config, paths=replace(config.paths, state=state, runtime=runtime))


def _usable(directory: Path) -> bool:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)


def _reachable(runtime: Path) -> bool:
    """Whether a supervisor is, or can be, at home in this runtime directory."""
    companion = Path(f"{runtime}-supervisor", "supervisor.sock")
    return (companion.exists() and os.access(companion, os.W_OK)) or _usable(runtime)


class Once:
    """One life of a run-once inside a task group."""

    def __init__(self, config: Config, tasks: asyncio.TaskGroup, *, offline: bool) -> None:
        self._config = config
        self._tasks = tasks
        self._offline = offline
        self._run: Run | None = None
        self._signals = 0

    async def run(self, given: Given | None, wait: float) -> int:
        parts = await assemble(
            self._config, self._tasks, owner=own_name(), extra_sinks=(Terminal(),), offline=self._offline
        )
        services = parts.services
        background: list[asyncio.Task[None]] = []
        try:
            hello = await services.link.connect()
            if not self._config.run.user and hello.default_user is None and hello.default_user_error:
                raise CronRunnerError(f"cannot run jobs: {hello.default_user_error}")
            for name, work in (
                ("link", services.link.run()),
                ("renewals", services.keeper.renew_forever()),
                ("deletions", services.keeper.delete_forever()),
                ("outbox", services.outbox.run()),
                ("shipper", services.shipper.run()),
            ):
                background.append(self._tasks.create_task(work, name=name))
            with self._handled_signals():
                return await self._one(parts, given, wait)
        finally:
            await self._wind_up(services)
            services.abandon()
            for task in background:
                task.cancel()
            await services.link.close()
            await services.journal.database.close()
            parts.session.close()

    async def _one(self, parts: Parts, given: Given | None, wait: float) -> int:
        services = parts.services
        if given is not None:
            job = self._resolve(given.body, given.message_id)
            return await self._execute(services, job, None)
        message = await self._receive(parts, wait)
        if message is None:
            return NO_MESSAGE
        answers = Answers(services, parts.dead_letters)
        try:
            job = self._resolve(message.body, message.message_id)
        except MessageRejected as error:
            facts = await parts.queue.facts()
            redrive = facts.redrive
            parts.dead_letters.settle(await parts.queue.url_of_arn(redrive.target_arn) if redrive else None)
            await answers.reject(message, error.fault)
            raise
        if not await answers.unanswered([(job, message)]):
            log.warning("run_ended_before", run_id=job.run_id)
            return NO_MESSAGE
        return await self._execute(services, job, message)

    def _resolve(self, body: str, message_id: str) -> Job:
        try:
            return resolve(
                parse_message(body),
                message_id=message_id,
                defaults=self._config.defaults(),
                declarations=self._config.jobs,
            )
        except InvalidMessage as error:
            raise MessageRejected(error) from error

    async def _receive(self, parts: Parts, wait: float) -> Received | None:
        deadline = time.monotonic() + wait
        while True:
            left = max(0.0, deadline - time.monotonic())
            received = await parts.queue.receive(1, min(20.0, left), self._config.queue.visibility)
            if received:
                return received[0]
            if left <= 0 or self._signals:
                return None

    async def _execute(self, services: Services, job: Job, message: Received | None) -> int:
        execution = Execution(
            job=job,
            message_id=message.message_id if message else None,
            delivery=message.delivery if message else 1,
            sent_at=message.sent_at if message else None,
            accepted_at=services.now(),
            boot_id=services.source.host.boot_id,
            owner=services.owner,
            supervisor=services.instance(),
            message=MessageState.LEASED if message else MessageState.NONE,
        )
        if message is not None:
            execution.lease = self._lease(message, execution)
            services.keeper.hold(execution.lease)
        self._run = Run(services, execution)
        services.roster.add(self._run)
        await services.journal.accept(execution)
        await self._run.execute()
        verdict = execution.verdict
        return exit_status(verdict) if verdict is not None else 125

    def _lease(self, message: Received, execution: Execution) -> Lease:
        visibility = self._config.queue.visibility
        return Lease(
            message_id=message.message_id,
            run_id=execution.run_id,
            receipt=message.receipt,
            delivery=message.delivery,
            taken=message.asked_at,
            until=message.asked_at + visibility,
            visibility=visibility,
            execution=execution.id,
        )

    async def _wind_up(self, services: Services) -> None:
        await services.shipper.close(within=SHIP_WITHIN_S)
        if not self._offline and not await services.outbox.flush(DELIVER_WITHIN_S):
            log.warning("events_not_delivered", detail="the results queue did not take them in time")

    @contextlib.contextmanager
    def _handled_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    def _asked_to_stop(self) -> None:
        """The first signal asks the job to end, the second one kills it."""
        self._signals += 1
        if self._run is not None:
            grace = None if self._signals == 1 else 0.0
            self._tasks.create_task(self._run.stop("cancel", f"by {_user_name()}", grace), name="stop")


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
