"""Whether a job's command could start on this host: as whom, in which directory, and what of it is missing."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runner.check import jobs, supervisor, unit
from runner.check.accounts import JOBS, Account, account, own_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.agent.runs.process import Hello
    from runner.config import Config
    from runner.protocol.job import Job


def user_of(config: Config, job: Job) -> tuple[str, str]:
    """Whom the job runs as, and why it cannot, or "". Named by the job or the configuration; else what the host's
    supervisor says; where it is not there or not for us, what the one that would be started says."""
    if job.user:
        return job.user, ""
    hello = _hello(config)
    packaged = os.geteuid() == 0 or unit.installed(unit.SUPERVISOR_UNIT)
    expected = JOBS if packaged else own_name()
    if hello is None:
        return expected, ""
    return hello.default_user or expected, hello.default_user_error or ""


def _hello(config: Config) -> Hello | None:
    try:
        return asyncio.run(supervisor.running(config))
    except OSError:  # not for this user to see
        return None


def faults(job: Job, env: Mapping[str, str], user: str) -> list[str]:
    """Why its command could not be started as this user, as far as it can be seen from here."""
    own = own_name()
    who = Account(own) if user == own else account(user)
    if who is None:
        return [f"there is no user {user}; create it (`useradd --system {user}`), or name another"]
    given = {**env, **job.env}
    if os.geteuid() != 0 and user != own:
        return _missing(job, given)
    return [found.detail for found in jobs.could_start(job.argv[0], job.cwd, given, who)]


def _missing(job: Job, env: Mapping[str, str]) -> list[str]:
    """What is not there: who is not that user cannot tell what he may do, nor what is behind a closed door."""
    program, found = job.argv[0], []
    if "/" not in program:
        looked = env.get("PATH") or jobs.PATH
        if shutil.which(program, path=looked) is None:
            found.append(f"command: {program} is not in {looked}")
    elif _is_missing(Path(job.cwd, program)):
        found.append(f"command: {Path(job.cwd, program)} does not exist")
    if _is_missing(Path(job.cwd)):
        found.append(f"cwd: {job.cwd} is no directory: no job can start there")
    return found


def _is_missing(path: Path) -> bool:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False
