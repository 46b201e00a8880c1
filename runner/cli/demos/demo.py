"""``cron-runner demo``: the whole loop on this machine, without an account and without a network.

moto's server plays AWS; the queue, the agent, the supervisor and the jobs are the real ones, each in its own
process. The demo is the other side: it sends the messages and reads the events and the logs.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.cli.demos.demo_jobs import CONFIG, EXAMPLES
from runner.cli.demos.demo_table import Row, Table, say, show_events, show_streams
from runner.cli.demos.detached import end_supervisor, processes_with_mark
from runner.cli.demos.stand_in import StandIn, missing, tied_to_us
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

EXAMPLE: Final = """\
cron-runner demo
cron-runner demo --web
cron-runner demo --fleet
"""

_WITHIN_S: Final = 50.0
_STOP_WITHIN_S: Final = 5.0
_LOG_GROUP: Final = "/cron-runner/demo"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The demo's options."""
    parser.add_argument(
        "--keep",
        action="store_true",
        help="leave the demo's directory (configuration, journal, the agent's log)",
    )
    parser.add_argument(
        "--fleet",
        action="store_true",
        help="show schedules, history and notifications instead: the circle around the agent",
    )
    parser.add_argument(
        "--web",
        action="store_true",
        help="show the page of the demo's host instead, with jobs that come again and again, until Ctrl-C",
    )
    parser.add_argument("--listen", metavar="HOST:PORT", default="127.0.0.1:9748", help="of --web (127.0.0.1:9748)")


def execute(args: argparse.Namespace) -> int:
    """Run the demo; 0 where every job ended as it should, 1 where one did not."""
    if todo := missing():
        raise CronRunnerError(f"cannot run the demo: the AWS stand-in is not installed; {todo}")
    # There is something to clean up: a terminal that closes, or a plain kill, does it as Ctrl-C does.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as stack:
        directory = stack.enter_context(_directory(keep=args.keep))
        stand_in = stack.enter_context(StandIn())
        demo = Demo(stand_in, directory)
        demo.prepare()
        if args.fleet:
            with demo.agent():
                came_about = demo.circle()
            return 0 if came_about else 1
        if args.web:
            from runner.cli.demos.demo_web import show  # noqa: PLC0415 - for this demo alone

            with demo.agent():
                demo.send()
                show(demo, args.listen)
            return 0
        with demo.agent():
            demo.send()
            demo.watch()
        return demo.report()


@contextmanager
def _directory(*, keep: bool) -> Iterator[Path]:
    if keep:
        directory = Path(tempfile.mkdtemp(prefix="cron-runner-demo-"))
        yield directory
        say(f"\nkept: {directory}")
        return
    with tempfile.TemporaryDirectory(prefix="cron-runner-demo-") as name:
        yield Path(name)


