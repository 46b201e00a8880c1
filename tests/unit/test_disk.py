"""Room on the disk."""

from __future__ import annotations

from pathlib import Path

from runner.agent.host.disk import GLANCE_S, Disk, Glance, Space


def test_a_glance_looks_again_when_it_is_time() -> None:
    now, seen = [100.0], ["full"]
    glance = Glance(lambda: seen[0], clock=lambda: now[0])
    assert glance() == "full"
    seen[0] = "fuller"
    now[0] += GLANCE_S / 2
    assert glance() == "full"
    now[0] += GLANCE_S
    assert glance() == "fuller"


def test_what_may_go_goes_before_anything_is_put_off_for_it() -> None:
    free = [3]
    looks: list[Space] = []

    def space(_: Path) -> Space:
        looks.append(Space(1 << 30, 1 << 30, free[0], 60))
        return looks[-1]

    def make_way() -> bool:
        free[0] += 5
        return True

    disk = Disk(Path("/state"), space)
    assert disk.blocked() == "disk: room for 3 more files in /state, 4 needed"
    disk.make_way = make_way
    assert disk.blocked() is None
    assert disk.blocked() is None
    assert free == [8], "once is enough"
