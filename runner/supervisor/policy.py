"""Where the users' rules come from: ``[run]`` of the configuration file and ``CRON_RUNNER_RUN__*``.

The supervisor outlives the agent, so the file is looked at for every start and read anew when it has changed: whom it
no longer names is refused from the next start on. Only a supervisor that is root needs the file: another one can run
jobs as nobody but itself.
"""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import time

from runner.supervisor import lack
from runner.supervisor.failing import say
from runner.supervisor.loop import now
from runner.supervisor.request import BadRequest
from runner.supervisor.users import Users

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, BinaryIO, NoReturn

    from runner.supervisor.users import Identity

_STARTING_S = 30.0  # for the parser, while no job waits for us
_RUNNING_S = 2.0  # the same, while the loop stands still
_AGAIN_AFTER_FAULT_S = 5.0  # what is wrong may be a lack of descriptors or processes, which no change of the file ends
# Two changes within one tick of the file system's clock look like one: a file this young is read once more.
_YOUNG_S = 1.0


NOTHING_INHERITED: dict[str, Any] = {
    "user": "",
    "allowed": [],
    "min_nice": 0,
    "had_file": False,
}  # from a version without `state`


class PolicyError(Exception):
    """The configuration cannot be trusted or read; the text says what to do. ``passing``: but perhaps in a moment."""

    def __init__(self, text: str, *, passing: bool = False) -> None:
        super().__init__(text)
        self.passing = passing


class Policy:
    """The `Users` in force.

    While the file cannot be read or trusted, only the default user of the last good one remains: whom else that one
    allowed may have been taken out of it since.
    """

    def __init__(
        self, path: str | None, environ: Mapping[str, str], *, inherited: Mapping[str, Any] | None = None
    ) -> None:
        """``inherited`` is a predecessor's `state`. Raises PolicyError without one: jobs need their supervisor."""
        self._path = os.path.abspath(path) if path and os.geteuid() == 0 else None  # noqa: PTH100 - costs memory
        self._environ = environ
        self._fault: str | None = None
        self._passing = False
        self._seen: tuple[int, ...] = ()
        self._again = float("inf")
        before = NOTHING_INHERITED if inherited is None else inherited
        self._user: str = before["user"]
        self._allowed: tuple[str, ...] = tuple(before["allowed"])
        self._min_nice: int = before.get("min_nice", 0)
        self._had_file: bool = before["had_file"]
        self._users = Users(self._user, self._allowed)
        if os.geteuid() != 0:
            self._min_nice = -20  # there is nothing to lend: the kernel says what it may
        fault = self._read(_look(self._path), _STARTING_S) if os.geteuid() == 0 else None
        if fault is not None:
            if inherited is None:
                raise PolicyError(fault, passing=self._passing)
            say(self.warnings[0])

    @property
    def default(self) -> str:
        """Whom a job runs as that names no user."""
        return self._users.default

    def default_error(self) -> str | None:
        """Why a job that names no user cannot run, or None."""
        self.refresh(now())
        return self._users.default_error()

    @property
    def warnings(self) -> list[str]:
        """Why only the default user is in force, where that is so."""
        if self._fault is None:
            return []
        return [f"{self._fault}. Until then jobs run only as {self.default!r}"]

    def identity(self, name: str, peer_uid: int, moment: float) -> Identity:
        """As `Users.identity`, by the rules of this moment."""
        self.refresh(moment)
        if self._fault is not None and name not in ("", self.default):
            text = f"cannot run a job as {name!r}: whom it may name is not known: {self._fault}"
            raise BadRequest(text, "lack" if self._passing else "user")
        return self._users.identity(name, peer_uid, moment)

    def group(self, identity: Identity, name: str) -> int:
        """As `Users.group`."""
        return self._users.group(identity, name)

    def nice(self, wanted: int | None) -> None:
        """Raise BadRequest for a niceness below what the host allows; for all jobs, as root lends it to any user."""
        least = 0 if self._fault is not None else self._min_nice
        if wanted is not None and wanted < least:
            raise BadRequest(f"cannot run a job with nice {wanted}: {least} is the least; set [run] min_nice", "user")

    def refresh(self, moment: float) -> None:
        """Read the file anew if it has changed. Never raises; holds the loop for `_RUNNING_S` at most."""
        if self._path is None:
            return
        seen = _look(self._path)
        if seen != self._seen or moment >= self._again:
            before = self._fault
            fault = self._read(seen, _RUNNING_S)
            if fault != before:
                say(self.warnings[0] if fault else f"{self._path} is in force again")

    def _read(self, seen: tuple[int, ...], patience: float) -> str | None:
        """The fault, if any. ``seen`` was looked at before: a change while it is read is seen by the next look."""
        self._fault, self._again, self._seen = None, float("inf"), seen
        try:
            user, allowed, self._min_nice = self._rules(patience)
        except PolicyError as error:
            self._fault, self._passing = str(error), error.passing
            self._again = now() + (_YOUNG_S if error.passing else _AGAIN_AFTER_FAULT_S)
        else:
            self._had_file = self._had_file or bool(seen)
            if seen and abs(time.time() - seen[0] / 1e9) < _YOUNG_S:
                self._again = now() + _YOUNG_S
            if (user, allowed) != (self._user, self._allowed):
                self._user, self._allowed, self._users = user, allowed, Users(user, allowed)
        return self._fault

    def _rules(self, patience: float) -> tuple[str, tuple[str, ...], int]:
        table = _run_table(self._path, patience, needed=self._had_file) if self._path else {}
        user = self._environ.get("CRON_RUNNER_RUN__USER", _string(table.get("user", "")))
        override = self._environ.get("CRON_RUNNER_RUN__ALLOWED_USERS")
        allowed = _names(table.get("allowed_users", []) if override is None else _listed(override))
        return user, allowed, _whole(self._environ.get("CRON_RUNNER_RUN__MIN_NICE", table.get("min_nice", 0)))

    def state(self) -> dict[str, Any]:
        """For the successor in this process, which may find the file broken."""
        return {
            "user": self._user,
            "allowed": list(self._allowed),
            "min_nice": self._min_nice,
            "had_file": self._had_file,
        }


