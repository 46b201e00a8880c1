"""What systemd gives to the packaged agent and a shell has not: the variables of the file beside the configuration.

With them a command reaches the same queue, region and table as the agent, as `check` does. What the shell has set
itself wins; credentials are taken as a whole or not at all, so that somebody who has some of their own acts with those.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from runner.errors import AwsUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping
    from pathlib import Path

_CREDENTIALS: Final = frozenset(
    (
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SECURITY_TOKEN"),
        *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"),
        *("AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME", "AWS_WEB_IDENTITY_TOKEN_FILE"),
        *("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        *("AWS_CONTAINER_AUTHORIZATION_TOKEN", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"),
    )
)
"""Where AWS's client looks for credentials; a half of these from here and a half from there is nobody's."""


_unread: list[str] = []


def take(config: Path | None, environ: MutableMapping[str, str] = os.environ) -> None:
    """Add what the units have and this shell has not. A file that cannot be read adds nothing: see `hint`."""
    found, why = _read(config)
    _unread[:] = [why] if why else []
    own = bool(_CREDENTIALS & environ.keys())
    for name, value in found.items():
        if not (own and name in _CREDENTIALS):
            environ.setdefault(name, value)


def hint(error: Exception) -> str:
    """What to add to an error that may come from a file that `take` could not read; else nothing."""
    cause = error if isinstance(error, AwsUnavailable) else error.__cause__
    of_aws = isinstance(cause, AwsUnavailable) and cause.kind in ("credentials", "settings", "unreachable", "denied")
    if not _unread or not (of_aws or isinstance(error, ConfigError)):
        return ""
    return f"; the agent has variables that this shell has not: {_unread[0]}"


def _read(config: Path | None) -> tuple[Mapping[str, str], str]:
    """The file's variables, or why there are none and what to do; neither where there is no such file."""
    from runner.check import unit  # noqa: PLC0415 - `--help` needs none of it
    from runner.config.place import DEFAULT_PATH  # noqa: PLC0415

    path = unit.environment_file(config or DEFAULT_PATH)
    try:
        return unit.environment(path), ""
    except FileNotFoundError:
        return {}, ""
    except PermissionError:
        return {}, f"only root may read {path}; type it behind sudo, or set what it sets"
    except (OSError, ValueError) as error:
        return {}, f"cannot read {path}: {getattr(error, 'strerror', None) or error}; correct it"
