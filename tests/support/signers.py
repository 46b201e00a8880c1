"""Keys, signed messages and hosts that know them, for tests of what a host believes."""

from __future__ import annotations

import functools
import json
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from runner.protocol import signed
from runner.protocol.job import Defaults, Job
from runner.protocol.message import read_job
from runner.signing import keypairs
from runner.signing.keypairs import KeyPair, Kind
from runner.signing.trust import Trust, TrustedKey

NOW = 1_900_000_000.0  # 2030-03-17T17:46:40Z
GROUP = "web"


@functools.cache
def _pair(name: str, kind: Kind) -> tuple[bytes, KeyPair]:
    made = keypairs.new(kind)
    return made, keypairs.key_pair(made, lambda: name)


def pem(name: str = "ops", kind: Kind = "ed25519") -> bytes:
    """A private key; the name tells one from another."""
    return _pair(name, kind)[0]


def pair(name: str = "ops", kind: Kind = "ed25519") -> KeyPair:
    return _pair(name, kind)[1]


def public_pem(name: str = "ops", kind: Kind = "ed25519") -> bytes:
    public = load_pem_private_key(pem(name, kind), None).public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def message(**fields: Any) -> dict[str, Any]:
    return {"job": "backup", "group": GROUP, "command": "true", **fields}


def envelope(said: dict[str, Any] | None = None, signer: KeyPair | None = None, **run: Any) -> dict[str, Any]:
    """A signed message, and `run` where something is given for it."""
    made = signed.sign(message() if said is None else said, signer or pair())
    return {**made, "run": run} if run else made


def trusted(signer: KeyPair | None = None, **said: Any) -> TrustedKey:
    signer = signer or pair()
    return TrustedKey(signer.public, signer.keyid, **said)


def trust(*keys: TrustedKey, **said: Any) -> Trust:
    return Trust(GROUP, keys=keys or (trusted(),), now=lambda: NOW, **said)


def taken(body: object, of: Trust | None, *, allowed_users: tuple[str, ...] = ("app", "root"), user: str = "") -> Job:
    """The job of a body on a host; raises InvalidMessage."""
    text = body if isinstance(body, str | bytes) else json.dumps(body)
    defaults = Defaults(group=GROUP, allowed_users=allowed_users, user=user)
    return read_job(text, message_id="m-1", defaults=defaults, declarations={}, trust=of)
