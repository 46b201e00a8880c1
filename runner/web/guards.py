"""What every request meets before anything else: the Host header, where a change comes from, who it is, and the headers
that every answer has.

A host's jobs reach its loopback, and so does every site in a browser there: nothing is told without a token, no other
name than its own is answered (DNS rebinding), and no other site can make a browser change anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from runner.web.access import Access, Person

    Refuse = Callable[[Scope, int, str], Awaitable[ASGIApp]]

POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final = (
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=()"),
)
SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
OPEN_TO_ALL: Final = frozenset(
    {"/healthz", "/static/style.css", "/static/favicon.svg", "/static/favicon-bad.svg", "/static/page.js"}
)
MOST_BODY: Final = 64 << 10


class Guards:
    """ASGI middleware. `scope["person"]` is who asks; None on the pages that are open to all."""

    def __init__(self, app: ASGIApp, *, access: Access, names: frozenset[str], refuse: Refuse) -> None:
        self._app = app
        self._access = access
        self._names = names
        self._refuse = refuse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        answer = await self._judged(scope, request)
        await answer(scope, _bounded(receive), _with_headers(send, scope["path"]))

    async def _judged(self, scope: Scope, request: HTTPConnection) -> ASGIApp:
        hosts = request.headers.getlist("host")
        if len(hosts) != 1 or _name_of(hosts[0]) not in self._names:
            return await self._refuse(scope, 421, "")
        length = request.headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MOST_BODY:
            return await self._refuse(scope, 413, f"a request is at most {MOST_BODY} bytes")
        path = scope["path"]
        if path in OPEN_TO_ALL:
            scope["person"] = None
            return self._app
        person = scope["person"] = self._access.who(request)
        signing_in = path == "/" and (scope["method"] == "POST" or b"token=" in scope.get("query_string", b""))
        if scope["method"] not in SAFE and (why := _foreign(request, person, signing_in=signing_in)):
            return await self._refuse(scope, 403, why)
        if person is None and not signing_in:
            return await self._refuse(scope, 401, "")
        return self._app


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    host = host.strip().lower()
    if host.startswith("["):
        return host.partition("]")[0].removeprefix("[")
    return host.partition(":")[0].removesuffix(".")


def _foreign(request: HTTPConnection, person: Person | None, *, signing_in: bool) -> str:
    """Why a change does not come from the page itself; empty where it does, or has a token of its own."""
    if person is not None and person.bearer:
        return ""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return "" if site == "same-origin" else f"the request was made by another site (Sec-Fetch-Site: {site[:20]})"
    origin = request.headers.get("origin")
    if origin is None:
        # Who is not known, or only signs in, has nothing yet that a site could use in their name.
        known = person is not None and not signing_in
        return "the request does not say where it comes from: no Sec-Fetch-Site, no Origin" if known else ""
    try:
        same = urlsplit(origin).netloc.lower() == request.headers["host"].strip().lower()
    except ValueError:
        same = False
    return "" if same else "the request was made by another site (Origin)"


def _bounded(receive: Receive) -> Receive:
    taken = 0

    async def bounded() -> Message:
        nonlocal taken
        message = await receive()
        if message["type"] == "http.request":
            taken += len(message.get("body", b""))
            if taken > MOST_BODY:
                return {"type": "http.disconnect"}  # more than it said: whoever reads it is told of a client that left
        return message

    return bounded


def _with_headers(send: Send, path: str) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            more = [(name.encode(), value.encode()) for name, value in HEADERS if name.encode() not in given]
            if b"cache-control" not in given:
                keep = "max-age=300" if path.startswith("/static/") else "no-store"
                more.append((b"cache-control", keep.encode()))
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sent
