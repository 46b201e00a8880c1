"""`run-once`: one message, run here and now, with everything that the agent would do for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from runner.agent.answers import Answers
from runner.agent.engine.reconcile import own_name
from runner.agent.fleet.claims import Clear
from runner.agent.runs.admission.policy import stale
from runner.agent.runs.lease import Lease
from runner.agent.runs.run import Execution, MessageState
from runner.agent.wiring import Parts, assemble
from runner.errors import CronRunnerError, MessageRejected, explained
from runner.once.paths import own_paths
from runner.once.refused import job_of, reject, settle, tell_rejected
from runner.once.stop import AGAIN, LEAVE_WITHIN_S, Stop
from runner.once.terminal_run import Told, owed, say
from runner.protocol.outcome import RUNNER_FAILED, Outcome, exit_status
from runner.protocol.units import format_duration
from runner.sinks.terminal import Terminal

if TYPE_CHECKING:
    from runner.agent.engine.run import Run
    from runner.agent.services import Services
    from runner.aws.sqs import Received
    from runner.config import Config
    from runner.protocol.job import Job

log = structlog.get_logger()

NO_MESSAGE = 75
# What is still on its way at the end is waited for this long; the agent beside us delivers the rest.
DELIVER_WITHIN_S = 30.0
SHIP_WITHIN_S = 30.0
# Who looks on is told what is waited for, if it takes longer than this.
LATE_S = 2.0
_NOT_DELIVERED = "the results queue did not take them in time; the agent of this host sends them, when one runs"


@dataclass(frozen=True, slots=True)
class Given:
    """A message that did not come from a queue."""

    body: str
    message_id: str


def once(config: Config, *, given: Given | None, wait: float, offline: bool) -> int:
    """Run one message and return the exit status of the contract, section 6. Raises CronRunnerError."""
    # Until the loop hears them itself: there are directories to remove.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with own_paths(config, temporary=offline) as usable:
        kept = usable.paths.state == config.paths.state
        return asyncio.run(_in_group(usable, given, wait, offline=offline, kept=kept))


async def _in_group(config: Config, given: Given | None, wait: float, *, offline: bool, kept: bool) -> int:
    try:
        async with asyncio.TaskGroup() as tasks:
            once = Once(config, tasks, offline=offline, kept=kept)
            try:
                return await once.run(given, wait)
            except asyncio.CancelledError:
                if not once.stop.signals:
                    raise
                return once.stop.status  # by a second signal, while there was no job to wait for
    except BaseExceptionGroup as group:
        raise explained(group) from None


class Once:
    """One life of a run-once inside a task group. `kept`: its journal outlives it, on the host's own disk."""

    def __init__(self, config: Config, tasks: asyncio.TaskGroup, *, offline: bool, kept: bool) -> None:
        self._config = config
        self._tasks = tasks
        self._offline = offline
        self._kept = kept
        self._run: Run | None = None
        self._services: Services | None = None
        self.stop = Stop(self._asked_to_stop)
        self._polling = 0.0  # when the receive under way is over, by time.monotonic()
        self._task = asyncio.current_task()
        self._patience: asyncio.Task[None] | None = None

    async def run(self, given: Given | None, wait: float) -> int:
        with self.stop.handled():
            return await self._assembled(given, wait)

    async def _assembled(self, given: Given | None, wait: float) -> int:
        parts = await assemble(
            self._config, self._tasks, owner=own_name(), extra_sinks=(Terminal(),), offline=self._offline
        )
        services = self._services = parts.services
        background: list[asyncio.Task[None]] = []
        try:
            await services.link.connect()
            background += services.start_standing_tasks()
            return await (self._of_queue(parts, wait) if given is None else self._of_file(services, given))
        finally:
            await self._wind_up(services)
            services.abandon()
            for task in background:
                task.cancel()
            await services.link.close()
            await services.journal.database.close()
            parts.session.close()

    # -- the message

    async def _of_file(self, services: Services, given: Given) -> int:
        try:
            job = job_of(self._config, given.body, given.message_id)
        except MessageRejected as error:
            if not self._offline:
                await tell_rejected(services, given.body, given.message_id, error.fault)
            raise
        late = stale(job, services.now())
        if late is not None:
            say(f"skipped: {late.detail}")
            return NO_MESSAGE
        if self.stop.leaving.is_set():
            return self.stop.status
        return await self._execute(services, job, None)

    async def _of_queue(self, parts: Parts, wait: float) -> int:
        """Receive until there is something to run, or the wait is over."""
        answers = Answers(parts.services, parts.dead_letters)
        deadline = time.monotonic() + wait
        came = False
        while not self.stop.leaving.is_set():
            left = max(0.0, deadline - time.monotonic())
            poll = min(20.0, left)
            self._polling = time.monotonic() + poll
            for message in await parts.queue.receive(1, poll, self._config.queue.visibility):
                came = True
                status = await self._received(parts, answers, message)
                if status is not None:
                    return status
            if left <= 0:
                break
        if self.stop.leaving.is_set():
            say("stopped before a message came")
            return self.stop.status
        if not came:
            say(f"no message came within {format_duration(wait)}")
        return NO_MESSAGE

    async def _received(self, parts: Parts, answers: Answers, message: Received) -> int | None:
        """The exit status; None: it was answered without a run, and the next message may come."""
        services = parts.services
        try:
            job = job_of(self._config, message.body, message.message_id, message.trace)
        except MessageRejected as error:
            await self.stop.unless_leaving(reject(parts, answers, message, error.fault))
            raise
        if not await answers.unanswered([(job, message)]):
            say(f"run {job.run_id} was taken by this host before: its message starts nothing")
            if answers.answering:
                await self.stop.unless_leaving(settle(parts))  # it may be rejected: another run has its id
            await self.stop.unless_leaving(_all_of(services))
            return None
        if self.stop.leaving.is_set():
            await parts.queue.extend([(message.receipt, 0)])
            say(f"run {job.run_id} came meanwhile, and was handed back")
            return self.stop.status
        late = stale(job, services.now())
        if late is not None:
            say(f"skipped: {late.detail}")
            await self.stop.unless_leaving(answers.skip(job, message, late))
            return NO_MESSAGE
        fault = self._no_user(services, job)
        if fault is not None:
            await parts.queue.extend([(message.receipt, 0)])
            raise fault
        return await self._execute(services, job, message)

    def _no_user(self, services: Services, job: Job) -> CronRunnerError | None:
        """Why there is nobody to run this job as: only one that names no user needs the default one."""
        hello = services.link.hello
        if job.user or hello is None or hello.default_user is not None or not hello.default_user_error:
            return None
        return CronRunnerError(f"cannot run jobs: {hello.default_user_error}")

    # -- the run

    async def _execute(self, services: Services, job: Job, message: Received | None) -> int:
        fault = self._no_user(services, job)
        if fault is not None:
            raise fault
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
            execution.lease = Lease.of(
                message, self._config.queue.visibility, run_id=execution.run_id, execution=execution.id
            )
            services.keeper.hold(execution.lease)
            await self._ask_fleet(services, execution, execution.lease)
        self._run = Told(services, execution)
        services.roster.add(self._run)
        await services.journal.accept(execution)
        self._patience = asyncio.create_task(self._be_patient(services, self._run))
        await self.stop.unless_leaving(self._run.execute())
        verdict = execution.verdict
        if verdict is None:
            return RUNNER_FAILED
        itself = verdict.outcome is Outcome.FAILED and execution.reason == f"exit code {verdict.exit_code}"
        if verdict.outcome is not Outcome.SUCCEEDED and not itself:
            say(f"{verdict.outcome}: {execution.reason}")
        return self.stop.status if verdict.outcome is Outcome.CANCELLED and self.stop.signals else exit_status(verdict)

    async def _ask_fleet(self, services: Services, execution: Execution, lease: Lease) -> None:
        """Another host that has the run, or runs the job where that matters, is an error here: the message goes back.

        A message from a file is run for debugging, and asks nobody.
        """
        if services.fleet is None:
            return
        await services.fleet.first_look(services.pausing)
        answer = await services.fleet.stakes.enter(execution.id, execution.job)
        if not isinstance(answer, Clear):
            await services.keeper.release([lease], 0)
            # While the table is away there is nobody to tell, and what may be held frees itself.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_WITHIN_S):
                    await services.fleet.stakes.leave(execution.id, again=True)
            raise CronRunnerError(f"cannot run {execution.run_id} now: {answer}; its message was handed back")

    # -- the end

    async def _wind_up(self, services: Services) -> None:
        """Give the rest of output and events some time to arrive; a signal cuts it short."""
        await self.stop.unless_leaving(_all_of(services, SHIP_WITHIN_S))
        await services.shipper.close(within=LEAVE_WITHIN_S)
        if not self._offline:
            await self.stop.unless_leaving(_flush(services))
        if self._patience is not None:
            self._patience.cancel()
            # Offline there is nobody to deliver to.
            if not self._offline and (what := await owed(services)):
                say(f"not delivered: {what}; {self._where()}")

    async def _be_patient(self, services: Services, run: Told) -> None:
        """Once the job has ended, say what else is waited for, and leave when that takes too long: all of the waiting
        after its end is within this bound."""
        while True:
            await run.over.wait()
            await asyncio.sleep(LATE_S)
            if run.over.is_set():
                break
        what = await owed(services) or "the message's deletion"
        within = format_duration(DELIVER_WITHIN_S)
        say(f"the job has ended: {run.how}; waiting up to {within} for {what} to be delivered; {self._where()}")
        await asyncio.sleep(DELIVER_WITHIN_S)
        self._leave(services)

    def _where(self) -> str:
        """Where that stays which cannot be delivered."""
        if self._kept:
            return f"it stays in {self._config.paths.state}, and the agent of this host delivers it when one runs"
        return f"it goes with the temporary directory {self._config.paths.state}: nothing else is writable here"

    def _asked_to_stop(self, again: bool) -> None:
        """The first signal asks the job to end, the second one kills it; without a job we leave."""
        services, run = self._services, self._run
        if services is not None and run is not None and run.active:
            job = run.execution.job
            if not again:
                grace = format_duration(job.grace)
                say(f"stopping the job: SIG{job.stop_signal} now, SIGKILL after {grace}; {AGAIN} kills it at once")
            services.spawn(run.stop("cancel", f"by {_user_name()}", 0.0 if again else None), "stop")
            return
        if run is None and again and self._task is not None:
            self._task.cancel()
        elif run is None and (left := self._polling - time.monotonic()) > LATE_S:
            say(
                f"finishing the receive that is under way, up to {format_duration(round(left))}: a message that it "
                f"brings is handed back; {AGAIN} gives that up, and such a message is hidden for "
                f"{format_duration(self._config.queue.visibility)}"
            )
        self._leave(services)

    def _leave(self, services: Services | None) -> None:
        self.stop.leaving.set()
        if self._kept and services is not None:
            # The journal is enough to delete a message: whoever comes after us delivers the event.
            services.outbox.hurry()


async def _all_of(services: Services, within: float | None = None) -> None:
    """Wait for the work in the background, but not for its failure: that is the task group's to report."""
    if services.spawned:
        await asyncio.wait(set(services.spawned), timeout=within)


async def _flush(services: Services) -> None:
    if not await services.outbox.flush(DELIVER_WITHIN_S):
        log.warning("events_not_delivered", detail=_NOT_DELIVERED)


def _user_name() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
