"""Secrets in targets: `${NAME}` is read from the environment, `${ssm:/NAME}` from AWS's parameter store."""

from __future__ import annotations

import os
import re
import time
from typing import TYPE_CHECKING, Final

from runner.aws.secrets import parameter
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.aws.session import Session

_REFERENCE: Final = re.compile(r"\$\{([^{}]+)\}")
_SSM: Final = "ssm:"
_KEPT_S: Final = 300.0


class NoSuchSecret(CronRunnerError):
    """What a target refers to is not there."""


class References:
    """Resolves references; what the parameter store said is kept for five minutes, so that a new key is soon used."""

    def __init__(self, session: Session, environ: Mapping[str, str] = os.environ) -> None:
        self._session = session
        self._environ = environ
        self._known: dict[str, tuple[float, str]] = {}

    async def resolve(self, text: str) -> str:
        """The text with its references filled in; raises NoSuchSecret and AwsUnavailable."""
        for reference in dict.fromkeys(_REFERENCE.findall(text)):
            text = text.replace(f"${{{reference}}}", await self._value(reference))
        return text

    async def _value(self, reference: str) -> str:
        if not reference.startswith(_SSM):
            if found := self._environ.get(reference):
                return found
            raise NoSuchSecret(f"cannot tell: there is no variable {reference} in the environment; set it")
        name = reference.removeprefix(_SSM)
        read_at, value = self._known.get(name, (float("-inf"), ""))
        if time.monotonic() - read_at > _KEPT_S:
            value = (await parameter(self._session, name)).strip()
            self._known[name] = (time.monotonic(), value)
        return value
