"""How the agent stops, by what systemd is about to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from runner.agent.host.stopping import UNIT, Manner, decide, own_unit, systemd_jobs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("on_stop", ["drain", "leave", "kill"])
def test_a_stop_follows_on_stop(on_stop: str) -> None:
    assert decide(on_stop, f"12 {UNIT} stop running\n", UNIT)[0] is Manner(on_stop)
    assert decide(on_stop, "", None)[0] is Manner(on_stop)


@pytest.mark.parametrize("kind", ["restart", "try-restart"])
def test_a_restart_leaves_the_jobs(kind: str) -> None:
    jobs = f"7 other.service start waiting\n12 {UNIT} {kind} running\n"
    assert decide("kill", jobs, UNIT) == (Manner.LEAVE, "the agent is restarted")
    assert decide("kill", f"12 other.service {kind} running\n", UNIT)[0] is Manner.KILL


@pytest.mark.parametrize("target", ["shutdown.target", "reboot.target", "poweroff.target"])
def test_a_host_that_goes_down_stops_the_jobs_whatever_on_stop_says(target: str) -> None:
    jobs = f"12 {UNIT} stop running\n99 {target} start waiting\n"
    assert decide("leave", jobs, UNIT) == (Manner.KILL, "the host is shutting down")


def test_the_unit_is_read_from_the_cgroup(tmp_path: Path) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.write_text("0::/system.slice/cron-runner.service/agent\n")
    assert own_unit({"INVOCATION_ID": "x"}, cgroup) == UNIT
    assert own_unit({}, cgroup) is None
    assert own_unit({"INVOCATION_ID": "x"}, tmp_path / "none") == UNIT
    cgroup.write_text("0::/\n")
    assert own_unit({"INVOCATION_ID": "x"}, cgroup) == UNIT


async def test_systemd_is_asked_again_where_it_did_not_answer(tmp_path: Path) -> None:
    """A restart that is taken for a stop would end every job of the host."""
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        '#!/bin/sh\n[ -e "$0.asked" ] && echo "12 x restart running" && exit\n: > "$0.asked"\nexit 1\n'
    )
    systemctl.chmod(0o755)
    assert await systemd_jobs({"INVOCATION_ID": "x", "PATH": f"{tmp_path}:/bin"}) == "12 x restart running\n"
    assert await systemd_jobs({"PATH": f"{tmp_path}:/bin"}) == "", "there is nobody to ask outside of a unit"
