"""What cannot run takes no room for itself: however much of it comes, memory is bounded and other work goes on."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet, Host

pytestmark = pytest.mark.parametrize("aws_server", ["standin"], indirect=True)


def peak_mib(host: Host) -> float:
    """The most memory that the agent has had."""
    status = Path(f"/proc/{host.agent.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def send_junk(fleet: Fleet, count: int, body: str) -> None:
    at_once = max(1, min(10, 200_000 // len(body)))
    for start in range(0, count, at_once):
        entries = [{"Id": str(n), "MessageBody": body} for n in range(min(at_once, count - start))]
        assert not fleet.aws.sqs.send_message_batch(QueueUrl=fleet.queue, Entries=entries).get("Failed")


def test_rejections_that_the_dead_letter_queue_refuses_stop_no_host(fleet: Fleet) -> None:
    missing = fleet.dead.replace("-dead", "-nowhere")
    host = fleet.host(more=f'queue.dead_letter_url = "{missing}"\n')
    send_junk(fleet, 600, "x" * 180_000)
    host.start()
    wait_for(lambda: "dead_letters_put_off" in host.log(), "what waits for too long goes back", 60, detail=host.log)
    fleet.send({"job": "good", "run_id": "good", "command": "true"})
    fleet.events.wait("good", "finished", within=60)
    assert peak_mib(host) < 180  # 600 of them are 103 MiB, and took four times that
    assert host.stop() == 0, host.log()


def test_junk_without_any_fault_is_buried_once_each(fleet: Fleet) -> None:
    host = fleet.host()
    send_junk(fleet, 2_000, json.dumps({"job": "x", "no such field": 1}))
    host.start()
    fleet.wait_empty(within=120)
    buried: Counter[str] = Counter()
    while found := fleet.aws.take(fleet.dead):
        buried.update(found)
    assert sum(buried.values()) == 2_000
    assert peak_mib(host) < 120
    assert host.stop() == 0, host.log()


def test_repeats_and_skips_count_as_rejections_do(fleet: Fleet) -> None:
    host = fleet.host()
    host.start()
    fleet.send({"job": "j", "run_id": "again", "command": "true"})
    fleet.events.wait("again", "finished")
    send_junk(fleet, 300, json.dumps({"job": "j", "run_id": "again", "command": "true"}))
    late = {"job": "late", "command": "true", "not_after": "2020-01-01T00:00:00Z"}
    send_junk(fleet, 300, json.dumps(late))
    fleet.wait_empty(within=120)
    assert host.stop() == 0, host.log()
