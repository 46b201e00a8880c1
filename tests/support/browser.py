"""A real browser: Debian's Chromium without a window, driven by its own chromedriver (W3C WebDriver over HTTP)."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

if TYPE_CHECKING:
    from collections.abc import Iterator

MISSING = "no chromium and chromedriver (apt-get install chromium chromium-driver)"
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"),
    *("--no-proxy-server", "--window-size=1280,1000"),
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key that WebDriver gives elements
_open = build_opener(ProxyHandler({})).open


def missing() -> bool:
    return shutil.which("chromium") is None or shutil.which("chromedriver") is None


@dataclass(frozen=True, slots=True)
class Browser:
    """One session."""

    base: str

    def call(self, method: str, path: str, body: Any = None) -> Any:
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = Request(f"{self.base}{path}", data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
        try:
            with _open(request, timeout=60) as answer:
                return json.loads(answer.read())["value"]
        except HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.read().decode()[:500]}") from error

    def go(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    @property
    def url(self) -> str:
        return str(self.call("GET", "/url"))

    @property
    def source(self) -> str:
        return str(self.call("GET", "/source"))

    def find(self, selector: str) -> str:
        """The id of the first element; raises where there is none."""
        found = self.call("POST", "/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def count(self, selector: str) -> int:
        return len(self.call("POST", "/elements", {"using": "css selector", "value": selector}))

    def text(self, selector: str) -> str:
        """Of the first element; empty where there is none, or where it is just being replaced."""
        if not self.count(selector):
            return ""
        try:
            return str(self.call("GET", f"/element/{self.find(selector)}/text"))
        except AssertionError:
            return ""

    def click(self, selector: str) -> None:
        """Of a part that the page has just made anew, the new one."""
        for last in (False, False, False, True):
            try:
                self.call("POST", f"/element/{self.find(selector)}/click")
            except AssertionError as error:
                if last or "stale element" not in str(error):
                    raise
            else:
                return

    def type(self, selector: str, text: str) -> None:
        self.call("POST", f"/element/{self.find(selector)}/value", {"text": text})

    def run(self, script: str, *args: Any) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": list(args)})

    def run_async(self, script: str) -> Any:
        """A script that calls its last argument with what it has found."""
        return self.call("POST", "/execute/async", {"script": script, "args": []})

    def picture(self) -> bytes:
        return base64.b64decode(self.call("GET", "/screenshot"))

    def log(self) -> list[str]:
        """What the console was told since the last call: faults of scripts, and what a policy has stopped."""
        return [one["message"] for one in self.call("POST", "/se/log", {"type": "browser"})]


@contextlib.contextmanager
def browser(*, scripts: bool = True, width: int = 1280) -> Iterator[Browser]:
    """A browser with a profile of its own; `scripts`: whether pages may have any."""
    profile = tempfile.mkdtemp(prefix="crt-")
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert driver.stdout is not None
        port = ""
        for line in driver.stdout:
            if "started successfully on port" in line:
                port = line.rpartition(" ")[2].strip().rstrip(".")
                break
        options: dict[str, Any] = {
            "binary": shutil.which("chromium"),
            "args": [*_FLAGS, f"--user-data-dir={profile}", f"--window-size={width},1000"],
        }
        if not scripts:
            options["prefs"] = {"profile.managed_default_content_settings.javascript": 2}
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        start = Browser(f"http://127.0.0.1:{port}")
        made = start.call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        session = Browser(f"{start.base}/session/{made['sessionId']}")
        session.call("POST", "/timeouts", {"script": 30_000, "pageLoad": 60_000, "implicit": 0})
        try:
            yield session
        finally:
            session.call("DELETE", "")  # else Chromium outlives its driver, where a test has failed
    finally:
        driver.terminate()
        driver.wait(20)
        if driver.stdout is not None:
            driver.stdout.close()
        shutil.rmtree(Path(profile), ignore_errors=True)
