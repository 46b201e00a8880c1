"""As whom a job runs, and whom the other end of the socket may ask for.

The rules are the supervisor's own: ``[run] user`` and ``allowed_users`` of a configuration file that only root can
write. What the agent says is only a choice among them.
"""

from __future__ import annotations

import grp
import os
import pwd

from runner.supervisor.request import BadRequest

DEFAULT_USER = "cron-runner-job"
AGENT_NAME = "cron-runner"
# Where the agent's unit has another User=.
AGENT_USER = "CRON_RUNNER_AGENT_USER"
_PATH_ROOT = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PATH_USER = "/usr/local/bin:/usr/bin:/bin"


def _can_look() -> None:
    """Raise the OSError for which nothing can be looked up now: Python says "no such name" for that too."""
    os.close(os.open("/etc/passwd", os.O_RDONLY | os.O_CLOEXEC))


class Identity:
    """A user that a job runs as: ids, groups, and the environment that its programs expect."""

    __slots__ = ("environment", "gid", "groups", "name", "uid")

    def __init__(self, entry: pwd.struct_passwd) -> None:
        self.name = entry.pw_name
        self.uid = entry.pw_uid
        self.gid = entry.pw_gid
        _can_look()  # or the list would be short without a word
        self.groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        self.environment = {
            "PATH": _PATH_USER if entry.pw_uid else _PATH_ROOT,
            "HOME": entry.pw_dir or "/",
            # Programs run what SHELL names: a service user's nologin there would break what they start.
            "SHELL": entry.pw_shell if _is_shell(entry.pw_shell) else "/bin/sh",
            "USER": entry.pw_name,
            "LOGNAME": entry.pw_name,
            "LANG": os.environ.get("LANG") or "C.UTF-8",
        }


def _is_shell(path: str) -> bool:
    return bool(path) and path.rsplit("/", 1)[-1] not in ("nologin", "false", "true")


def _own_entry() -> pwd.struct_passwd:
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:  # a container with a uid of its own choosing
        name, home = str(os.getuid()), os.environ.get("HOME", "/")
        return pwd.struct_passwd((name, "x", os.getuid(), os.getgid(), "", home, "/bin/sh"))


class Users:
    """Who may run jobs here. Lookups are kept for ``keep`` seconds: a busy host starts a thousand a second."""

    keep = 10.0

    def __init__(self, user: str, allowed: tuple[str, ...]) -> None:
        self.is_root = os.geteuid() == 0
        self.default = user or (DEFAULT_USER if self.is_root else _own_entry().pw_name)
        self._configured = user
        self._allowed = frozenset(allowed)
        self._known: dict[str, tuple[float, Identity]] = {}

    def default_error(self) -> str | None:
        """Why a job that names no user cannot run, or None."""
        try:
            self._lookup(self.default)
        except BadRequest as error:
            return str(error)
        return None

    def identity(self, name: str, peer_uid: int, now: float) -> Identity:
        """The identity for a job that names ``name`` ("" = the default). Raises BadRequest, code ``user``."""
        name = name or self.default
        cached = self._known.get(name)
        if cached is None or now - cached[0] > self.keep:
            self._known[name] = cached = (now, self._lookup(name))
        found = cached[1]
        if self.is_root and peer_uid and found.uid == peer_uid:
            raise BadRequest(
                f"cannot run a job as {name!r}: that is the agent's own user; set [run] user to another", "user"
            )
        return found

    def _lookup(self, name: str) -> Identity:
        if not self.is_root:
            entry = _own_entry()
            if name not in (entry.pw_name, str(entry.pw_uid)):
                raise BadRequest(
                    f"cannot run a job as {name!r}: the supervisor runs as {entry.pw_name!r} and not as root; leave "
                    "the user out, or run the supervisor as root",
                    "user",
                )
            return Identity(entry)
        if name != self.default and name not in self._allowed:
            raise BadRequest(f"cannot run a job as {name!r}: add it to [run] allowed_users", "user")
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            _can_look()
            raise BadRequest(
                f"cannot run a job as {name!r}: there is no such user; create it (useradd --system {name}) or set "
                "[run] user",
                "user",
            ) from None
        return Identity(entry)

    def group(self, identity: Identity, name: str) -> int:
        """The gid of ``name`` for a job of ``identity``: one of its own groups, any for root. Raises BadRequest."""
        if not name:
            return identity.gid
        try:
            gid = grp.getgrnam(name).gr_gid
        except KeyError:
            _can_look()
            raise BadRequest(
                f"cannot run a job in group {name!r}: there is no such group; create it (groupadd {name}) or leave "
                "unix_group out",
                "user",
            ) from None
        allowed = identity.groups if self.is_root else [os.getgid(), *os.getgroups()]
        if gid not in allowed and not (identity.uid == 0 and self.is_root):
            raise BadRequest(
                f"cannot run a job in group {name!r}: {identity.name!r} is not a member of it; add it (usermod -aG "
                f"{name} {identity.name}) or leave unix_group out",
                "user",
            )
        return gid


def peer_allowed(uid: int) -> bool:
    """Whether a process of this user may use the socket: root, our own user, the agent's user. No group may: who starts
    commands through it does so as any allowed user."""
    if uid in (0, os.geteuid()):
        return True
    try:
        return pwd.getpwnam(os.environ.get(AGENT_USER, AGENT_NAME)).pw_uid == uid
    except KeyError:
        return False


def agent_gid() -> int | None:
    """The group that may reach the socket in its directory, None where it was not created."""
    try:
        return grp.getgrnam(AGENT_NAME).gr_gid
    except KeyError:
        return None
