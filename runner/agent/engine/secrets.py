"""A run's secrets, right before its attempt: fetched while it has patience, and without its room if that takes longer.

What was fetched is in this process's memory until the supervisor has it, and nowhere else: not in the execution, which
the journal keeps.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import TYPE_CHECKING, Any, Final

import structlog

from runner.agent.engine.debts import Debts
from runner.agent.runs.environment import environment_of
from runner.agent.runs.inputs import SecretsFetched, SecretsRefused
from runner.agent.runs.secrets import secrets_in
from runner.aws.backoff import delay
from runner.log import SHORTEST_SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.runs.inputs import Input
    from runner.agent.runs.run import Execution
    from runner.agent.secret_store import NoSecret, SecretStore
    from runner.agent.services import Services
    from runner.config import Config

log = structlog.get_logger()

MOST_PATIENCE_S: Final = 3600.0
"""A run waits for its secrets as long as its timeout, until `not_after`, and no longer than this."""
AT_ONCE_S: Final = 1.0
"""What takes longer is waited for without its room."""
_ASK_AGAIN_CAP_S: Final = 15.0
_OLD = (
    "cannot give secrets to the supervisor: it is of an older version, and would not mask them; "
    "`systemctl reload cron-runner-supervisor` makes it new, its jobs go on"
)


class Secrets(Debts):
    """Carries out the order that is about its secrets, and knows what of its environment nobody may see."""

    def __init__(self, services: Services, execution: Execution) -> None:
        super().__init__(services, execution)
        self._stopping = asyncio.Event()
        self._fetched: Mapping[str, str] = {}
        self._known: tuple[int, Config, dict[str, str], tuple[str, ...]] | None = None
        self.lacks = ""  # why a secret is waited for

    async def do_fetch_secrets(self, _: Input) -> Input:
        services, execution = self._services, self.execution
        stopped: asyncio.Task[Any] = asyncio.ensure_future(self._stopping.wait())
        try:
            done = await self._fetch(stopped)
            while isinstance(done, SecretsFetched) and services.roster.ledger.is_aside(execution.run_id):
                await services.come_back(execution.job, self._say_lack, self._stopping)
                if self._stopping.is_set():
                    break
                services.roster.ledger.come_back(execution.run_id)
                # What was fetched before may be old by now; what is not comes at once.
                done = await self._fetch(stopped)
        finally:
            stopped.cancel()
            self.lacks = ""
        if isinstance(done, SecretsRefused):
            log.warning("secrets_not_fetched", run_id=execution.run_id, job=execution.job.job, error=done.why)
        return done

    async def _fetch(self, stopped: asyncio.Task[Any]) -> Input:
        """Ask until all is there, it lasts too long, or the run is stopped."""
        services, job = self._services, self.execution.job
        store = services.secret_store()
        if store is None:
            return SecretsRefused(f"secret {next(iter(job.secrets.values()))}: --offline asks no AWS; leave it out")
        hello = services.link.hello
        if hello is not None and not hello.secrets:
            return SecretsRefused(_OLD)
        until, failures = time.monotonic() + self._patience(), 0
        while not stopped.done():
            refused = await self._ask(store, stopped, until)
            if refused is None or not refused.passing or time.monotonic() >= until:
                return self._usable() if refused is None else SecretsRefused(str(refused))
            failures += 1
            if not self.lacks:
                log.warning("secrets_waited_for", run_id=self.execution.run_id, job=job.job, error=str(refused))
            self.lacks = str(refused)
            self._step_aside()
            wait = delay(failures, random.random(), cap=_ASK_AGAIN_CAP_S)  # noqa: S311 - jitter
            await asyncio.wait({stopped}, timeout=min(wait, max(0.0, until - time.monotonic())))
        return SecretsFetched()  # the table knows that it was stopped

    def _patience(self) -> float:
        job = self.execution.job
        late = MOST_PATIENCE_S if job.not_after is None else job.not_after - self._services.now()
        return max(0.0, min(job.timeout, late, MOST_PATIENCE_S))

    async def _ask(self, store: SecretStore, stopped: asyncio.Task[Any], until: float) -> NoSecret | None:
        """Once. None: all is there, or the run was stopped."""
        from runner.agent.secret_store import NoSecret  # noqa: PLC0415 - for runs with secrets

        wanted = self.execution.job.secrets
        asking: asyncio.Task[Any] = asyncio.ensure_future(store.values(wanted.values()))
        try:
            await asyncio.wait({asking, stopped}, timeout=AT_ONCE_S, return_when=asyncio.FIRST_COMPLETED)
            if not asking.done() and not stopped.done():
                self._step_aside()
                self.lacks = self.lacks or f"secret {next(iter(wanted.values()))}: its store does not answer yet"
                left = max(0.0, until - time.monotonic())
                await asyncio.wait({asking, stopped}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                return None
            if not asking.done():
                return NoSecret(next(iter(wanted.values())), "its store does not answer", passing=True)
            found = asking.result()
        except NoSecret as error:
            return error
        finally:
            asking.cancel()
        self._fetched = {name: found[reference] for name, reference in wanted.items()}
        return None

    def _usable(self) -> Input:
        """Whether all of them can be masked."""
        if self._services.config.output.mask_short:
            for name, value in self._fetched.items():
                if len(value.strip()) < SHORTEST_SECRET:
                    self._fetched = {}
                    return SecretsRefused(
                        f"secret {self.execution.job.secrets[name]}: it has fewer than {SHORTEST_SECRET} characters, "
                        "too few to be masked; choose a longer one, or let it be seen: [output] mask_short = false"
                    )
        return SecretsFetched()

    def _say_lack(self, why: str) -> None:
        self.lacks = why

    def _step_aside(self) -> None:
        """Others need not wait for what this run waits for."""
        roster, run_id = self._services.roster, self.execution.run_id
        if run_id in roster.ledger and not roster.ledger.is_aside(run_id):
            roster.ledger.step_aside(run_id)
            roster.changed.set()
            roster.freed.set()

    def given(self) -> None:
        """The supervisor has them, or nobody needs them any more."""
        self._fetched = {}

    # -- those that its environment has anyway

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
