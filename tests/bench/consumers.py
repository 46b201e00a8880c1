"""What is measured: cron-runner and its peers, each as somebody would start it, on queues of its own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.demos.detached import end_supervisor, supervisor_pid
from runner.cli.demos.stand_in import aws_environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from endpoint import Endpoint

PEERS = Path(__file__).parent / "peers"
HELLO = ["sh", "-c", "echo hello"]
STAMP = ["date", "+%s%N"]
"""Prints when it began to run, in nanoseconds: the same for everyone, its own start of about a millisecond included."""
MAX_JOBS = 16


def ordinary(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without Python's own settings: unbuffered output alone makes a job ten times slower."""
    return {name: value for name, value in environ.items() if not name.startswith("PYTHON")}


def peers_python(directory: Path) -> Path:
    """The interpreter of the peers' environment, which is made where there is none yet."""
    python = directory / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", directory], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", PEERS / "requirements.txt"], check=True)
    return python


@dataclass(slots=True)
class Consumer:
    """A consumer of ``jobs`` that tells ``results``. `command` starts it, in an environment like a host's."""

    name: str
    endpoint: Endpoint
    directory: Path
    python: Path = Path(sys.executable)
    command: Sequence[str] = ()
    jobs: str = field(init=False)
    stage: str = field(init=False)
    results: str = field(init=False)
    process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        mark = "".join(letter if letter.isalnum() else "-" for letter in self.name)
        self.jobs, self.stage, self.results = (
            self.endpoint.queue(f"{mark}-{kind}") for kind in ("jobs", "stage", "results")
        )

    def environment(self, jobs: str) -> dict[str, str]:
        """The process's environment; a producer gets the staging queue for the jobs' own."""
        return aws_environment(self.endpoint.url, ordinary(os.environ)) | {
            "BENCH_JOBS": jobs,
            "BENCH_RESULTS": self.results,
            "BENCH_QUEUE_NAME": self.jobs.rpartition("/")[2],
            "PYTHONPATH": str(PEERS),
        }

    def prepare(self, count: int, command: list[str]) -> None:
        """Put so many messages into the staging queue."""
        body = json.dumps({"command": command})
        self.endpoint.fill(self.stage, [body] * count)

    def arrive(self, count: int) -> float:
        """Let so many of the prepared messages arrive at once; returns when."""
        return self.endpoint.move(self.stage, self.jobs, count)

    def start(self) -> None:
        """Start the consumer; it is ready when it has answered a first message."""
        with (self.directory / "log").open("wb") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment(self.jobs), cwd=PEERS, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def stop(self) -> None:
        """End it and all its processes, however it is."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def roots(self) -> list[int]:
        """The processes below which all others of it are."""
        return [self.process.pid] if self.process is not None else []

    @staticmethod
    def output(result: dict[str, object]) -> str | None:
        """What the job wrote, from a message on the results queue; None where it does not say that."""
        return str(result["output"])


@dataclass(slots=True)
class Produced(Consumer):
    """A peer whose messages only its own producer can write."""

    producer: str = ""

    def prepare(self, count: int, command: list[str]) -> None:
        """Let its producer send to the staging queue."""
        words = [self.python, PEERS / self.producer, str(count), json.dumps(command)]
        subprocess.run(words, env=self.environment(self.stage), cwd=PEERS, check=True)


@dataclass(slots=True)
class CronRunner(Consumer):
    """cron-runner with every guarantee on. ``per_run`` gives each run a log stream of its own."""

    stream: str = "{host}"
    max_jobs: int = MAX_JOBS
    user: str = ""
    more: str = ""
    installed: Path = Path(sysconfig.get_path("scripts")) / "cron-runner"

    def prepare(self, count: int, command: list[str]) -> None:
        """cron-runner's own messages; the shell's command as the string that people write."""
        said = command[2] if command[:2] == ["sh", "-c"] else command
        self.endpoint.fill(self.stage, [json.dumps({"job": "bench", "command": said})] * count)

    def start(self) -> None:
        """Write the configuration, and start the daemon by its installed command."""
        self.directory.chmod(0o755)
        config = self.directory / "config.toml"
        config.write_text(self._config())
        config.chmod(0o644)
        self.command = [str(self.installed), "--config", str(config), "run"]
        Consumer.start(self)

    def _config(self) -> str:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # As root there may be no user for jobs, and a bench makes none.
        user = self.user or ("root" if os.geteuid() == 0 else "")
        allowed = f'run.user = "{user}"\nrun.allowed_users = ["{user}"]' if user else ""
        return f"""\
group = "bench"
queue.url = "{self.jobs}"
results.url = "{self.results}"
admission.policy = "free-for-all"
admission.max_jobs = {self.max_jobs}
output.cloudwatch.log_stream = "{self.stream}"
agent.listen = "127.0.0.1:{port}"
paths.state = "{self.state}"
paths.runtime = "{self.runtime}"
{allowed}
{self.more}
"""

    @property
    def state(self) -> Path:
        """Journal and spool."""
        return self.directory / "state"

    @property
    def runtime(self) -> Path:
        """Its sockets."""
        return self.directory / "run"

    def stop(self) -> None:
        """End agent and supervisor. What they kept stays until the end of the bench: an ext4 without a journal makes
        new files several times slower for minutes after many were removed."""
        Consumer.stop(self)
        end_supervisor(self.runtime)

    @property
    def supervisor(self) -> int:
        """The supervisor's process."""
        pid = supervisor_pid(self.runtime)
        assert pid is not None, "no supervisor listens"
        return pid

    @property
    def roots(self) -> list[int]:
        """Agent and supervisor, which is nobody's child."""
        return [*Consumer.roots.fget(self), self.supervisor]  # type: ignore[attr-defined]

    @staticmethod
    def output(result: dict[str, object]) -> str | None:
        """The output's tail in a finished event."""
        if result["type"] != "cron-runner.run.finished":
            return None
        return str(result["data"]["output"]["tail"])  # type: ignore[index]


def peers(endpoint: Endpoint, directory: Path, python: Path, user: str = "") -> list[Consumer]:
    """The peers as they come, with the settings that suit short jobs; only the naive one can start jobs as a user."""
    celery = [str(python), "-m", "celery", "-A", "celery_app", "worker", "-l", "WARNING", "--without-mingle"]
    celery += ["--without-gossip", "--without-heartbeat"]

    def produced(name: str, producer: str, command: list[str]) -> Consumer:
        return Produced(name, endpoint, directory / name, python, command, producer=producer)

    return [
        Consumer("naive", endpoint, directory / "naive", python, [str(python), str(PEERS / "naive.py"), user]),
        produced("celery-threads", "celery_app.py", [*celery, "-P", "threads", "-c", str(MAX_JOBS)]),
        produced("celery-prefork", "celery_app.py", [*celery, "-P", "prefork", "-c", "4"]),
        produced(
            "dramatiq", "dramatiq_app.py",
            [str(python), "-m", "dramatiq", "dramatiq_app", "-p", "1", "-t", str(MAX_JOBS)],
        ),
    ]  # fmt: skip
