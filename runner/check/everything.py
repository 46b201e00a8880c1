"""All checks: what runs beside what, and a bound on each."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import socket
import sqlite3
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import runner
from runner.agent.host.load import HostGauge
from runner.agent.runs.admission.policy import terms
from runner.check import accounts, disk, jobs, needed, process, signing, sinks, supervisor, unit
from runner.check.aws import check_aws, crashed
from runner.check.finding import Finding, failed, ok
from runner.control.timetable.zones import database

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence
    from typing import Any

    from runner.agent.runs.process import Hello
    from runner.config import Config
    from runner.errors import ConfigError

LOOK_WITHIN_S = 20.0
"""For a look at this host: a mount that hangs, a name service that does not answer."""
AWS_WITHIN_S = 90.0
ABOUT_CONFIG = 2
"""The first lines are about the version and the configuration."""
# Where the remedy begins in a fault of the configuration.
_REMEDY = re.compile(
    r"(?:; |: (?![^;]*; )|, )(?=(?:add|choose|copy|correct|create|declare|give|install|keep|leave|make|mend|name|put"
    r"|save|set|start|take|type|use|write|did you mean|expected|known here)\b)|: (?=\"[^\"]*\" belongs to)"
)
T = TypeVar("T")


def config_faults(error: ConfigError) -> list[Finding]:
    """A configuration that cannot be used: one line for each fault; nothing else can be checked."""
    return [versions(), *(failed("config", *_apart(fault)) for fault in error.faults)]


def _apart(fault: str) -> tuple[str, str]:
    """The fault, and what to do, which most say themselves."""
    _, *remedy = _REMEDY.split(fault, maxsplit=1)
    return fault, remedy[0] if remedy else "config.example.toml has every key with what it means"


def versions() -> Finding:
    """What runs here."""
    return ok(
        "version",
        f"cron-runner {runner.__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version},"
        f" {database()}",
    )


async def check_everything(
    config: Config, *, offline: bool = False, agent: str = "", install: str = ""
) -> list[Finding]:
    """Every line, in the order in which they are shown. AWS and this host are looked at side by side.

    ``agent``: see `check_aws`. ``install``: what to type where what [signing] needs is not installed.
    """
    aws, host = await asyncio.gather(
        _bounded("aws", _nothing() if offline else check_aws(config, socket.gethostname(), agent), AWS_WITHIN_S),
        _bounded("host", _Host(config, install).check(), AWS_WITHIN_S),
    )
    source = str(config.source) if config.source is not None else "the environment alone"
    declared = f", {len(config.jobs)} declared jobs" if config.jobs else ""
    about = ok("config", f'{source}: group {config.group}, policy "{config.admission.policy}"{declared}')
    return [versions(), about, *aws, *host]


async def _nothing() -> list[Finding]:
    return []


async def _bounded(name: str, work: Coroutine[Any, Any, list[Finding]], seconds: float) -> list[Finding]:
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        return [_overdue(name, seconds)]
    except Exception as error:  # noqa: BLE001 - shown as a finding
        return [crashed(name, error)]


def _overdue(name: str, seconds: float) -> Finding:
    detail = f"no answer within {seconds:.0f} s"
    return failed(name, detail, "find out what hangs: a mount, the name service, the supervisor")


@dataclass(slots=True)
class _Host:
    """The looks at this host; some need what others have found."""

    config: Config
    install: str = ""

    async def check(self) -> list[Finding]:
        config = self.config
        hello, about_supervisor = await self._supervisor()
        agent_runs, about_agent = await self._agent()
        who = accounts.agent_account()
        return [
            *about_supervisor,
            *await self._look("user", lambda: self._users(hello)),
            *await self._look("jobs", lambda: self._jobs(hello)),
            *await self._look("state", lambda: disk.directories(config, who, unit=unit.installed(unit.AGENT_UNIT))),
            *await self._look("access", lambda: self._needed(who, hello)),
            *await self._look("signing", lambda: signing.looks(config, self.install)),
            *await self._look("disk", lambda: [disk.free(config)]),
            *await self._look("holes", lambda: [found for found in [disk.holes(config)] if found is not None]),
            *await self._look("journal", lambda: [disk.journal(config)]),
            about_agent,
            *await self._look("files", lambda: [process.files(config, hello.pid if hello else None)]),
            *await self._look("listen", lambda: process.listen(config, agent_runs=agent_runs)),
            *await self._look("sink", lambda: sinks.sinks(config)),
        ]

    async def _supervisor(self) -> tuple[Hello | None, list[Finding]]:
        try:
            async with asyncio.timeout(LOOK_WITHIN_S):
                return await supervisor.ask(self.config)
        except TimeoutError:
            return None, [_overdue("supervisor", LOOK_WITHIN_S)]
        except Exception as error:  # noqa: BLE001 - shown as a finding
            return None, [crashed("supervisor", error)]

    async def _agent(self) -> tuple[bool, Finding]:
        try:
            return await in_thread(lambda: process.running(self.config), LOOK_WITHIN_S)
        except TimeoutError:
            return False, _overdue("agent", LOOK_WITHIN_S)
        except Exception as error:  # noqa: BLE001 - shown as a finding
            return False, crashed("agent", error)

    async def _look(self, name: str, look: Callable[[], Sequence[Finding]]) -> list[Finding]:
        try:
            return list(await in_thread(look, LOOK_WITHIN_S))
        except TimeoutError:
            return [_overdue(name, LOOK_WITHIN_S)]
        except Exception as error:  # noqa: BLE001 - shown as a finding
            return [crashed(name, error)]

    def _users(self, hello: Hello | None) -> list[Finding]:
        who = jobs.default_account(self.config, hello.default_user if hello else None)
        if who is None and (hello is None or hello.default_user_error is None):
            name = self.config.run.user or accounts.JOBS
            return [failed("user", f"jobs run as {name}, and there is no such user", f"`useradd --system {name}`")]
        # An ordinary user's check says nothing of what the supervisor may, unless it was asked.
        privileged = hello is None or hello.uid == 0
        return accounts.job_users(self.config, who.name if who else "", privileged=privileged)

    def _needed(self, who: accounts.Account, hello: Hello | None) -> list[Finding]:
        root = hello.uid == 0 if hello else os.geteuid() == 0 or unit.installed(unit.SUPERVISOR_UNIT)
        return needed.looks(self.config, who, os.environ, root=root)

    def _jobs(self, hello: Hello | None) -> list[Finding]:
        who = jobs.default_account(self.config, hello.default_user if hello else None)
        if who is None:
            return []
        controllers = None if hello is None else hello.controllers
        offered = terms(self.config.admission, HostGauge(hello.pid if hello else None).read())
        return [*jobs.surroundings(self.config, who), *jobs.declared(self.config, who, controllers, offered)]


async def in_thread(look: Callable[[], T], seconds: float) -> T:
    """Run a look in a daemon thread, which is left behind when it hangs: nothing can interrupt a dead mount."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def work() -> None:
        result, error = None, None
        try:
            result = look()
        except BaseException as failure:  # noqa: BLE001 - handed on to the coroutine that waits
            error = failure
        if not loop.is_closed():
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=work, name="look", daemon=True).start()
    async with asyncio.timeout(seconds):
        return await future
