"""The control socket: how `status`, `cancel`, `pause`, `resume` and `drain` reach the agent of this host.

A request is one line of JSON, `{"op": "cancel", "run_id": "r1"}`, and so is its answer:

    {"ok": true, "version": "0.1.0", "answer": {…}}
    {"ok": false, "version": "0.1.0", "code": "not_allowed", "error": "cannot …: why; do Y"}

Who asks is the kernel's word (SO_PEERCRED), never the client's. A client costs at most its own connection: lines,
times and connections are bounded, and nothing that it sends or leaves unread reaches further than its answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from typing import TYPE_CHECKING, Any

import structlog

from runner import __version__
from runner.agent.operator import peers
from runner.config.access import Control as ControlRules
from runner.errors import CronRunnerError, NotThere, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from runner.agent.operator.peers import Peer

    Answer = Callable[[str, dict[str, Any], Peer], Awaitable[dict[str, Any]]]

log = structlog.get_logger()

_NOT_OPENED = "who is named in [control] and is not of the socket's group cannot connect; look at its directory"
_NOT_SERVED = "no `status`, no `cancel`; make [paths] runtime writable for the agent, and restart it"

NAME = "agent.sock"
LONGEST_REQUEST = 64 * 1024
WITHIN_S = 10.0  # for a request to come, for its answer to be made, and for it to be taken
MOST_CLIENTS = 32


async def _nothing(_op: str, _request: dict[str, Any], _peer: Peer) -> dict[str, Any]:
    raise Refused("failed", "cannot answer: the agent is only starting; try again in a moment")


class Control:
    """`listen` first, so that a second agent is refused before it does anything; `serve` as a task.

    `answer(op, request, peer)` makes the answer to a request, and raises Refused for what cannot be done. `rules` says
    who may ask what; after a change of them `admit` lets everybody connect whom they name. The socket belongs to the
    group `group`; None: the agent's own.
    """

    def __init__(self, runtime: Path, *, group: int | None = None, within: float = WITHIN_S) -> None:
        self.path = runtime / NAME
        self.answer: Answer = _nothing
        self.rules: Callable[[], ControlRules] = ControlRules
        self._group = group
        self._within = within
        self._listener: socket.socket | None = None
        self._made: tuple[int, int] | None = None  # device and inode of our socket
        self._gid = os.getegid()
        self.clients: set[asyncio.StreamWriter] = set()  # those that are connected
        self._silent: dict[asyncio.StreamWriter, int] = {}  # who asks nothing now, and as whom; oldest first

    # -- the socket

    def listen(self) -> None:
        """Make the socket, in place of one that a killed agent has left. Raises Refused where another agent listens.

        Where it cannot be made the agent does without: jobs that do not run are worse than a deaf `status`.
        """
        try:
            self.path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            if _somebody_listens(self.path):
                raise Refused(
                    "taken",
                    f"cannot start: another agent listens on {self.path}; stop it, or set another [paths] runtime",
                )
            self._listener = self._bound()
            self.admit()
        except OSError as error:
            why = error.strerror or str(error)
            log.error("control_not_served", path=str(self.path), error=why, detail=_NOT_SERVED)

    def _bound(self) -> socket.socket:
        """Bound beside its place and moved there ready: nobody ever meets it with the wrong mode, or not listening."""
        beside = self.path.with_name(f"{NAME}.new")
        beside.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            listener.bind(str(beside))
            beside.chmod(0o600)
            self._give_to_group(beside)
            beside.chmod(0o660)
            listener.listen(MOST_CLIENTS)
            made = beside.stat()
            beside.replace(self.path)
        except BaseException:
            listener.close()
            raise
        self._made, self._gid = (made.st_dev, made.st_ino), made.st_gid
        return listener

    def _give_to_group(self, made: Path) -> None:
        if self._group is None:
            return
        try:
            os.chown(made, -1, self._group)
            directory = made.parent.stat()
            # Its members have to get through the directory too, where it is ours and not open to all.
            if directory.st_uid == os.geteuid() and not directory.st_mode & stat.S_IXOTH:
                os.chown(made.parent, -1, self._group)
        except PermissionError:
            log.warning(
                "control_group_not_set",
                group=peers.group_name(self._group),
                detail="the agent's user is no member of it: until it is one (usermod -aG), root and the agent's own"
                " user and group may control it",
            )

    def admit(self) -> None:
        """Let connect whom the rules name: by its mode the socket is for its group alone. Who may not is told so."""
        if self._listener is None:
            return
        try:
            others = self._rules().others()
            self.path.chmod(0o666 if others else 0o660)
            mode = self.path.parent.stat().st_mode
            if others and not mode & stat.S_IXOTH:
                self.path.parent.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
        except OSError as error:
            log.warning("control_not_opened", path=str(self.path), error=error.strerror, detail=_NOT_OPENED)

    def _rules(self) -> peers.Rules:
        rules = self.rules()
        return peers.Rules(rules.operate, rules.read, peers.own_uid(), self._gid)

    async def serve(self) -> None:
        """Answer until cancelled; then the socket goes."""
        if self._listener is None:
            return
        server = await asyncio.start_unix_server(self._serve, sock=self._listener, limit=LONGEST_REQUEST)
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            # Not waited for: what a client leaves unread must not keep the agent from ending.
            server.close()
            self.close()

    def close(self) -> None:
        """Hang up on everybody, and remove the socket where it is still ours."""
        for writer in list(self.clients):
            writer.transport.abort()
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        with contextlib.suppress(OSError):
            found = self.path.stat()
            if (found.st_dev, found.st_ino) == self._made:
                self.path.unlink()

    # -- a connection

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.clients.add(writer)
        try:
            await self._converse(reader, writer)
        except (OSError, TimeoutError, EOFError):
            pass  # gone, silent, or does not read what it asked for: nobody is left to tell
        finally:
            self.clients.discard(writer)
            self._silent.pop(writer, None)
            if writer.transport.get_write_buffer_size():
                writer.transport.abort()
            else:
                writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = peers.peer_of(writer.get_extra_info("socket"))
        refused = self._rules().refusal(peer, "read")
        if len(self.clients) > MOST_CLIENTS and not self._made_room():
            refused = refused or f"cannot answer: {MOST_CLIENTS} others are being answered; try again in a moment"
        while True:
            self._silent[writer] = peer.uid
            try:
                async with asyncio.timeout(self._within):
                    line = await reader.readuntil(b"\n")
            except asyncio.LimitOverrunError:
                await self._send(writer, _failure("invalid", f"cannot read a request above {LONGEST_REQUEST} bytes"))
                return
            self._silent.pop(writer, None)
            if refused is not None:
                log.warning("control_refused", uid=peer.uid, pid=peer.pid)
                await self._send(writer, _failure("not_allowed", refused))
                return
            await self._send(writer, await self._answered(line, peer))

    def _made_room(self) -> bool:
        """Hang up on who asks nothing, of the user who does so most: no user's silence keeps others out."""
        if not self._silent:
            return False
        of_users = list(self._silent.values())
        most = max(of_users, key=of_users.count)
        oldest = next(writer for writer, uid in self._silent.items() if uid == most)
        del self._silent[oldest]
        oldest.transport.abort()
        return True

    async def _send(self, writer: asyncio.StreamWriter, answer: dict[str, Any]) -> None:
        writer.write(json.dumps({"version": __version__, **answer}, separators=(",", ":")).encode() + b"\n")
        async with asyncio.timeout(self._within):
            await writer.drain()

    async def _answered(self, line: bytes, peer: Peer) -> dict[str, Any]:
        op = "read the request"
        try:
            request = _request_in(line)
            op = str(request.pop("op"))[:40]
            if refused := self._rules().refusal(peer, "read" if op in peers.SEEING else "operate"):
                log.warning("control_refused", uid=peer.uid, pid=peer.pid, op=op)
                return _failure("not_allowed", refused)
            async with asyncio.timeout(self._within):
                return {"ok": True, "answer": await self.answer(op, request, peer)}
        except CronRunnerError as error:
            code = "not_there" if isinstance(error, NotThere) else "failed"
            return _failure(error.code if isinstance(error, Refused) else code, str(error))
        except TimeoutError:
            return _failure("failed", f"cannot {op}: no answer within {self._within:g} s; look at the agent's log")
        except Exception:
            # A fault of ours in what shows or steers must not take the jobs' agent down.
            log.exception("control_request_failed", op=op)
            return _failure("failed", f"cannot {op}: a fault of cron-runner's own; the agent's log has it")


def _request_in(line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError):
        raise Refused("invalid", "cannot read the request: it is not a line of JSON") from None
    if not isinstance(request, dict) or not isinstance(request.get("op"), str):
        raise Refused("invalid", 'cannot read the request: it is not an object with an "op"')
    return request


def _failure(code: str, error: str) -> dict[str, Any]:
    return {"ok": False, "code": code, "error": error}


def _somebody_listens(path: Path) -> bool:
    """A socket that nobody accepts on is what a killed agent has left."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except TimeoutError:
            return True  # its queue is full: somebody does listen
        except OSError:
            return False
        return True
