"""The control socket by itself: its file, who may talk to it, and clients that are slow, broken or many."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from runner import __version__
from runner.agent.operator import socket as control_module
from runner.agent.operator.peers import Peer
from runner.agent.operator.socket import LONGEST_REQUEST, MOST_CLIENTS, Control
from runner.errors import CronRunnerError, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOBODY = 65_534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="other users are made by root")


async def echo(op: str, request: dict[str, Any], peer: Peer) -> dict[str, Any]:
    """Says who asked what, and has every fault that a handler can have."""
    if op == "refuse":
        raise Refused("ended", "cannot do it: it is over")
    if op == "fail":
        raise CronRunnerError("cannot do it: no disk")
    if op == "break":
        raise ZeroDivisionError
    if op == "hang":
        await asyncio.sleep(3600)
    if op == "much":
        return {"much": "x" * 4_000_000}
    return {"op": op, "uid": peer.uid, **request}


@contextlib.asynccontextmanager
async def serving(runtime: Path, group: int | None = None, within: float = 10.0) -> AsyncIterator[Control]:
    control = Control(runtime, group=group, within=within)
    control.answer = echo
    control.listen()
    task = asyncio.create_task(control.serve())
    try:
        yield control
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        control.close()  # a task that was cancelled before its first step has not


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, line: str | dict[str, Any]) -> dict[str, Any]:
        await self.send((line if isinstance(line, str) else json.dumps(line)).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        async with asyncio.timeout(30):
            return dict(json.loads(await self.reader.readline()))

    async def closed(self) -> bool:
        async with asyncio.timeout(30):
            return await self.reader.read() == b""


@contextlib.asynccontextmanager
async def client(control: Control) -> AsyncIterator[Client]:
    made = Client(*await asyncio.open_unix_connection(str(control.path)))
    try:
        yield made
    finally:
        made.writer.close()


async def ask(control: Control, request: str | dict[str, Any]) -> dict[str, Any]:
    async with client(control) as one:
        return await one.ask(request)


def left_behind(path: Path) -> None:
    """A socket file that nobody listens on, as SIGKILL leaves it."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))


# -- the socket


async def test_an_answer_has_the_version_and_who_asked(tmp_path: Path) -> None:
    async with serving(tmp_path / "run") as control:
        answer = await ask(control, {"op": "hello", "a": 1})
        assert answer == {"version": __version__, "ok": True, "answer": {"op": "hello", "uid": os.geteuid(), "a": 1}}
        assert stat.S_IMODE(control.path.stat().st_mode) == 0o660
        assert stat.S_IMODE(control.path.parent.stat().st_mode) == 0o750
    assert not control.path.exists()
    assert list((tmp_path / "run").iterdir()) == []


async def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    left_behind(tmp_path / "agent.sock")
    left_behind(tmp_path / "agent.sock.new")
    async with serving(tmp_path) as control:
        assert (await ask(control, {"op": "hello"}))["ok"]


async def test_a_second_agent_is_refused_and_the_first_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as control:
        with pytest.raises(Refused, match=r"cannot start: another agent listens on .*agent\.sock; stop it"):
            Control(tmp_path).listen()
        assert (await ask(control, {"op": "hello"}))["ok"]


async def test_a_socket_that_is_anothers_by_now_is_left_alone(tmp_path: Path) -> None:
    async with serving(tmp_path) as control:
        assert (await ask(control, {"op": "hello"}))["ok"]
        control.path.unlink()
        left_behind(control.path)
    assert control.path.exists()


@pytest.mark.parametrize("runtime", ["x" * 120, "file/run"])
async def test_an_agent_without_a_socket_runs_on(tmp_path: Path, runtime: str) -> None:
    (tmp_path / "file").touch()
    async with serving(tmp_path / runtime):
        await asyncio.sleep(0)  # nothing was raised, and the task waits for nothing


@needs_root
async def test_the_socket_and_its_directory_belong_to_the_group(tmp_path: Path) -> None:
    async with serving(tmp_path / "run", group=1) as control:
        assert control.path.stat().st_gid == 1
        assert control.path.parent.stat().st_gid == 1


# -- who may


# The user is changed in the child: others may not be let to the interpreter of the tests.
ASK = """
import json, os, socket, sys
path, user, group, *groups = sys.argv[1:]
os.setgroups([int(one) for one in groups])
os.setgid(int(group))
os.setuid(int(user))
with socket.socket(socket.AF_UNIX) as client:
    try:
        client.connect(path)
    except PermissionError:
        sys.exit("closed")
    client.sendall(b'{"op": "hello"}\\n')
    print(client.makefile().readline())
"""


