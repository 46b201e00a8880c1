"""The listening socket and the connections made to it."""

from __future__ import annotations

import contextlib
from functools import partial

from runner.supervisor.loop import READ, WRITE, Loop, now
from runner.supervisor.users import peer_allowed
from runner.supervisor.wire import Connection, Hangup, ProtocolError

TYPE_CHECKING = False  # not imported from typing, which costs a megabyte
if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from typing import Any

MOST_CLIENTS = 64
_ACCEPT_AGAIN = 1.0
_FLUSH_AGAIN = 0.05
_FULL = f"cannot talk to this user: it talks to {MOST_CLIENTS} others; try again in a moment"
_REFUSED = "cannot talk to this user: the supervisor answers to root and to the agent's own user only; use sudo"
_PAUSE_AT = 1 << 20  # bytes a client has not read, at which no more of its requests are read
# A start takes most of a millisecond, and they come in dozens. After so long the loop has its turn: deadlines, ends,
# and the answers that there are already, on which the agent works while we go on.
_SLICE = 0.005


class Clients:
    """Reads requests, queues frames, writes them once per turn of the loop."""

    def __init__(
        self,
        loop: Loop,
        listener: socket.socket,
        answer: Callable[[Connection, dict[str, Any], list[int]], None],
        dropped: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._answer = answer
        self._dropped = dropped
        self._connected: dict[int, Connection] = {}
        self._dirty: dict[int, Connection] = {}
        self._listen()

    def _listen(self) -> None:
        self._loop.watch(self._listener.fileno(), READ, lambda _events: self._accept())

    def move(self, listener: socket.socket) -> None:
        """Another listener in place of the one there was, which is the caller's to close."""
        self._loop.unwatch(self._listener.fileno())
        self._listener = listener
        self._listen()

    def __len__(self) -> int:
        return len(self._connected)

    def attended(self, owner: str) -> bool:
        """Whether this owner is connected."""
        return any(client.owner == owner for client in self._connected.values())

    def _accept(self) -> None:
        try:
            sock, _address = self._listener.accept()
        except BlockingIOError:
            return
        except OSError:  # no descriptor left: it stays in the backlog, and would wake us again at once
            self._loop.unwatch(self._listener.fileno())
            self._loop.at(now() + _ACCEPT_AGAIN, self._listen)
            return
        try:
            client = Connection(sock)
        except OSError:  # who it is cannot be known now: it connects again
            with contextlib.suppress(OSError):
                sock.close()
            return
        allowed = peer_allowed(client.peer_uid)
        if len(self._connected) >= MOST_CLIENTS or not allowed:
            client.send({"ok": False, "code": "refused", "error": _FULL if allowed else _REFUSED})
            with contextlib.suppress(Hangup, OSError):
                client.flush()
            client.close()
            return
        self._connected[sock.fileno()] = client
        self._loop.watch(sock.fileno(), READ, lambda events: self._on_ready(client, events))

    def _on_ready(self, client: Connection, events: int) -> None:
        if events & WRITE:
            self._dirty[client.sock.fileno()] = client
        if not events & ~WRITE or client.requests:
            return
        try:
            client.receive()
        except InterruptedError:
            pass
        except Hangup:
            self.drop(client)
        except ProtocolError as error:
            self.tell(client, {"ok": False, "code": "protocol", "error": str(error)})
            with contextlib.suppress(Hangup, OSError):
                client.flush()
            self.drop(client)
        else:
            self._work(client)

    def _work(self, client: Connection) -> None:
        """Answer what has arrived; what takes longer than a slice goes on in the loop's next turn.

        Until all is answered nothing more is read from this client, its hangup neither: what it asked for before it
        went is still done.
        """
        until = now() + _SLICE
        try:
            while client.requests:
                self._answer(client, *client.requests.popleft())
                if now() >= until:
                    break
        finally:
            if client.requests:
                self._loop.soon(lambda: self._work(client))

    def drop(self, client: Connection) -> None:
        fd = client.sock.fileno()
        if fd < 0:
            return
        self._loop.unwatch(fd)
        self._connected.pop(fd, None)
        self._dirty.pop(fd, None)
        client.close()
        self._dropped(client)

    def tell(self, client: Connection, message: dict[str, Any]) -> None:
        """Queue a frame for a client that may have gone."""
        if client.sock.fileno() >= 0:
            client.send(message)
            self._dirty[client.sock.fileno()] = client

    def notify(self, owner: str, message: dict[str, Any]) -> None:
        """Queue a frame for all connections of an owner."""
        for client in self._connected.values():
            if client.owner == owner:
                self.tell(client, message)

    def flush(self) -> None:
        """Write what is queued. A client that does not read is not read from either, then dropped."""
        dirty, self._dirty = self._dirty, {}
        for fd, client in dirty.items():
            try:
                self._flush(fd, client)
            except OSError:  # a lack that passes
                self._loop.at(now() + _FLUSH_AGAIN, partial(self._dirty_again, client))

    def _dirty_again(self, client: Connection) -> None:
        if client.sock.fileno() >= 0:
            self._dirty[client.sock.fileno()] = client

    def _flush(self, fd: int, client: Connection) -> None:
        try:
            client.flush()
        except Hangup:
            if client.requests:
                self._dirty[fd] = client  # dropped after them
            else:
                self.drop(client)
            return
        wanted = READ if not client.pending else WRITE if client.pending > _PAUSE_AT else READ | WRITE
        if wanted != client.wanted:
            self._loop.change(fd, wanted)
            client.wanted = wanted
