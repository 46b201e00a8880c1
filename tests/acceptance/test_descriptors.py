"""A lack of descriptors passes: the agent lives through it, and tells of it in bounded words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fleet import COMMAND

if TYPE_CHECKING:
    from fleet import Fleet


@pytest.mark.parametrize("aws_server", ["standin"], indirect=True)
@pytest.mark.parametrize("most", [40, 64])
def test_an_agent_short_of_descriptors_runs_its_jobs_all_the_same(fleet: Fleet, most: int) -> None:
    host = fleet.host(max_jobs=60)
    host.start(program=("sh", "-c", f'ulimit -n {most}; exec "$@"', "sh", COMMAND))
    ids = [f"r{number}" for number in range(40)]
    fleet.send(*({"job": "j", "run_id": run_id, "command": "sleep 1; echo done"} for run_id in ids))
    ended = fleet.events.wait_ended(ids, within=120)
    assert {event["data"]["outcome"] for event in ended} == {"succeeded"}
    assert host.agent.poll() is None, host.log()
    assert host.log().count("supervisor_disconnected") < 30
    assert len(host.log().splitlines()) < 2_000
    assert host.stop() == 0, host.log()
