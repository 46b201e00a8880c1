"""Room on the disk."""

from __future__ import annotations

from runner.agent.host.disk import GLANCE_S, Glance


def test_a_glance_looks_again_when_it_is_time() -> None:
    now, seen = [100.0], ["full"]
    glance = Glance(lambda: seen[0], clock=lambda: now[0])
    assert glance() == "full"
    seen[0] = "fuller"
    now[0] += GLANCE_S / 2
    assert glance() == "full"
    now[0] += GLANCE_S
    assert glance() == "fuller"
