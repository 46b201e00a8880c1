"""Keys: made, read from PEM files, signing and checking. The only module that imports cryptography, where it is used.

Ed25519 (RFC 8032), and ECDSA on P-256 with SHA-256, whose signatures are DER as KMS makes them. Which encodings are
taken is OpenSSL's: a DER that is not the shortest is refused, a high S is as good as a low one
(https://cryptography.io/en/latest/hazmat/primitives/asymmetric/ec/).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Literal

from runner.errors import CronRunnerError
from runner.protocol.signed import KEYID_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable

Kind = Literal["ed25519", "p256"]
KINDS: Final = ("ed25519", "p256")
NEEDED: Final = ("cryptography",)
LARGEST_FILE: Final = 64 * 1024

_WORDS: Final = {"ed25519": "Ed25519", "p256": "ECDSA P-256"}


class BadKey(CronRunnerError):
    """A file that holds no key that can be used, or cryptography is missing; the text says which and what to do."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """``fits(data, signature)`` never raises. ``der`` is the SubjectPublicKeyInfo, ``pem`` the same as text."""

    kind: Kind
    der: bytes
    fits: Callable[[bytes, bytes], bool]

    @property
    def keyid(self) -> str:
        return keyid_of(self.der)

    @property
    def words(self) -> str:
        return _WORDS[self.kind]

    @property
    def pem(self) -> str:
        import base64  # noqa: PLC0415 - for those who look at a key

        text = base64.b64encode(self.der).decode("ascii")
        lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
        return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A private key of this machine; a `runner.protocol.signed.Signer`."""

    public: PublicKey
    keyid: str
    sign: Callable[[bytes], bytes]


def keyid_of(der: bytes) -> str:
    """The first 16 hex digits of the SHA-256 of the public key's DER."""
    return hashlib.sha256(der).hexdigest()[:KEYID_CHARS]


def keyid_in(pem: bytes) -> str:
    """The id of a public key in PEM, without a look at what it is; ValueError where there is none."""
    import base64  # noqa: PLC0415 - for those who look at a key

    _, begun, rest = pem.partition(b"-----BEGIN PUBLIC KEY-----")
    inner, ended, _ = rest.partition(b"-----END PUBLIC KEY-----")
    if not begun or not ended:
        raise ValueError("no public key in PEM")
    return keyid_of(base64.b64decode(inner))


def public_key(pem: bytes) -> PublicKey:
    """The public key in a PEM text; raises BadKey without the file's name."""
    serialization = _serialization()
    if b"PRIVATE KEY-----" in pem:
        raise BadKey("it holds a private key; give its public one, which `cron-runner keys show` prints")
    try:
        found = serialization.load_pem_public_key(pem)
    except Exception as error:  # noqa: BLE001 - UnsupportedAlgorithm is no ValueError, and OpenSSL has others
        raise BadKey(f"it is no public key in PEM ({type(error).__name__}); make one with `cron-runner keys`") from None
    return _public(found)


def public_key_of_der(der: bytes) -> PublicKey:
    """As `public_key`, of a SubjectPublicKeyInfo as KMS gives it."""
    try:
        return _public(_serialization().load_der_public_key(der))
    except (ValueError, TypeError) as error:
        raise BadKey(f"it is no public key ({error})") from None


def key_pair(pem: bytes, passphrase: Callable[[], str]) -> KeyPair:
    """The private key in a PEM text; ``passphrase`` is asked for one that is encrypted. Raises BadKey."""
    serialization = _serialization()
    if b"PRIVATE KEY-----" not in pem:
        raise BadKey("it holds no private key in PEM; make one with `cron-runner keys new`")
    password = passphrase().encode() if b"ENCRYPTED" in pem else None
    try:
        found = serialization.load_pem_private_key(pem, password)
    except Exception as error:  # noqa: BLE001 - as above
        raise BadKey(f"its private key cannot be read ({type(error).__name__}: {error})") from None
    public = _public(found.public_key())
    if public.kind == "ed25519":
        return KeyPair(public, public.keyid, found.sign)
    algorithm = _ecdsa()
    return KeyPair(public, public.keyid, lambda data: bytes(found.sign(data, algorithm)))


def new(kind: Kind) -> bytes:
    """A new private key as PEM (PKCS#8), unencrypted."""
    serialization = _serialization()
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415 - 9 MB: where keys are used

    made: Any = ed25519.Ed25519PrivateKey.generate() if kind == "ed25519" else ec.generate_private_key(ec.SECP256R1())
    pem: bytes = made.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem


def _public(found: Any) -> PublicKey:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519  # noqa: PLC0415 - as above

    serialization = _serialization()
    der: bytes = found.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if isinstance(found, ed25519.Ed25519PublicKey):
        kind: Kind = "ed25519"
        check: Callable[[bytes, bytes], None] = found.verify
    elif isinstance(found, ec.EllipticCurvePublicKey) and isinstance(found.curve, ec.SECP256R1):
        kind = "p256"
        check = partial(_check_p256, found, _ecdsa())
    else:
        raise BadKey("it is of a kind that signs no jobs here; give an Ed25519 or an ECDSA P-256 key")

    def fits(data: bytes, signature: bytes) -> bool:
        try:
            check(signature, data)
        except InvalidSignature:
            return False
        return True

    return PublicKey(kind, der, fits)


def _check_p256(key: Any, algorithm: Any, signature: bytes, data: bytes) -> None:
    key.verify(signature, data, algorithm)


def _ecdsa() -> Any:
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA  # noqa: PLC0415 - as above
    from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415 - as above

    return ECDSA(SHA256())


def _serialization() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415 - as above
    except ImportError:
        raise BadKey("cryptography is not installed; `cron-runner check` says what to type") from None
    return serialization
