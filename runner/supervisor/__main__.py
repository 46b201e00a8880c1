"""``python -m runner.supervisor``, also started by the agent and by the unit. Exit codes are those of sysexits.h."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import sys

from runner.supervisor import libc, options, users
from runner.supervisor.server import Supervisor

EX_OK, EX_USAGE, EX_TEMPFAIL, EX_CONFIG = 0, 64, 75, 78


def main(arguments: list[str] | None = None) -> None:
    """Run until stopped. Exits the process."""
    sys.exit(_main(sys.argv[1:] if arguments is None else arguments))


def _main(arguments: list[str]) -> int:
    if "--help" in arguments[:1]:
        sys.stdout.write(options.USAGE)
        return EX_OK
    try:
        chosen = options.Options(arguments)
        policy = users.load(chosen.config, os.environ)
    except options.UsageError as error:
        sys.stderr.write(f"cron-runner-supervisor: {error}\n{options.USAGE}")
        return EX_USAGE
    except users.PolicyError as error:
        sys.stderr.write(f"cron-runner-supervisor: {error}\n")
        return EX_CONFIG
    path = os.path.abspath(chosen.socket)  # noqa: PTH100 - pathlib would cost most of a megabyte
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.stderr.write(f"cron-runner-supervisor: cannot serve {path}: another supervisor does; stop that one first\n")
        return EX_TEMPFAIL
    listener = _listen(path)
    os.chdir("/")
    libc.become_subreaper()
    supervisor = Supervisor(listener, policy, instance=os.urandom(8).hex(), linger=chosen.linger, home=path)
    try:
        supervisor.serve()
    finally:
        os.unlink(path)  # noqa: PTH108 - as above
    return EX_OK


def _listen(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # noqa: PTH108 - as above. We hold the lock: whoever made it is gone
    before = os.umask(0o117)
    try:
        listener.bind(path)
    finally:
        os.umask(before)
    gid = users.agent_gid()
    if os.geteuid() == 0 and gid is not None:
        os.chown(path, 0, gid)
    listener.listen(64)
    return listener


if __name__ == "__main__":
    main()
