"""Answers: pages, problems (RFC 9457), and which of them an error becomes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from runner.errors import AwsUnavailable, CronRunnerError, NotThere, Refused
from runner.web.changes import Forbidden, KeyInUse
from runner.web.parts import environment
from runner.web.sources.source import NotPossible, SourceAway

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

    from runner.web.access import Person
    from runner.web.sources.source import Source

AGAIN_S: Final = 5
_TITLES: Final = {
    400: "The request cannot be read",
    401: "A token is needed",
    403: "Not allowed",
    404: "Not found",
    405: "Not that method",
    409: "Not possible now",
    413: "Too much",
    421: "Not the name of this page",
    422: "The request cannot be carried out",
    503: "The source does not answer",
    500: "A fault of cron-runner's own",
}
_GLYPHS: Final = {401: "rejected", 403: "rejected", 404: "lost", 421: "rejected", 503: "lost"}
_COMMANDS: Final = "systemctl status cron-runner\ncron-runner check"


class Misread(CronRunnerError):
    """The request says what cannot be understood."""


_STATUS: Final[tuple[tuple[type[CronRunnerError], int], ...]] = (
    (Forbidden, 403),
    (KeyInUse, 422),
    (NotThere, 404),
    (Misread, 400),
    (Refused, 409),
    (SourceAway, 503),
    (AwsUnavailable, 503),
)


def status_of(error: CronRunnerError) -> int:
    if isinstance(error, NotPossible):
        return {"note_missing": 422, "invalid": 422, "not_allowed": 403}.get(error.code, 409)
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


class Answers:
    """Makes them from the templates."""

    def __init__(self, source: Source, *, auth: str) -> None:
        self._source = source
        self._auth = auth
        self._templates = environment()

    def page(self, request: Request | None, name: str, values: dict[str, Any], status: int = 200) -> HTMLResponse:
        """A page; what the layout needs is filled in."""
        person: Person | None = request.scope.get("person") if request is not None else None
        given = {
            "person": person,
            "now": time.time(),
            "nav": "",
            "wrong": 0,
            "title": "",
            "source_title": self._source.kind,
            "kind": self._source.kind,
            "can_sign_out": person is not None and person.way.startswith("page"),
            "done": "",
            **values,
        }
        return HTMLResponse(self._templates.get_template(name).render(given), status)

    def problem(self, status: int, detail: str, *, code: str = "", path: str = "") -> JSONResponse:
        """RFC 9457."""
        body = {"type": "about:blank", "title": _TITLES.get(status, "It failed"), "status": status, "detail": detail}
        if code:
            body["code"] = code
        if path:
            body["instance"] = path
        headers = {"Retry-After": str(AGAIN_S)} if status == 503 else {}
        if status == 401:
            headers["WWW-Authenticate"] = 'Bearer realm="cron-runner"'
        return JSONResponse(body, status, headers, media_type="application/problem+json")

    async def refuse(self, scope: Scope, status: int, why: str) -> ASGIApp:
        """What the guards answer."""
        request = Request(scope)
        if is_api(scope["path"]):
            return self.problem(status, why or _SAID.get(status, ""), path=scope["path"])
        if status == 401:
            return self.sign_in(request)
        scope["person"] = None
        return self._error_page(request, status, [why or _SAID.get(status, ""), "Nothing was changed."])

    def sign_in(self, request: Request, *, wrong: bool = False) -> Response:
        values = {"title": "Sign in", "wrong_token": wrong, "proxy": self._auth == "proxy"}
        page = self.page(request, "signin.html", values, 401)
        page.headers["WWW-Authenticate"] = 'Bearer realm="cron-runner"'
        return page

    def failed(self, request: Request, error: CronRunnerError) -> Response:
        """What somebody is told of an error."""
        status = status_of(error)
        if is_api(request.url.path):
            code = error.code if isinstance(error, NotPossible) else ""
            return self.problem(status, str(error), code=code, path=request.url.path)
        texts = [str(error)]
        if status == 403:
            person: Person = request.scope["person"]
            texts = [f"You are {person.name} with role {person.role}: {error}.", "Nothing was changed."]
            texts.append("The try is in the audit trail.")
        elif request.method == "POST":
            texts.append("Nothing was changed.")
        page = self._error_page(request, status, texts, commands=_COMMANDS if status == 503 else "")
        if status == 503:
            page.headers["Retry-After"] = str(AGAIN_S)
        return page

    def told(self, request: Request, status: int, texts: list[str]) -> HTMLResponse:
        """A page that says what is the matter."""
        return self._error_page(request, status, texts)

    def _error_page(self, request: Request, status: int, texts: list[str], commands: str = "") -> HTMLResponse:
        heading = _TITLES.get(status, "It failed")
        values = {
            "title": heading,
            "heading": heading,
            "status": status,
            "texts": [text for text in texts if text],
            "glyph": _GLYPHS.get(status, "rejected"),
            "commands": commands,
        }
        return self.page(request, "error.html", values, status)


_SAID: Final = {
    401: "send a token as Authorization: Bearer TOKEN",
    421: "this page is not reached by that name: add it to [web] names, or use the one that it listens on",
}


def is_api(path: str) -> bool:
    return path.startswith("/api/")


def see_other(to: str) -> RedirectResponse:
    return RedirectResponse(to, 303)


def named(request: Request, name: str) -> str:
    """A part of the path, as it was meant."""
    return unquote(str(request.path_params[name]))
