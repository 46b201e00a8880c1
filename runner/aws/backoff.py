"""How long to wait after a failed AWS call, and the loop that waits.

botocore's own retries are off (`runner.aws.session`): its standard mode spends a quota that is shared by all
calls of a client and runs dry in an outage, just when waiting is all there is to do.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Protocol, Self

from runner.errors import AwsUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from tenacity import AsyncRetrying, RetryCallState

    class Waited(Protocol):
        """An asyncio.Event, or what is waited for like one."""

        def is_set(self) -> bool: ...

        async def wait(self) -> object: ...


FLOOR = 1.0
"""Seconds; no call is repeated sooner, so a full outage costs at most one request per second and client."""
CAP = 30.0
"""Seconds; no wait is longer, so the end of an outage is noticed within half a minute."""


def delay(failures: int, draw: float, *, cap: float = CAP) -> float:
    """Seconds to wait after the ``failures``-th failure in a row (from 1): jitter over a window that doubles.

    ``draw`` is a random number in [0, 1). The window is [1, 2], [1, 4], [1, 8], … up to [1, ``cap``]: full
    jitter spreads a fleet that lost AWS in the same second, the floor keeps a lucky draw from spinning.
    """
    ceiling = min(cap, FLOOR * 2.0 ** min(failures, 32))
    return FLOOR + draw * max(0.0, ceiling - FLOOR)


async def pause(seconds: float, stop: Waited | None = None) -> bool:
    """Wait; True where ``stop`` was set before or during the wait, which then ends at once."""
    if stop is None:
        await asyncio.sleep(seconds)
        return False
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return stop.is_set()
    return True


class _First:
    """The first attempt, which mostly is the only one."""

    def __init__(self, failed: Callable[[BaseException], bool]) -> None:
        self._failed = failed
        self.error: BaseException | None = None

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if error is None or not self._failed(error):
            return False
        self.error = error
        return True


class Attempts:
    """Iterates over the attempts of `retrying`. tenacity comes in at the first failure: before, it would cost more
    than all the rest of a call does."""

    def __init__(self, failed: Callable[[BaseException], bool], make: Callable[[], AsyncRetrying]) -> None:
        self._first = _First(failed)
        self._begun = False
        self._make = make
        self._retrying: AsyncRetrying | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AbstractContextManager[None]:
        if not self._begun:
            self._begun = True
            return self._first
        if self._first.error is None:
            raise StopAsyncIteration
        if self._retrying is None:
            self._retrying = aiter(self._make())
            with await anext(self._retrying):
                raise self._first.error
        return await anext(self._retrying)


def retrying(
    *,
    stop: asyncio.Event | None = None,
    cap: float = CAP,
    on_failure: Callable[[AwsUnavailable, float], None] | None = None,
    give_up: Callable[[AwsUnavailable], bool] | None = None,
    draw: Callable[[], float] = random.random,
) -> Attempts:
    """A loop that repeats a call for as long as it ends in `AwsUnavailable`::

        async for attempt in retrying(stop=stopping, on_failure=say):
            with attempt:
                received = await queue.receive(10, 20.0, 120.0)

    It ends with the last `AwsUnavailable` when ``stop`` is set (a wait under way is cut short; the call is
    not tried again) or when ``give_up`` says that waiting cannot help. Any other exception passes through
    at once. ``on_failure`` is told the error and the seconds until the next try, before the wait.
    """

    def failed(error: BaseException) -> bool:
        return isinstance(error, AwsUnavailable) and not (give_up is not None and give_up(error))

    return Attempts(failed, lambda: _tenacity(failed, stop, cap, on_failure, draw))


def _tenacity(
    failed: Callable[[BaseException], bool],
    stop: asyncio.Event | None,
    cap: float,
    on_failure: Callable[[AwsUnavailable, float], None] | None,
    draw: Callable[[], float],
) -> AsyncRetrying:
    # Imported here: most processes never need it.
    from tenacity import AsyncRetrying, retry_if_exception  # noqa: PLC0415

    last: list[AwsUnavailable] = []

    def stopped(_state: RetryCallState) -> bool:
        return stop is not None and stop.is_set()

    def wait(state: RetryCallState) -> float:
        return delay(state.attempt_number, draw(), cap=cap)

    def before_sleep(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, AwsUnavailable):
            last[:] = [error]
            if on_failure is not None:
                on_failure(error, state.next_action.sleep if state.next_action is not None else 0.0)

    async def sleep(seconds: float) -> None:
        # tenacity asks `stop` only after a failure; asked to stop while it waits, it would try once more.
        if await pause(float(seconds), stop) and last:
            raise last[0]

    return AsyncRetrying(
        sleep=sleep,
        stop=stopped,
        wait=wait,
        retry=retry_if_exception(failed),
        before_sleep=before_sleep,
        reraise=True,
    )
