"""AWS on this machine: moto's server as a process of its own, for ``cron-runner demo`` and for the tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.request import ProxyHandler, Request, build_opener

from runner.cli import remedy
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REGION: Final = "eu-west-1"
_START_WITHIN_S: Final = 30.0
# The JSON protocols' prefixes of X-Amz-Target.
_TARGETS: Final = {"sqs": ("AmazonSQS", "1.0"), "logs": ("Logs_20140328", "1.1")}
# No proxy of the environment stands between two processes of one machine.
_open: Final = build_opener(ProxyHandler({})).open

# The kernel ends the process when the one that started it is gone, however that one ended (prctl(2),
# PR_SET_PDEATHSIG = 1): a demo that was killed with SIGKILL leaves nothing behind either. The setting
# survives the execv.
_TIED: Final = (
    "import ctypes, os, sys\n"
    "ctypes.CDLL(None).prctl(1, 15)\n"
    "if os.getppid() == int(sys.argv[1]): os.execv(sys.argv[2], sys.argv[2:])\n"
)
# moto's transactions copy the whole table and put the copy back where a condition does not hold, and with it undo
# what other threads have written meanwhile: its DynamoDB answers one request at a time.
_SERVE: Final = (
    "import logging, signal, sys, threading\n"
    "from moto.dynamodb.responses import DynamoHandler\n"
    "from moto.moto_server.threaded_moto_server import ThreadedMotoServer\n"
    "act, lock = DynamoHandler.call_action, threading.Lock()\n"
    "def one_at_a_time(self):\n"
    "    with lock:\n"
    "        return act(self)\n"
    "DynamoHandler.call_action = one_at_a_time\n"
    "logging.getLogger('werkzeug').setLevel(logging.ERROR)\n"
    "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)\n"
    "server.start()\n"
    "print(server.get_host_and_port()[1], flush=True)\n"
    "signal.pause()\n"
)


def tied_to_us(command: Sequence[str]) -> list[str]:
    """The command line, so that the process gets SIGTERM when this thread's process ends before it.

    ``command[0]`` is an absolute path. Start it from the main thread: the kernel watches the thread.
    """
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]


def missing() -> str:
    """What to type before the stand-in can run; empty when everything is there."""
    return remedy.missing("demo", ("moto", "flask", "flask_cors"))


class StandIn:
    """moto's server on a free port of the loopback; a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self.endpoint = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            tied_to_us([sys.executable, "-P", "-c", _SERVE]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            # Ctrl-C in a terminal is for whoever started us, who then stops us in the right order.
            start_new_session=True,
        )
        port = self._port(self._process)
        if not port:
            self.stop()
            raise CronRunnerError("cannot start the AWS stand-in: moto's server ended; try `python -m moto.server`")
        self.endpoint = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _port(self, process: subprocess.Popen[str]) -> str:
        if process.stdout is None:
            return ""
        giving_up = threading.Timer(_START_WITHIN_S, process.kill)
        giving_up.start()
        try:
            return process.stdout.readline().strip()
        finally:
            giving_up.cancel()

    def stop(self) -> None:
        """End the server; nothing in it is kept."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def call(self, service: str, action: str, **parameters: Any) -> dict[str, Any]:
        """One call of ``sqs`` or ``logs``, as any client in any language would make it; raises HTTPError."""
        prefix, version = _TARGETS[service]
        scope = f"demo/20000101/{REGION}/{service}/aws4_request"  # moto takes the region from here
        request = Request(  # noqa: S310 - the stand-in's own address
            self.endpoint,
            data=json.dumps(parameters).encode(),
            headers={
                "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0",
                "Content-Type": f"application/x-amz-json-{version}",
                "X-Amz-Target": f"{prefix}.{action}",
            },
        )
        with _open(request, timeout=30) as answer:
            return dict(json.loads(answer.read() or b"{}"))

    def environment(self, of: Mapping[str, str] = os.environ) -> dict[str, str]:
        """The environment with AWS's ordinary settings pointed here, and no other account left in it."""
        return aws_environment(self.endpoint, of)


def aws_environment(endpoint: str, of: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment with the AWS settings for an endpoint that checks no credentials."""
    kept = {name: value for name, value in of.items() if not name.startswith(("AWS_", "CRON_RUNNER_"))}
    return kept | {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "demo",
        "AWS_SECRET_ACCESS_KEY": "demo",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        # A proxy is for the way out, and this stays on the loopback.
        "NO_PROXY": "127.0.0.1,localhost",
    }
