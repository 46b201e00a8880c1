"""The agent's process: does one run, may it open enough files, is its port free."""

from __future__ import annotations

import errno
import json
import os
import resource
import socket
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import ProxyHandler, build_opener

from runner.check.finding import Finding, failed, ok, warning

if TYPE_CHECKING:
    from runner.config import Config

_LOCKS = Path("/proc/locks")
_ASK_WITHIN_S = 3.0
# A run holds a spool file and a connection's share here; its pipe, spool file, pidfd and cgroup in the supervisor.
FILES_PER_RUN = 6
FILES_BESIDES = 128


def running(config: Config) -> tuple[bool, Finding]:
    """Whether an agent holds the state directory's lock. Only looked at: taking it would stop one that starts."""
    lock = config.paths.state / "agent.lock"
    try:
        found = lock.stat()
        device = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
        pid = holder(_LOCKS.read_text(), device, found.st_ino)
    except FileNotFoundError:
        return False, ok("agent", "none has run here yet")
    except OSError:
        return False, warning("agent", f"cannot look at {lock} with this user", "check again as root")
    if pid is None:
        return False, ok("agent", "none runs now")
    return True, ok("agent", f"runs with pid {pid}" if pid > 0 else "runs")


def holder(locks: str, device: str, inode: int) -> int | None:
    """The pid that holds a flock on a file, in the text of /proc/locks (proc(5)); None where nobody does."""
    for line in locks.splitlines():
        words = line.split()
        if len(words) > 5 and words[1] == "FLOCK":
            where, _, number = words[5].rpartition(":")
            # Some file systems (Btrfs, overlays) show another device here than stat does: then the program tells.
            if number == str(inode) and (where == device or _is_ours(words[4])):
                return int(words[4])
    return None


def _is_ours(pid: str) -> bool:
    try:
        return b"cron-runner" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def files(config: Config, supervisor: int | None) -> Finding:
    """RLIMIT_NOFILE of the supervisor where it can be seen, else ours, against max_jobs."""
    whose, limit = "this shell's", resource.getrlimit(resource.RLIMIT_NOFILE)
    if supervisor is not None:
        try:
            limit = resource.prlimit(supervisor, resource.RLIMIT_NOFILE)
            whose = "the supervisor's"
        except OSError:
            pass  # somebody else's process: ours says at least what this host gives
    jobs = 1 if config.admission.policy == "one-at-a-time" else config.admission.max_jobs
    # The supervisor raises the soft limit to the hard one, as the agent's unit does for it.
    return judge_files(limit[1] if limit[1] != resource.RLIM_INFINITY else limit[0], jobs, whose)


def judge_files(limit: int, jobs: int, whose: str) -> Finding:
    """``jobs`` is how many may run at once, 0 for any number; ``limit`` below 0 is none."""
    if limit < 0:
        return ok("files", f"{whose} open files are not limited")
    room = max(0, (limit - FILES_BESIDES) // FILES_PER_RUN)
    if jobs > room:
        detail = f"{whose} limit of {limit} open files is enough for {room} jobs at once, max_jobs is {jobs}"
        return warning("files", detail, f"set LimitNOFILE={jobs * FILES_PER_RUN + FILES_BESIDES} in both units")
    at_once = f"max_jobs {jobs}" if jobs else f"about {room} jobs at once"
    return ok("files", f"{whose} limit of {limit} open files is enough for {at_once}")


def listen(config: Config, *, agent_runs: bool) -> list[Finding]:
    """Is the port of /healthz free, or ours?"""
    address = config.agent.listen
    if not address:
        return []
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family, kind, _, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0]
        with closing(socket.socket(family, kind)) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(where)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return [_taken(address, agent_runs=agent_runs)]
        remedy = 'set [agent] listen to an address of this host, or to ""'
        return [failed("listen", f"cannot listen on {address}: {error.strerror or error}", remedy)]
    if agent_runs:
        detail = f"the running agent does not serve {address}"
        return [
            warning("listen", detail, "restart it (`systemctl restart cron-runner`); its log has health_not_served")
        ]
    return [ok("listen", f"{address} is free")]


def _taken(address: str, *, agent_runs: bool) -> Finding:
    try:
        page = _page(address)
    except (OSError, ValueError):
        page = None
    if agent_runs and page is not None and "version" in page and "reasons" in page:
        reasons = "; ".join(map(str, page["reasons"]))
        if page.get("ok"):
            return ok("listen", f"the running agent serves {address}/healthz and is well")
        return warning("listen", f"{address}/healthz: the running agent is not well: {reasons}", "see its log for more")
    remedy = "stop what uses it (`ss -ltnp`), or set another [agent] listen"
    return failed("listen", f"{address} is in use by another program: nobody can ask /healthz", remedy)


def _page(address: str) -> dict[str, Any] | None:
    from urllib.error import HTTPError  # noqa: PLC0415 - beside its only use

    host, _, port = address.rpartition(":")
    where = "127.0.0.1" if host in ("0.0.0.0", "") else "[::1]" if host == "[::]" else host  # noqa: S104 - compared
    try:
        # No proxy of the environment stands between two processes of one host.
        with build_opener(ProxyHandler({})).open(f"http://{where}:{port}/healthz", timeout=_ASK_WITHIN_S) as answer:
            body = answer.read(1 << 16)
    except HTTPError as error:
        body = error.read(1 << 16)
        error.close()
    page = json.loads(body)
    return page if isinstance(page, dict) else None
