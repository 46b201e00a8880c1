"""The agent's side of the supervisor's socket. The frames are described in `runner.supervisor.wire`.

The supervisor of the companion unit is used where its socket exists; else one is started, detached from the agent,
and found again by the next agent.
"""

from __future__ import annotations

import array
import asyncio
import json
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any

import structlog

import runner
from runner.agent.runs.process import ExitRecord, Hello, Known, Started, StartSpec, Usage
from runner.agent.supervision.launch import Finder
from runner.errors import CronRunnerError, SupervisorUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

__all__ = [
    "ExitRecord",
    "Hello",
    "Known",
    "StartRefused",
    "StartSpec",
    "Started",
    "Supervision",
    "Usage",
]

log = structlog.get_logger()

# Named, as `Supervision.list` hides the builtin in its class.
Arguments = list[str]
Bytes = list[bytes]
Descriptors = list[int]

PROTOCOL = 1
LINGER = 60.0
_ANSWER_WITHIN = 60.0
_HELLO_WITHIN = 10.0
_PIECE = 256 << 10
_DROPPED = "processes that the run was to leave behind print after its end: such output is counted, and not kept"
_ENCODER = json.JSONEncoder(separators=(",", ":"))


class StartRefused(CronRunnerError):
    """The supervisor will not do what was asked: ``code`` is its word for why, such as ``user`` or ``invalid``."""

    def __init__(self, code: str, text: str) -> None:
        self.code = code
        super().__init__(text)


