"""What jobs need of the host: shell, directory, env files, commands of declared jobs, their limits and resources."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from runner.agent.runs.admission.policy import never_fits
from runner.check.accounts import account, own_name, unreadable
from runner.check.finding import Finding, failed, ok, warning
from runner.supervisor.starting import envfile

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from runner.agent.runs.admission.policy import Terms
    from runner.check.accounts import Account
    from runner.config import Config
    from runner.protocol.message import Declaration

# As `runner.supervisor.users` gives it to a job.
PATH = "/usr/local/bin:/usr/bin:/bin"
PATH_OF_ROOT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def surroundings(config: Config, who: Account) -> list[Finding]:
    """Shell, working directory and env files, as the user that jobs run as by default."""
    run = config.run
    found = [*_program("shell", run.shell[0], "[run] shell", who, run.env)]
    found += _directory("cwd", run.cwd, "[run] cwd", who)
    for path in unreadable(who, run.env_files):
        how = "is missing" if not os.path.lexists(path) else f"cannot be read by {who.name}, whom jobs run as"
        remedy = f"make it readable for {who.name}, or take it out of [run] env_files"
        found.append(failed("env-files", f"{path} {how}: no job can start", remedy))
    found += _unparsable(run.env_files)
    if run.env_files and not any(finding.name == "env-files" for finding in found):
        found.append(ok("env-files", f"{', '.join(run.env_files)} can be read by {who.name}"))
    if lacking := [name for name in run.inherit_env if name != "*" and name not in os.environ]:
        found.append(
            ok("inherit-env", f"{', '.join(lacking)} not set here; what counts is the environment of the agent")
        )
    return found


def declared(config: Config, default: Account, controllers: Sequence[str] | None, terms: Terms | None) -> list[Finding]:
    """Each declared job. ``controllers``: those of the supervisor's cgroups, None where it is not known; ``terms``: of
    this host's admission."""
    found: list[Finding] = []
    for name, job in config.jobs.items():
        who = (account(job.user) if job.user else default) or default
        faults = [*_command(config, name, job, who), *_limits(name, job, controllers), *_fits(name, job, terms)]
        found += faults or [ok("job", f"{name}: can start as {who.name}")]
    if config.run.commands == "declared" and not config.jobs:
        found.append(
            warning("job", 'commands = "declared" and no job is declared: every message is rejected',
                    "declare jobs as [jobs.NAME] or in jobs.d/*.toml")
        )  # fmt: skip
    return found


def could_start(program: str, cwd: str, env: Mapping[str, str], who: Account) -> Iterator[Finding]:
    """What is in the way of a command; nothing where it could be started."""
    yield from _program("command", program, "command", who, env, cwd)
    yield from _directory("cwd", cwd, "cwd", who)


def _command(config: Config, name: str, job: Declaration, who: Account) -> Iterable[Finding]:
    env = {**config.run.env, **(job.env or {})}
    if isinstance(job.command, tuple) and job.command:
        yield from _program("job", job.command[0], f"{name}: command", who, env, job.cwd or config.run.cwd)
    if job.cwd:
        yield from _directory("job", job.cwd, f"{name}: cwd", who)


def _program(label: str, program: str, what: str, who: Account, env: object, cwd: str = "/") -> Iterable[Finding]:
    """Nothing where the user can execute it, or where only a variable of the job could tell."""
    path = program
    if "/" not in program:
        given = env.get("PATH") if isinstance(env, dict) else None
        looked = given or (PATH_OF_ROOT if who.name == "root" else PATH)
        path = shutil.which(program, path=looked) or ""
        if not path:
            yield failed(label, f"{what}: {program} is not in {looked}", "install it, or write its whole path")
            return
    elif not program.startswith("/"):
        path = f"{cwd.rstrip('/')}/{program}"
    there, may, directory = who.may(("e", path), ("x", path), ("d", path))
    if directory or not may:
        why = "is a directory" if directory else f"cannot be executed by {who.name}" if there else "does not exist"
        yield failed(label, f"{what}: {path} {why}", "install it, correct its path, or make it executable (chmod)")


def _directory(label: str, path: str, what: str, who: Account) -> Iterable[Finding]:
    there, may = who.may(("d", path), ("x", path))
    if not there or not may:
        why = f"cannot be entered by {who.name}" if there else "is no directory"
        yield failed(label, f"{what}: {path} {why}: no job can start there", "make the directory, or name another")


def _unparsable(paths: Sequence[str]) -> Iterable[Finding]:
    for path in paths:
        try:
            envfile.read(path)
        except ValueError as error:
            yield failed("env-files", str(error), "write one NAME=VALUE a line")
        except OSError:
            continue  # who may not read it: said already, or only jobs' user may and that is enough


def _limits(name: str, job: Declaration, controllers: Sequence[str] | None) -> Iterable[Finding]:
    if job.limits is None or controllers is None:
        return
    for limit in ("memory", "cpu", "pids"):
        if getattr(job.limits, limit) is not None and limit not in controllers:
            yield warning(
                "job", f"{name}: limits.{limit} cannot be held: the supervisor has no {limit} controller",
                "run cron-runner-supervisor.service (Delegate=yes) on a host with cgroup v2, or take the limit out",
            )  # fmt: skip


def _fits(name: str, job: Declaration, terms: Terms | None) -> Iterable[Finding]:
    if terms is None or job.resources is None:
        return
    why = never_fits(terms, terms.asked(job.resources))
    if why is not None:
        yield warning(
            "job", f"{name}: never fits this host: {why}",
            "ask for less in its resources, or offer more in [admission.resources]",
        )  # fmt: skip


def default_account(config: Config, told: str | None) -> Account | None:
    """Whom jobs without a user run as: what the supervisor said, else what it would say. None: there is nobody."""
    name = told or config.run.user or ("cron-runner-job" if os.geteuid() == 0 else own_name())
    return account(name)
