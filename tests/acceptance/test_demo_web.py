"""`demo --web`: the demo's host behind its page, in a browser where there is one, until Ctrl-C.

With CRON_RUNNER_PICTURES it leaves the picture of the README there: docs/images.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from runner.cli.demos.detached import processes_with_mark

from browser import browser, missing
from fleet import COMMAND
from waiting import wait_for


@pytest.mark.timeout(180)
def test_the_demo_is_behind_its_page_until_it_is_interrupted() -> None:
    process = subprocess.Popen(
        [COMMAND, "demo", "--web", "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    try:
        address = next(line.strip() for line in process.stdout if line.startswith("http://"))
        base, _, token = address.partition("/?token=")
        request = Request(f"{base}/api/v1/status", headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        with build_opener(ProxyHandler({})).open(request, timeout=60) as answer:
            assert answer.status == 200
        if not missing():
            with browser() as seen:
                seen.go(address)
                wait_for(lambda: seen.count("#running a.id") > 0, "a job runs")
                wait_for(lambda: seen.count("#wrong tr.bad") > 2, "some have failed")
                if folder := os.environ.get("CRON_RUNNER_PICTURES"):
                    (Path(folder) / "page.png").write_bytes(seen.picture())
    finally:
        process.send_signal(signal.SIGINT)
        status = process.wait(60)
        process.stdout.close()
    assert status == 0
    assert processes_with_mark("CRON_RUNNER_GROUP=demo") == 0
