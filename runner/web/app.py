"""The application: routes, and what surrounds them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import structlog
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from runner.errors import AwsUnavailable, CronRunnerError
from runner.web.access import COOKIE, SESSION_S, Access
from runner.web.answers import Answers, is_api, see_other
from runner.web.api import Api
from runner.web.asked import body_of
from runner.web.changes import Changes
from runner.web.guards import Guards
from runner.web.live import Live
from runner.web.openapi import OPERATIONS
from runner.web.pages import Pages
from runner.web.parts import FOLDER
from runner.web.stream import Streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp

    from runner.config.web import Web
    from runner.web.sources.source import Source
    from runner.web.tokens import Tokens

    Handler = Callable[[Request], Awaitable[Response]]

log: structlog.stdlib.BoundLogger = structlog.get_logger()

_OF_RUNS = ("cancel", "rerun")
_OF_JOBS = ("run", "enable", "disable", "maintenance")
_OF_GROUPS = ("pause", "resume")
_OF_HOST = ("pause", "resume", "drain")


class Application:
    """What answers; `app` is for the server."""

    def __init__(self, source: Source, web: Web, tokens: Tokens, names: frozenset[str]) -> None:
        self._source = source
        self._access = Access(web, tokens)
        self._answers = Answers(source, auth=web.auth)
        changes, self.streams = Changes(source), Streams()
        self._pages = Pages(source, self._answers, changes)
        self._api = Api(source, self._answers, changes, self.streams)
        self._live = Live(source, self._answers, self.streams)
        routes = [*self._page_routes(), *self._api_routes()]
        handlers: Any = {404: self._lost, 405: self._wrong_method, Exception: self._fault}
        inner = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._warm)
        self.routes = routes
        self.app: ASGIApp = Guards(inner, access=self._access, names=names, refuse=self._answers.refuse)

    @contextlib.asynccontextmanager
    async def _warm(self, _: Starlette) -> AsyncIterator[None]:
        """What was is read before somebody waits for it."""

        async def look() -> None:
            with contextlib.suppress(CronRunnerError, AwsUnavailable):
                await self._source.history()

        task = asyncio.create_task(look(), name="warm")
        yield
        task.cancel()

    def _page_routes(self) -> list[Any]:
        pages, live = self._pages, self._live
        shown = {
            "/jobs": pages.jobs,
            "/jobs/{group}/{job}": pages.job,
            "/runs": pages.runs,
            "/runs/{run_id}": pages.run,
            "/timeline": pages.timeline,
            "/hosts": pages.hosts,
            "/queues": pages.queues,
            "/audit": pages.audit,
            "/api": pages.api,
            "/live": live.changes,
            "/runs/{run_id}/follow": live.follow,
        }
        changed = [
            *((f"/runs/{{run_id}}/{op}", op, pages.change_run) for op in _OF_RUNS),
            *((f"/jobs/{{group}}/{{job}}/{op}", op, pages.change_job) for op in _OF_JOBS),
            *((f"/groups/{{group}}/{op}", op, pages.change_group) for op in _OF_GROUPS),
            *((f"/host/{op}", op, pages.change_host) for op in _OF_HOST),
        ]
        return [
            Route("/healthz", self._healthz),
            Route("/", self._at_front(pages.overview), methods=["GET", "POST"]),
            Route("/signout", self._told(self._sign_out), methods=["POST"]),
            *(Route(path, self._told(handler), methods=["GET"]) for path, handler in shown.items()),
            *(Route(path, self._told(_with_op(handler, op)), methods=["POST"]) for path, op, handler in changed),
            *_static(),
        ]

    def _api_routes(self) -> list[Any]:
        api = self._api
        routes = []
        for one in OPERATIONS:
            if one.method == "GET":
                handler: Handler = getattr(api, one.name)
            else:
                kind = {"runs": api.change_run, "jobs": api.change_job, "groups": api.change_group}
                of, op = one.path.split("/")[3], one.path.rpartition("/")[2]
                handler = _with_op(kind.get(of, api.change_host), op)
            routes.append(Route(one.path, self._told(handler), methods=[one.method], name=one.name))
        return routes

    def _told(self, handler: Handler) -> Handler:
        """With our errors as what people and programs are told."""

        async def answered(request: Request) -> Response:
            try:
                return await handler(request)
            except (CronRunnerError, AwsUnavailable) as error:
                return self._answers.failed(request, error)

        return answered

    # -- the front door

    def _at_front(self, overview: Handler) -> Handler:
        shown = self._told(overview)

        async def front(request: Request) -> Response:
            if request.method == "POST":
                try:
                    token = (await body_of(request)).get("token")
                except CronRunnerError as error:
                    return self._answers.failed(request, error)
                return self._signed_in(request, token if isinstance(token, str) else "")
            if "token" in request.query_params:
                return self._signed_in(request, request.query_params["token"])
            if request.scope.get("person") is None:
                return self._answers.sign_in(request)
            return await shown(request)

        return front

    def _signed_in(self, request: Request, token: str) -> Response:
        """The token leaves the address by a redirect, and stays in the cookie alone, as a session."""
        session = self._access.sign_in(token)
        if session is None:
            request.scope["person"] = None
            return self._answers.sign_in(request, wrong=True)
        answer = see_other("/")
        secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto") == "https"
        answer.set_cookie(COOKIE, session, max_age=SESSION_S, httponly=True, samesite="strict", secure=secure)
        return answer

    async def _sign_out(self, request: Request) -> Response:
        self._access.sign_out(request)
        answer = see_other("/")
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    async def _healthz(self, _: Request) -> Response:
        """Whether this process answers: it says nothing of the host, since it needs no token."""
        return JSONResponse({"ok": True})

    # -- what no handler answers

    async def _lost(self, request: Request, _: Exception) -> Response:
        return self._missing(request, 404, f"there is nothing at {request.url.path}")

    async def _wrong_method(self, request: Request, error: Exception) -> Response:
        answer = self._missing(request, 405, f"{request.url.path} does not take {request.method}")
        answer.headers.update(getattr(error, "headers", None) or {})  # Allow
        return answer

    async def _fault(self, request: Request, error: Exception) -> Response:
        log.error("page_failed", path=request.url.path, error=f"{type(error).__name__}: {error}", exc_info=error)
        return self._missing(request, 500, "a fault of cron-runner's own; its log has it")

    def _missing(self, request: Request, status: int, text: str) -> Response:
        if is_api(request.url.path):
            return self._answers.problem(status, text, path=request.url.path)
        return self._answers.told(request, status, [text])


def _with_op(handler: Handler, op: str) -> Handler:
    async def changed(request: Request) -> Response:
        request.path_params["op"] = op
        return await handler(request)

    return changed


def _static() -> list[Any]:
    files = StaticFiles(directory=FOLDER / "static")
    return [Mount("/static", files)]


def quiet_logs() -> None:
    """What uvicorn says of each request goes nowhere: it holds addresses and queries."""
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.ERROR)
