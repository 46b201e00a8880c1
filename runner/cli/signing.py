"""Signing from the command line: keys by the words that people give, and a message signed with one."""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from runner.errors import CronRunnerError, WrongUsage

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from runner.protocol.signed import Signer
    from runner.signing.keypairs import PublicKey

LASTS_S: Final = 12 * 3600.0
"""How long a message for one run is good where nobody says: it may wait, and hosts take at most a day."""


def add_key(parser: argparse._ActionsContainer, text: str) -> None:
    parser.add_argument("--key", metavar="KEY", help=f"{text}: a private key's file, or awskms:ARN")


def need_cryptography() -> None:
    """Raise where what keys are made and read with is not installed."""
    from runner.cli import remedy  # noqa: PLC0415 - `--help` needs none of it

    if todo := remedy.missing("sign", ("cryptography",)):
        raise CronRunnerError(f"cannot use a key: cryptography is not installed; {todo}")


def signer_of(name: str) -> Signer:
    """The key that is meant; raises CronRunnerError."""
    from runner.aws.kms import PREFIX, KmsKey  # noqa: PLC0415 - `--help` needs none of it

    if name.startswith(PREFIX):
        return KmsKey(name)
    need_cryptography()
    from runner.signing.keypairs import BadKey, key_pair  # noqa: PLC0415 - loads cryptography

    try:
        return key_pair(read_key(name), _passphrase)
    except BadKey as error:
        raise CronRunnerError(f"cannot sign with {name}: {error}") from error


def public_of(name: str) -> PublicKey:
    """The public half of a key: of a private or a public file, or of KMS."""
    from runner.aws.kms import PREFIX, KmsKey  # noqa: PLC0415 - as above

    need_cryptography()
    from runner.signing.keypairs import BadKey, key_pair, public_key, public_key_of_der  # noqa: PLC0415 - as above

    if name.startswith(PREFIX):
        return public_key_of_der(KmsKey(name).der)
    pem = read_key(name)
    try:
        return key_pair(pem, _passphrase).public if b"PRIVATE KEY-----" in pem else public_key(pem)
    except BadKey as error:
        raise CronRunnerError(f"cannot show {name}: {error}") from error


def read_key(name: str) -> bytes:
    from runner.signing.keypairs import LARGEST_FILE  # noqa: PLC0415 - as above

    try:
        with Path(name).open("rb") as file:
            return file.read(LARGEST_FILE)
    except OSError as error:
        raise CronRunnerError(f"cannot read {name}: {error.strerror}; make one with `cron-runner keys new`") from error


def _passphrase() -> str:
    from getpass import getpass  # noqa: PLC0415 - for keys that have one

    if not sys.stdin.isatty():
        raise CronRunnerError("cannot ask for the key's passphrase without a terminal; give a key that has none")
    return getpass("passphrase of the key: ")


def of_run(message: Mapping[str, Any], key: str | None, config: Path | None, run_id: str) -> str:
    """The message of one run. With a key its group, run id and end are signed too, so that nobody runs it again; of one
    that is signed already the run id stands beside that."""
    from runner.protocol import signed  # noqa: PLC0415 - as above
    from runner.protocol.resending import with_run  # noqa: PLC0415 - as above
    from runner.protocol.units import format_time  # noqa: PLC0415 - as above

    if key is None:
        return json.dumps(with_run(message, run_id=run_id))
    if signed.is_envelope(message):
        raise WrongUsage("cannot sign a message that is signed already: leave --key out, or give what is in it")
    usual = {"group": message.get("group") or _group(config), "not_after": format_time(time.time() + LASTS_S)}
    return json.dumps(signed.sign({**usual, **message, "run_id": run_id}, signer_of(key)))


def required_by(path: Path | None) -> tuple[str, ...]:
    """The group of this host, where its configuration takes signed messages alone; none where there is none."""
    group, signing = _of_host(path)
    return (group,) if group and signing.get("require") is True else ()


def known_to(path: Path | None) -> tuple[str, frozenset[str]] | None:
    """The group of this host and the ids of its keys; None where it has no [signing] that can be read."""
    from runner.signing.keypairs import keyid_in  # noqa: PLC0415 - as above

    group, signing = _of_host(path)
    found = set()
    keys = signing.get("keys")
    for key in keys if isinstance(keys, list) else ():
        with suppress(OSError, ValueError, LookupError, TypeError):
            found.add(keyid_in(Path(key["file"]).read_bytes()))
    return (group, frozenset(found)) if group and (found or signing.get("require") is True) else None


def _of_host(path: Path | None) -> tuple[str, dict[str, Any]]:
    """Group and [signing] of this host's file, as far as there is one that this user may read. What is wrong with it is
    the agent's to say, and `check`'s."""
    from runner.config.place import DEFAULT_PATH  # noqa: PLC0415 - as above
    from runner.config.toml import Unreadable, read_toml  # noqa: PLC0415 - as above

    with suppress(OSError, Unreadable):
        content = read_toml(path or DEFAULT_PATH)
        group, signing = content.get("group"), content.get("signing")
        if isinstance(group, str) and isinstance(signing, dict):
            return group, signing
    return "", {}


def _group(path: Path | None) -> str:
    from runner import config  # noqa: PLC0415 - as above
    from runner.cli import unit_environment  # noqa: PLC0415 - as above

    unit_environment.take(path)
    return config.load(path, os.environ).group
