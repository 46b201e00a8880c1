"""The container's recipe without a container engine: the entrypoint as PID 1 of its own namespaces, in a tree made by
the recipe's own lines."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import image
from artefacts import OUT, ROOT
from cloud import Cloud
from steps import counted, counting

from standin import FastStandIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from report import Report

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RECIPE = ROOT / "packaging/container/Dockerfile"


def instructions(text: str) -> list[tuple[str, str]]:
    """The recipe's lines, continued ones joined and comments left out."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines.splitlines() if line)]


def run(report: Report) -> None:
    """The last stage of the recipe, and what it starts."""
    report.part("the container: the supervisor as PID 1")
    stage: list[tuple[str, str]] = []
    for word, rest in instructions(RECIPE.read_text()):
        stage = [] if word == "FROM" else [*stage, (word, rest)]
    entrypoint = json.loads(dict(stage)["ENTRYPOINT"])
    with tempfile.TemporaryDirectory(prefix="cron-runner-container-") as scratch:
        root = image.directory(Path(scratch) / "root")
        with report.check("the recipe's own lines make the tree"):
            _make(root, stage)
        for what, user in (("as root", None), ("as another user, without any privilege", 4711)):
            with report.check(f"{what}: PID 1 starts the agent, a job runs through its death, SIGTERM drains"):
                _life(root, entrypoint, user)
        with report.check("with arguments it is the command itself"):
            done = _inside(root, [*entrypoint, "--version"])
            assert "cron-runner 0." in done, done


def _make(root: Path, stage: list[tuple[str, str]]) -> None:
    tree = root.parent / "tree"
    [deb] = (OUT / "first").glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", str(deb), str(tree)], check=True)
    for word, rest in stage:
        if word == "COPY":
            *options, source, target = rest.split()
            where = tree / source.removeprefix("/tree/") if options else ROOT / source
            (shutil.copytree if where.is_dir() else shutil.copy)(where, root / target.lstrip("/"))
        elif word == "RUN" and "apt-get" not in rest:
            _inside(root, ["sh", "-euc", rest])


def _inside(root: Path, command: list[str]) -> str:
    done = subprocess.run(
        ["chroot", str(root), *command], capture_output=True, text=True, check=False, env={"PATH": PATH}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def _life(root: Path, entrypoint: list[str], user: int | None) -> None:
    with FastStandIn() as stand_in, _started(root, entrypoint, user, cloud := Cloud(stand_in.endpoint)) as container:
        run_id = cloud.send(f"counts-{user}", counting(6))
        started = cloud.wait(run_id, "started")
        agent = container.agent()
        assert container.first_says("cmdline").split("\0")[2].endswith("cron-runner-supervisor")
        owner = {
            line.split()[1] for line in agent.joinpath("status").read_text().splitlines() if line.startswith("Uid:")
        }
        assert owner == {str(user or 970)}, owner
        os.kill(int(agent.name), signal.SIGKILL)
        ended = cloud.wait(run_id, "finished")
        assert (ended["exit_code"], started["user"]) == (7, "cron-runner-job" if user is None else str(user)), ended
        assert cloud.output(ended) == counted(6)
        assert len(cloud.told(run_id, "started")) == 1
        run_id = cloud.send(f"drained-{user}", "(setsid sleep 0.2 &); sleep 2; echo done; exit 3")
        cloud.wait(run_id, "started")
        os.kill(container.first, signal.SIGTERM)
        assert container.process.wait(30) == 0, container.log()
        assert cloud.wait(run_id, "finished")["exit_code"] == 3


class _Started:
    """A process that is PID 1 of its own namespace."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._output = output
        deadline = time.monotonic() + 30
        while not (children := Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()):
            assert time.monotonic() < deadline, "nothing was started"
            time.sleep(0.02)
        self.first = int(children[0])

    def first_says(self, name: str) -> str:
        return Path(f"/proc/{self.first}/{name}").read_text()

    def agent(self) -> Path:
        """The agent's directory in /proc."""
        for child in Path(f"/proc/{self.first}/task/{self.first}/children").read_text().split():
            if re.search(r"cron-runner\0run\0$", Path(f"/proc/{child}/cmdline").read_text()):
                return Path(f"/proc/{child}")
        raise AssertionError(f"no agent: {self.log()}")

    def log(self) -> str:
        return self._output.read_text()[-3000:]


@contextlib.contextmanager
def _started(root: Path, entrypoint: list[str], user: int | None, cloud: Cloud) -> Iterator[_Started]:
    environment = {
        "PATH": PATH, "AWS_ENDPOINT_URL": cloud.endpoint,
        "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "CRON_RUNNER__GROUP": "web",
        "CRON_RUNNER_QUEUE__URL": cloud.jobs, "CRON_RUNNER_RESULTS__URL": cloud.results,
        "CRON_RUNNER_QUEUE__WAIT": "2s", "CRON_RUNNER_AGENT__LISTEN": "",
    }  # fmt: skip
    prefix = (
        []
        if user is None
        else ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--bounding-set=-all"]
    )
    if user is not None:
        environment["CRON_RUNNER_PATHS__STATE"] = "/tmp/state"
    output = root.parent / f"output-{user}"
    isolated = ["unshare", "--pid", "--fork", "--mount", "--ipc", "--kill-child=KILL"]
    mounts = 'mount -t proc proc /proc; mount -t tmpfs tmpfs /run; mount --bind /dev2 /dev; exec "$@"'
    (root / "dev2").mkdir(exist_ok=True)
    subprocess.run(["mount", "--bind", "/dev", str(root / "dev2")], check=True)
    try:
        with output.open("wb") as log:
            process = subprocess.Popen(
                [*isolated, "chroot", str(root), "sh", "-c", mounts, "sh", *prefix, *entrypoint],
                env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            yield _Started(process, output)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{output.read_text()[-3000:]}") from error
        finally:
            process.kill()
            process.wait()
    finally:
        subprocess.run(["umount", str(root / "dev2")], check=True)
