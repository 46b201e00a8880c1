"""The page of a host as programs meet it: the guards, the API, the log as it is written, and changes by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from serving_web import OPERATE, READ, Page, Stream, serving

from waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from fleet import Fleet, Host

pytestmark = [
    pytest.mark.timeout(180),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
]


def test_guards_api_changes_and_the_log(fleet: Fleet, tmp_path: Path) -> None:
    """One host for all of it: it is the slow part."""
    host = fleet.host(more='\n[jobs.backup]\ncommand = ["echo"]\nallow_args = true\n')
    host.start()
    go_on = tmp_path / "go on"
    loop = 'while [ $i -lt {} ]; do i=$((i+1)); echo "line $i of $API_TOKEN"; done'
    counting = (
        f"i=0; {loop.format(100)}; printf begun; while [ ! -e '{go_on}' ]; do sleep 0.1; done; echo; {loop.format(200)}"
    )
    fleet.send(
        {"job": "count", "run_id": "c1", "command": f"{counting}; exit 4", "env": {"API_TOKEN": "battery-staple"}},
        {"job": "typo", "run_id": "t1", "command": "true", "timout": 5},
        {"job": "long", "run_id": "l1", "command": "echo begun; exec sleep 600"},
        {"job": "short", "run_id": "s1", "command": "printf '<b>\\033[31mred\\033[0m</b>\\n'; exit 3"},
    )
    with serving(host, tmp_path) as page:
        wait_for(lambda: page.ask("/api/v1/runs/l1").json.get("state") == "running", "l1 runs", detail=host.log)
        _guards(page)
        wait_for(lambda: page.ask("/api/v1/jobs/test/typo").status == 200, "what was rejected is known")
        stream = Stream(page, "/api/v1/runs/c1/stream?from=0")
        _reads(page)
        _changes(page, fleet, host, tmp_path / "tokens")
        # The agent is restarted in mid-stream: the job goes on, and so does its log.
        wait_for(lambda: stream.output.endswith("begun"), "the log follows, an unended line too")
        host.kill()
        assert page.ask("/").status == 503
        assert page.ask("/api/v1/status").headers["Content-Type"] == "application/problem+json"
        host.start()
        go_on.touch()
        assert stream.ended.wait(90), host.log()
        counted = [f"line {n} of ***\n" for n in range(1, 201)]
        whole = "".join([*counted[:100], "begun\n", *counted[100:]])
        assert stream.output == whole
        assert stream.events[-1][0::2] == ("end", "failed")
        # What was lost goes on behind the byte that was seen last.
        places = [int(place) for kind, place, _ in stream.events if kind == "output"]
        again = Stream(page, "/api/v1/runs/c1/stream?from=0", Last_Event_ID=str(places[len(places) // 2]))
        assert again.ended.wait(30)
        before = "".join(data for _, _, data in stream.events[: len(places) // 2 + 1])
        assert before + again.output == whole
        raw = page.ask("/api/v1/runs/c1/output?from=0")
        assert raw.text == whole
        assert int(raw.headers["X-Next-Offset"]) == places[-1]
        for one in (stream, again):
            one.close()


def _guards(page: Page) -> None:
    assert page.ask("/healthz", "").json == {"ok": True}
    for path in ("/", "/runs/l1", "/api/v1/runs", "/nothing"):
        said = page.ask(path, "")
        assert said.status == 401
        assert said.headers["WWW-Authenticate"].startswith("Bearer")
        assert (b'name="token"' in said.body) is not path.startswith("/api/")
        assert b"l1" not in said.body.replace(b"/runs/l1", b"")
        assert page.ask(path, "wrong").status == 401
        assert page.ask(path, Host="evil.example").status == 421
    assert page.ask("/", Host="localhost:1").status == 200
    signed = page.ask(f"/?token={OPERATE}", "")
    assert (signed.status, signed.headers["Location"]) == (303, "/")
    cookie = signed.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert OPERATE not in cookie
    session = cookie.partition(";")[0]
    assert page.ask("/", "", Cookie=session).status == 200
    assert page.post("/", [("token", READ)], "").status == 303
    assert page.post("/", [("token", "wrong")], "").status == 401
    note = [("note", "x")]
    own = f"http://127.0.0.1:{page.port}"
    for foreign in (
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Origin": own},
        {},
    ):
        assert page.post("/runs/l1/cancel", note, "", Cookie=session, **foreign).status == 403, foreign
    assert page.post("/runs/l1/cancel", note, "").status == 401
    assert page.ask("/api/v1/runs/l1").json["state"] == "running"
    page_said = page.ask("/")
    policy = page_said.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert page_said.headers["Cache-Control"] == "no-store"
    assert page.post("/api/v1/host/pause", {"note": "x" * 70_000}).status == 413


def _reads(page: Page) -> None:
    for path in (
        "/",
        "/jobs",
        "/jobs/test/long",
        "/jobs/test/typo",
        "/runs/t1",
        "/runs",
        "/runs/s1",
        "/timeline",
        "/hosts",
        "/queues",
        "/audit",
        "/api",
    ):
        said = page.ask(path, READ)
        assert said.status == 200, path
        assert b'<form method="post" action="/runs' not in said.body, path
        assert b"<script>" not in said.body
        assert b"style=" not in said.body
    shown = page.ask("/runs/s1", READ).text
    assert '&lt;b&gt;<span class="a31">red</span>&lt;/b&gt;' in shown
    assert page.ask("/runs/none", READ).status == 404
    assert page.ask("/api/v1/runs/none", READ).json["status"] == 404
    assert page.ask("/nothing", READ).status == 404
    found = page.ask("/api/v1/runs?outcome=failed&job=test/s*", READ).json
    assert [run["run_id"] for run in found["runs"]] == ["s1"]
    assert page.ask("/api/v1/runs?state=running&limit=1", READ).json["runs"][0]["run_id"] in ("l1", "c1")
    for wrong in ("limit=0", "limit=x", "outcome=good", "state=x", "since=yesterday", "from=-1"):
        path = "/api/v1/runs/s1/output" if wrong.startswith("from") else "/api/v1/runs"
        assert page.ask(f"{path}?{wrong}", READ).status == 400, wrong
    assert page.ask("/api/v1/status", READ).json["group"] == "test"
    assert page.ask("/api/v1/jobs/test/backup", READ).json["allow_args"] is True


def _changes(page: Page, fleet: Fleet, host: Host, tokens: Path) -> None:
    refused = page.post("/api/v1/runs/l1/cancel", {"note": "mine"}, READ)
    assert (refused.status, refused.json["title"]) == (403, "Not allowed")
    assert page.post("/api/v1/runs/l1/cancel", {}).status == 422
    assert page.post("/api/v1/runs/l1/cancel", {"note": "x", "why": "y"}).status == 400
    assert page.post("/api/v1/jobs/test/backup/run", {"note": "x", "args": ["a"]}).status == 403  # takes the role run
    assert page.post("/api/v1/jobs/test/long/disable", {"note": "x"}).status == 409  # the fleet's
    done = page.post("/api/v1/jobs/test/backup/run", {"note": "now"}, Idempotency_Key="k1")
    again = page.post("/api/v1/jobs/test/backup/run", {"note": "now"}, Idempotency_Key="k1")
    assert done.status == 200
    assert done.json == again.json
    assert page.post("/api/v1/jobs/test/backup/run", {"note": "other"}, Idempotency_Key="k1").status == 422
    signed = page.ask(f"/?token={OPERATE}", "").headers["Set-Cookie"].partition(";")[0]
    form = [("note", "wrong bucket"), ("idempotency_key", "k2")]
    own = f"http://127.0.0.1:{page.port}"
    cancelled = page.post("/runs/l1/cancel", form, "", Cookie=signed, Origin=own)
    assert (cancelled.status, cancelled.headers["Location"]) == (303, "/runs/l1?done=cancel")
    event = fleet.events.wait("l1", "finished")
    assert event["data"]["outcome"] == "cancelled"
    assert event["data"]["reason"].startswith("cancelled by oncall ")
    assert event["data"]["reason"].endswith("wrong bucket")
    again = page.post("/api/v1/runs/l1/cancel", {"note": "once more"})
    assert (again.status, again.json["code"]) == (409, "ended")
    trail = [
        (one["who"], one["op"], one["subject"], one["note"], one["result"])
        for one in page.ask("/api/v1/audit").json["changes"]
    ]
    assert ("oncall", "cancel", "l1", "wrong bucket", "done") in trail
    assert ("reader", "cancel", "l1", "mine", "refused") in trail
    wait_for(lambda: page.ask(f"/api/v1/runs/{done.json['run_id']}").status == 200, "what was asked for runs")
    # A token that is made while the page runs is good at once, and the role run may give arguments.
    made = host.command("web", "token", "carol", "--role", "run", CRON_RUNNER_WEB__TOKENS_FILE=str(tokens))
    assert made.returncode == 0, made.stderr
    carol = made.stdout.strip()
    assert carol not in tokens.read_text()
    wait_for(lambda: page.ask("/api/v1/status", carol).status == 200, "the new token is good")
    given = page.post("/api/v1/jobs/test/backup/run", {"note": "x", "args": ["a", "b"]}, carol).json
    fleet.wait_lines("backup", given["run_id"], ["a b"])
    rerun = page.post("/api/v1/runs/s1/rerun", {"note": "again"})
    assert rerun.status == 200
    ended = fleet.events.wait(rerun.json["run_id"], "finished")
    assert ended["data"]["labels"]["rerun_of"] == "s1"
    assert page.post("/api/v1/host/pause", {"note": "a while", "for_s": "1h"}).status == 200
    assert page.ask("/api/v1/status").json["state"] == "paused"
    assert page.post("/api/v1/host/resume", {"note": "on"}).status == 200
