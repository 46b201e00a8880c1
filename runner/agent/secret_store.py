"""The secrets of jobs, fetched right before an attempt and kept for minutes, in memory and nowhere else.

Imported with the first run that has any. Those who want the same one at the same time share the call, and parameters go
ten at a time. A store that is away is asked again by those who need it (engine/secrets.py); one that hangs holds up
nobody who asks the other: each has threads of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any, Final

from runner.aws import secrets as stores
from runner.errors import AwsUnavailable
from runner.protocol import secret_reference
from runner.supervisor.libc import keep_from_dumps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from runner.aws.session import Session
    from runner.protocol.secret_reference import Reference

KEPT_S: Final = 300.0
GATHER_S: Final = 0.005
"""Runs that start together ask together."""
_DENIED: Final = {"ssm": "ssm:GetParameters", "secretsmanager": "secretsmanager:GetSecretValue"}
# The answer is about what was asked for; all else may be another one in a while.
_FINAL: Final = frozenset(("denied", "missing", "refused"))

Place = tuple[str, str]
"""Store, and name there: one value may hold several secrets of a job."""


class NoSecret(Exception):
    """Why there is no value: the text names the reference and holds nothing of any value. `passing`: it is worth
    asking again."""

    def __init__(self, reference: str, why: str, *, passing: bool = False) -> None:
        super().__init__(f"secret {reference}: {why}")
        self.passing = passing


class SecretStore:
    """Called on the event loop. `clock` is `time.monotonic`."""

    def __init__(self, session: Session, clock: Callable[[], float] = time.monotonic) -> None:
        keep_from_dumps()
        self._session = session
        self._clock = clock
        self._kept: dict[Place, tuple[float, str]] = {}
        self._asked: dict[Place, asyncio.Task[str]] = {}
        self._gathered: dict[str, asyncio.Future[str]] = {}  # parameters that the next call asks for

    async def values(self, references: Iterable[str]) -> dict[str, str]:
        """The value of each reference. Raises NoSecret for the first one that has none, one that lasts before others
        that may pass."""
        wanted = [secret_reference.parse(text) for text in dict.fromkeys(references)]
        found = await asyncio.gather(*(self._value(one) for one in wanted), return_exceptions=True)
        faults = [one for one in found if isinstance(one, BaseException)]
        for fault in sorted(faults, key=lambda fault: isinstance(fault, NoSecret) and fault.passing):
            raise fault
        return {one.text: value for one, value in zip(wanted, found, strict=True) if isinstance(value, str)}

    async def _value(self, reference: Reference) -> str:
        place = (reference.store, reference.name)
        try:
            text = self._fresh(place)
            if text is None:
                task = self._asked.get(place) or self._ask(place)
                text = await asyncio.shield(task)
        except _Without as error:
            raise NoSecret(reference.text, str(error)) from None
        except AwsUnavailable as error:
            # Not its chain: what was answered may stand in the frames of its traceback.
            raise NoSecret(reference.text, _why(error, reference), passing=error.kind not in _FINAL) from None
        return _checked(reference, text)

    def _fresh(self, place: Place) -> str | None:
        kept = self._kept.get(place)
        return kept[1] if kept is not None and self._clock() - kept[0] < KEPT_S else None

    def _ask(self, place: Place) -> asyncio.Task[str]:
        task = self._asked[place] = asyncio.get_running_loop().create_task(self._fetch(place))
        task.add_done_callback(lambda done: (self._asked.pop(place, None), done.cancelled() or done.exception()))
        return task

    async def _fetch(self, place: Place) -> str:
        asked_at = self._clock()
        store, name = place
        text = await (self._parameter(name) if store == "ssm" else self._secret(name))
        self._kept[place] = entry = (asked_at, text)
        asyncio.get_running_loop().call_later(
            max(0.0, asked_at + KEPT_S - self._clock()), lambda: self._drop(place, entry)
        )
        return text

    def _drop(self, place: Place, entry: tuple[float, str]) -> None:
        if self._kept.get(place) is entry:
            del self._kept[place]

    async def _secret(self, name: str) -> str:
        text = await stores.secret(self._session, name)
        if text is None:
            raise _Without("it is binary, and a variable holds text; store it as text, such as base64")
        return text

    # -- parameters, in batches

    async def _parameter(self, name: str) -> str:
        loop = asyncio.get_running_loop()
        if not self._gathered:
            loop.call_later(GATHER_S, self._flush)
        future: asyncio.Future[str] = loop.create_future()
        self._gathered[name] = future
        return await future

    def _flush(self) -> None:
        gathered, self._gathered = list(self._gathered.items()), {}
        for start in range(0, len(gathered), stores.PARAMETERS_AT_ONCE):
            batch = dict(gathered[start : start + stores.PARAMETERS_AT_ONCE])
            task = asyncio.get_running_loop().create_task(self._parameters(batch))
            task.add_done_callback(_noticed)

    async def _parameters(self, batch: Mapping[str, asyncio.Future[str]]) -> None:
        try:
            found = await stores.parameters(self._session, list(batch))
        except AwsUnavailable as error:
            if len(batch) > 1 and error.kind in _FINAL:
                # AWS refuses all of them for one: each is asked for by itself, to tell whose fault it is.
                await asyncio.gather(*(self._parameters({name: future}) for name, future in batch.items()))
                return
            for future in batch.values():
                _settle(future, error)
            return
        for name, future in batch.items():
            missing = _Without("there is no such parameter; create it, or correct its name, the account and the region")
            _settle(future, found.get(name, missing))


class _Without(Exception):
    """There is no value, and why."""


def _settle(future: asyncio.Future[str], outcome: str | Exception) -> None:
    if future.done():
        return
    if isinstance(outcome, str):
        future.set_result(outcome)
    else:
        future.set_exception(outcome)


def _noticed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        asyncio.get_running_loop().call_exception_handler({"message": "secrets not fetched", "exception": error})


def _checked(reference: Reference, text: str) -> str:
    """Its value: all of the text, or what stands in its JSON under the key."""
    value = text if reference.key is None else _of_key(reference, reference.key, text)
    if "\0" in value:
        raise NoSecret(reference.text, "it holds a NUL byte, which no variable can hold; store it without")
    return value


def _of_key(reference: Reference, key: str, text: str) -> str:
    try:
        whole = json.loads(text)
    except (ValueError, RecursionError):
        whole = None
    if not isinstance(whole, dict):
        why = f'it is no JSON object, and so has no key "{key}"; store one, or leave the "#" out'
        raise NoSecret(reference.text, why)
    if key not in whole:
        raise NoSecret(reference.text, f'its JSON has no key "{key}"; add it there, or correct the reference')
    value: Any = whole[key]
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, dict | list):
        raise NoSecret(reference.text, f'what its JSON has as "{key}" is no text; make it one')
    return json.dumps(value)  # numbers and truth values, as they are written


def _why(error: AwsUnavailable, reference: Reference) -> str:
    if error.kind == "denied":
        action = "kms:Decrypt" if "kms" in error.detail.lower() else _DENIED[reference.store]
        return f"no permission ({action}): {error.detail}"
    if error.kind == "throttled":
        return f"throttled: {error.detail}"
    if error.kind == "missing":
        return f"there is no such secret: {error.detail}"
    return f"{error.code}: {error.detail}"
