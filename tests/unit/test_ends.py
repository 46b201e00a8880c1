"""The ends of a job's last runs as a status keeps them."""

from __future__ import annotations

import random

import pytest
from table_units import size_of

from runner.aws.attributes import wire_item
from runner.control.definition import run_id_at
from runner.control.recording.ends import packed, unpacked
from runner.control.recording.job_status import after_end
from runner.protocol.units import format_time

NOW = 1_900_000_020.0


@pytest.mark.parametrize("job", ["nightly", "a-b", "größe 1%"])
def test_ends_come_back_as_they_were(job: str) -> None:
    chance = random.Random(job)
    ends = []
    for n in range(200):
        at = NOW + chance.choice((0, 0.5, 0.000001, 0.999999, 59, 1e5, 1e9)) * n
        due = chance.choice((at, at - 10, at + 3, float(int(at)), None))
        names = [f"{job}-{n}", f"other-{n}", f"{job}-", job, f"{job}-a\nb %0A %25 \\n", " ", f"{job}-+"]
        if due is not None:
            names += [run_id_at(job, due)] * 5
        end = {"state": chance.choice(("succeeded", "oom_killed", "lost")), "run_id": chance.choice(names)}
        due_text = None if due is None else format_time(due)
        ends.append({**end, "ended_at": format_time(at), "scheduled_at": due_text})
    assert unpacked(packed(ends, job), job) == ends
    assert unpacked("", job) == []


def run(n: int) -> dict[str, object]:
    due = NOW + 60 * n
    return {
        "group": "web", "job": "nightly", "state": "succeeded", "run_id": run_id_at("nightly", due),
        "at": format_time(due),
        "ended_at": format_time(due + 1.234567), "scheduled_at": format_time(due), "started_at": format_time(due + 0.1),
        "expires_at": int(due + 90 * 86_400),
    }  # fmt: skip


def test_a_status_with_all_its_ends_is_billed_as_one_kilobyte() -> None:
    status = None
    for n in range(40):
        status = after_end(status, run(n), set(), NOW + 60 * n)
    assert status is not None
    assert len(unpacked(status["last"], "nightly")) == 20
    assert size_of(wire_item(status)) <= 1024


def test_ends_as_an_earlier_version_wrote_them_are_read_and_written_anew() -> None:
    now, earlier = run(3), [run(n) for n in range(2)]
    names = ("state", "run_id", "ended_at", "scheduled_at")
    before = after_end(None, earlier[1], set(), NOW)
    assert before is not None
    del before["last"]
    before["ends"] = [{name: one[name] for name in names} for one in earlier]
    new = after_end(before, now, set(), NOW + 200)
    assert new is not None
    assert "ends" not in new
    assert unpacked(new["last"], "nightly") == [{name: one[name] for name in names} for one in (*earlier, now)]
