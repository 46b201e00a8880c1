"""The agent's control socket, asked from an event loop: a few kept connections, one request on each at a time."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

from runner.web.sources.source import NotPossible, SourceAway, Unknown

if TYPE_CHECKING:
    from pathlib import Path

MOST_CONNECTIONS = 4
"""The agent answers 32 in all; its own commands have room beside us."""
WITHIN_S = 12.0
LARGEST_ANSWER = 16 << 20


class Agent:
    """`ask` raises SourceAway where nobody answers, Unknown and NotPossible where the agent says so."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._free: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self._room = asyncio.Semaphore(MOST_CONNECTIONS)
        self.version = ""

    async def tell(self, op: str, **fields: Any) -> dict[str, Any]:
        """The same for what changes something: it is sent once, whatever becomes of the connection."""
        return await self.ask(op, _once=True, **fields)

    async def ask(self, op: str, *, _once: bool = False, **fields: Any) -> dict[str, Any]:
        # `from_` stands for `from`, which is a word of Python.
        said = {name.rstrip("_"): value for name, value in fields.items()}
        request = json.dumps({"op": op, **said}).encode() + b"\n"
        async with self._room:
            line = await self._exchanged(request, once=_once)
        try:
            answer = json.loads(line)
        except ValueError as error:
            raise SourceAway(f"cannot understand the agent on {self.path}: its answer is no JSON") from error
        self.version = str(answer.get("version", ""))
        if answer.get("ok"):
            return dict(answer["answer"])
        code, text = str(answer.get("code")), str(answer.get("error"))
        if code == "not_there":
            raise Unknown(text)
        raise NotPossible(text, code)

    async def _exchanged(self, request: bytes, *, once: bool) -> bytes:
        """By a kept connection, which the agent may have closed meanwhile, else by a new one."""
        while self._free and not once:
            reader, writer = self._free.pop()
            try:
                return await self._on(reader, writer, request)
            except (OSError, EOFError, TimeoutError):
                continue  # it was closed, or the agent restarted: a new one tells
        try:
            async with asyncio.timeout(WITHIN_S):
                reader, writer = await asyncio.open_unix_connection(str(self.path), limit=LARGEST_ANSWER)
            return await self._on(reader, writer, request)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or "no answer"
            raise SourceAway(f"cannot reach the agent on {self.path}: {why}; start it, or look at its log") from error

    async def _on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> bytes:
        try:
            async with asyncio.timeout(WITHIN_S):
                writer.write(request)
                await writer.drain()
                line = await reader.readuntil(b"\n")
        except BaseException:
            writer.transport.abort()
            raise
        self._free.append((reader, writer))
        return line

    def close(self) -> None:
        for _, writer in self._free:
            writer.transport.abort()
        self._free.clear()
