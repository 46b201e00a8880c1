"""One run, from its admission to its outcome, as one coroutine that reads top to bottom.

Order matters in every step: a fact is in the journal before the world is told, the supervisor may forget an end only
when it is in the journal, and the message is deleted last. Killed at any point, the next agent goes on from the
journal's and the supervisor's knowledge (reconcile.py) and repeats at most steps that can be repeated.
"""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING

import structlog

from runner.agent.journal.runs import unsent
from runner.agent.runs.attempt import judge, spec_of
from runner.agent.runs.environment import environment_of
from runner.agent.runs.events import finished_event, heartbeat_event, started_event
from runner.agent.runs.output import OutputEnd, OutputReport, Rules, tag_of
from runner.agent.runs.process import ExitRecord, Started
from runner.agent.runs.run import MessageState, State
from runner.agent.runs.secrets import secrets_in
from runner.agent.runs.step import HANDED_BACK, RETRIED, Stop
from runner.agent.supervision.link import Lost, NotStarted
from runner.aws.backoff import pause

if TYPE_CHECKING:
    from runner.agent.runs.run import Execution
    from runner.agent.services import Services
    from runner.config import Config
    from runner.sinks import Tag

log = structlog.get_logger()

_AFTER_END = "its end is told once more when its message comes again; another host would run it again"
SHIPPED_WITHIN_S = 5.0
SPOOL_RETRY_S = 2.0
NO_OUTPUT = OutputReport(0, 0, 0, truncated=False, tail="", failed_on=None, missing=None, lines=0)


