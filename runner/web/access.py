"""Who somebody is, and what they may do. A session is signed with a key of the process, and ends with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from runner.config.web import ROLES, Allow, Role

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import HTTPConnection

    from runner.config.web import Web
    from runner.web.tokens import Token, Tokens

COOKIE: Final = "cron_runner_web"
SESSION_S: Final = 12 * 3600
NEEDED: Final[dict[str, Role]] = {
    **dict.fromkeys(("cancel", "rerun", "run", "enable", "disable", "maintenance"), "operate"),
    **dict.fromkeys(("pause", "resume", "drain"), "operate"),
}
_MOST_ENDED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who is known. `grants` are roles, each with the GROUP/JOB globs it is for; `way` says how they came.

    `bearer`: by a token that the request itself has, which no other site can make a browser send.
    """

    name: str
    grants: Sequence[tuple[Role, Sequence[str]]]
    way: str
    bearer: bool = False

    @property
    def role(self) -> Role:
        """The highest one, as the page shows it."""
        return max((role for role, _ in self.grants), key=ROLES.index, default="read")

    def may(self, op: str, group: str = "", job: str = "", *, given: bool = False) -> bool:
        """Whether they may do this: to a job of a group, to a whole group or host (no job). `given`: with arguments,
        an environment or a command of their own."""
        needed: Role = "run" if given else NEEDED.get(op, "run")
        # Who changes a whole group changes every job of it.
        target = f"{group or '*'}/{job or '*'}"
        return any(
            ROLES.index(role) >= ROLES.index(needed) and any(_covers(glob, target) for glob in globs)
            for role, globs in self.grants
        )


def _covers(glob: str, target: str) -> bool:
    if glob in ("*", "*/*"):
        return True
    group, _, job = glob.partition("/")
    of, _, name = target.partition("/")
    return fnmatchcase(of, group) and (job == "*" if name == "*" else fnmatchcase(name, job))


class Access:
    """`who` says whose request it is; None where nobody knows."""

    def __init__(self, web: Web, tokens: Tokens) -> None:
        self._web = web
        self._tokens = tokens
        self._key = os.urandom(32)
        self._ended: dict[str, float] = {}  # sessions that were signed out, until they would be over

    def who(self, request: HTTPConnection) -> Person | None:
        address = request.client.host if request.client is not None and request.client.host else "unix"
        if self._web.auth == "proxy":
            return self._of_proxy(request, address)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and given:
            token = self._tokens.find(given.strip())
            return None if token is None else self._of_token(token, f"API, {address}", bearer=True)
        token = self._of_session(_cookie(request))
        return None if token is None else self._of_token(token, f"page, {address}")

    def sign_in(self, token: str) -> str | None:
        """The session's cookie value for a token; None where it is nobody's."""
        found = self._tokens.find(token)
        if found is None:
            return None
        until = int(time.time()) + SESSION_S
        said = base64.urlsafe_b64encode(f"{found.name}\0{found.hash}\0{until}\0{os.urandom(6).hex()}".encode()).decode()
        return f"{said}.{self._mac(said)}"

    def sign_out(self, request: HTTPConnection) -> None:
        cookie = _cookie(request)
        if self._of_session(cookie) is not None:
            now = time.time()
            if len(self._ended) >= _MOST_ENDED:
                self._ended = {one: until for one, until in self._ended.items() if until > now}
            self._ended[cookie] = now + SESSION_S

    def _of_session(self, cookie: str) -> Token | None:
        said, _, mac = cookie.partition(".")
        if not mac or not hmac.compare_digest(mac.encode(), self._mac(said).encode()) or cookie in self._ended:
            return None
        # Signed by us: it is what `sign_in` has written. The hash stays within: it is looked up, and is no secret's.
        name, hashed, until, _ = base64.urlsafe_b64decode(said).decode().split("\0")
        return self._tokens.still(name, hashed) if time.time() < int(until) else None

    def _mac(self, said: str) -> str:
        return hmac.new(self._key, said.encode("utf-8", "replace"), hashlib.sha256).hexdigest()

    def _of_token(self, token: Token, way: str, *, bearer: bool = False) -> Person:
        grants = [(token.role, ("*",)), *_allowed(self._web.allow, {token.name})]
        return Person(token.name, grants, way, bearer=bearer)

    def _of_proxy(self, request: HTTPConnection, address: str) -> Person | None:
        proxy = self._web.proxy
        if address not in proxy.from_:
            return None
        # A header that is there twice may be the client's beside the proxy's: whose is whose nobody can tell.
        if len(request.headers.getlist(proxy.user)) != 1 or len(request.headers.getlist(proxy.groups)) > 1:
            return None
        name = request.headers[proxy.user].strip()
        if not name or len(name) > 128 or not name.isprintable():
            return None
        groups = {one.strip() for one in request.headers.get(proxy.groups, "").split(",") if one.strip()}
        names = {name} | {f"group:{one}" for one in groups}
        return Person(name, [("read", ("*",)), *_allowed(self._web.allow, names)], f"proxy, {address}")


def _allowed(allows: Sequence[Allow], names: set[str]) -> list[tuple[Role, Sequence[str]]]:
    return [(one.role, one.jobs) for one in allows if names & set(one.who)]


def _cookie(request: HTTPConnection) -> str:
    try:
        jar: SimpleCookie = SimpleCookie(request.headers.get("cookie", "")[:8192])
    except CookieError:
        return ""
    found = jar.get(COOKIE)
    return found.value if found is not None else ""
