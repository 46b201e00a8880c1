"""Is the agent alive, and does it hear? Two different questions.

The watchdog asks the first: do the poll loop and the journal go on. An outage that is waited out is going on, so it
restarts nothing. `/healthz` asks the second: when did SQS last answer a receive. An outage turns it red.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import structlog

from runner import __version__

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.agent.intake import Intake
    from runner.agent.notify import Notifier
    from runner.agent.services import Services

log = structlog.get_logger()

# A receive is bound to end within 70 s (20 s of poll, then its timeouts), and a wait after a failure within 30 s.
STUCK_AFTER_S = 120.0
# Three polls without an answer: a deaf agent is red within 90 s.
DEAF_AFTER_S = 60.0
REQUEST_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Facts:
    """What health is judged by. Ages are seconds; None: it never happened, or does not go on.

    `asking_for_s`: since when the agent has had room and reason to receive.
    """

    receive_age_s: float | None
    asking_for_s: float | None
    receive_failing_s: float | None = None
    receive_error: str = ""
    results_failing_s: float | None = None
    results_error: str = ""
    journal_blocked_s: float | None = None
    journal_error: str = ""
    supervisor_connected: bool = True
    draining: bool = False
    waiting_for: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """`reasons` is empty when all is well; each says what is wrong and since when."""

    ok: bool
    reasons: tuple[str, ...] = field(default=())


def judge(facts: Facts) -> Health:
    """What `/healthz` answers."""
    reasons = []
    if facts.journal_blocked_s is not None:
        reasons.append(f"the journal cannot be written for {facts.journal_blocked_s:.0f} s: {facts.journal_error}")
    if not facts.supervisor_connected:
        reasons.append("the supervisor is not connected")
    if facts.asking_for_s is not None and not facts.draining:
        silent = min(facts.asking_for_s, facts.receive_age_s if facts.receive_age_s is not None else float("inf"))
        if silent > DEAF_AFTER_S:
            why = facts.receive_error or "the poll does not end"
            reasons.append(f"no answer to a receive for {silent:.0f} s: {why}")
    if facts.results_failing_s is not None and facts.results_failing_s > DEAF_AFTER_S:
        reasons.append(f"no event delivered for {facts.results_failing_s:.0f} s: {facts.results_error}")
    return Health(not reasons, tuple(reasons))


def alive(poll_age_s: float, journal_age_s: float) -> bool:
    """Whether the watchdog may be fed: both loops have gone round lately."""
    return poll_age_s < STUCK_AFTER_S and journal_age_s < STUCK_AFTER_S


class HealthWatch:
    """Gathers the facts, feeds the watchdog, and answers on `[agent] listen`."""

    def __init__(
        self, services: Services, intake: Intake, notifier: Notifier, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._services = services
        self._intake = intake
        self._notifier = notifier
        self._clock = clock

    def facts(self) -> Facts:
        now = self._clock()
        intake, services = self._intake, self._services
        database, outbox = services.journal.database, services.outbox

        def age(since: float | None) -> float | None:
            return None if since is None else now - since

        return Facts(
            receive_age_s=age(intake.last_receive),
            asking_for_s=age(intake.asking_since),
            receive_failing_s=age(intake.failing_since),
            receive_error=intake.failing_by if intake.failing_since is not None else "",
            results_failing_s=age(outbox.failing_since),
            results_error=outbox.failing_by,
            journal_blocked_s=age(database.blocked_since),
            journal_error=database.blocked_by,
            supervisor_connected=services.link.connected,
            draining=services.draining,
            waiting_for=intake.waiting_for,
        )

    def status_line(self) -> str:
        """One line that a person reads in `systemctl status`."""
        health = judge(self.facts())
        roster, intake = self._services.roster, self._intake
        running = f"{roster.taking_room} running, {len(intake.held)} held"
        if not health.ok:
            return f"{running}; unhealthy: {health.reasons[0]}"
        if self._services.draining:
            return f"{running}; draining"
        return f"{running}; {'waits for ' + intake.waiting_for if intake.waiting_for else 'polling'}"

    async def watch(self) -> None:
        """Feed systemd's watchdog and keep its status line fresh."""
        database = self._services.journal.database
        every = min(self._notifier.watchdog_every or 10.0, 10.0)
        while True:
            # A commit of nothing: it is answered when the journal's thread comes round.
            database.touch()
            fields: dict[str, str | int] = {"STATUS": self.status_line()}
            now = self._clock()
            if alive(now - self._intake.progress, now - database.progress):
                if self._notifier.watchdog_every is not None:
                    fields["WATCHDOG"] = 1
            else:
                log.error("watchdog_not_fed", poll_age=now - self._intake.progress, journal_age=now - database.progress)
            self._notifier.send(**fields)
            await asyncio.sleep(every)

    async def serve(self, listen: str) -> None:
        """Answer /healthz: 200 when all is well, else 503, with the reasons and the facts as JSON."""
        host, _, port = listen.rpartition(":")
        try:
            server = await asyncio.start_server(self._answer, host.strip("[]"), int(port))
        except OSError as error:
            # A health check that nobody can reach is a pity; jobs that do not run are worse.
            log.error("health_not_served", listen=listen, error=str(error))
            return
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_WITHIN_S):
                request = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n", 1)[0].split()
                status, body = self._page(request[1].decode("latin-1") if len(request) > 1 else "")
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        writer.close()

    def _page(self, path: str) -> tuple[str, bytes]:
        if path.partition("?")[0] != "/healthz":
            return "404 Not Found", b'{"error":"not found; try /healthz"}\n'
        facts = self.facts()
        health = judge(facts)
        page = {
            "ok": health.ok,
            "reasons": health.reasons,
            "version": __version__,
            "running": self._services.roster.taking_room,
            "held": len(self._intake.held),
            **asdict(facts),
        }
        return "200 OK" if health.ok else "503 Service Unavailable", json.dumps(page).encode() + b"\n"
