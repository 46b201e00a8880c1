"""One run's attempts, from the file for its output to the end that is told: how the orders of the table are carried
out."""

from __future__ import annotations

import asyncio
import errno
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from runner.agent.engine.secrets import Secrets
from runner.agent.journal.outgoing import unsent
from runner.agent.reporting.message import message_told
from runner.agent.runs.attempt import judge, spec_of
from runner.agent.runs.events import finished_event, heartbeat_event, started_event
from runner.agent.runs.inputs import (
    Began,
    Collected,
    Continued,
    Due,
    Ended,
    EndTold,
    Input,
    Lost,
    SecretsRefused,
    SpoolMade,
    SpoolRefused,
    Withdrawn,
)
from runner.agent.runs.output import OutputEnd, OutputReport, Rules, tag_of
from runner.agent.runs.process import ExitRecord
from runner.agent.runs.run import State
from runner.agent.runs.step import Stop
from runner.agent.supervision import link
from runner.aws.backoff import pause
from runner.log import traces

if TYPE_CHECKING:
    from runner.agent.runs.process import Started
    from runner.agent.runs.run import Execution
    from runner.agent.services import Services
    from runner.sinks import Tag

log = structlog.get_logger()

SHIPPED_WITHIN_S = 5.0
SPOOL_RETRY_S = 2.0
NO_OUTPUT = OutputReport(0, 0, 0, truncated=False, tail="", failed_on=None, missing=None, lines=0)


