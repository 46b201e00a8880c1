"""A signed message: a DSSE envelope around a job message. The form alone; who may sign what is `runner.signing`'s.

`{"payloadType": …, "payload": BASE64, "signatures": [{"keyid": …, "sig": BASE64}], "run": {…}}`. The payload says
*what* may run, and is signed; `run` says *when*, and is not. What is signed is the pre-authentication encoding of the
type and of the payload's bytes as they came: https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
"""

from __future__ import annotations

import base64
import binascii
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from runner.protocol.invalid import InvalidMessage
from runner.protocol.jsontext import decode
from runner.protocol.suggest import kind, shown, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

PAYLOAD_TYPE: Final = "application/vnd.cron-runner.job+json"
# Two at once while keys change, and some more; each may cost its time.
MOST_SIGNATURES: Final = 8
OF_RUN: Final = ("run_id", "scheduled_at", "not_after", "labels")
STANDING: Final = ("schedule", "timezone", "splay", "valid_until")
"""What a payload may say beside a message's fields: a standing order for each fire time, until then."""
KEYID_CHARS: Final = 16

_FIELDS: Final = ("payloadType", "payload", "signatures", "run")
_LONGEST_KEYID: Final = 256
_LONGEST_SIG: Final = 1024  # characters of base64; the longest that we know has 96


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature, and which key it says that it is of: "" where it does not say."""

    keyid: str
    sig: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope of the right form. Nothing in it is true because it is here."""

    payload: bytes
    signatures: tuple[Signature, ...]
    run: Mapping[str, object]

    @property
    def signed(self) -> bytes:
        """The bytes that the signatures are of."""
        return encoded(self.payload)

    def table(self, said: Mapping[str, object] | None = None) -> dict[str, object]:
        """The message that payload and `run` make together; raises InvalidMessage. What is signed, nobody changes.

        ``said`` is the payload's, where it was read already.
        """
        table = payload_of(self.payload) if said is None else dict(said)
        for name, value in self.run.items():
            if name not in OF_RUN:
                known = ", ".join(OF_RUN)
                raise InvalidMessage(
                    f"run.{shown(name)[1:-1]}: is not signed there; run may set {known}", reason="not_allowed"
                )
            signed = table.get(name)
            if name == "labels" and isinstance(signed, dict) and isinstance(value, dict):
                changed = [label for label in value if label in signed and signed[label] != value[label]]
                if not changed:
                    table[name] = {**value, **signed}
                    continue
            elif name not in table or signed == value:
                table[name] = value
                continue
            raise InvalidMessage(
                f"run.{name}: the signed payload says something else; leave it out of run", reason="not_allowed"
            )
        return table


class Signer(Protocol):
    """Whoever has a private key, or may use one."""

    @property
    def keyid(self) -> str: ...

    def sign(self, data: bytes) -> bytes: ...


def encoded(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding of a payload of our type."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(payload), payload)


def is_envelope(value: object) -> bool:
    """Whether a JSON value is one, or means to be: no message has such fields."""
    return isinstance(value, dict) and ("payloadType" in value or ("payload" in value and "signatures" in value))


def read(value: Mapping[str, object]) -> Envelope:
    """The envelope in a JSON object, its payload not looked at; raises InvalidMessage, reason "invalid"."""
    for name in value:
        if name not in _FIELDS:
            raise InvalidMessage(unknown("field", name, _FIELDS))
    if value.get("payloadType") != PAYLOAD_TYPE:
        said = value.get("payloadType")
        raise InvalidMessage(
            f"payloadType: {shown(said) if isinstance(said, str) else kind(said)} is no job; give {PAYLOAD_TYPE}"
        )
    run = value.get("run", {})
    if not isinstance(run, dict):
        raise InvalidMessage(f"run: is {kind(run)}; give an object with {', '.join(OF_RUN)}")
    signatures = value.get("signatures")
    if not isinstance(signatures, list) or not signatures:
        raise InvalidMessage("signatures: give a list of at least one")
    if len(signatures) > MOST_SIGNATURES:
        raise InvalidMessage(f"signatures: are {len(signatures)}; send at most {MOST_SIGNATURES}")
    payload = _bytes("payload", value.get("payload"))
    return Envelope(payload, tuple(_signature(f"signatures[{at}]", one) for at, one in enumerate(signatures)), run)


def _signature(path: str, value: object) -> Signature:
    if not isinstance(value, dict):
        raise InvalidMessage(f"{path}: is {kind(value)}; give an object with keyid and sig")
    for name in value:
        if name not in ("keyid", "sig"):
            raise InvalidMessage(f"{path}: {unknown('field', name, ('keyid', 'sig'))}")
    keyid, sig = value.get("keyid", ""), value.get("sig")
    if not isinstance(keyid, str) or len(keyid) > _LONGEST_KEYID:
        raise InvalidMessage(f"{path}.keyid: give a text of up to {_LONGEST_KEYID} characters")
    if isinstance(sig, str) and len(sig) > _LONGEST_SIG:
        raise InvalidMessage(f"{path}.sig: has {len(sig)} characters; no signature is as long")
    return Signature(keyid, _bytes(f"{path}.sig", sig))


def _bytes(path: str, value: object) -> bytes:
    """Base64, standard or URL-safe, in the one form that such bytes have: so no bit of it may be another."""
    if not isinstance(value, str) or not value:
        raise InvalidMessage(f"{path}: is {'empty' if value == '' else kind(value)}; give base64")
    standard = value.replace("-", "+").replace("_", "/") if "-" in value or "_" in value else value
    try:
        said = binascii.a2b_base64(standard.encode("ascii"), strict_mode=True)
    except ValueError:  # no base64, or no ASCII
        raise InvalidMessage(f"{path}: is not base64; give it with its padding and nothing else") from None
    if base64.b64encode(said).decode("ascii") != standard or (standard != value and ("+" in value or "/" in value)):
        raise InvalidMessage(f"{path}: is base64 with bits that mean nothing; give it as an encoder makes it")
    return said


def payload_of(payload: bytes) -> dict[str, object]:
    """The message in a payload; raises InvalidMessage."""
    try:
        table = decode(payload)
    except InvalidMessage as error:
        raise InvalidMessage(f"payload: {error.detail}") from None
    if not isinstance(table, dict):
        raise InvalidMessage(f"payload: is {kind(table)}; sign a JSON object")
    if is_envelope(table):
        raise InvalidMessage("payload: is an envelope itself; sign the message once, with several signatures")
    return table


def glance(value: Mapping[str, object]) -> Mapping[str, object]:
    """What an envelope says, believed by nobody, to name what was refused; empty where it says nothing."""
    with suppress(InvalidMessage):
        envelope = read(value)
        return {**{name: said for name, said in envelope.run.items() if name in OF_RUN}, **payload_of(envelope.payload)}
    return {}


def sign(message: Mapping[str, object], signer: Signer) -> dict[str, Any]:
    """The envelope of a message, without `run`."""
    payload = json.dumps(message, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    signature = {"keyid": signer.keyid, "sig": _text(signer.sign(encoded(payload)))}
    return {"payloadType": PAYLOAD_TYPE, "payload": _text(payload), "signatures": [signature]}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