class Supervision:
    """One connection to the supervisor. After `wait_closed` returned, `connect` may be called again.

    ``on_exit`` and ``on_output`` are called in the event loop's thread: once for every run of this owner that
    ended, and with the sizes of spool files that have grown. A run may be reported both by `list` and by
    ``on_exit``; its record is kept until `ack`. Every method raises `SupervisorUnavailable` when the connection is
    lost, and `StartRefused` when the supervisor answers that it will not. Without ``may_start`` only a supervisor that
    is there already is used.
    """

    def __init__(
        self,
        *,
        runtime: Path,
        config_path: Path | None,
        owner: str = "agent",
        on_exit: Callable[[ExitRecord], None],
        on_output: Callable[[Mapping[str, int]], None],
        arguments: Sequence[str] = (),
        linger: float = LINGER,
        may_start: bool = True,
    ) -> None:
        self._finder = Finder(runtime, config_path, arguments, linger, may_start=may_start)
        self._owner = owner
        self._on_exit = on_exit
        self._on_output = on_output
        self._sock: socket.socket | None = None
        self._closed: asyncio.Event = asyncio.Event()
        self._closed.set()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._inbox = bytearray()
        self._outbox: deque[tuple[bytes, int | None]] = deque()
        self._writing = False
        self._flushing = False
        self._overdue: asyncio.TimerHandle | None = None
        self._fds_at_once = 1

    async def connect(self) -> Hello:
        """Connect to the host's supervisor, or start one under the runtime path. Raises SupervisorUnavailable."""
        await self.close()
        loop = asyncio.get_running_loop()
        self._sock = await asyncio.to_thread(self._finder.open)
        self._inbox.clear()
        self._outbox.clear()
        self._writing = False
        self._closed.clear()
        loop.add_reader(self._sock, self._readable)
        try:
            async with asyncio.timeout(_HELLO_WITHIN):
                answer = await self._post(
                    {"op": "hello", "protocol": PROTOCOL, "owner": self._owner, "version": runner.__version__}
                )
        except TimeoutError:
            await self.close()
            raise SupervisorUnavailable(
                f"cannot reach the supervisor: it does not answer within {_HELLO_WITHIN:g} s; see whether "
                "it is stopped (SIGSTOP, a frozen cgroup), and the host's load"
            ) from None
        except StartRefused as error:
            await self.close()
            raise SupervisorUnavailable(str(error)) from error
        hello = Hello.from_json(answer)
        self._fds_at_once = hello.fds
        if hello.protocol != PROTOCOL:
            await self.close()
            raise SupervisorUnavailable(
                f"cannot talk to the supervisor: it speaks protocol {hello.protocol} ({hello.version}), this agent "
                f"speaks {PROTOCOL} ({runner.__version__}); run the same version of both"
            )
        return hello

    async def start(self, spec: StartSpec, spool_fd: int) -> Started:
        """Start an attempt, its output going to ``spool_fd`` (O_RDWR, not O_APPEND; stays the caller's to close).

        The descriptor must stay open until this returns.
        """
        return Started.from_json(await self._post({"op": "start", "fds": 1, **spec.to_json()}, spool_fd))

    async def stop(self, key: str, cause: str, detail: str = "", grace: float | None = None) -> bool:
        """Stop signal, grace, kill of everything; ``grace`` 0 kills at once. False if no such run is alive."""
        answer = await self._post({"op": "stop", "key": key, "cause": cause, "detail": detail, "grace": grace})
        return bool(answer.get("found"))

    async def signal(self, key: str, number: int) -> int | None:
        """Send all of its processes a signal; how many there were, None if no such run is alive."""
        answer = await self._post({"op": "signal", "key": key, "number": number})
        return int(answer["processes"]) if answer.get("found") else None

    async def list(self) -> list[Known]:
        """All runs of this owner that are alive, or ended and not acknowledged."""
        found = []
        after: str | None = None
        while True:
            answer = await self._post({"op": "list", "after": after})
            found += [Known.from_json(item) for item in answer["runs"]]
            after = answer.get("after")
            if after is None:
                return found

    def ack(self, keys: Iterable[str]) -> asyncio.Future[dict[str, Any]]:
        """Let the supervisor forget these records; the future resolves when it has."""
        return self._post({"op": "ack", "keys": list(keys)})

    async def usage(self) -> Mapping[str, Usage]:
        """What each running attempt uses now, by key."""
        answer = await self._post({"op": "usage"})
        return {key: Usage.from_json(item) for key, item in answer["usage"].items()}

    async def wait_closed(self) -> None:
        """Return when the connection has been lost or closed."""
        await self._closed.wait()

    async def close(self) -> None:
        """Close the connection; the supervisor and its runs go on."""
        self._lose("the connection was closed")

    # -- the connection

    def _post(self, message: dict[str, Any], fd: int | None = None) -> asyncio.Future[dict[str, Any]]:
        if self._sock is None:
            raise SupervisorUnavailable("cannot talk to the supervisor: not connected")
        self._number += 1
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        body = _ENCODER.encode({"id": self._number, **message}).encode()
        self._waiting[self._number] = answer
        if self._overdue is None:
            self._overdue = asyncio.get_running_loop().call_later(_ANSWER_WITHIN, self._look_for_late, self._number)
        self._outbox.append((struct.pack(">I", len(body)) + body, fd))
        if not self._flushing and not self._writing:
            # At the end of this loop turn: all requests of the turn go in one call.
            self._flushing = True
            asyncio.get_running_loop().call_soon(self._flush)
        return answer

    def _look_for_late(self, number: int) -> None:
        """No request up to this one may wait any more. One timer for all: of thousands a second none is late."""
        self._overdue = None
        if next(iter(self._waiting), number + 1) <= number:
            self._lose(f"no answer within {_ANSWER_WITHIN:g} s; see its log and the host's load")
        elif self._waiting:
            self._overdue = asyncio.get_running_loop().call_later(_ANSWER_WITHIN, self._look_for_late, self._number)

    def _flush(self) -> None:
        self._flushing = False
        while self._sock is not None and self._outbox:
            pieces: Bytes = []
            fds: Descriptors = []
            size = 0
            for piece, fd in self._outbox:
                if pieces and (size + len(piece) > _PIECE or len(fds) >= self._fds_at_once):
                    break
                pieces.append(piece)
                size += len(piece)
                if fd is not None:
                    fds.append(fd)
            try:
                sent = self._send(b"".join(pieces), fds)
            except BlockingIOError:
                self._wait_writable()
                return
            except OSError as error:
                self._readable()  # it may have said why before it went
                self._lose(str(error))
                return
            for _ in pieces:
                self._outbox.popleft()
            if sent < size:
                # What was sent took all the descriptors with it.
                self._outbox.appendleft((b"".join(pieces)[sent:], None))
        self._stop_writing()

    def _send(self, data: bytes, fds: Descriptors) -> int:
        assert self._sock is not None
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        return self._sock.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)

    def _wait_writable(self) -> None:
        if not self._writing and self._sock is not None:
            self._writing = True
            asyncio.get_running_loop().add_writer(self._sock, self._flush)

    def _stop_writing(self) -> None:
        if self._writing and self._sock is not None:
            self._writing = False
            asyncio.get_running_loop().remove_writer(self._sock)

    def _readable(self) -> None:
        if self._sock is None:
            return
        try:
            data = self._sock.recv(_PIECE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(str(error))
            return
        if not data:
            self._lose("it has closed the connection")
            return
        self._inbox += data
        inbox, start = self._inbox, 0
        frames = []
        while len(inbox) - start >= 4:
            length = int.from_bytes(inbox[start : start + 4], "big")
            if len(inbox) - start - 4 < length:
                break
            frames.append(json.loads(inbox[start + 4 : start + 4 + length]))
            start += 4 + length
        del inbox[:start]
        for frame in frames:
            self._take(frame)

    def _take(self, frame: dict[str, Any]) -> None:
        notice = frame.get("notice")
        if notice == "exited":
            self._on_exit(ExitRecord.from_json(frame["record"]))
        elif notice == "output":
            self._on_output(frame["sizes"])
        elif notice == "leftover_output":
            said = {name: frame.get(name) for name in ("job", "run_id", "bytes")}
            log.warning("leftover_output_dropped", **said, detail=_DROPPED)
        elif notice is None:
            answer = self._waiting.pop(frame.get("id", 0), None)
            if answer is None and frame.get("code") == "refused":
                self._lose(str(frame.get("error")).partition(": ")[2] or "it talks to nobody more")
            if answer is None or answer.done():
                return
            if frame.get("ok"):
                answer.set_result(frame)
            else:
                answer.set_exception(StartRefused(str(frame.get("code")), str(frame.get("error"))))

    def _lose(self, why: str) -> None:
        if self._sock is None:
            return
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._sock)
        self._stop_writing()
        if self._overdue is not None:
            self._overdue.cancel()
            self._overdue = None
        self._sock.close()
        self._sock = None
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            if not answer.done():
                answer.set_exception(SupervisorUnavailable(f"cannot reach the supervisor: {why}"))
                answer.exception()  # whoever waits still gets it; nobody waiting is no error
        self._closed.set()
