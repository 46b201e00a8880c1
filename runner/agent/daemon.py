"""The daemon: starts, takes over what is there, runs its tasks, stops."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import time
from typing import TYPE_CHECKING

import structlog

from runner import __version__
from runner.agent.answers import Answers
from runner.agent.directories import make_own, only_one
from runner.agent.engine.reconcile import Reconciler, take_over_dead
from runner.agent.held import Door
from runner.agent.host.disk import Disk, Glance
from runner.agent.host.memory import keep_small, settle
from runner.agent.host.stopping import manner
from runner.agent.host.systemd import Notifier
from runner.agent.intake.depths import Depths
from runner.agent.journal.reserve import Reserve
from runner.agent.leaving import watch_notices
from runner.agent.operator.actions import Operations
from runner.agent.operator.health import judge
from runner.agent.operator.health_watch import HealthWatch
from runner.agent.operator.http_listener import Listener
from runner.agent.operator.http_pages import pages_of
from runner.agent.operator.peers import group_of_socket
from runner.agent.operator.requests import Requests
from runner.agent.operator.socket import Control
from runner.agent.operator.standing import Standing
from runner.agent.operator.status import Overview
from runner.agent.output import spool_file
from runner.agent.reload import reload
from runner.agent.shutdown import Departure, waits_for
from runner.agent.wiring import Parts, assemble, intake_of
from runner.aws.backoff import pause, retrying
from runner.config import not_acted_on
from runner.errors import ConfigError, explained
from runner.protocol.event import agent_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runner.agent.fleet.member import Member
    from runner.agent.fleet.report import HostReports
    from runner.agent.intake.poll import Intake
    from runner.agent.operator.metrics.embedded import EmbeddedMetrics
    from runner.agent.runs.process import Hello
    from runner.agent.services import Services
    from runner.agent.wiring import Parts
    from runner.config import Config
    from runner.errors import AwsUnavailable

log = structlog.get_logger()

_REPORT_WITHIN_S = 2.0

PRUNE_EVERY_S = 600.0
RESERVE_EVERY_S = 15.0
TAKE_OVER_EVERY_S = 15.0
OUTPUT_TOO_EVERY = 40  # turns: at the start, and every ten minutes
FLUSH_WITHIN_S = 5.0


def main(config: Config, embedded: Callable[[str], None] | None = None) -> int:
    """Run the daemon until it is told to stop. Returns the exit status. Raises CronRunnerError.

    `embedded` takes the lines of `[agent] metrics`, where there are to be some.
    """
    keep_small()
    return asyncio.run(_main(config, embedded))


async def _main(config: Config, embedded: Callable[[str], None] | None) -> int:
    make_own(config)
    with only_one(config.paths.state):
        try:
            async with asyncio.TaskGroup() as tasks:
                await Agent(config, tasks, embedded).run()
        except BaseExceptionGroup as group:
            raise explained(group) from None
    return 0


class Agent:
    """One life of the daemon inside a task group: a task that dies takes it down, none dies in silence."""

    def __init__(self, config: Config, tasks: asyncio.TaskGroup, embedded: Callable[[str], None] | None) -> None:
        self._config = config
        self._embedded = embedded
        self._tasks = tasks
        self._stop_signals = 0
        self._signalled = asyncio.Event()
        self._background: list[asyncio.Task[None]] = []
        self._instance = os.urandom(12).hex()
        self._notifier = Notifier(os.environ)
        self._reports: HostReports | None = None

    async def run(self) -> None:
        control = Control(self._config.paths.runtime, group=group_of_socket())
        control.rules = lambda: self._config.control
        control.listen()
        parts = await assemble(self._config, self._tasks)
        services = parts.services
        hello = await services.link.connect()
        self._check_user(hello.default_user, hello.default_user_error)
        for warning in hello.warnings:
            log.warning("supervisor_warning", warning=warning)
        for key in not_acted_on(self._config):
            log.warning("not_acted_on", key=key, detail="this version accepts the key and does not act on it yet")
        answers = Answers(services, parts.dead_letters)
        door = Door(services, answers, fifo=parts.queue.fifo)
        intake = intake_of(services, parts.queue, door, answers)
        disk = Disk(self._config.paths.state)
        reserve = Reserve(services.journal.database, disk, spool_file.hold)
        await reserve.make()
        services.keep_free = disk.floor
        services.shipper.make_room(lambda: disk.lack(services.config.output.spool_max_bytes))
        disk.make_way = services.shipper.make_way
        full = Glance(lambda: _full(services, disk))
        door.blocked_by = lambda: _blocked(services, full)
        depths = Depths(lambda: {"jobs": parts.queue, "dead_letters": parts.dead_letters.queue})
        watch = HealthWatch(
            services, intake, self._notifier, parts.session.stats, reserve, queue=parts.queue.label, depths=depths
        )
        overview = Overview(services, intake, door, parts.queue.label, lambda: judge(watch.facts()), depths)
        operations = Operations(services, door)
        control.rules = lambda: services.config.control
        control.answer = Requests(services, door, operations, overview, Standing(services, door), parts.queue).answer
        metrics = self._embed(watch)
        with self._handled_signals(services, watch, control):
            self._start_tasks(parts, door, watch, control)
            await Reconciler(services).run()
            self._background.append(self._tasks.create_task(self._take_over(services), name="take over"))
            await self._say("started", services, "started")
            self._log_started(parts, hello)
            if services.fleet is not None:
                await self._join(services, services.fleet, operations)
                self._report(services.fleet, overview)
            if self._config.fleet.notices:
                notices = watch_notices(services, parts.session, operations.hand_back_retries, watch.outbox_depth)
                self._background.append(self._tasks.create_task(notices, name="notices"))
            self._notifier.ready(watch.status_line(), started=True)
            polling = self._tasks.create_task(intake.run(), name="intake")
            await self._signalled.wait()
            await self._stop(services, intake, polling, watch)
        await self._say_stopped()
        if metrics is not None:
            await metrics.tell()
        await self._close(parts)

    def _log_started(self, parts: Parts, hello: Hello) -> None:
        log.info(
            "agent_started",
            version=__version__,
            group=self._config.group,
            queue=parts.queue.label,
            policy=self._config.admission.policy,
            supervisor=hello.pid,
            placement=hello.placement,
        )

    async def _close(self, parts: Parts) -> None:
        services = parts.services
        services.abandon()
        for task in self._background:
            task.cancel()
        await services.link.close()
        await services.shipper.close()
        await services.journal.database.close()
        parts.session.close()

    def _embed(self, watch: HealthWatch) -> EmbeddedMetrics | None:
        if self._embedded is None:
            return None
        from runner.agent.operator.metrics.embedded import EmbeddedMetrics  # noqa: PLC0415 - if asked for

        metrics = EmbeddedMetrics(watch, self._embedded)
        self._background.append(self._tasks.create_task(metrics.run(), name="embedded metrics"))
        return metrics

    async def _join(self, services: Services, member: Member, operations: Operations) -> None:
        """Hear what the fleet says before anything is received, and from then on."""
        await member.first_look(services.pausing)
        self._background.append(self._tasks.create_task(member.obey(services.pausing, operations), name="fleet"))

    def _report(self, member: Member, overview: Overview) -> None:
        """Let the table show this host, where it is to."""
        every = self._config.fleet.report
        if every:
            from runner.agent.fleet.report import HostReports  # noqa: PLC0415 - only for members of a fleet

            reports = self._reports = HostReports(member.table, every, lambda: overview.gather(0))
            self._background.append(self._tasks.create_task(reports.run(), name="host reports"))

    async def _say_stopped(self) -> None:
        """A host that was stopped is not a silent one; AWS that does not answer keeps nobody from ending."""
        if self._reports is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_REPORT_WITHIN_S):
                    await self._reports.report("stopped")

    def _check_user(self, default_user: str | None, error: str | None) -> None:
        if not self._config.run.user and default_user is None and error:
            raise ConfigError([f"run.user: {error}"])

    def _start_tasks(self, parts: Parts, door: Door, watch: HealthWatch, control: Control) -> None:
        services = parts.services
        if self._config.agent.listen:
            serve = Listener(pages_of(watch)).serve(self._config.agent.listen)
            self._background.append(self._tasks.create_task(serve, name="listen"))
        self._background += services.start_standing_tasks()
        for name, work in (
            ("queue facts", self._learn_redrive(parts, door)),
            ("retention", self._prune(services, watch.reserve)),
            ("watchdog", watch.watch()),
            ("memory", settle()),
            ("control", control.serve()),
        ):
            self._background.append(self._tasks.create_task(work, name=name))

    async def _learn_redrive(self, parts: Parts, door: Door) -> None:
        """The redrive policy says how often a message may be received, and where dead letters go."""
        while True:
            async for attempt in retrying(on_failure=_facts_failed):
                with attempt:
                    facts = await parts.queue.facts()
                    door.learn(facts.redrive.max_receive_count if facts.redrive else None)
                    target = None
                    if facts.redrive is not None and not parts.dead_letters.configured:
                        target = await parts.queue.url_of_arn(facts.redrive.target_arn)
                    parts.dead_letters.settle(target)
            await asyncio.sleep(PRUNE_EVERY_S)

    async def _take_over(self, services: Services) -> None:
        for turn in itertools.count():
            await take_over_dead(services, output=turn % OUTPUT_TOO_EVERY == 0)
            await asyncio.sleep(TAKE_OVER_EVERY_S)

    async def _prune(self, services: Services, reserve: Reserve) -> None:
        database = services.journal.database
        while True:
            busy = await services.journal.prune(services.now())
            if busy:
                await asyncio.sleep(0.1)
                continue
            await reserve.make()
            begun, until = database.begun, time.monotonic() + PRUNE_EVERY_S
            while not await pause(RESERVE_EVERY_S, services.journal.crowded):
                if reserve.missing or database.begun != begun or time.monotonic() >= until:
                    break

    async def _say(self, kind: str, services: Services, reason: str) -> None:
        event = agent_event(
            services.source,
            kind="started" if kind == "started" else "stopped",
            time=services.now(),
            instance=self._instance,
            version=__version__,
            policy=services.config.admission.policy,
            reason=reason,
        )
        await services.journal.event(event, services.now())
        services.outbox.committed()

    # -- signals

    @contextlib.contextmanager
    def _handled_signals(self, services: Services, watch: HealthWatch, control: Control) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        handlers: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._asked_to_stop,
            signal.SIGINT: self._asked_to_stop,
            signal.SIGHUP: lambda: self._reload(services, watch, control),
        }
        before = {number: signal.getsignal(number) for number in handlers}
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
                # asyncio puts Python's own in its place, whose KeyboardInterrupt would come out of the last steps.
                signal.signal(number, before[number])

    def _asked_to_stop(self) -> None:
        self._stop_signals += 1
        self._signalled.set()

    def _reload(self, services: Services, watch: HealthWatch, control: Control) -> None:
        self._notifier.reloading()
        try:
            reload(services, os.environ)
            control.admit()
        finally:
            # Whatever came of it: systemd waits for this, and would kill the service that never says it.
            self._notifier.ready(watch.status_line())

    # -- the end

    async def _stop(self, services: Services, intake: Intake, polling: asyncio.Task[None], watch: HealthWatch) -> None:
        how, reason = await manner(services.config.agent.on_stop, os.environ)
        watch.stopping()
        runs = services.roster.taking_room
        log.info("agent_stopping", manner=how, reason=reason, runs=runs, detail=waits_for(services.config, how, runs))
        services.draining = True
        intake.stop()
        services.outbox.hurry()
        await Departure(services, polling, lambda: self._stop_signals).go(how, reason)
        await self._say("stopped", services, reason)
        delivered = await services.outbox.flush(FLUSH_WITHIN_S)
        log.info("agent_stopped", reason=reason, events_delivered=delivered)


def _facts_failed(error: AwsUnavailable, wait: float) -> None:
    # Rejected messages wait for it: where they go is not known before.
    log.warning("queue_facts_failed", error=str(error), retry_in=round(wait, 1))


def _full(services: Services, disk: Disk) -> str | None:
    """Why the disk or the spool keep us from receiving. Copies of what is shipped go first."""
    why = disk.blocked()
    if why is not None:
        services.shipper.make_room()
    return why or services.spool_full()


def _blocked(services: Services, full: Callable[[], str | None]) -> str | None:
    """Why nothing is received although there is room; None when nothing speaks against it."""
    if services.journal.database.blocked_since is not None:
        return f"journal: {services.journal.database.blocked_by}"
    if services.spool_error is not None:
        return f"spool: {services.spool_error}"
    if (why := full()) is not None:
        return why
    if not services.link.connected:
        return "supervisor: it does not answer"
    if services.link.start_error is not None:
        return f"supervisor: {services.link.start_error}"
    return None
