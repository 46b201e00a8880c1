"""A key that AWS KMS keeps and signs with: it never leaves KMS, and who may use it is IAM's to say."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from runner.errors import CronRunnerError
from runner.protocol.signed import KEYID_CHARS

if TYPE_CHECKING:
    from collections.abc import Callable

PREFIX: Final = "awskms:"
_ARN: Final = re.compile(r"arn:aws[a-z-]*:kms:(?P<region>[a-z0-9-]+):\d{12}:(?:key|alias)/[A-Za-z0-9/_-]+")
_LONGEST_RAW: Final = 4096
_MAY: Final = "allow kms:GetPublicKey and kms:Sign on the key"


class KmsKey:
    """A `runner.protocol.signed.Signer`: an ECDSA P-256 key. Raises CronRunnerError for what KMS does not do.

    ``der`` is its public key. Of a message above 4096 bytes KMS takes the digest alone; the signature is the same
    (https://docs.aws.amazon.com/kms/latest/APIReference/API_Sign.html).
    """

    def __init__(self, name: str) -> None:
        """``name`` is `awskms:ARN`, of a key or an alias."""
        arn = name.removeprefix(PREFIX).lstrip("/")
        match = _ARN.fullmatch(arn)
        if match is None:
            raise CronRunnerError(
                f"cannot use {name}: it is no ARN of a key; give awskms:arn:aws:kms:REGION:ACCOUNT:key/ID"
            )
        self._arn = arn
        self._client = _client(match["region"])
        answer = self._asked(lambda: self._client.get_public_key(KeyId=arn))
        if "ECDSA_SHA_256" not in answer.get("SigningAlgorithms", ()):
            raise CronRunnerError(
                f"cannot sign with {arn}: it is of {answer.get('KeySpec')}; give one of ECC_NIST_P256 for SIGN_VERIFY"
            )
        self.der: bytes = answer["PublicKey"]
        self.keyid = hashlib.sha256(self.der).hexdigest()[:KEYID_CHARS]

    def sign(self, data: bytes) -> bytes:
        """The signature of the data, in DER."""
        request = {"KeyId": self._arn, "SigningAlgorithm": "ECDSA_SHA_256", "Message": data, "MessageType": "RAW"}
        if len(data) > _LONGEST_RAW:
            request |= {"Message": hashlib.sha256(data).digest(), "MessageType": "DIGEST"}
        return bytes(self._asked(lambda: self._client.sign(**request))["Signature"])

    def _asked(self, call: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - for those who sign with KMS

        try:
            return call()
        except ClientError as error:
            said = error.response.get("Error", {})
            raise CronRunnerError(
                f"cannot sign with {self._arn}: {said.get('Code')}: {said.get('Message')}; {_MAY}"
            ) from error
        except BotoCoreError as error:
            raise CronRunnerError(f"cannot sign with {self._arn}: {error}") from error


def _client(region: str) -> Any:
    """Of the key's own region, whatever the queue's is."""
    from botocore.session import get_session  # noqa: PLC0415 - as above

    return get_session().create_client("kms", region_name=region)
