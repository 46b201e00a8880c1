"""The keys of a configuration, read from their files."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from runner.errors import ConfigError

if TYPE_CHECKING:
    from runner.config import Config
    from runner.config.access import SigningKey
    from runner.signing.trust import Trust, TrustedKey


def trust_of(config: Config) -> Trust | None:
    """What this host believes; None without `[signing]`, which loads nothing. Raises ConfigError with every fault."""
    signing = config.signing
    if not signing.keys and not signing.require:
        return None

    from runner.signing import when  # noqa: PLC0415 - for hosts with [signing]
    from runner.signing.trust import Trust  # noqa: PLC0415 - as above

    keys: list[TrustedKey] = []
    faults: list[str] = []
    for number, said in enumerate(signing.keys, 1):
        try:
            keys.append(_key(said))
        except _Unusable as error:
            faults.append(f"{config.source or 'environment'}: signing.keys: key {number}: {error}")
    if signing.fresh and not all(find_spec(name) for name in when.NEEDED):
        faults.append(
            f"{config.source or 'environment'}: signing.fresh: cannot read schedules: cronsim is not installed;"
            " `cron-runner check` says what to type"
        )
    if faults:
        raise ConfigError(dict.fromkeys(faults))
    return Trust(config.group, signing.require, signing.fresh, tuple(keys))


class _Unusable(Exception):
    """A key that cannot be used; the text says why."""


def _key(said: SigningKey) -> TrustedKey:
    from runner.signing.keypairs import LARGEST_FILE, BadKey, public_key  # noqa: PLC0415 - loads cryptography
    from runner.signing.trust import TrustedKey  # noqa: PLC0415 - for hosts with [signing]

    try:
        with said.file.open("rb") as file:
            public = public_key(file.read(LARGEST_FILE))
    except OSError as error:
        raise _Unusable(f"cannot read {said.file}: {error.strerror}; let the agent's user read it") from None
    except BadKey as error:
        raise _Unusable(f"cannot use {said.file}: {error}") from None
    return TrustedKey(public, public.keyid, said.jobs, said.users, said.until)