async def ask_as(path: Path, user: int, group: int, *groups: int) -> dict[str, Any] | str:
    """Ask as another user; what the kernel says where it does not even connect."""
    ids = [str(one) for one in (user, group, *groups)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", ASK, str(path), *ids, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    out, err = await process.communicate()
    return dict(json.loads(out)) if out else err.decode().strip()


@needs_root
async def test_others_do_not_get_through_the_file_system(tmp_path: Path) -> None:
    async with serving(tmp_path, group=1) as control:
        tmp_path.chmod(0o755)
        assert await ask_as(control.path, NOBODY, NOBODY) == "closed"


@needs_root
async def test_others_are_refused_by_the_kernels_word(tmp_path: Path) -> None:
    """Even where somebody has opened the socket to all."""
    async with serving(tmp_path, group=1) as control:
        tmp_path.chmod(0o755)
        control.path.chmod(0o666)
        answer = await ask_as(control.path, NOBODY, NOBODY)
        assert isinstance(answer, dict)
        assert (answer["ok"], answer["code"]) == (False, "not_allowed")
        assert answer["error"].startswith(
            "cannot control the agent as nobody: only root and members of the group daemon"
        )
        assert "hello" not in json.dumps(answer)


@needs_root
@pytest.mark.parametrize(("group", "groups"), [(1, ()), (NOBODY, (1,)), (NOBODY, (7, 1, 9))])
async def test_members_of_the_group_may(tmp_path: Path, group: int, groups: tuple[int, ...]) -> None:
    async with serving(tmp_path, group=1) as control:
        tmp_path.chmod(0o755)
        answer = await ask_as(control.path, NOBODY, group, *groups)
        assert isinstance(answer, dict)
        assert answer["answer"] == {"op": "hello", "uid": NOBODY}


# -- clients


@pytest.mark.parametrize(
    "line",
    ["", "nonsense", "[]", "1", '"op"', "{}", '{"op": 1}', '{"op": ', "[" * 60_000, '{"op": "a"}{"op": "b"}', "\x00"],
)
async def test_a_request_that_is_none(tmp_path: Path, line: str) -> None:
    async with serving(tmp_path) as control, client(control) as one:
        answer = await one.ask(line)
        assert (answer["ok"], answer["code"]) == (False, "invalid")
        assert answer["error"].startswith("cannot read the request: ")
        assert (await one.ask({"op": "hello"}))["ok"], "the connection goes on"


async def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as control, client(control) as one:
        await one.send(b"\xff\xfe\n")
        assert (await one.answer())["code"] == "invalid"


@pytest.mark.parametrize(
    ("op", "code", "text"),
    [
        ("refuse", "ended", "cannot do it: it is over"),
        ("fail", "failed", "cannot do it: no disk"),
        ("break", "failed", "cannot break: a fault of cron-runner's own; the agent's log has it"),
    ],
)
async def test_a_fault_is_an_answer(tmp_path: Path, op: str, code: str, text: str) -> None:
    async with serving(tmp_path) as control:
        for _ in range(2):
            answer = await ask(control, {"op": op})
            assert (answer["ok"], answer["code"], answer["error"]) == (False, code, text)


async def test_an_endless_request_is_cut_off(tmp_path: Path) -> None:
    async with serving(tmp_path) as control, client(control) as one:
        with contextlib.suppress(OSError):
            await one.send(b"x" * (4 * LONGEST_REQUEST))
        assert (await one.answer())["code"] == "invalid"
        assert (await ask(control, {"op": "hello"}))["ok"]


async def test_a_silent_client_is_hung_up_on(tmp_path: Path) -> None:
    async with serving(tmp_path, within=0.2) as control, client(control) as silent, client(control) as half:
        await half.send(b'{"op": ')
        assert await silent.closed()
        assert await half.closed()
        assert (await ask(control, {"op": "hello"}))["ok"]


async def test_an_answer_that_takes_too_long(tmp_path: Path) -> None:
    async with serving(tmp_path, within=0.2) as control:
        answer = await ask(control, {"op": "hang"})
        assert (answer["ok"], answer["code"]) == (False, "failed")
        assert answer["error"].startswith("cannot hang: no answer within 0.2 s")


async def test_a_client_that_does_not_read_costs_only_itself(tmp_path: Path) -> None:
    async with serving(tmp_path, within=0.3) as control:
        deaf = socket.socket(socket.AF_UNIX)
        with deaf:
            deaf.connect(str(control.path))
            deaf.sendall(b'{"op": "much"}\n')
            async with asyncio.timeout(30):
                assert (await ask(control, {"op": "hello"}))["ok"]
                # It is hung up on, and its answer thrown away.
                while control.clients:
                    await asyncio.sleep(0.01)
            assert (await ask(control, {"op": "hello"}))["ok"]


async def test_a_client_that_leaves_before_its_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as control:
        for request in (b"", b'{"op": "hel', b'{"op": "much"}\n', b'{"op": "hello"}\n' * 100):
            with socket.socket(socket.AF_UNIX) as hasty:
                hasty.connect(str(control.path))
                hasty.sendall(request)
        assert (await ask(control, {"op": "hello"}))["ok"]


async def test_more_clients_than_are_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control_module, "MOST_CLIENTS", 3)
    assert MOST_CLIENTS > 3
    async with serving(tmp_path) as control, contextlib.AsyncExitStack() as stack:
        ones = [await stack.enter_async_context(client(control)) for _ in range(3)]
        for one in ones:
            await one.send(b'{"op": "hang"}\n')
        answer = await ask(control, {"op": "hello"})
        assert answer["error"] == "cannot answer: 3 others are being answered; try again in a moment"
        ones[0].writer.close()
        async with asyncio.timeout(30):
            while not (await ask(control, {"op": "hello"}))["ok"]:
                await asyncio.sleep(0.01)


async def test_who_is_connected_and_asks_nothing_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_module, "MOST_CLIENTS", 3)
    async with serving(tmp_path) as control, contextlib.AsyncExitStack() as stack:
        ones = [await stack.enter_async_context(client(control)) for _ in range(3)]
        for one in ones:
            assert (await one.ask({"op": "hello"}))["ok"]
        assert (await ask(control, {"op": "hello"}))["ok"]
        with contextlib.suppress(OSError):
            assert await ones[0].closed()
        assert (await ones[2].ask({"op": "hello"}))["ok"]


async def test_nothing_of_it_keeps_the_agent_from_ending(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with serving(tmp_path) as control:
            waiting = await stack.enter_async_context(client(control))
            hanging = await stack.enter_async_context(client(control))
            await hanging.send(b'{"op": "hang"}\n')
            assert (await waiting.ask({"op": "hello"}))["ok"]
        with contextlib.suppress(OSError):
            assert await waiting.closed()
