"""A host that lacks descriptors for a while runs each of its jobs, later."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet import COMMAND
from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet

pytestmark = [pytest.mark.parametrize("aws_server", ["standin"], indirect=True), pytest.mark.timeout(200)]

JOBS = 60


@pytest.mark.parametrize("descriptors", [64, 40])
def test_no_job_ends_for_a_lack_of_descriptors(fleet: Fleet, descriptors: int) -> None:
    """Agent and supervisor under a low limit, and more jobs than it has room for."""
    host = fleet.host(max_jobs=JOBS)
    fleet.send(*({"job": f"j{n}", "run_id": f"r{n}", "command": "sleep 3; echo done"} for n in range(JOBS)))
    host.start(program=["/bin/sh", "-c", f'ulimit -n {descriptors}; exec "$@"', "sh", COMMAND])
    ends = fleet.events.wait_ended([f"r{n}" for n in range(JOBS)], within=150)
    assert {end["data"]["outcome"] for end in ends} == {"succeeded"}, [end["data"]["reason"] for end in ends]
    assert host.agent.poll() is None, host.log()
    fleet.wait_empty()
    lines = host.log().count("\n")
    assert lines < 40 * JOBS, f"{lines} lines in the agent's log"
    wait_for(lambda: host.stop() == 0, "the agent's clean stop", 60, host.log)
