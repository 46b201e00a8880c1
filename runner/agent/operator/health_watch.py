"""Gathers the facts of health, and tells systemd: the status line, the watchdog, and that a stop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from runner.agent.operator.health import Facts, Health, alive, judge, status_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.host.systemd import Notifier
    from runner.agent.intake.depths import Depths
    from runner.agent.intake.poll import Intake
    from runner.agent.journal.reserve import Reserve
    from runner.agent.services import Services
    from runner.aws.calls import CallStats

log = structlog.get_logger()

EVERY_S = 10.0
JOURNAL_WITHIN_S = 1.0
# So much longer the stop may take each time that it is seen to go on; several rounds, as one may be late.
EXTEND_S = 60.0
# What a stop may take beyond drain_timeout and the graces of the jobs: the last events, the output, the journal.
STOP_MARGIN_S = 120.0
_NOT_FED = "it makes no progress, so systemd restarts it, and its jobs go on; report the lines before this one"


class HealthWatch:
    """`stats` are those of the session that calls AWS."""

    def __init__(
        self,
        services: Services,
        intake: Intake,
        notifier: Notifier,
        stats: CallStats,
        reserve: Reserve,
        *,
        queue: str = "",
        depths: Depths | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.services = services
        self.intake = intake
        self.stats = stats
        self.started_at = time.time()
        self.reserve = reserve
        self.depths = depths
        self._notifier = notifier
        self._queue = queue.rstrip("/").rpartition("/")[2]
        self._clock = clock
        self._stop_by: float | None = None
        self._asked: asyncio.Future[tuple[int, float | None]] | None = None

    async def outbox_depth(self) -> tuple[int, float | None] | None:
        """How many events wait, and when the oldest happened (unix seconds); None while the journal does not answer, as
        when it waits for its disk: who asks does without."""
        # One question at a time: they would pile up behind a full disk.
        if self._asked is None:
            self._asked = self.services.journal.undelivered()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOURNAL_WITHIN_S):
                answer = await asyncio.shield(self._asked)
                self._asked = None
                return answer
        return None

    def facts(self) -> Facts:
        now = self._clock()
        intake, services, stats = self.intake, self.services, self.stats
        database, outbox, link = services.journal.database, services.outbox, services.link
        paused = services.pausing.current
        logs = stats.last_error.get("logs")

        def age(since: float | None) -> float | None:
            return None if since is None else max(0.0, now - since)

        return Facts(
            queue=self._queue,
            running=services.roster.taking_room,
            held=len(intake.held),
            held_by=dict(Counter(waiting.kind or "deciding" for waiting in intake.held)),
            receive_age_s=age(intake.last_receive),
            asking_for_s=age(intake.asking_since),
            receive_failing_s=age(intake.failing_since),
            receive_error=intake.failing_by if intake.failing_since is not None else "",
            message_age_s=age(intake.last_message),
            waiting_for=intake.waiting_for,
            paused="" if paused is None else str(paused),
            draining=services.draining,
            drained=paused is not None and paused.drain,
            blocked=intake.blocked_by() or "",
            blocked_s=age(intake.blocked_since),
            reserve=self.reserve.missing,
            journal_aside=database.aside,
            results_failing_s=age(outbox.failing_since),
            results_error=outbox.failing_by if outbox.failing_since is not None else "",
            journal_blocked_s=age(database.blocked_since),
            journal_error=database.blocked_by if database.blocked_since is not None else "",
            supervisor_connected=link.connected,
            supervisor_away_s=age(link.away_since),
            spool_bytes=services.shipper.backlog(),
            unshipped_age_s=age(services.shipper.oldest()),
            output_error="" if logs is None else str(logs),
            clock_ahead_s=stats.clock_ahead,
            reload="" if services.reload is None else str(services.reload),
        )

    def health(self) -> tuple[Facts, Health]:
        facts = self.facts()
        return facts, judge(facts)

    def status_line(self) -> str:
        """One line that a person reads in `systemctl status`."""
        return status_line(self.facts())

    def stopping(self) -> None:
        """The stop has begun. systemd is asked for time while it goes on, and not for longer than it should take."""
        graces = [run.execution.job.grace for run in self.services.roster.active()]
        limit = self.services.config.agent.drain_timeout + max(graces, default=0.0) + STOP_MARGIN_S
        self._stop_by = self._clock() + limit
        self._notifier.stopping(self.status_line(), EXTEND_S)

    async def watch(self) -> None:
        """Feed systemd's watchdog and keep its status line fresh."""
        every = min(self._notifier.watchdog_every or EVERY_S, EVERY_S)
        while True:
            self._notifier.send(**self.round())
            await asyncio.sleep(every)

    def round(self) -> dict[str, str | int]:
        """What systemd is told this time."""
        database, intake, now = self.services.journal.database, self.intake, self._clock()
        # A commit of nothing: it is answered when the journal's thread comes round.
        database.touch()
        if database.blocked_since is not None:
            # The poll loop may be waiting for the journal, which waits for the disk: that is waited out.
            intake.progress = now
        fields: dict[str, str | int] = {"STATUS": self.status_line()}
        poll_age = 0.0 if intake.ended else now - intake.progress
        if not alive(poll_age, now - database.progress):
            log.error(
                "watchdog_not_fed",
                poll_age=round(poll_age),
                journal_age=round(now - database.progress),
                detail=_NOT_FED,
            )
            return fields
        if self._notifier.watchdog_every is not None:
            fields["WATCHDOG"] = 1
        if self._stop_by is not None and now < self._stop_by:
            fields["EXTEND_TIMEOUT_USEC"] = int(EXTEND_S * 1e6)
        return fields
