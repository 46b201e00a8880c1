"""Tells one target one fact: by SNS, or by HTTP to webhooks, pagers and pings. No log or error holds a secret."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import urlsplit

from runner import __version__
from runner.aws.topics import publish
from runner.control.notices import payloads
from runner.control.notices.references import References
from runner.errors import AwsUnavailable, CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.session import Session
    from runner.control.notices.facts import Fact
    from runner.control.notices.payloads import HttpRequest

TRIES_AT_ONCE: Final = 3
_CONNECT_S: Final = 3.0
_ANSWER_S: Final = 8.0
_PAGERDUTY: Final = "pagerduty:"
_PING: Final = "ping:"
_SHOWN: Final = 200
_MOST_READ: Final = 64 * 1024
# Besides the server's own faults: too early, too many, and a proxy's or a server's patience at its end.
_TRY_AGAIN: Final = frozenset({408, 425, 429})
# AWS's word for a topic that is gone or was never there, and for a message that it will never take.
_NEVER: Final = frozenset({"NotFound", "InvalidParameter", "ParameterNotFound"})


class NotTaken(CronRunnerError):
    """A target did not take it and may take it later."""


class NeverTaken(CronRunnerError):
    """A target refuses it for good: a key or a URL that is wrong, or no longer there."""


class Http(Protocol):
    """Makes one request; the status and the answer's beginning. Raises NotTaken where no answer comes."""

    async def __call__(self, request: HttpRequest) -> tuple[int, str]: ...


class Pool:
    """HTTP by urllib3, which botocore brings; a call in a thread. Follows no redirect: it would carry the secret on."""

    def __init__(self) -> None:
        import urllib3  # noqa: PLC0415 - only who tells something needs it

        self._pool = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=_ANSWER_S),
            headers={"User-Agent": f"cron-runner/{__version__}"},
            retries=False,
        )

    async def __call__(self, request: HttpRequest) -> tuple[int, str]:
        return await asyncio.to_thread(self._request, request)

    def close(self) -> None:
        self._pool.clear()

    def _request(self, request: HttpRequest) -> tuple[int, str]:
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        headers: dict[str, Any] = dict(self._pool.headers)
        if request.body:
            headers["Content-Type"] = request.content_type
        try:
            answer = self._pool.request(
                request.method,
                request.url,
                body=request.body or None,
                headers=headers,
                redirect=False,
                preload_content=False,
            )
            try:
                said = answer.read(_MOST_READ)
            finally:
                answer.close()  # the connection of one that was read to its end is in the pool by now
        except HTTPError as error:
            # Its text may hold the URL.
            raise NotTaken(f"no answer ({type(error).__name__})") from None
        return answer.status, said[:_SHOWN].decode(errors="replace").strip()


class Senders:
    """All kinds of targets; one for the life of a process."""

    def __init__(self, session: Session, *, http: Http | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._session = session
        self._http = http
        self._references = References(session) if environ is None else References(session, environ)

    def close(self) -> None:
        """Close idle connections."""
        if isinstance(self._http, Pool):
            self._http.close()

    async def send(self, fact: Fact, target: str) -> None:
        """Tell ``target``, a few times within seconds where it does not answer; raises NotTaken or NeverTaken.

        A target that has no use for the news is told nothing.
        """
        # Only who tells something waits for it.
        from tenacity import (  # noqa: PLC0415
            AsyncRetrying,
            retry_if_exception_type,
            stop_after_attempt,
            wait_random_exponential,
        )

        retrying = AsyncRetrying(
            stop=stop_after_attempt(TRIES_AT_ONCE),
            wait=wait_random_exponential(multiplier=0.5, max=4),
            retry=retry_if_exception_type(NotTaken),
            reraise=True,
        )
        try:
            async for attempt in retrying:
                with attempt:
                    await self._send(fact, target)
        except AwsUnavailable as error:
            kind = NeverTaken if error.code in _NEVER else NotTaken
            raise kind(f"{error.call} failed: {error.code}") from error

    async def _send(self, fact: Fact, target: str) -> None:
        if target.startswith("arn:"):
            message = payloads.sns(fact)
            await publish(
                self._session,
                target,
                subject=message.subject,
                text=message.text,
                attributes=message.attributes,
                key=message.key,
            )
            return
        request = _request(fact, await self._references.resolve(target))
        if request is None:
            return
        if self._http is None:
            self._http = Pool()
        status, said = await self._http(request)
        if 200 <= status < 300:
            return
        failed = NotTaken if status >= 500 or status in _TRY_AGAIN else NeverTaken
        raise failed(f"it answered {status}{f': {said}' if said else ''}")


def _request(fact: Fact, target: str) -> HttpRequest | None:
    if target.startswith(_PAGERDUTY):
        return payloads.pagerduty(fact, target.removeprefix(_PAGERDUTY))
    if target.startswith(_PING):
        return payloads.ping(fact, target.removeprefix(_PING))
    return payloads.webhook(fact, target)


def shown(target: str) -> str:
    """A target for logs, without what is secret about it: a topic's ARN, else its kind and its host."""
    if target.startswith("arn:"):
        return target
    if target.startswith(_PAGERDUTY):
        return "pagerduty"
    kind = "ping" if target.startswith(_PING) else "webhook"
    url = target.removeprefix(_PING)
    host = url if url.startswith("${") and url.endswith("}") else urlsplit(url).hostname
    return f"{kind} {host or '?'}"