def _look(path: str | None) -> tuple[int, ...]:
    """What differs when the file has changed, its mode and owner included: the change time is first. () = no file."""
    try:
        facts = os.stat(path) if path else None  # noqa: PTH116 - pathlib would cost most of a megabyte
    except FileNotFoundError:
        return ()
    except OSError as error:
        return (0, error.errno or 0)
    if facts is None:
        return ()
    return facts.st_ctime_ns, facts.st_mtime_ns, facts.st_size, facts.st_ino, facts.st_dev, facts.st_mode, facts.st_uid


def _listed(text: str) -> object:
    if text.lstrip().startswith("["):
        try:
            return json.loads(text)
        except ValueError as error:
            raise PolicyError(
                f"cannot use CRON_RUNNER_RUN__ALLOWED_USERS: {error}; write names with commas between, or JSON"
            ) from error
    return [name.strip() for name in text.split(",") if name.strip()]


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise PolicyError("cannot use the configuration: [run] user must be a text in quotes")
    return value


def _whole(value: object) -> int:
    try:
        if isinstance(value, str) or type(value) is int:
            return int(value)
    except ValueError:
        pass
    raise PolicyError("cannot use the configuration: [run] min_nice must be a whole number")


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise PolicyError("cannot use the configuration: [run] allowed_users must be a list of names")
    return tuple(value)


def _run_table(path: str, patience: float, *, needed: bool) -> Mapping[str, object]:
    try:
        return _trusted_table(path, patience)
    except FileNotFoundError:
        if needed:
            raise PolicyError(f"cannot read {path}: it is gone; put it back, or restart the supervisor") from None
        return {}
    except OSError as error:
        if lack.passes(error.errno):
            raise PolicyError(f"cannot read {path} now: {error.strerror}", passing=True) from error
        raise PolicyError(f"cannot read {path}: {error.strerror}; make it readable for root") from error


def untrusted(path: str, facts: os.stat_result) -> str:
    """Why a supervisor that is root does not go by this file; "" where it does."""
    if stat.S_ISREG(facts.st_mode) and facts.st_uid == 0 and not facts.st_mode & 0o022:
        return ""
    return (
        f"cannot trust {path}: it decides whom jobs run as; make it a file of root's that nobody else can write "
        f"(chown root {path}; chmod go-w {path})"
    )


def _trusted_table(path: str, patience: float) -> Mapping[str, object]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if why := untrusted(path, facts):
            raise PolicyError(why)
        found = _parsed(file, patience)
    if "error" in found:
        raise PolicyError(f"cannot read {path}: {found['error']}; mend the file", passing="passing" in found)
    table = found.get("run")
    return table if isinstance(table, dict) else {}


def _parsed(file: BinaryIO, patience: float) -> Mapping[str, object]:
    """``{"run": table}`` or ``{"error": text}``, parsed in a child: the parser's megabyte is not kept."""
    ours, theirs = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
        if pid == 0:
            _parse(file, theirs)
    except OSError:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        data = _received(answer.fileno(), now() + patience)
    if data is None:
        os.kill(pid, signal.SIGKILL)  # the loop reaps it: to wait for it might take as long
        return {"error": f"its parser took longer than {patience:.0f} s", "passing": True}
    os.waitpid(pid, 0)
    try:
        parsed: Mapping[str, object] = json.loads(data)
    except ValueError:
        return {"error": "its parser died", "passing": True}
    return parsed


def _received(fd: int, deadline: float) -> bytes | None:
    """All that comes, None if it has not all come by ``deadline``."""
    data = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while poll.poll(max(0.0, deadline - now()) * 1000):
        piece = os.read(fd, 65536)
        if not piece:
            return data
        data += piece
    return None


def _parse(file: BinaryIO, answer: int) -> NoReturn:
    try:
        import tomllib  # noqa: PLC0415 - that megabyte

        said: dict[str, object]
        try:
            run = tomllib.load(file).get("run", {})
            said = {"run": {name: run[name] for name in ("user", "allowed_users", "min_nice") if name in run}}
        except (ValueError, RecursionError, TypeError) as error:
            said = {"error": str(error)}
        os.write(answer, json.dumps(said, default=str).encode())
    finally:
        os._exit(0)
