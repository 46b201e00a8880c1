"""The directories of an agent, made before anything else."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Final

from runner.agent.operator.peers import user_name
from runner.agent.supervision.launch import companion_of
from runner.errors import ConfigError, JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from runner.config import Config

# What a disk or a host gets over by itself: starting again later may help, another path is not asked for.
_PASSING: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM))


def make_own(config: Config) -> None:
    """Make an agent's directories. Raises ConfigError where a path cannot be one, JournalError where it may yet."""
    state, runtime = config.paths.state, config.paths.runtime
    _make("state", state, 0o700)
    if not companion_of(runtime).is_dir():  # else the supervisor is at home there
        _make("runtime", runtime, 0o750)
        if not os.access(runtime, os.W_OK | os.X_OK):
            raise _unusable("runtime", runtime, os.strerror(errno.EACCES))


def _make(key: str, directory: Path, mode: int) -> None:
    try:
        directory.mkdir(mode=mode, parents=True, exist_ok=True)
    except FileExistsError:
        raise _unusable(key, directory, "it is a file, and no directory") from None
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno in _PASSING:
            raise JournalError(f"cannot make {directory} of [paths] {key}: {why}; mend that and start again") from error
        raise _unusable(key, directory, why) from error


def _unusable(key: str, directory: Path, why: str) -> ConfigError:
    who = user_name(os.geteuid())
    return ConfigError(
        [
            f"[paths] {key} = {directory} cannot be made or written by {who}: {why}; set {key} to a directory of that "
            "user's, or start cron-runner as the user whose it is"
        ]
    )


@contextlib.contextmanager
def only_one(state: Path) -> Iterator[None]:
    """Two agents on one journal would run everything twice."""
    path = state / "agent.lock"
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise JournalError(f"cannot write {path}: {error.strerror}; check the owner of {state}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        raise JournalError(
            f"cannot start: another agent uses {state}; stop it, or set another [paths] state"
        ) from error
    try:
        yield
    finally:
        os.close(lock)
