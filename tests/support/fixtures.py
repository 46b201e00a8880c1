"""The fixtures behind `tests/conftest.py`."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import ProxyHandler, Request, build_opener

import pytest
import pytest_asyncio
import structlog

from runner.aws.session import Session
from runner.aws.table import Table
from runner.cli.demos.stand_in import StandIn, aws_environment

from aws import Aws
from faults import Proxy
from fleet import Fleet
from standin import FastStandIn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture
def log_restored() -> Iterator[None]:
    """Leave structlog and logging as they were, for tests that configure the agent's log in this process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A directory of the test's own in place of pytest's, whose paths are too long: the address of a unix socket
    holds 107 bytes. Nor is it below a directory that is closed to the users that jobs run as."""
    directory = Path(tempfile.mkdtemp(prefix="crt-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def aws_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The endpoint of a stand-in for AWS, one process for all tests that use its kind.

    moto's server, unless a test asks for the fast and strict one of `standin`:
    ``@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)``. Where ``CRON_RUNNER_TEST_AWS`` names another
    one, that runs already (tests/opinions.sh), the tests that would take moto take it.
    """
    kind = getattr(request, "param", "moto")
    if kind == "moto" and (other := os.environ.get("CRON_RUNNER_TEST_AWS")):
        yield other
        return
    with FastStandIn() if kind == "standin" else StandIn() as stand_in:
        yield stand_in.endpoint


@pytest.fixture
def aws(aws_server: str) -> Iterator[Aws]:
    """The stand-in, empty."""
    reset = "moto-api/reset" if aws_server != os.environ.get("CRON_RUNNER_TEST_AWS") else "_ministack/reset"
    request = Request(f"{aws_server}/{reset}", method="POST")  # noqa: S310 - the stand-in's own address
    with build_opener(ProxyHandler({})).open(request, timeout=30):
        pass
    made = Aws(aws_server)
    yield made
    made.close()


@pytest.fixture
def fleet(aws: Aws) -> Iterator[Fleet]:
    """A group with its queues, and no host yet; whatever its hosts leave is ended after the test."""
    # Not tmp_path: the address of a unix socket holds 107 bytes, and a long test's name is in that path.
    directory = Path(tempfile.mkdtemp(prefix="crt-"))
    directory.chmod(0o755)
    made = Fleet(aws, directory)
    try:
        yield made
    finally:
        made.remove()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def proxy(aws: Aws) -> Iterator[Proxy]:
    """A proxy in front of the stand-in that injects faults, none until it is told to."""
    with Proxy(aws.endpoint) as made:
        yield made


@pytest.fixture
def cloud(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """The product's own way to AWS, to the stand-in from within the test's process."""
    for name, value in aws_environment(aws.endpoint, {}).items():
        monkeypatch.setenv(name, value)
    session = Session()
    yield session
    session.close()


@pytest_asyncio.fixture
async def table(cloud: Session) -> AsyncIterator[Table]:
    """The fleet's table, empty."""
    made = Table(cloud, "cron")
    assert await made.make()
    yield made
