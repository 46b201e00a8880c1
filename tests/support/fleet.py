"""Hosts of a test: real agents in their own processes, each with its own state, on the stand-in's queues."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from runner.cli.demos.detached import end_supervisor, supervisor_pid
from runner.cli.demos.stand_in import aws_environment

from aws import Events
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws import Aws

# The command as an operator has it, in the environment that runs the tests.
COMMAND = str(Path(sysconfig.get_path("scripts")) / "cron-runner")

CONFIG = """\
group = "{group}"
queue.url = "{queue}"
queue.visibility = "{visibility}"
queue.wait = "2s"
results.url = "{results}"
admission.policy = "free-for-all"
admission.max_jobs = {max_jobs}
agent.listen = ""
paths.state = "{state}"
paths.runtime = "{runtime}"
{run}
"""


@dataclass(slots=True)
class Host:
    """One host: its directory, its configuration, and its agent while one runs."""

    name: str
    directory: Path
    config: Path
    environment: dict[str, str]
    process: subprocess.Popen[bytes] | None = None
    _logs: list[Path] = field(default_factory=list)

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def runtime(self) -> Path:
        return self.directory / "run"

    @property
    def agent(self) -> subprocess.Popen[bytes]:
        assert self.process is not None, "the host's agent was not started"
        return self.process

    def start(self, *, program: Sequence[str] = (COMMAND,), **environment: str) -> None:
        """Start ``cron-runner run``, with more environment variables than the host's where they are given."""
        path = self.directory / f"agent-{len(self._logs)}.log"
        with path.open("wb") as log:
            self.process = subprocess.Popen(
                [*program, "--config", str(self.config), "run"],
                env=self.environment | environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._logs.append(path)

    def log(self) -> str:
        """What the host's agents have logged, from the first to the last."""
        return "\n".join(path.read_text(errors="replace") for path in self._logs)

    def signal(self, number: int) -> None:
        """Send the agent a signal."""
        self.agent.send_signal(number)

    def wait(self, within: float = 30.0) -> int:
        """The agent's exit status, when it has ended."""
        try:
            return self.agent.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the agent did not end within {within:g} s; its log:\n{self.log()}") from None

    def stop(self, within: float = 30.0) -> int:
        """SIGTERM, and the exit status."""
        self.signal(signal.SIGTERM)
        return self.wait(within)

    def kill(self) -> None:
        """SIGKILL: the agent has no say in it."""
        self.agent.kill()
        self.agent.wait()

    def crash(self) -> None:
        """SIGKILL to agent, supervisor and jobs: the host's power is cut, and none of them has a say in it."""
        doomed = [] if (pid := self.supervisor()) is None else [psutil.Process(pid)]
        # Stopped before it is asked for its jobs, so that it sees none of them die.
        for supervisor in doomed:
            supervisor.suspend()
            doomed = [supervisor, *supervisor.children(recursive=True)]
        self.kill()
        for process in doomed:
            with suppress(psutil.NoSuchProcess):
                process.kill()

    def supervisor(self) -> int | None:
        """The pid of the host's supervisor, where one listens."""
        return supervisor_pid(self.runtime)

    def command(
        self, *words: str, stdin: str | None = None, within: float = 60.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run another command of cron-runner on this host, to its end."""
        return subprocess.run(
            [COMMAND, "--config", str(self.config), *words],
            env=self.environment | environment,
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
        )

    def remove(self) -> None:
        """End agent and supervisor, whatever state they are in."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        end_supervisor(self.runtime)


@dataclass(slots=True)
class Fleet:
    """A group of hosts with its queues: ``queue`` (jobs), ``results`` and ``dead`` (dead letters)."""

    aws: Aws
    directory: Path
    group: str = "test"
    # Of a proxy in front of the stand-in, where there is one; the test's own clients go past it.
    endpoint: str = ""
    suffix: str = ""
    queue: str = field(init=False)
    results: str = field(init=False)
    dead: str = field(init=False)
    events: Events = field(init=False)
    hosts: list[Host] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.endpoint = self.endpoint or self.aws.endpoint
        self.dead = self.aws.queue(f"{self.group}-dead{self.suffix}")
        self.queue = self.aws.queue(f"{self.group}-jobs{self.suffix}", dead_letter=self.dead)
        self.results = self.aws.queue(f"{self.group}-results{self.suffix}")
        self.events = Events(self.aws, self.results)

    @property
    def log_group(self) -> str:
        return f"/cron-runner/{self.group}"

    def host(
        self,
        name: str = "host",
        *,
        more: str = "",
        max_jobs: int = 8,
        visibility: str = "30s",
        **environment: str,
    ) -> Host:
        """A host with a configuration of ten lines and ``more``; its agent is not started yet."""
        directory = self.directory / name
        directory.mkdir(mode=0o755)
        config = directory / "config.toml"
        text = CONFIG.format(
            group=self.group,
            # The host reaches the queues by its own endpoint, which may be a proxy.
            queue=self.queue.replace(self.aws.endpoint, self.endpoint),
            results=self.results.replace(self.aws.endpoint, self.endpoint),
            visibility=visibility,
            max_jobs=max_jobs,
            state=directory / "state",
            runtime=directory / "run",
            # As root there is no user for jobs on a test machine, and a test makes none.
            run='run.user = "root"\nrun.allowed_users = ["root"]' if os.geteuid() == 0 else "",
        )
        config.write_text(text + more)
        config.chmod(0o644)
        host = Host(name, directory, config, host_environment(self.endpoint) | environment)
        self.hosts.append(host)
        return host

    def send(self, *bodies: Mapping[str, Any] | str) -> None:
        """Put messages on the job queue."""
        self.aws.send_all(self.queue, bodies)

    def lines(self, job: str, run_id: str) -> list[str]:
        """A run's output as CloudWatch has it."""
        return self.aws.lines(self.log_group, f"{job}/{run_id}")

    def wait_lines(self, job: str, run_id: str, expected: Sequence[str], within: float = 30.0) -> None:
        """Wait until the run's output is what is expected, and show both where it never is."""
        wait_for(
            lambda: self.lines(job, run_id) == list(expected),
            f"the output of {job}/{run_id}",
            within,
            lambda: f"expected {list(expected)[:20]}, there is {self.lines(job, run_id)[:20]}",
        )

    def wait_empty(self, within: float = 30.0) -> None:
        """Wait until the job queue holds no message, in flight or not."""
        wait_for(
            lambda: self.aws.depth(self.queue) == 0,
            "the job queue is empty",
            within,
            lambda: f"it holds {self.aws.depth(self.queue)}",
        )

    def remove(self) -> None:
        """End everything that the test started."""
        for host in self.hosts:
            host.remove()
        for host in self.hosts:
            with suppress(OSError):
                shutil.rmtree(host.runtime)


def host_environment(endpoint: str) -> dict[str, str]:
    """What a host's processes get: AWS's settings, a path, and nothing of the machine's own AWS settings."""
    return aws_environment(endpoint) | {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "default"}


def processes_of(mark: str) -> list[str]:
    """The command lines of all processes whose command line holds the mark (make it unique to a test)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                if mark in line:
                    found.append(f"{entry.name}: {line}")
    return found


def python(code: str) -> list[str]:
    """A job's argv that runs Python code, with the interpreter of the tests."""
    return [sys.executable, "-I", "-S", "-c", code]
