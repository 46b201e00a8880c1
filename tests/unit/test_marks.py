"""Marks of when output was written: right to the second, in bounded room, on both sides of the socket."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.agent.output.marks import MOST, Marks
from runner.supervisor import marks as supervisors

GROWTH = st.lists(st.tuples(st.integers(0, 5_000), st.integers(1, 10_000)), min_size=1, max_size=200)


@given(GROWTH)
def test_each_byte_has_its_time_to_the_second(growth: list[tuple[int, int]]) -> None:
    mine, theirs = Marks(), supervisors.Marks()
    ms, size, written = 1_700_000_000_000, 0, []
    for later, more in growth:
        ms, size = ms + later, size + more
        mine.add(ms, size)
        theirs.add(ms / 1000, size)
        written.append((size, ms))
    copy = Marks()
    copy.fill(supervisors.Marks(theirs.flat()).flat())
    for marks in (mine, copy):
        for upto, at in written:
            found = marks.at(upto)
            assert found is not None
            assert abs(found - at) <= 1000
        assert marks.at(size + 1) is None
        parts = list(marks.between(0, size + 5))
        assert parts[-1] == (size + 5, None)
        assert [end for end, _ in parts] == sorted({end for end, _ in parts})
        assert all(marks.at(end) == at for end, at in parts)


@pytest.mark.parametrize("hours", [0.5, 4])
def test_hours_of_output_each_second_are_known_to_the_second(hours: float) -> None:
    marks, moments = Marks(), range(0, int(hours * 3600_000), 300)
    for n, ms in enumerate(moments):
        marks.add(ms, n + 1)
    assert all(abs((marks.at(n + 1) or 0) - ms) <= 1000 for n, ms in enumerate(moments))


def test_room_is_bounded_and_the_latest_is_known_best() -> None:
    marks, theirs = Marks(), supervisors.Marks()
    for n in range(200_000):
        marks.add(n * 1000, n + 1)
        theirs.add(n, n + 1)
    assert len(list(marks.between(0, 200_000))) <= MOST
    assert len(theirs.flat()) <= 2 * supervisors.MOST
    copy = Marks()
    copy.fill(theirs.flat())
    for few in (marks, copy):
        assert all(abs((few.at(n + 1) or 0) - n * 1000) <= 1000 for n in range(199_800, 200_000))


def test_what_is_shipped_is_forgotten() -> None:
    marks = Marks()
    for n in range(1000):
        marks.add(n * 1000, n + 1)
        marks.forget(n)
    assert len(list(marks.between(0, 1001))) < 140
    assert marks.at(1000) == 999_000


def test_a_clock_that_was_set_back_makes_no_time_fall() -> None:
    theirs, marks = supervisors.Marks(), Marks()
    for at, size in ((1000.0, 1), (400.0, 2), (1001.0, 3)):
        theirs.add(at, size)
        marks.add(int(at * 1000), size)
    assert [at for _, at in marks.between(0, 3)] == [1_000_000, 1_001_000]
    assert theirs.flat() == [1_000_000, 2, 1_000, 1]