class Attempts(Secrets):
    """Carries out the orders that are about its process and its output."""

    def __init__(self, services: Services, execution: Execution) -> None:
        super().__init__(services, execution)
        traces.note(execution.run_id, execution.job.traceparent)
        self.stopped: Stop | None = None
        self._live = False  # a start is under way, or its process is there
        self.running_since: float | None = None  # time.monotonic()
        self.user = ""  # as whom its process runs
        self._tag: Tag | None = None

    @property
    def active(self) -> bool:
        return self.execution.state is not State.ENDED

    def unwanted(self, cause: str, detail: str = "", grace: float | None = None) -> None:
        """It is to end before anything more of it is started."""
        self.stopped = Stop(cause, detail, grace)
        self._stopping.set()

    # -- to a process

    def do_make_spool(self, _: Input) -> Input:
        """Admission stops while a run waits for room: what is received now could not start either."""
        services, tag, secrets = self._services, self.tag(), self.secrets()
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
            return SpoolRefused()
        services.spool_error = None
        # Not waited for: a start that is not in the journal yet is found again by its key at the supervisor.
        services.spools.opened(tag, secrets, self.rules())
        return SpoolMade(spool_fd)

    async def do_wait_for_room(self, _: Input) -> Input:
        await pause(SPOOL_RETRY_S, self._stopping)
        return Continued()

    async def do_start(self, made: SpoolMade) -> Input:
        execution, services = self.execution, self._services
        execution.started_at = services.now()
        try:
            self._live = True
            spec = spec_of(
                execution,
                services.config,
                self._environment()[0],
                self.tag(),
                tied=services.tied,
                keep_free=services.keep_free(),
                secrets=self._fetched,
            )
            return Began(await services.link.start(spec, made.fd, self._stopping))
        except link.Lost:
            return Lost()
        except link.NotStarted:
            return Withdrawn()
        finally:
            os.close(made.fd)

    def do_say_started(self, happened: Began) -> None:
        execution, services, started = self.execution, self._services, happened.started
        self.began(started.started_boottime, started.user)
        services.shipper.learn(execution.key, started.secrets)
        services.warn_of_short_secrets(execution.job.env, started.secrets)
        if started.secrets:
            services.spools.learned(self.tag(), (*self.secrets(), *started.secrets), self.rules())
        self.say_started(started)
        self.given()

    def say_started(self, started: Started, noted: int | None = None) -> None:
        """The process exists: into the journal, and told. `noted`: the number of the event before, where that may not
        be the last one that was made."""
        execution, services = self.execution, self._services
        last = execution.sequence
        execution.sequence = last if noted is None else noted
        secrets = (*self.secrets(), *started.secrets, *self._fetched.values())
        execution.pid = started.pid
        execution.started_at = started.started_at
        event = started_event(
            services.source,
            execution,
            started,
            secrets=secrets,
            log=services.log_place(self.tag()),
            heartbeat_s=services.config.results.heartbeat,
            message=message_told(services.config, execution.job, secrets) if execution.attempt == 1 else None,
        )
        execution.sequence = max(execution.sequence, last)
        services.commit(execution, event)
        # A retry waits for its backoff, not for the queue.
        sent = execution.sent_at if execution.attempt == 1 else None
        services.counts.began(None if sent is None else started.started_at - sent)
        log.info("run_started", run_id=execution.run_id, job=execution.job.job, pid=started.pid, user=started.user)

    async def do_stop(self, _: Input) -> None:
        stop = self.stopped
        if stop is not None:
            await self._services.link.stop(self.execution.key, stop.cause, stop.detail, stop.grace)

    async def do_watch(self, happened: Began) -> Input:
        exit_ = happened.started.exit
        return Ended(exit_) if exit_ is not None else await self._end_of()

    async def _end_of(self) -> Input:
        self._live = True
        record = await self._wait_for_end()
        return Lost() if record is None else Ended(record)

    async def _wait_for_end(self) -> ExitRecord | None:
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

    # -- to its end

    async def do_collect(self, happened: Input) -> Input:
        execution, services, record = self.execution, self._services, self._record_of(happened)
        self._live = False
        self.given()
        execution.ended_at = record.finished_at if record else services.now()
        end = (
            OutputEnd(record.bytes_total, record.bytes_written, record.gap, record.marks, record.rest)
            if record is not None
            else None
        )
        report = await services.shipper.finish(execution.key, end, within=SHIPPED_WITHIN_S)
        shipped = services.shipper.has_settled(execution.key)
        return self._judged(record, report, end or OutputEnd(report.bytes, report.bytes), shipped=shipped)

    def do_end_unstarted(self, happened: Input) -> Input:
        """Stopped before its command could be started, or without a secret: that is an end too, and is told as one."""
        # Nobody looks for room any more: whoever comes next does, and says so again where the disk is still full.
        self._services.spool_error = None
        self.given()
        record = self._unstarted()
        if isinstance(happened, SecretsRefused) and self.stopped is None:
            record = replace(record, cause=None, cause_detail="", start_error=(errno.EACCES, happened.why))
        self.execution.pid, self.execution.started_at, self.execution.ended_at = None, None, record.finished_at
        return self._judged(record, NO_OUTPUT, None, shipped=True)

    def _record_of(self, happened: Input) -> ExitRecord | None:
        match happened:
            case Ended(record):
                return record
            case Began(started):
                return started.exit
            case Withdrawn():
                return self._unstarted()
        return None

    def _unstarted(self) -> ExitRecord:
        stop, now = self.stopped or Stop("shutdown"), self._services.now()
        return ExitRecord(
            self.execution.key, cause=stop.cause, cause_detail=stop.detail, started_at=now, finished_at=now
        )

    def _judged(
        self, record: ExitRecord | None, report: OutputReport, end: OutputEnd | None, *, shipped: bool
    ) -> Collected:
        verdict = judge(self.execution, record, report, self._services.why_lost(self.execution))
        return Collected(record, report, verdict.outcome, end, shipped)

    def do_end_output(self, collected: Collected) -> None:
        if collected.end is not None:
            self._services.spools.ended(self.execution.key, collected.end, settled=collected.shipped)

    async def do_tell_end(self, collected: Collected) -> Input:
        execution, services = self.execution, self._services
        record, report, will_retry = collected.record, collected.report, self.active
        event = finished_event(
            services.source,
            execution,
            record,
            report,
            now=services.now(),
            will_retry=will_retry,
            log=services.log_place(self.tag()),
        )
        self._accepted = services.outbox.accepted(event.id, unsent(execution, event))
        ran = record.duration_s if record is not None and record.start_error is None and record.pid else None
        services.counts.ended(
            collected.outcome, ran, last=not will_retry, written=report.bytes, dropped=report.dropped_bytes
        )
        services.counts.ended_of(
            execution.job.job,
            collected.outcome,
            ran,
            last=not will_retry,
            at=execution.ended_at or services.now(),
            most=services.config.agent.metrics_jobs,
        )
        await services.commit(execution, event, terminal=not will_retry, kept=will_retry)
        traces.note(execution.run_id, execution.job.traceparent)
        log.info(
            "run_finished",
            run_id=execution.run_id,
            job=execution.job.job,
            attempt=execution.attempt,
            outcome=collected.outcome,
            reason=execution.reason,
            will_retry=will_retry,
            **({"faults": list(record.faults)} if record is not None and record.faults else {}),
        )
        return EndTold(collected.shipped, begun=collected.end is not None)

    def do_acknowledge(self, told: EndTold) -> None:
        services, key = self._services, self.execution.key
        if not told.begun:
            return  # nothing of it was ever at the supervisor, or in a file
        if told.shipped:
            services.shipper.forget(key)
        else:
            services.spawn(services.settle_output(key), f"output {key}")
        services.link.acknowledge((key,))

    async def do_wait(self, _: Input) -> Input:
        """Until the next attempt is due, or the run is stopped.

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
        return Due()

    def do_next_attempt(self, _: Input) -> None:
        self.execution.attempt += 1
        self.execution.supervisor = self._services.instance()
        self.execution.pid = None

    async def do_write_row(self, _: Input) -> Input:
        await self._services.commit(self.execution)
        return Continued()

    # -- what the shipper needs

    def tag(self) -> Tag:
        """Of the present attempt."""
        if self._tag is None or self._tag.attempt != self.execution.attempt:
            self._tag = tag_of(self.execution, self._services.config, self._services.source)
        return self._tag

    def rules(self) -> Rules:
        success = self.execution.job.success
        return Rules(fail_on=success.fail_on, require=success.require)