class Demo:
    """One demo: the stand-in, the directory with the agent's files, and what has arrived so far."""

    def __init__(self, stand_in: StandIn, directory: Path) -> None:
        self._aws = stand_in
        self._directory = directory
        self._runtime = directory / "run"
        self._queue = self._results = ""
        self._events: list[tuple[float, dict[str, Any]]] = []
        self._began = time.monotonic()
        self._table = Table({example.job: Row(example) for example in EXAMPLES})
        self._left = 0

    def prepare(self) -> None:
        """Make the queues, the log group and the configuration."""
        self._queue, self._results = (
            self._aws.call("sqs", "CreateQueue", QueueName=name)["QueueUrl"]
            for name in ("cron-demo", "cron-demo-results")
        )
        self._aws.call("logs", "CreateLogGroup", logGroupName=_LOG_GROUP)
        # As root there may be no user for jobs yet, and a demo makes none.
        user = "root" if os.geteuid() == 0 else ""
        config = CONFIG.format(
            queue=self._queue,
            results=self._results,
            user=user,
            allowed=f'"{user}"' if user else "",
            state=self._directory / "state",
            runtime=self._runtime,
        )
        self._config.write_text(config)
        say(f"AWS stand-in at {self._aws.endpoint}, as user {pwd.getpwuid(os.geteuid()).pw_name}")

    @property
    def config(self) -> Path:
        """The configuration that agent and commands run with."""
        return self._config

    def environment(self) -> dict[str, str]:
        return self._aws.environment()

    def put(self, *bodies: str) -> None:
        """Put messages on the demo's queue."""
        for body in bodies:
            self._aws.call("sqs", "SendMessage", QueueUrl=self._queue, MessageBody=body)

    @property
    def ended(self) -> int | None:
        """The agent's exit status; None while it runs."""
        return self._agent.poll()

    @property
    def _config(self) -> Path:
        return self._directory / "config.toml"

    @contextmanager
    def agent(self) -> Iterator[None]:
        """The real agent, which starts the real supervisor; both are gone when the block is left."""
        with (self._directory / "agent.log").open("wb") as log:
            # -P: a directory named runner in the working directory is not us.
            command = [sys.executable, "-P", "-m", "runner", "--config", str(self._config), "run"]
            process = subprocess.Popen(
                tied_to_us(command),
                env=self._aws.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            say(f"agent started, pid {process.pid}")
            self._agent = process
            yield
        finally:
            self._end(process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        """SIGTERM drains; a second one stops what runs; then the supervisor, which outlives its agent."""
        # An impatient second Ctrl-C must not leave half of it behind; every wait here has an end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            for _ in range(2):
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(_STOP_WITHIN_S)
                    break
                except subprocess.TimeoutExpired:
                    continue
        finally:
            process.kill()
            process.wait()
            end_supervisor(self._runtime)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._left = processes_with_mark("CRON_RUNNER_GROUP=demo")

    def circle(self) -> bool:
        """Show the circle around the agent; whether everything came about."""
        from runner.cli.demos.demo_fleet import TABLE, Circle  # noqa: PLC0415 - for this demo alone

        environment = self._aws.environment() | {"CRON_RUNNER_FLEET__TABLE": TABLE}
        return Circle(self._directory, self._queue, self._results, environment, self._config).show()

    def send(self) -> None:
        """Send every job's message, as a cloud's scheduler would."""
        say(f"sending {len(EXAMPLES)} jobs\n")
        for example in EXAMPLES:
            self._aws.call("sqs", "SendMessage", QueueUrl=self._queue, MessageBody=example.body)

    def watch(self) -> None:
        """Show what happens until every job has ended."""
        self._table.draw()
        deadline = time.monotonic() + _WITHIN_S
        while not all(row.ended for row in self._table.rows.values()):
            if self._agent.poll() is not None:
                raise CronRunnerError(
                    f"cannot go on: the agent ended with status {self._agent.returncode}; "
                    f"its last words: {self._last_words()}"
                )
            if time.monotonic() > deadline:
                return
            self._receive()
            self._table.draw()

    def _receive(self) -> None:
        answer = self._aws.call(
            "sqs", "ReceiveMessage", QueueUrl=self._results, MaxNumberOfMessages=10, WaitTimeSeconds=1
        )
        for message in answer.get("Messages", []):
            event = json.loads(message["Body"])
            after_s = time.monotonic() - self._began
            self._events.append((after_s, event))
            self._table.take(event, after_s)
            handle = message["ReceiptHandle"]
            self._aws.call("sqs", "DeleteMessage", QueueUrl=self._results, ReceiptHandle=handle)

    def report(self) -> int:
        """Show events and log streams, and say whether every job ended as it should."""
        self._receive()  # what the agent sent while it stopped
        show_events(self._events, shown=not self._table.live)
        show_streams(self._streams(), _LOG_GROUP)
        wrong = [row for row in self._table.rows.values() if not row.as_expected]
        for row in wrong:
            expected = f"{row.example.outcome} {row.example.reason}".strip()
            say(f"\n{row.example.job}: expected {expected}, saw {row.state} {row.reason}")
        if wrong:
            say(f"\nthe agent's last words: {self._last_words()}")
        good = len(EXAMPLES) - len(wrong)
        took = time.monotonic() - self._began
        left = "no process" if not self._left else f"{self._left} processes"
        say(f"\n{good} of {len(EXAMPLES)} jobs ended as they should, {left} left behind, {took:.0f} s")
        return 1 if wrong or self._left else 0

    def _streams(self) -> dict[str, list[str]]:
        """The lines of every log stream, in the order in which the group keeps them."""
        described = self._aws.call("logs", "DescribeLogStreams", logGroupName=_LOG_GROUP)["logStreams"]
        return {stream["logStreamName"]: self._lines(stream["logStreamName"]) for stream in described}

    def _lines(self, stream: str) -> list[str]:
        lines: list[str] = []
        position: dict[str, str] = {}
        while True:
            page = self._aws.call(
                "logs",
                "GetLogEvents",
                logGroupName=_LOG_GROUP,
                logStreamName=stream,
                startFromHead=True,
                **position,
            )
            if not page["events"]:
                return lines
            lines += [event["message"] for event in page["events"]]
            position = {"nextToken": page["nextForwardToken"]}

    def _last_words(self) -> str:
        lines = (self._directory / "agent.log").read_text(errors="replace").splitlines()
        return "\n".join(["", *lines[-10:]]) if lines else "none"
