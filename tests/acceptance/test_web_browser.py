"""The page in a real browser: what it shows runs nothing, its button ends a run, its log goes on over a restart."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from serving_web import OPERATE, READ, Page, serving

from browser import MISSING, Browser, browser, missing
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fleet import Fleet

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
    pytest.mark.skipif(missing(), reason=MISSING),
]
BAD = "<script>document.title='x'</script><img src=x onerror=alert(1)>\"'</pre>"
OUTPUT = (
    r"printf '<script>alert(1)</script></li></ol>\033]8;;javascript:alert(1)\007link\033]8;;\007\n"
    r"\033[31mred\033[0m\033[2J \342\200\256turned\n'"
)


def _axe() -> str:
    found = importlib.util.find_spec("axe_core_python")
    assert found is not None
    assert found.origin is not None
    return (Path(found.origin).parent / "axe.min.js").read_text()


@contextlib.contextmanager
def elsewhere(port: int) -> Iterator[str]:
    """Another site, whose form is sent to the page as soon as somebody looks at it."""
    form = (
        f"<form id=f method=post action='http://127.0.0.1:{port}/runs/h1/cancel'><input name=note value=x></form>"
        "<script>document.getElementById('f').submit()</script>"
    )

    class Site(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(form.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
            pass

    server = HTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://localhost:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def sign_in(seen: Browser, page: Page, token: str) -> None:
    seen.go(f"http://127.0.0.1:{page.port}/?token={token}")
    assert "token" not in seen.url


def test_the_page_in_a_browser(fleet: Fleet, tmp_path: Path) -> None:
    """One host and two browsers for all of it."""
    host = fleet.host()
    host.start()
    go_on = tmp_path / "go on"
    waits = f"echo begun; while [ ! -e '{go_on}' ]; do sleep 0.1; done; echo went on; exec sleep 600"
    fleet.send(
        {"job": "waits", "run_id": "w1", "command": waits},
        {
            "job": "hostile",
            "run_id": "h1",
            "command": ["sh", "-c", f"{OUTPUT}; exec sleep 600", BAD],
            "labels": {"a": BAD},
        },
        {"job": "fails", "run_id": "f1", "command": ["sh", "-c", f"exit 3 # {BAD}"]},
    )
    with serving(host, tmp_path) as page, browser() as seen:
        wait_for(lambda: page.ask("/api/v1/runs/w1").json.get("state") == "running", "w1 runs", detail=host.log)
        wait_for(lambda: page.ask("/api/v1/runs/f1").status == 200, "f1 has ended")
        sign_in(seen, page, OPERATE)
        own = f"http://127.0.0.1:{page.port}"
        seen.log()

        # Its line appears, the agent is restarted in mid-stream, and what it writes then appears too, once.
        seen.go(f"{own}/runs/w1")
        wait_for(lambda: seen.text("#live") == "live", "the page is live")
        wait_for(lambda: "begun" in seen.text(".lines"), "its line is there")
        host.kill()
        host.start()
        go_on.touch()
        wait_for(lambda: "went on" in seen.text(".lines"), "the log goes on", 60)
        assert seen.text(".lines").count("went on") == 1
        assert seen.text(".lines").count("begun") == 1

        # Cancelled by its button, with a note.
        seen.click("#run-head details.act summary")
        seen.type("#run-head input[name=note]", "wrong bucket")
        seen.click("#run-head .btns button.main")
        assert fleet.events.wait("w1", "finished")["data"]["reason"].startswith("cancelled by oncall ")
        wait_for(lambda: "cancelled" in seen.text("#run-head"), "the page says so")
        seen.go(f"{own}/audit")
        assert "wrong bucket" in seen.text("#audit")

        # Nothing that others wrote runs, or is stopped by the policy: it is text.
        for path in ("/", "/runs/h1", "/runs/f1", "/jobs/test/hostile", "/runs", "/timeline", "/jobs"):
            seen.go(f"{own}{path}")
            assert "cron-runner" in seen.run("return document.title")
            assert seen.run("return document.querySelectorAll('main script, main img').length") == 0
        seen.go(f"{own}/runs/h1")
        wait_for(lambda: "red" in seen.text(".lines"), "its output is there")
        assert "<script>alert(1)</script>" in seen.text(".lines")
        assert seen.count(".lines .a31") == 1
        assert "\\u202eturned" in seen.text(".lines")
        assert seen.run("return document.querySelectorAll('.lines a[href^=javascript]').length") == 0
        assert [line for line in seen.log() if "favicon" not in line and "503" not in line] == []

        # Nobody else's form changes anything.
        with elsewhere(page.port) as there:
            seen.go(there)
            wait_for(lambda: "/cancel" in seen.url, "the form was sent")
            assert "403" in seen.source
        assert page.ask("/api/v1/runs/h1").json["state"] == "running"

        if importlib.util.find_spec("axe_core_python") is not None:
            _accessible(seen, own)
    with serving(host, tmp_path) as page, browser(scripts=False, width=360) as plain:
        own = f"http://127.0.0.1:{page.port}"
        sign_in(plain, page, READ)
        for path in ("/", "/runs/h1", "/jobs/test/hostile", "/runs?outcome=failed", "/timeline", "/hosts"):
            plain.go(f"{own}{path}")
            assert plain.text("main").strip()
            assert plain.count("details.act") == 0, "a reader has no buttons"
        plain.go(f"{own}/runs/h1")
        assert "red" in plain.text(".lines")


def _accessible(seen: Browser, own: str) -> None:
    axe = _axe()
    for path in ("/", "/runs/h1"):
        seen.go(f"{own}{path}")
        seen.run(axe + "; return 1")
        found = seen.run_async(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations.map(v =>"
            " v.id + ': ' + v.nodes.map(n => n.html).slice(0, 3).join(' | '))))"
        )
        assert found == [], path
