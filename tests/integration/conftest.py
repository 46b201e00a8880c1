"""Fixtures of the tests with a real supervisor."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from supervising import Witness

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _as_the_tests_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """As root, jobs run as root and may run as nobody; as anybody else, as themselves."""
    if os.geteuid() == 0:
        monkeypatch.setenv("CRON_RUNNER_RUN__USER", "root")
        monkeypatch.setenv("CRON_RUNNER_RUN__ALLOWED_USERS", "nobody")


WHERE_NOT_BUILT = "cron-runner-supervisor: starting jobs by fork"


async def _witness(directory: Path, placement: str, start: str = "auto") -> AsyncIterator[Witness]:
    witness = Witness(directory, "--placement", placement, "--start", start)
    hello = await witness.connect()
    try:
        if placement == "cgroup" and hello.placement != "cgroup":
            pytest.skip(f"no cgroup v2 to use here: {hello.warnings}")
        yield witness
        assert witness.left() == [], "processes of jobs are left"
    finally:
        await witness.link.close()
        witness.stop()
    complaints = [line for line in witness.log.splitlines() if not line.startswith(WHERE_NOT_BUILT)]
    assert complaints == [], "the supervisor complained"


@pytest_asyncio.fixture(params=["session", "cgroup", "fork"])
async def host(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Witness]:
    """A supervisor with either placement, and with the ways of starting that serve where the direct one does not.

    At the test's end nothing of its jobs may be left.
    """
    start = "fork" if request.param == "fork" else "auto"
    async for witness in _witness(tmp_path, "auto" if start == "fork" else request.param, start):
        yield witness


@pytest_asyncio.fixture
async def session_host(tmp_path: Path) -> AsyncIterator[Witness]:
    """A supervisor without cgroups."""
    async for witness in _witness(tmp_path, "session"):
        yield witness


@pytest_asyncio.fixture
async def cgroup_host(tmp_path: Path) -> AsyncIterator[Witness]:
    """A supervisor with cgroups; skipped where there are none."""
    async for witness in _witness(tmp_path, "cgroup"):
        yield witness
