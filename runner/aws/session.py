"""One botocore session, and a client for each purpose, made when it is first needed and never before.

boto3 itself is not imported: its resources, collections and S3 transfers are 3 MB that nothing here uses;
what it calls a client is made by botocore. Region, credentials and endpoint come from the ordinary AWS
settings.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from runner import __version__
from runner.aws.calls import Caller, CallStats, Purpose, overdue_after
from runner.aws.direct import HOT, Direct, goes_direct
from runner.aws.endpoints import place_of
from runner.aws.failures import clock_ahead_of, unavailable
from runner.aws.metadata.region import region_of_instance
from runner.aws.put_body import EVENT as PUT_LOG_EVENTS
from runner.aws.put_body import put_prepared_body
from runner.aws.regions import endpoint_of_queue_url, region_of_queue_url
from runner.aws.settings import (
    Credentials,
    configured_endpoint,
    raise_metadata_limits,
    read_credentials,
    refuse_foreign_answer,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.session import Session as BotocoreSession

    from runner.errors import AwsUnavailable

T = TypeVar("T")

THREADS: Mapping[Purpose, int] = {
    "receive": 1,
    "results": 2,
    "lease": 2,
    "logs": 4,
    # The fleet's table, the scheduler's sends of a whole minute, EventBridge Scheduler's schedules: no agent without
    # a fleet uses them, and threads are started when there is work.
    "table": 16,
    "enqueue": 16,
    "schedules": 4,
    "topics": 2,
    "parameters": 1,
    "scaling": 1,
    "identity": 1,
    # The secrets of jobs, each store by itself: one that hangs holds up nobody who asks the other.
    "ssm": 4,
    "secretsmanager": 4,
}
_SERVICES: Mapping[Purpose, str] = {
    "logs": "logs",
    "table": "dynamodb",
    "schedules": "scheduler",
    "topics": "sns",
    "parameters": "ssm",
    "scaling": "autoscaling",
    "identity": "sts",
    "ssm": "ssm",
    "secretsmanager": "secretsmanager",
}
_ANSWER_IN_XML = frozenset(("sts", "sns", "autoscaling"))
LONGEST_POLL = 20.0
SECRET_WITHIN_S = 5.0

_LOOK_AGAIN_S = 5.0  # after credentials or a region were not found: each look may take seconds
_RENEW_AT_MOST_EVERY_S = 30.0
_CLOCK_CHECK_EVERY_S = 30.0
_REFUSED_CREDENTIALS = frozenset(("ExpiredToken", "InvalidClientTokenId", "SignatureDoesNotMatch"))


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. ``answer`` is waited for beyond the wait of a poll; ``slack`` is what a call may take besides
    connecting and the answer (credentials, name lookup, its turn in the threads' lock) before it is given
    up."""

    connect: float = 5.0
    answer: float = 15.0
    slack: float = 30.0

    def longest(self, poll_wait: float = 0.0) -> float:
        """Seconds after which a call has ended for certain, as a success or as `AwsUnavailable`."""
        return self.connect + self.answer + self.slack + poll_wait


