"""The client's side of the agent's control socket: one request, one answer, and errors that say what to do."""

from __future__ import annotations

import argparse
import json
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import MutableMapping

NAME: Final = "agent.sock"
WITHIN_S: Final = 15.0  # the agent gives itself 10 s
_LARGEST_ANSWER: Final = 64 << 20
_RUNTIME: Final = "/run/cron-runner"
_VARIABLE: Final = "CRON_RUNNER_PATHS__RUNTIME"

# Exit statuses of the commands that talk to the agent; 3 as in the Linux Standard Base's list for services.
NOTHING_DONE: Final = 1
NO_AGENT: Final = 3


class NoAgent(CronRunnerError):
    """Nobody answers on the control socket."""

    exit_status = NO_AGENT


class NotAllowed(CronRunnerError):
    """The agent is not for this user to control."""


class RefusedByAgent(CronRunnerError):
    """The agent answered that it will not; `code` is its word for why."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


def add_options(parser: argparse.ArgumentParser) -> None:
    """What every command that talks to the agent takes."""
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--socket", type=Path, metavar="PATH", help="the agent's control socket (default: [paths] runtime/agent.sock)"
    )


def duration(text: str) -> float:
    """A duration on the command line, in seconds; for argparse."""
    from runner.protocol.units import parse_duration  # noqa: PLC0415 - `--help` needs none of it

    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def socket_of(args: argparse.Namespace, environ: MutableMapping[str, str]) -> Path:
    """Where the agent listens.

    Of the configuration only `[paths] runtime` is looked at: whatever else is wrong with the file, or whoever may
    not read it, the running agent can still be asked.
    """
    if args.socket is not None:
        return Path(args.socket)
    from runner.cli import unit_environment  # noqa: PLC0415 - `--help` needs none of it

    unit_environment.take(args.config, environ)
    return Path(environ.get(_VARIABLE) or _runtime_in(args.config) or _RUNTIME) / NAME


def _runtime_in(given: Path | None) -> str | None:
    from runner.config.place import DEFAULT_PATH  # noqa: PLC0415 - `--help` needs none of it
    from runner.config.toml import Unreadable, read_toml  # noqa: PLC0415

    try:
        paths = read_toml(given or DEFAULT_PATH).get("paths")
    except FileNotFoundError:
        if given is not None:
            raise CronRunnerError(f"cannot read {given}: no such file; give --config a file that exists") from None
        return None
    except Unreadable as error:
        printing.note(f"warning: {error.origin}: {error}; asking the agent on {_RUNTIME}/{NAME}")
        return None
    runtime = paths.get("runtime") if isinstance(paths, dict) else None
    return runtime if isinstance(runtime, str) else None


def ask(path: Path, op: str, **fields: Any) -> dict[str, Any]:
    """The agent's answer to one request. Raises NoAgent, NotAllowed, RefusedByAgent."""
    try:
        answer = _answer_in(_exchange(path, json.dumps({"op": op, **fields}).encode() + b"\n"))
    except FileNotFoundError:
        raise NoAgent(
            f"cannot reach the agent: there is no {path}; start it (`systemctl start cron-runner`, or `cron-runner "
            "run`), or name the configuration that it runs with by --config"
        ) from None
    except ConnectionRefusedError:
        raise NoAgent(
            f"cannot reach the agent: nobody listens on {path}, it was killed or has crashed; "
            "start it (`systemctl start cron-runner`) and look at its log"
        ) from None
    except PermissionError:
        raise NotAllowed(_closed(path)) from None
    except TimeoutError:
        raise NoAgent(
            f"cannot get an answer from the agent on {path} within {WITHIN_S:g} s; look at its log, or restart it: "
            "its jobs go on"
        ) from None
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise NoAgent(f"cannot reach the agent on {path}: {why}; try again, and look at the agent's log") from None
    if answer.get("ok"):
        return dict(answer["answer"])
    code, text = str(answer.get("code")), str(answer.get("error"))
    if code == "not_allowed":
        raise NotAllowed(text)
    raise RefusedByAgent(code, text)


def _answer_in(line: bytes) -> dict[str, Any]:
    answer = json.loads(line)
    if not isinstance(answer, dict):
        raise ValueError("its answer is no JSON object")  # noqa: TRY004 - a fault like any other of the line
    return answer


def _exchange(path: Path, request: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(WITHIN_S)
        client.connect(str(path))
        client.sendall(request)
        received = bytearray()
        while not received.endswith(b"\n"):
            piece = client.recv(1 << 18)
            if not piece:
                raise ConnectionResetError(None, "it has closed the connection without an answer")
            received += piece
            if len(received) > _LARGEST_ANSWER:
                raise ValueError("its answer is too large")
        return bytes(received)


def _closed(path: Path) -> str:
    """Who may, as far as the file system shows it to somebody who may not."""
    from runner.agent.operator import peers  # noqa: PLC0415 - only for this error

    group = peers.GROUP
    for place in (path, path.parent):
        try:
            group = peers.group_name(place.stat().st_gid)
            break
        except OSError:
            continue
    who = peers.user_name(os.geteuid())
    return (
        f"cannot reach the agent on {path} as {who}: permission denied; use sudo, or become a member of the group "
        f"{group} (`usermod -aG {group} {who}`) and log in anew"
    )
