"""Why the agent is asked to stop, and what that means for the jobs."""

from __future__ import annotations

import asyncio
import os
import re
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping

log = structlog.get_logger()

ASK_WITHIN_S = 2.0
ASK_AT_ALL_S = 10.0
UNIT = "cron-runner.service"
_UNIT = re.compile(r"[^/]+\.service")


class Manner(StrEnum):
    """What happens to running jobs: `[agent] on_stop`, or what systemd's own job says."""

    DRAIN = "drain"  # wait for them, then stop them
    LEAVE = "leave"  # they go on, the next agent takes them over
    KILL = "kill"  # stop them now


async def manner(on_stop: str, environ: Mapping[str, str]) -> tuple[Manner, str]:
    """How to stop, and the reason in words. A restart leaves the jobs alone, a host shutdown stops them."""
    return decide(on_stop, await systemd_jobs(environ), own_unit(environ))


def decide(on_stop: str, jobs: str, unit: str | None) -> tuple[Manner, str]:
    """`jobs` is what `systemctl list-jobs --plain --no-legend` prints: ID UNIT TYPE STATE, one a line."""
    for line in jobs.splitlines():
        words = line.split()
        if len(words) < 3:
            continue
        if words[1] in ("shutdown.target", "reboot.target", "poweroff.target", "halt.target") and words[2] == "start":
            return Manner.KILL, "the host is shutting down"
    for line in jobs.splitlines():
        words = line.split()
        if len(words) >= 3 and words[1] == unit and words[2] in ("restart", "try-restart"):
            return Manner.LEAVE, "the agent is restarted"
    return Manner(on_stop), "the agent was told to stop"


def own_unit(environ: Mapping[str, str], cgroup: Path = Path("/proc/self/cgroup")) -> str | None:
    """The systemd unit that this process belongs to; None outside of one.

    In a cgroup namespace (ProtectControlGroups=private) the path says nothing: it is the packaged unit then.
    """
    if "INVOCATION_ID" not in environ:
        return None
    try:
        text = cgroup.read_text(encoding="utf-8")
    except OSError:
        return UNIT
    for line in text.splitlines():
        units = [part for part in line.split("/") if _UNIT.fullmatch(part)]
        if units:
            return units[-1]
    return UNIT


async def systemd_jobs(environ: Mapping[str, str]) -> str:
    """What systemd is about to do; empty outside of a unit, or where it does not answer.

    Asked again for a while where that fails: what it says decides about every job of the host.
    """
    if "INVOCATION_ID" not in environ:
        return ""
    deadline = time.monotonic() + ASK_AT_ALL_S
    while True:
        try:
            return await _list_jobs(environ)
        except _NotAsked as error:
            log.warning("systemd_not_asked", error=str(error))
        if time.monotonic() > deadline:
            return ""
        await asyncio.sleep(0.2)


class _NotAsked(Exception):
    """systemctl did not answer; the text says why."""


async def _list_jobs(environ: Mapping[str, str]) -> str:
    try:
        process = await asyncio.create_subprocess_exec(
            *("systemctl", "list-jobs", "--plain", "--no-legend", "--full"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": environ.get("PATH", os.defpath), "LANG": "C"},
        )
    except OSError as error:
        raise _NotAsked(str(error)) from error
    try:
        async with asyncio.timeout(ASK_WITHIN_S):
            out, fault = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise _NotAsked(f"no answer within {ASK_WITHIN_S:.0f} s") from None
    if process.returncode:
        raise _NotAsked(fault.decode(errors="replace").strip() or f"status {process.returncode}")
    return out.decode(errors="replace")