class Session:
    """The way to AWS, shared by every `runner.aws.sqs.Queue` and `runner.aws.logs.Logs` of the process.

    Args:
        queue_url: the job queue's URL where it is configured; its region is taken where none is set.
        timeouts: for tests; the defaults are those of the product.
        direct: make the calls of `runner.aws.direct.HOT` without botocore's client, where no proxy is in the way.

    ``stats`` counts the calls; ``notes`` are lines worth one log record each, such as an assumed region.
    """

    def __init__(self, *, queue_url: str = "", timeouts: Timeouts | None = None, direct: bool = True) -> None:
        self.stats = CallStats()
        self.notes: list[str] = []
        self.timeouts = timeouts or Timeouts()
        self._queue_url = queue_url
        self._callers = {
            purpose: Caller(purpose, threads=threads, stats=self.stats) for purpose, threads in THREADS.items()
        }
        # Guards everything below; the threads of all purposes make their clients here.
        self._lock = threading.Lock()
        self._session: BotocoreSession | None = None
        self._clients: dict[tuple[Purpose, str], Any] = {}
        self._direct = direct
        self._hot: dict[tuple[Purpose, str], Any] = {}
        self._region: str | None = None
        self._fruitless: dict[str, tuple[float, Exception]] = {}
        self._renewed_at = float("-inf")
        self._clock_checked_at = float("-inf")

    async def call(
        self,
        purpose: Purpose,
        action: str,
        do: Callable[[Any], Mapping[str, Any]],
        read: Callable[[Mapping[str, Any]], T],
        *,
        queue_url: str = "",
        poll_wait: float = 0.0,
    ) -> T:
        """Run ``read(do(client))``, in a thread of ``purpose`` but for what `Direct` does in the event loop; any
        failure of it is `AwsUnavailable`.

        ``queue_url`` chooses region and endpoint for calls about one queue. The client's service follows from
        the purpose. Ends within ``timeouts.longest(poll_wait)``.
        """
        within = self.timeouts.longest(poll_wait)
        caller = self._callers[purpose]
        if self._direct and action in HOT:
            return await caller.counted(action, self._ask(caller, action, do, read, (purpose, queue_url), within))
        return await caller(action, lambda: self._do(purpose, queue_url, action, do, read), within=within)

    def close(self) -> None:
        """Let idle threads end. Calls under way go on and are not waited for: the threads are daemons."""
        for caller in self._callers.values():
            caller.close()
        with self._lock:
            self._drop_clients()

    @property
    def region(self) -> str:
        """The region that calls go to, as far as it is known yet; for texts, never to decide by."""
        clients = [*self._clients.values(), *self._hot.values()]
        return str(clients[0].meta.region_name) if clients else os.environ.get("AWS_REGION", "us-east-1")

    async def credentials(self) -> Credentials:
        """Where the credentials come from; they are fetched for it where that has not been done yet."""

        def look() -> Credentials:
            try:
                with self._lock:
                    session = self._botocore()
                    self._need_credentials(session)
                    return read_credentials(session.get_credentials())
            except Exception as error:
                raise unavailable("GetCredentials", error) from error

        return await self._callers["identity"]("GetCredentials", look, within=self.timeouts.longest())

    def logs_client(self) -> Any:
        """The CloudWatch Logs client itself, for watchtower, which makes its calls on a thread of its own.

        Blocks while the client is made, and raises `AwsUnavailable` where it cannot be.
        """
        try:
            return self._clients.get(("logs", "")) or self._make_client("logs", "")
        except Exception as error:
            raise unavailable("PutLogEvents", error) from error

    # -- in the event loop ----------------------------------------------------------------------------------

    async def _ask(
        self,
        caller: Caller,
        action: str,
        do: Callable[[Any], Any],
        read: Callable[[Mapping[str, Any]], T],
        place: tuple[Purpose, str],
        within: float,
    ) -> T:
        """One of the hot calls. What may block (credentials, a name lookup, TLS) is done aside, in a thread."""
        try:
            async with asyncio.timeout(within):
                hot = self._hot.get(place) or await self._aside(caller, lambda: self._make_direct(*place))
                if not isinstance(hot, Direct):
                    return await caller.aside(action, lambda: self._do(*place, action, do, read), within=within)
                response = await do(hot)
            answer = read(response)
        except TimeoutError as error:
            raise overdue_after(action, within) from error
        except Exception as error:
            failure = self._failure(action, error)
            if failure.code in _REFUSED_CREDENTIALS:
                await self._aside(caller, self._renew_credentials)
            raise failure from error
        self._check_clock(response)
        return answer

    def _aside(self, caller: Caller, function: Callable[[], T]) -> asyncio.Future[T]:
        return caller.aside("Connect", function, within=self.timeouts.longest())

    # -- in the threads -------------------------------------------------------------------------------------

    def _do(
        self,
        purpose: Purpose,
        queue_url: str,
        action: str,
        do: Callable[[Any], Mapping[str, Any]],
        read: Callable[[Mapping[str, Any]], T],
    ) -> T:
        try:
            client = self._clients.get((purpose, queue_url)) or self._make_client(purpose, queue_url)
            response = do(client)
            answer = read(response)
        except Exception as error:
            failure = self._failure(action, error)
            if failure.code in _REFUSED_CREDENTIALS:
                self._renew_credentials()
            raise failure from error
        self._check_clock(response)
        return answer

    def _failure(self, action: str, error: Exception) -> AwsUnavailable:
        self._check_clock(getattr(error, "response", None), always=True)
        return unavailable(action, error, clock_ahead=self.stats.clock_ahead)

    def _make_direct(self, purpose: Purpose, queue_url: str) -> Any:
        """What makes the hot calls of a purpose: `Direct`, or the client itself where a proxy is in the way."""
        with self._lock:
            if (made := self._hot.get((purpose, queue_url))) is not None:
                return made
            session, service, endpoint = self._way_to(purpose, queue_url)
            region = self._region_for(session, service, queue_url, endpoint)
            place = place_of(session, service, region, endpoint)
            if place is not None and goes_direct(place.endpoint_url):
                made = self._hot[purpose, queue_url] = Direct(
                    place,
                    session,
                    agent=_user_agent(),
                    connect=self.timeouts.connect,
                    read=self._read_timeout(purpose),
                    size=THREADS[purpose],
                    aside=partial(self._aside, self._callers[purpose]),
                )
                return made
        return self._clients.get((purpose, queue_url)) or self._make_client(purpose, queue_url)

    def _way_to(self, purpose: Purpose, queue_url: str) -> tuple[BotocoreSession, str, str | None]:
        """The session with its credentials, the service, and the endpoint that a queue brings along. Holds the lock."""
        service, session = _SERVICES.get(purpose, "sqs"), self._botocore()
        self._need_credentials(session)
        return session, service, None if configured_endpoint(session, service) else endpoint_of_queue_url(queue_url)

    def _read_timeout(self, purpose: Purpose) -> float:
        if purpose in ("ssm", "secretsmanager"):  # a job waits for it, and it is asked again
            return min(self.timeouts.answer, SECRET_WITHIN_S)
        return self.timeouts.answer + (LONGEST_POLL if purpose == "receive" else 0.0)

    def _make_client(self, purpose: Purpose, queue_url: str) -> Any:
        from botocore.config import Config  # noqa: PLC0415 - see the module's docstring

        with self._lock:
            if (client := self._clients.get((purpose, queue_url))) is not None:
                return client
            session, service, endpoint = self._way_to(purpose, queue_url)
            config = Config(
                connect_timeout=self.timeouts.connect,
                read_timeout=self._read_timeout(purpose),
                retries={"total_max_attempts": 1, "mode": "standard"},
                max_pool_connections=THREADS[purpose],
                # What is sent is built in this package and typed; validation would be most of a call's CPU
                # time.
                parameter_validation=False,
                # A poll is 20 seconds of silence, long enough for a NAT gateway in trouble to forget it.
                tcp_keepalive=True,
                endpoint_discovery_enabled=False,
                inject_host_prefix=False,
                disable_request_compression=True,
                # botocore puts its own together anew for every request, an eighth of a call's CPU time.
                user_agent=_user_agent(),
            )
            client = session.create_client(
                service,
                region_name=self._region_for(session, service, queue_url, endpoint),
                endpoint_url=endpoint,
                config=config,
            )
            if service not in _ANSWER_IN_XML:
                client.meta.events.register("before-parse", refuse_foreign_answer)
            if service == "logs":
                client.meta.events.register(PUT_LOG_EVENTS, put_prepared_body)
            self._clients[purpose, queue_url] = client
            return client

    def _botocore(self) -> BotocoreSession:
        """The session, made at the first call. Holds the lock."""
        if self._session is None:
            from runner.aws.lean import (  # noqa: PLC0415 - 70 ms and 8 MB, for those who call AWS
                LeanSession,
                bound_fetchers,
            )

            session = LeanSession()
            if region := os.environ.get("AWS_REGION"):
                # botocore itself reads AWS_DEFAULT_REGION alone, and needs a region to assume a role.
                session.set_config_variable("region", region)
            raise_metadata_limits(session)
            bound_fetchers(session)
            self._session = session
        return self._session

    def _need_credentials(self, session: BotocoreSession) -> None:
        """A client made without credentials would never find any; so none is made. Holds the lock."""
        from botocore.exceptions import NoCredentialsError  # noqa: PLC0415

        def look() -> object:
            if session.get_credentials() is None:
                raise NoCredentialsError
            return True

        self._look("credentials", look)

    def _region_for(self, session: BotocoreSession, service: str, queue_url: str, endpoint: str | None) -> str:
        """A client's region; the first of several sources that knows one. Holds the lock."""
        configured = os.environ.get("AWS_REGION") or session.get_config_variable("region")
        of_url = region_of_queue_url(queue_url)
        stand_in = endpoint or configured_endpoint(session, service)
        if of_url and configured and of_url != configured and not configured_endpoint(session, service):
            # AWS answers for a queue only in its own region: asked elsewhere it would refuse every call.
            self._note(f"queue {queue_url} is in {of_url}, not in the configured region {configured}")
            return of_url
        if region := configured or of_url or region_of_queue_url(self._queue_url):
            return str(region)
        if stand_in:
            self._note("no region is set for the custom AWS endpoint; us-east-1 is assumed")
            return "us-east-1"
        if self._region is None:
            self._region = self._look("region", region_of_instance)
            self._note(f"no region is set; the instance's own is used: {self._region}")
        return self._region

    def _look(self, what: str, look: Callable[[], Any]) -> Any:
        """``look()``, which may take long; after a failure the next few seconds' callers get the same
        failure."""
        since, error = self._fruitless.get(what, (float("-inf"), None))
        if error is not None and time.monotonic() - since < _LOOK_AGAIN_S:
            raise error
        try:
            found = look()
        except Exception as failure:
            self._fruitless[what] = (time.monotonic(), failure)
            raise
        self._fruitless.pop(what, None)
        return found

    def _renew_credentials(self) -> None:
        """AWS refused the credentials: read them anew, since a file or a role may hold better ones by now.

        botocore never reads a credentials file twice. Not done for every refusal: each takes a new session.
        """
        with self._lock:
            if self._session is None or time.monotonic() - self._renewed_at < _RENEW_AT_MOST_EVERY_S:
                return
            self._renewed_at = time.monotonic()
            loader = self._session.get_component("data_loader")
            self._session = None
            self._drop_clients()
            self._botocore().register_component("data_loader", loader)

    def _drop_clients(self) -> None:
        """Forget the clients and close their idle connections; those in use close when they are done with."""
        for client in (*self._clients.values(), *self._hot.values()):
            client.close()
        self._clients.clear()
        self._hot.clear()

    def _check_clock(self, response: object, *, always: bool = False) -> None:
        if not isinstance(response, dict):
            return
        if always or time.monotonic() - self._clock_checked_at > _CLOCK_CHECK_EVERY_S:
            self._clock_checked_at = time.monotonic()
            if (ahead := clock_ahead_of(response, time.time())) is not None:
                self.stats.clock_ahead = ahead

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)


def _user_agent() -> str:
    from botocore import __version__ as botocore_version  # noqa: PLC0415 - see the module's docstring

    return f"cron-runner/{__version__} botocore/{botocore_version}"
