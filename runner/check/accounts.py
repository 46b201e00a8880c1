"""What a user may do, asked as that user: a check by root must not say yes because root may."""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from runner.check.finding import Finding, failed, ok, warning

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from runner.config import Config

AGENT = "cron-runner"
JOBS = "cron-runner-job"
_ASK_WITHIN_S = 10.0
# Each argument is an operator of test(1) and a path; one line is printed for each.
_SCRIPT = 'for a do if [ "-${a%%:*}" "${a#*:}" ]; then echo y; else echo n; fi; done'


@dataclass(frozen=True, slots=True)
class Account:
    """A user to ask as. ``entry`` is None where that is who we are already, or cannot become."""

    name: str
    entry: pwd.struct_passwd | None = None

    def may(self, *questions: tuple[str, str]) -> list[bool]:
        """(operator of test(1), path): ``r``, ``w``, ``x``, ``d``, ``e``, ``f``. Raises OSError, SubprocessError."""
        words = ["/bin/sh", "-c", _SCRIPT, "sh", *(f"{operator}:{path}" for operator, path in questions)]
        answer = subprocess.run(
            words, **self._identity(), capture_output=True, text=True, timeout=_ASK_WITHIN_S, check=True, cwd="/"
        )  # fmt: skip
        return [line == "y" for line in answer.stdout.splitlines()]

    def _identity(self) -> dict[str, Any]:
        if self.entry is None:
            return {}
        groups = os.getgrouplist(self.entry.pw_name, self.entry.pw_gid)
        return {"user": self.entry.pw_uid, "group": self.entry.pw_gid, "extra_groups": groups}


def account(name: str) -> Account | None:
    """The user by name; None where there is none. Without root there is nobody but ourselves to ask as."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name, entry if os.geteuid() == 0 and entry.pw_uid != 0 else None)


def own_name() -> str:
    """Our own user's name, or its number where it has none (a container with a uid of its own choosing)."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def agent_account() -> Account:
    """As whom the agent runs: the packaged unit's user where there is one, else whoever asks."""
    found = account(AGENT) if os.geteuid() == 0 else None
    return found or Account(own_name())


def other_agent(environ: Mapping[str, str], given: Collection[str]) -> str:
    """The agent's user where it finds other AWS credentials than we do; "" where they are the same.

    ``given`` are the variables that the agent's unit sets too.
    """
    who = agent_account()
    return "" if who.entry is None or ("AWS_ACCESS_KEY_ID" in environ and "AWS_ACCESS_KEY_ID" in given) else who.name


def job_users(config: Config, default: str, *, privileged: bool) -> list[Finding]:
    """The users that jobs may run as. ``default`` runs those that name nobody; ``privileged``: there is a supervisor
    with root, which alone can run jobs as others."""
    named = dict.fromkeys([*config.run.allowed_users, *(job.user for job in config.jobs.values() if job.user)])
    found = [*_missing(named, "[run] allowed_users or a declared job names it")]
    if default and not found and account(default) is not None:
        others = f"; a message may name {', '.join(named)}" if named else ""
        found.append(ok("user", f"jobs run as {default}{others}"))
    cannot = [name for name in named if name != default]
    if cannot and not privileged:
        detail = f"jobs for {', '.join(cannot)} cannot run: the supervisor is not root"
        found.append(warning("user", detail, "run the supervisor as root (cron-runner-supervisor.service)"))
    if default == "root":
        detail = "jobs that name no user run as root: whoever may send to the queue owns this host"
        found.append(warning("user", detail, 'name another [run] user, or set commands = "declared"'))
    return found


def _missing(names: Iterable[str], why: str) -> Iterable[Finding]:
    for name in names:
        if account(name) is None:
            remedy = f"create it (`useradd --system {name}`), or take it out"
            yield failed("user", f"there is no user {name}, and {why}", remedy)


def unreadable(who: Account, paths: Sequence[str]) -> list[str]:
    """Those of the paths that the user cannot read."""
    if not paths:
        return []
    answers = who.may(*(("r", path) for path in paths))
    return [path for path, may in zip(paths, answers, strict=True) if not may]