class Run:
    """Drives one execution. `room_freed` is called once, when no process of it is left and it wants none."""

    def __init__(self, services: Services, execution: Execution) -> None:
        self.execution = execution
        self.stopped: Stop | None = None
        self._services = services
        self._stopping = asyncio.Event()
        self._live = False
        self.running_since: float | None = None  # time.monotonic()
        self.user = ""  # as whom its process runs
        self.task: asyncio.Task[None] | None = None
        self._leaving_fleet: asyncio.Task[None] | None = None
        self._tag: Tag | None = None
        self._known: tuple[int, Config, dict[str, str], tuple[str, ...]] | None = None

    # -- from outside

    async def stop(self, cause: str, detail: str = "", grace: float | None = None) -> None:
        """End it: its process by stop signal, grace and kill; a retry that is waited for does not happen."""
        self.unwanted(cause, detail, grace)
        if self._live:
            await self._services.link.stop(self.execution.key, cause, detail, grace)

    def unwanted(self, cause: str, detail: str = "", grace: float | None = None) -> None:
        """It is to end before anything more of it is started."""
        self.stopped = Stop(cause, detail, grace)
        self._stopping.set()

    def leave(self) -> None:
        """The agent goes away and the run goes on: the next agent takes it over from the journal."""
        if self.task is not None:
            self.task.cancel()

    @property
    def leaving_fleet(self) -> bool:
        """Whether the fleet's table has yet to hear of its end."""
        return self._leaving_fleet is not None and not self._leaving_fleet.done()

    @property
    def active(self) -> bool:
        return self.execution.state is not State.ENDED

    # -- the run

    async def execute(self) -> None:
        """A new execution that is in the journal: everything until nothing is owed to the queue."""
        if self.execution.job.ack == "on-start" and self.execution.lease is not None:
            await self._take_over()
        await self._settle(await self._attempts())

    async def resume(self) -> None:
        """An execution of an agent before us, whose present attempt may still run."""
        accepted: asyncio.Future[None] | None = None
        if self.execution.state is State.RUNNING:
            self._services.link.watch(self.execution.key)
            accepted = await self._end(await self._wait_for_end())
        if self.active:
            accepted = await self._attempts()
        await self._settle(accepted)

    async def _attempts(self) -> asyncio.Future[None] | None:
        """Attempt after attempt; returns the acceptance of the last finished event."""
        accepted: asyncio.Future[None] | None = None
        while self.active:
            if self.execution.state is State.BACKOFF:
                await self._backoff()
            spool_fd = await self._spool()
            if spool_fd is None:
                return await self._end_unstarted()
            accepted = await self._end(await self._attempt(spool_fd))
        return accepted

    async def _spool(self) -> int | None:
        """The descriptor of a new spool file, as soon as the disk has room for one; None: stopped before that.

        Admission stops while a run waits here: what is received now could not start either.
        """
        services, tag, secrets = self._services, self.tag(), self.secrets()
        while self.stopped is None:
            try:
                spool_fd = services.shipper.open(tag, secrets=secrets, rules=self.rules())
            except OSError as error:
                services.spool_error = str(error)
                log.error(
                    "spool_not_made",
                    run_id=tag.run_id,
                    error=str(error),
                    retry_in=SPOOL_RETRY_S,
                    detail="no job starts without a file for its output; make room below [paths] state",
                )
                await pause(SPOOL_RETRY_S, self._stopping)
            else:
                services.spool_error = None
                # Not waited for: a start that is not in the journal yet is found again by its key at the supervisor.
                services.spools.opened(tag, secrets, self.rules())
                return spool_fd
        # Nobody looks for it any more: whoever comes next does, and says so again where the disk is still full.
        services.spool_error = None
        return None

    async def _attempt(self, spool_fd: int) -> ExitRecord | None:
        """Start the command and wait for its end; None when it was lost with its supervisor."""
        execution, services = self.execution, self._services
        secrets, tag = self.secrets(), self.tag()
        execution.started_at = services.now()
        try:
            self._live = True
            env, keep_free = self._environment()[0], services.keep_free()
            spec = spec_of(execution, services.config, env, tag, tied=services.tied, keep_free=keep_free)
            started = await services.link.start(spec, spool_fd, self._stopping)
        except Lost:
            return None
        except NotStarted:
            return self._unstarted()
        finally:
            os.close(spool_fd)
        if started.exit is not None and started.exit.start_error is not None:
            return started.exit
        self.began(started.started_boottime, started.user)
        services.shipper.learn(execution.key, started.secrets)
        services.warn_of_short_secrets(execution.job.env, started.secrets)
        if started.secrets:
            services.spools.learned(tag, (*secrets, *started.secrets), self.rules())
        self.say_started(started)
        if self.stopped is not None:
            await services.link.stop(execution.key, self.stopped.cause, self.stopped.detail, self.stopped.grace)
        return started.exit or await self._wait_for_end()

    def say_started(self, started: Started) -> None:
        """The process exists: into the journal, and told."""
        execution, services = self.execution, self._services
        secrets = (*self.secrets(), *started.secrets)
        execution.state = State.RUNNING
        execution.pid = started.pid
        execution.started_at = started.started_at
        event = started_event(
            services.source,
            execution,
            started,
            secrets=secrets,
            log=services.log_place(self.tag()),
            heartbeat_s=services.config.results.heartbeat,
        )
        services.commit(execution, event)
        # A retry waits for its backoff, not for the queue.
        sent = execution.sent_at if execution.attempt == 1 else None
        services.counts.began(None if sent is None else started.started_at - sent)
        log.info("run_started", run_id=execution.run_id, job=execution.job.job, pid=started.pid, user=started.user)

    async def _wait_for_end(self) -> ExitRecord | None:
        self._live = True
        every: float | None = self._services.config.results.heartbeat
        if not every:
            return await self._services.link.ended(self.execution.key)
        end = asyncio.ensure_future(self._services.link.ended(self.execution.key))
        try:
            while not (await asyncio.wait({end}, timeout=every))[0]:
                await self._beat()
                # A reload may have changed the pace, or ended it.
                every = self._services.config.results.heartbeat or None
            return end.result()
        finally:
            end.cancel()

    def began(self, boottime: float, user: str) -> None:
        """Its process has been there since this moment of CLOCK_BOOTTIME; no clock jump changes for how long."""
        self.user = user
        self.running_since = time.monotonic() - (time.clock_gettime(time.CLOCK_BOOTTIME) - boottime)

    async def _beat(self) -> None:
        services, execution = self._services, self.execution
        usage = (await services.link.usage()).get(execution.key)
        now = services.now()
        event = heartbeat_event(
            services.source,
            execution,
            now,
            time.monotonic() - self.running_since if self.running_since is not None else 0.0,
            {
                "cpu_user_s": usage.cpu_user_s if usage else None,
                "cpu_system_s": usage.cpu_system_s if usage else None,
                "max_rss_bytes": usage.memory_bytes if usage else None,
            },
            services.output_bytes(execution.key),
        )
        services.commit(execution, event)

    async def _end(self, record: ExitRecord | None) -> asyncio.Future[None]:
        """The attempt has ended: outcome, journal, event. Returns the acceptance of the event."""
        execution, services = self.execution, self._services
        self._live = False
        execution.collecting = True
        execution.ended_at = record.finished_at if record else services.now()
        services.roster.process_ended(self)
        end = (
            OutputEnd(record.bytes_total, record.bytes_written, record.gap, record.marks, record.rest)
            if record is not None
            else None
        )
        report = await services.shipper.finish(execution.key, end, within=SHIPPED_WITHIN_S)
        shipped = services.shipper.has_settled(execution.key)
        # In one transaction with the end that is told next: nothing is waited for between the two.
        services.spools.ended(execution.key, end or OutputEnd(report.bytes, report.bytes), settled=shipped)
        accepted = await self._tell_end(record, report)
        if shipped:
            services.shipper.forget(execution.key)
        else:
            services.spawn(services.settle_output(execution.key), f"output {execution.key}")
        services.link.acknowledge((execution.key,))
        return accepted

    async def _end_unstarted(self) -> asyncio.Future[None]:
        """Stopped before its command could be started: that is an end too, and is told as one."""
        record = self._unstarted()
        self.execution.pid, self.execution.started_at, self.execution.ended_at = None, None, record.finished_at
        self._services.roster.process_ended(self)
        return await self._tell_end(record, NO_OUTPUT)

    def _unstarted(self) -> ExitRecord:
        stop, now = self.stopped or Stop("shutdown"), self._services.now()
        return ExitRecord(
            self.execution.key, cause=stop.cause, cause_detail=stop.detail, started_at=now, finished_at=now
        )

    async def _tell_end(self, record: ExitRecord | None, report: OutputReport) -> asyncio.Future[None]:
        execution, services = self.execution, self._services
        verdict = judge(execution, record, report, services.why_lost(execution))
        will_retry = (
            verdict.outcome in RETRIED and execution.attempt <= execution.job.retries.max and self.stopped is None
        )
        execution.state = State.BACKOFF if will_retry else State.ENDED
        execution.collecting = False
        if not will_retry:
            services.roster.no_more_attempts(self)
        event = finished_event(
            services.source,
            execution,
            record,
            report,
            now=services.now(),
            will_retry=will_retry,
            log=services.log_place(self.tag()),
        )
        accepted = services.outbox.accepted(event.id, unsent(execution, event))
        services.counts.ended(
            verdict.outcome,
            record.duration_s if record is not None and record.start_error is None and record.pid else None,
            last=not will_retry,
            written=report.bytes,
            dropped=report.dropped_bytes,
        )
        await services.commit(execution, event, terminal=not will_retry, kept=will_retry)
        if not will_retry:
            # A message that is gone brings the run to nobody: a copy of it must not either.
            again = execution.outcome in HANDED_BACK and execution.message is MessageState.LEASED
            self._leaving_fleet = services.leave_fleet(execution, again=again)
        log.info(
            "run_finished",
            run_id=execution.run_id,
            job=execution.job.job,
            attempt=execution.attempt,
            outcome=verdict.outcome,
            reason=execution.reason,
            will_retry=will_retry,
            **({"faults": list(record.faults)} if record is not None and record.faults else {}),
        )
        return accepted

    async def _backoff(self) -> None:
        """Wait until the next attempt is due, or the run is stopped.

        The journal knows the last end by the wall clock alone: after a restart a clock that was set back makes it
        wait the whole backoff again and never longer, one that was set forward lets the attempt come early.
        """
        execution, services = self.execution, self._services
        elsewhere = services.leaves_retry(execution)
        if elsewhere is not None and self.stopped is None:
            self.unwanted("shutdown", elsewhere)
        since = execution.ended_at or services.now()
        wait = execution.job.retries.delay(execution.attempt) - max(0.0, services.now() - since)
        await pause(max(0.0, wait), self._stopping)
        execution.attempt += 1
        execution.state = State.ACCEPTED
        execution.supervisor = services.instance()
        execution.pid = None
        if self.stopped is None:
            await services.commit(execution)

    # -- the message

    async def _take_over(self) -> None:
        """Answer for the run alone from here on: the journal first, then the deletion."""
        execution, services = self.execution, self._services
        lease = execution.lease
        if lease is None:
            return
        execution.message = MessageState.TAKEN_OVER
        await services.commit(execution)
        await services.keeper.delete(lease.receipt)
        services.keeper.drop(lease)
        execution.lease = None

    def reach_limit(self) -> None:
        """SQS will not hold the message much longer; called on the event loop by the lease keeper."""
        log.warning("run_taken_over", run_id=self.execution.run_id, job=self.execution.job.job)
        self._services.spawn(self._take_over(), f"take over {self.execution.run_id}")

    async def _settle(self, accepted: asyncio.Future[None] | None) -> None:
        """What is owed to the queue at the end: deletion, or the message back."""
        execution, services = self.execution, self._services
        lease = execution.lease
        if lease is None or execution.message is not MessageState.LEASED:
            services.roster.ended(self)
            return
        if self._leaving_fleet is not None:
            # Before the message: a copy of it that another host gets is to find out how this one ended.
            await asyncio.wait({self._leaving_fleet})
        if execution.outcome in HANDED_BACK:
            execution.message = MessageState.GONE
            await services.commit(execution)
            services.roster.ended(self)
            if not lease.lost:
                await services.keeper.release([lease], 0)
            services.keeper.drop(lease)
            return
        if accepted is not None:
            await accepted
        # Deleted by the newest receipt: a redelivery during the run has replaced the first.
        await services.keeper.delete(lease.receipt)
        services.keeper.drop(lease)
        execution.message = MessageState.GONE
        services.roster.ended(self)
        await services.journal.message_gone(execution.id)

    def lease_lost(self, why: str) -> None:
        """Apply `[queue] on_lost_lease`; called on the event loop by the lease keeper."""
        execution = self.execution
        if execution.state is State.ENDED:
            log.warning("lease_lost_after_end", run_id=execution.run_id, why=why, detail=_AFTER_END)
            return
        execution.lease_lost = True
        policy = self._services.config.queue.on_lost_lease
        log.error("lease_lost", run_id=execution.run_id, job=execution.job.job, why=why, policy=policy)
        if policy == "kill":
            self._services.spawn(self.stop("lost_lease", why), f"stop {execution.run_id}")

    # -- what the shipper needs

    def tag(self) -> Tag:
        """Of the present attempt."""
        if self._tag is None or self._tag.attempt != self.execution.attempt:
            self._tag = tag_of(self.execution, self._services.config, self._services.source)
        return self._tag

    def secrets(self) -> tuple[str, ...]:
        """Values of its environment that nobody may see, as far as the agent knows them."""
        return self._environment()[1]

    def _environment(self) -> tuple[dict[str, str], tuple[str, ...]]:
        """What the agent adds to the environment of the present attempt, and the secrets in it."""
        config, known = self._services.config, self._known
        if known is None or known[0] != self.execution.attempt or known[1] is not config:
            env = environment_of(self.execution, config, os.environ)
            known = self._known = self.execution.attempt, config, env, secrets_in(env, config.output.redact)
        return known[2], known[3]

    def rules(self) -> Rules:
        success = self.execution.job.success
        return Rules(fail_on=success.fail_on, require=success.require)
