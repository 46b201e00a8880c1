"""``cron-runner demo --fleet``: schedule → queue → run → history → notification, as an operator types it.

The scheduler and the recorder are ``cron-runner control --local``; everything asked and shown is a command that works
the same against AWS.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final

from runner.cli.demos.demo_table import say
from runner.cli.demos.stand_in import tied_to_us
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

TABLE: Final = "cron-demo"
_WITHIN_S: Final = 40.0
_DUE_IN_S: Final = 10
_JOBS: Final = """\
[groups.demo]
queue = "{queue}"
notify = "{webhook}"

[defaults]
group = "demo"
owner = "you"

[jobs.report]
schedule = "at({soon})"
command = 'echo "report of $CRON_RUNNER_SCHEDULED_AT"'

[jobs.archive]
schedule = "at({soon})"
command = "echo 'no space left on device'; exit 28"

[jobs.nightly]
schedule = "30 2 * * *"
timezone = "Europe/Berlin"
command = "true"
"""


@dataclass(slots=True)
class Webhook:
    """Somebody who is told: a chat's webhook on the loopback."""

    url: str = ""
    told: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Circle:
    """The demo's fleet: its directory, its queues, and the environment of its commands."""

    directory: Path
    queue: str
    results: str
    environment: Mapping[str, str]
    config: Path

    def show(self) -> bool:
        """Go round once, and say whether everything came about."""
        with _webhook() as webhook, self._control():
            file = self.directory / "jobs.toml"
            soon = datetime.now(UTC) + timedelta(seconds=_DUE_IN_S)
            file.write_text(_JOBS.format(queue=self.queue, webhook=webhook.url, soon=f"{soon:%Y-%m-%dT%H:%M:%S}"))
            self._type("jobs", "apply", "--yes", str(file))
            self._type("jobs", "list")
            self._type("jobs", "next", "nightly", "-n", "2")
            self._wait("both jobs are due and recorded", lambda: len(self._ended()) == 2)
            self._wait("the webhook was told", lambda: len(webhook.told) > 0)
            self._type("history", "archive")
            (failed,) = self._json("history", "--failed", "--since", "1h")
            self._type("logs", failed["run_id"])
            say("\ntold to the webhook:")
            for text in webhook.told:
                say("\n".join(f"  {line}" for line in text.splitlines()))
            say("\nschedule, queue, run, history, notification: the circle is closed")
            return bool(failed["state"] == "failed" and failed["exit_code"] == 28)

    def _ended(self) -> list[dict[str, Any]]:
        runs: list[dict[str, Any]] = self._json("history", "--since", "1h")
        return runs

    def _command(self, *words: str) -> list[str]:
        return [sys.executable, "-P", "-m", "runner", "--config", str(self.config), *words]

    def _type(self, *words: str) -> None:
        """Show a command and what it prints."""
        shown = " ".join("jobs.toml" if word.endswith("jobs.toml") else word for word in words)
        say(f"\n$ cron-runner {shown}")
        say(self._run(words).rstrip("\n"))

    def _json(self, *words: str) -> Any:
        return json.loads(self._run([*words, "--json"]))

    def _run(self, words: Sequence[str]) -> str:
        done = subprocess.run(
            self._command(*words), env=dict(self.environment), capture_output=True, text=True, check=False, timeout=30
        )
        if done.returncode:
            raise CronRunnerError(f"cannot go on: `cron-runner {' '.join(words)}` said: {done.stderr.strip()}")
        return done.stdout

    def _wait(self, what: str, condition: Any) -> None:
        deadline = time.monotonic() + _WITHIN_S
        while not condition():
            if time.monotonic() > deadline:
                log = (self.directory / "control.log").read_text(errors="replace").splitlines()
                raise CronRunnerError("\n".join([f"cannot go on: not within {_WITHIN_S:.0f} s: {what}", *log[-10:]]))
            time.sleep(0.3)

    @contextmanager
    def _control(self) -> Iterator[None]:
        """The scheduler and the recorder, until the block is left."""
        words = ["control", "--local", "--make", "--every", "1s"]
        with (self.directory / "control.log").open("wb") as log:
            process = subprocess.Popen(
                tied_to_us(self._command(*words)),
                env=dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            say(f"scheduler and recorder started, pid {process.pid}: cron-runner control --local")
            self._wait("the table is there", self._answers)
            yield
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _answers(self) -> bool:
        try:
            self._json("jobs", "list")
        except CronRunnerError:
            return False
        return True


@contextmanager
def _webhook() -> Iterator[Webhook]:
    made = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            made.told.append(str(json.loads(body).get("text", body.decode(errors="replace"))))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_: object) -> None:
            """Nothing between the demo's lines."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
