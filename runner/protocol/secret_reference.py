"""Where a secret is: `ssm:NAME` or `secretsmanager:NAME#KEY`. The reference is no secret, and may be shown.

What names may hold is in the API references of GetParameters (a name or an ARN, behind a colon a version or a label)
and of GetSecretValue (a name or an ARN; none has a `#`, which so parts it from the key of a secret that is JSON).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable

Store = Literal["ssm", "secretsmanager"]

MOST: Final = 50
"""Of one job."""
_LONGEST: Final = 2048
_ARN: Final = r"arn:aws[a-z-]*:{}:[a-z0-9-]+:\d{{12}}:"
_NAMES: Final[dict[str, re.Pattern[str]]] = {
    "ssm": re.compile(rf"(?:{_ARN.format('ssm')}parameter/?)?[A-Za-z0-9_./-]+(?::[A-Za-z0-9_.-]+)?"),
    "secretsmanager": re.compile(rf"(?:{_ARN.format('secretsmanager')}secret:)?[A-Za-z0-9/_+=.@!-]+"),
}
_EXAMPLES: Final = '"ssm:/prod/db" or "secretsmanager:prod/api#key"'


@dataclass(frozen=True, slots=True)
class Reference:
    """`key` None: the whole secret."""

    text: str
    store: Store
    name: str
    key: str | None = None


def parse(text: str) -> Reference:
    """Raises ValueError, which says what is wrong."""
    store, _, rest = text.partition(":")
    name, hash_, key = rest.partition("#") if store == "secretsmanager" else (rest, "", "")
    if len(text) > _LONGEST:
        raise ValueError(f"has {len(text)} characters; a reference has at most {_LONGEST}")
    if store not in _NAMES:
        raise ValueError(f"names no store of secrets; give a reference such as {_EXAMPLES}")
    if not _NAMES[store].fullmatch(name):
        raise ValueError(f"is no name that {store} has; give a reference such as {_EXAMPLES}")
    if hash_ and (not key or not key.isprintable()):
        raise ValueError('names no key behind the "#"; name one of the secret\'s JSON, or leave the "#" out')
    return Reference(text, "ssm" if store == "ssm" else "secretsmanager", name, key or None)


def allowed(reference: str, globs: Iterable[str]) -> bool:
    """Whether `[run] allowed_secrets` has it; `*` is anything, also of several levels."""
    return any(fnmatchcase(reference, glob) for glob in globs)
