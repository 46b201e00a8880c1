"""The file of tokens: names and roles beside hashes, read again when it changes. The tokens themselves are nowhere.

A token has 256 bits of chance, so that a plain SHA-256 of it can be guessed by nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from runner.config.web import ROLES, Role
from runner.errors import CronRunnerError
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from pathlib import Path

log: structlog.stdlib.BoundLogger = structlog.get_logger()

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True, slots=True)
class Token:
    """A line of the file. `until` is unix seconds; None for as long as the line stands."""

    name: str
    role: Role
    hash: str
    until: float | None = None

    def line(self) -> str:
        ends = "" if self.until is None else f" {format_time(self.until)}"
        return f"{self.name} {self.role} {self.hash}{ends}"


def new_token() -> str:
    return secrets.token_urlsafe(32)


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def parsed(text: str) -> tuple[list[Token], list[str]]:
    """The tokens of a file's text, and what is wrong with its other lines: such a line lets nobody in."""
    found: list[Token] = []
    faults: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            found.append(_token(words))
        except ValueError as error:
            faults.append(f"line {number}: {error}")
    return found, faults


def _token(words: list[str]) -> Token:
    if len(words) not in (3, 4):
        raise ValueError("expected NAME ROLE SHA256 [UNTIL]")
    name, said, hashed = words[:3]
    role = next((one for one in ROLES if one == said), None)
    if not NAME.fullmatch(name):
        raise ValueError("the name has characters other than letters, digits and . _ @ -")
    if role is None:
        raise ValueError(f"the role is none of {', '.join(ROLES)}")
    if not _HASH.fullmatch(hashed.lower()):
        raise ValueError("the third word is no SHA-256 in hexadecimal digits")
    return Token(name, role, hashed.lower(), parse_time(words[3]) if len(words) == 4 else None)


class Tokens:
    """Those of a file, or the one that was made for this process."""

    def __init__(self, file: Path | None, own: Token | None = None) -> None:
        self._file = file
        self._own = own
        self._known: list[Token] = []
        self._stamp: tuple[int, ...] | None = None
        self._looked = float("-inf")
        if file is not None:
            try:
                self._known, faults = parsed(file.read_text())
            except (OSError, UnicodeDecodeError) as error:
                why = getattr(error, "strerror", None) or str(error)
                raise CronRunnerError(
                    f"cannot read [web] tokens_file {file}: {why}; make it with `cron-runner web token NAME`, readable "
                    "for the user of the page"
                ) from error
            if faults:
                raise CronRunnerError(f"cannot use [web] tokens_file {file}: {faults[0]}; mend or remove the line")

    def find(self, token: str) -> Token | None:
        """Whose it is; compared with all of them, in a time that says nothing."""
        presented = hash_of(token)
        found: Token | None = None
        for known in self._all():
            if hmac.compare_digest(presented, known.hash) and not _over(known):
                found = known
        return found

    def still(self, name: str, hashed: str) -> Token | None:
        """The token of a session, where its line still stands."""
        for known in self._all():
            if known.name == name and hmac.compare_digest(hashed, known.hash) and not _over(known):
                return known
        return None

    def _all(self) -> list[Token]:
        if self._own is not None:
            return [self._own]
        if self._file is not None and time.monotonic() - self._looked > _LOOK_EVERY_S:
            self._looked = time.monotonic()
            self._look(self._file)
        return self._known

    def _look(self, file: Path) -> None:
        """Read it again where it has changed. A file that is gone lets nobody in."""
        try:
            found = file.stat()
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp == self._stamp:
                return
            self._known, faults = parsed(file.read_text())
            self._stamp = stamp
        except (OSError, UnicodeDecodeError) as error:
            self._known, self._stamp = [], None
            faults = [getattr(error, "strerror", None) or str(error)]
        if faults:
            log.error("tokens_not_read", file=str(file), faults=faults[:10], detail="such lines let nobody in")


def _over(token: Token) -> bool:
    return token.until is not None and time.time() >= token.until
