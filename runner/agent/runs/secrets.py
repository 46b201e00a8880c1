"""Which values are secrets, and texts without them. Output has its own way (output/masking.py): it comes in pieces."""

from __future__ import annotations

import fnmatch
import shlex
from functools import lru_cache
from typing import TYPE_CHECKING

from runner.log import SHORTEST_SECRET

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MASK = "***"


def secrets_in(env: Mapping[str, str], patterns: Sequence[str]) -> tuple[str, ...]:
    """The values to be masked: those of variables whose names match one of the globs, longest first."""
    found = {value for name, value in env.items() if len(value) >= SHORTEST_SECRET and matches(name, patterns)}
    return tuple(sorted(found, key=len, reverse=True))


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether the values of this variable are to be masked; case does not matter."""
    return _matches(name, tuple(patterns))


@lru_cache(maxsize=1024)
def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name.upper(), pattern.upper()) for pattern in patterns)


def is_short(value: str) -> bool:
    """Whether a value is left as it is although its name says that it is a secret. An empty one is none."""
    return 0 < len(value.strip()) < SHORTEST_SECRET


def masked(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def shown(command: str | Sequence[str], secrets: Iterable[str]) -> str:
    """A command as people read it, without secrets."""
    return masked(command if isinstance(command, str) else shlex.join(command), secrets)
