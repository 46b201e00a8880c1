"""The page over real sockets: all its streams at once, with a reader that never reads, and behind a proxy that has
signed people in."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from serving_web import READ, Page, Stream, serving

from runner.web.stream import MOST_STREAMS, UNREAD_S

from waiting import wait_for

if TYPE_CHECKING:
    from fleet import Fleet

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
]
MEGABYTES_MORE = 40


def resident_mb(page: Page) -> float:
    status = Path(f"/proc/{page.process.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:"))) / 1024


def deaf(page: Page, path: str) -> socket.socket:
    """Asks for a stream, and never reads."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect(("127.0.0.1", page.port))
    made.sendall(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {READ}\r\n\r\n".encode())
    return made


def test_one_that_never_reads_holds_up_none_of_the_others(fleet: Fleet, tmp_path: Path) -> None:
    host = fleet.host()
    host.start()
    go_on = tmp_path / "go-on"
    line = "a line of a hundred bytes or so, again and again, as jobs do it that are told to be verbose"
    # More than a reader that does not read is given, and less than that holes are punched into what is shipped of it.
    much = f"i=0; while [ $i -lt 12000 ]; do i=$((i+1)); echo '{line}'; done"
    wait = f"while [ ! -e '{go_on}' ]; do sleep 0.1; done; echo the end"
    fleet.send({"job": "much", "run_id": "m1", "command": f"{much}; {wait}"})
    path = "/api/v1/runs/m1/stream?from=0"
    with serving(host, tmp_path) as page:
        wait_for(lambda: page.ask("/api/v1/runs/m1").json.get("state") == "running", "it runs", detail=host.log)
        before = resident_mb(page)
        never = deaf(page, path)
        late = "/api/v1/runs/m1/stream?from=100000000000"
        streams = [Stream(page, path) for _ in range(3)]
        streams += [Stream(page, late) for _ in range(MOST_STREAMS - 1 - len(streams))]
        assert page.ask(late).status == 503  # there is no room for one more
        wait_for(lambda: all(len(one.output) > 1_000_000 for one in streams[:3]), "those that read get it all", 60)
        assert page.ask("/", READ).status == 200
        assert resident_mb(page) < before + MEGABYTES_MORE
        wait_for(lambda: _has_room(page, late), "who never reads is cut off", UNREAD_S + 30)
        go_on.touch()
        for one in streams:
            assert one.ended.wait(60)
        assert all(one.output.endswith("the end\n") for one in streams[:3])
        assert len({one.output for one in streams[:3]}) == 1
        assert all(one.events[-1][0] == "end" for one in streams)
        assert resident_mb(page) < before + MEGABYTES_MORE
        for one in streams:
            one.close()
        never.close()


def _has_room(page: Page, path: str) -> bool:
    one = Stream(page, path)
    status = one.answer.status
    one.close()
    time.sleep(0.5)
    return status == 200


def test_whom_the_proxy_has_signed_in(fleet: Fleet, tmp_path: Path) -> None:
    more = (
        '\n[web]\nauth = "proxy"\n[[web.allow]]\nwho = ["group:oncall"]\nrole = "operate"\njobs = ["test/*"]\n'
        '[jobs.backup]\ncommand = ["echo"]\n'
    )
    host = fleet.host(more=more)
    host.start()
    with serving(host, tmp_path) as page:
        wait_for(lambda: page.ask("/api/v1/jobs", "", X_Forwarded_User="ann").status == 200, "the agent answers")
        assert page.ask("/", "").status == 401
        assert page.ask("/").status == 401  # a token is nothing here
        seen = page.ask("/jobs/test/backup", "", X_Forwarded_User="ann")
        assert seen.status == 200
        assert "Start it" not in seen.text
        own = {"Sec_Fetch_Site": "same-origin"}
        refused = page.post("/api/v1/jobs/test/backup/run", {"note": "n"}, "", X_Forwarded_User="ann", **own)
        assert refused.status == 403
        bob = {"X_Forwarded_User": "bob", "X_Forwarded_Groups": "staff, oncall"}
        assert "Start it" in page.ask("/jobs/test/backup", "", **bob).text
        # A browser sends along what the proxy asks for whoever made it: another site's form changes nothing.
        assert page.post("/api/v1/jobs/test/backup/run", {"note": "n"}, "", **bob).status == 403
        foreign = {"Sec_Fetch_Site": "cross-site"}
        assert page.post("/api/v1/jobs/test/backup/run", {"note": "n"}, "", **bob, **foreign).status == 403
        done = page.post("/api/v1/jobs/test/backup/run", {"note": "n"}, "", **bob, **own)
        assert done.status == 200, done.text
        ended = fleet.events.wait(done.json["run_id"], "finished")
        assert ended["data"]["labels"]["triggered-by"].startswith("bob ")
        trail = [(one["who"], one["op"], one["result"]) for one in page.ask("/api/v1/audit", "", **bob).json["changes"]]
        assert ("ann", "run", "refused") in trail
        assert ("bob", "run", f"done: {done.json['run_id']}") in trail
    with serving(host, tmp_path, CRON_RUNNER_WEB__PROXY__FROM="10.9.8.7") as page:
        assert page.ask("/", "", X_Forwarded_User="ann").status == 401  # it does not come from the proxy
