"""Whatever goes wrong in an AWS call → `AwsUnavailable` with a code that stays the same and plain words.

Codes are AWS's own without their prefixes; where no AWS error came back they are ours: ``ConnectFailed``,
``ConnectTimeout``, ``ReadTimeout``, ``ConnectionClosed``, ``TlsFailed``, ``ProxyFailed``, ``ServerError``,
``BadAnswer``, ``NoCredentials``, ``NoRegion``, ``BadAwsSettings``, ``Deadline``.
Kinds: throttled, server, timeout, unreachable, credentials, denied, clock, no_such_queue, missing, settings,
bad_answer, refused.
"""

from __future__ import annotations

import contextlib
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from runner.errors import AwsUnavailable, NoSuchQueue
from runner.protocol.suggest import shown

if TYPE_CHECKING:
    from collections.abc import Mapping

_KIND_OF_CODE = {
    "ThrottlingException": "throttled",
    "QueueDoesNotExist": "no_such_queue",
    "ResourceNotFoundException": "missing",
    "ExpiredToken": "credentials",
    "InvalidClientTokenId": "credentials",
    "AccessDenied": "denied",
    "RequestExpired": "clock",
}
# Names that services give to one and the same thing. AWS's SQS answers with the codes of its old query
# protocol (x-amzn-query-error), stand-ins with those of the JSON protocol.
_SAME = {
    "NonExistentQueue": "QueueDoesNotExist",
    "Throttling": "ThrottlingException",
    "ThrottledException": "ThrottlingException",
    "RequestThrottled": "ThrottlingException",
    "RequestThrottledException": "ThrottlingException",
    "RequestLimitExceeded": "ThrottlingException",
    "ProvisionedThroughputExceededException": "ThrottlingException",
    "TooManyRequestsException": "ThrottlingException",
    "KmsThrottled": "ThrottlingException",
    "KMS.ThrottlingException": "ThrottlingException",
    "SlowDown": "ThrottlingException",
    "ExpiredTokenException": "ExpiredToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidAccessKeyId": "InvalidClientTokenId",
    "AccessDeniedException": "AccessDenied",
    "RequestTimeTooSkewed": "RequestExpired",
    "InvalidSignatureException": "SignatureDoesNotMatch",
}
_PREFIXES = (
    "AWS.SimpleQueueService.",
    "com.amazonaws.sqs#",
    "com.amazonaws.logs#",
    "com.amazonaws.dynamodb.v20120810#",
    "com.amazon.coral.availability#",
    "com.amazon.coral.service#",
)
_REMEDY = {
    "throttled": "AWS asks for fewer calls; waiting is enough unless it lasts",
    "no_such_queue": "create the queue, or correct [queue] url or name, account and region",
    "credentials": "renew the credentials of this host (instance role, profile or environment)",
    "missing": "create it, or correct its name, the account and the region",
    "server": "AWS has to mend this; it is tried again",
    "denied": "allow this action in the host's IAM policy (`cron-runner check --iam-policy` prints it)",
}
_SIGNATURE_TIME = re.compile(
    r"signature (?:expired|not yet current)|clock|too skewed|request has expired", re.IGNORECASE
)

# Names of botocore's exceptions → (code, kind, what to do). Looked up along the class's ancestors by name, so
# that this table needs no import of botocore.
_CLIENT_SIDE: Mapping[str, tuple[str, str, str]] = {
    "NoCredentialsError": (
        "NoCredentials",
        "credentials",
        "no AWS credentials were found; attach an instance role, or set AWS_PROFILE or AWS_ACCESS_KEY_ID",
    ),
    "PartialCredentialsError": (
        "NoCredentials",
        "credentials",
        "the AWS credentials are incomplete; give the key's id and the secret",
    ),
    "CredentialRetrievalError": (
        "NoCredentials",
        "credentials",
        "the AWS credentials could not be fetched; check the profile or the instance role",
    ),
    "MetadataRetrievalError": (
        "NoCredentials",
        "credentials",
        "the metadata service did not give credentials; attach an instance role, or raise its hop limit",
    ),
    "TokenRetrievalError": (
        "NoCredentials",
        "credentials",
        "the SSO token could not be fetched; sign in again",
    ),
    "SSOError": ("NoCredentials", "credentials", "the SSO session is not valid; sign in again"),
    "NoRegionError": ("NoRegion", "settings", "no region is known; set AWS_REGION"),
    "ProfileNotFound": ("BadAwsSettings", "settings", "correct AWS_PROFILE or the AWS config file"),
    "ConfigParseError": ("BadAwsSettings", "settings", "correct the AWS config file"),
    "ConnectTimeoutError": (
        "ConnectTimeout",
        "timeout",
        "AWS cannot be reached: network, proxy, security group?",
    ),
    "ReadTimeoutError": ("ReadTimeout", "timeout", "AWS did not answer in time; check network and proxy if it lasts"),
    "ConnectionClosedError": (
        "ConnectionClosed",
        "unreachable",
        "the connection was closed before the answer",
    ),
    "SSLError": (
        "TlsFailed",
        "unreachable",
        "no trusted TLS connection; check CA bundle (AWS_CA_BUNDLE) and proxy",
    ),
    "ProxyConnectionError": ("ProxyFailed", "unreachable", "the proxy cannot be reached; check HTTPS_PROXY"),
    "EndpointConnectionError": (
        "ConnectFailed",
        "unreachable",
        "AWS cannot be reached: network, DNS, endpoint?",
    ),
    "ResponseStreamingError": ("ConnectionClosed", "unreachable", "the connection broke within the answer"),
    "IncompleteReadError": ("ConnectionClosed", "unreachable", "the connection broke within the answer"),
    "ResponseParserError": ("BadAnswer", "bad_answer", "what answered does not speak this AWS API; a proxy?"),
    "HTTPClientError": ("ConnectFailed", "unreachable", "the request could not be made"),
    "ParamValidationError": ("BadRequest", "refused", "the request is malformed"),
    "BotoCoreError": ("BadAwsSettings", "settings", "check the AWS settings of this host"),
    "HTTPError": ("ConnectionClosed", "unreachable", "the connection broke within the answer"),  # urllib3
    "JSONDecodeError": ("BadAnswer", "bad_answer", "what answered does not speak this AWS API; a proxy?"),
    "OSError": ("ConnectFailed", "unreachable", "AWS cannot be reached"),
}


def apart(error: AwsUnavailable) -> tuple[str, str]:
    """What went wrong, and what to do about it: of the text of an error, for those who say the second in their own
    way where it is "" here."""
    for _, _, words in _CLIENT_SIDE.values():
        if error.detail.startswith(f"{words} ("):
            what, _, remedy = words.partition("; ")
            what = what.partition(":")[0] if what.endswith("?") else what
            return f"{what}{error.detail[len(words) :]}", remedy if not remedy.endswith("?") else ""
    return (error.detail.removesuffix(f"; {_REMEDY[error.kind]}") if error.kind in _REMEDY else error.detail), ""


def plain_code(code: str) -> str:
    """AWS's error code without its prefix and under one name: ``AWS.SimpleQueueService.NonExistentQueue`` →
    ``QueueDoesNotExist``."""
    for prefix in _PREFIXES:
        code = code.removeprefix(prefix)
    return _SAME.get(code, code)


def unavailable(action: str, error: Exception, *, clock_ahead: float | None = None) -> AwsUnavailable:
    """Explain any exception of a call. ``clock_ahead``: the clock's lead over AWS in seconds, where known."""
    if isinstance(error, AwsUnavailable):
        return error
    response = getattr(error, "response", None)
    if isinstance(response, dict) and "Error" in response:
        return _refused(action, response, clock_ahead)
    for ancestor in type(error).__mro__:
        if known := _CLIENT_SIDE.get(ancestor.__name__):
            code, kind, words = known
            return AwsUnavailable(action, code, f"{words} ({_one_line(error)})", kind)
    if isinstance(error, ValueError) and str(error).startswith("Invalid endpoint: "):
        given = shown(str(error).removeprefix("Invalid endpoint: "))
        words = f"the endpoint {given} is no URL; correct AWS_ENDPOINT_URL (or endpoint_url): http://HOST:PORT"
        return AwsUnavailable(action, "BadAwsSettings", words, "settings")
    # What botocore's parsers raise on an answer that only looks like AWS's can be anything.
    words = f"what answered does not speak this AWS API ({type(error).__name__}: {_one_line(error)})"
    return AwsUnavailable(action, "BadAnswer", words, "bad_answer")


def clock_ahead_of(response: Mapping[str, Any], now: float) -> float | None:
    """Seconds by which ``now`` (unix) is ahead of the answer's ``Date``; None where there is no such
    header."""
    headers = response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    with contextlib.suppress(TypeError, ValueError):
        return now - parsedate_to_datetime(headers.get("date")).timestamp()
    return None


def _refused(action: str, response: Mapping[str, Any], clock_ahead: float | None) -> AwsUnavailable:
    """An answer that says no: an AWS error, or a bare HTTP status from AWS's front or a proxy."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = plain_code(str(response["Error"].get("Code", "")))
    # A sentence of AWS, of which ours goes on.
    text = _one_line(response["Error"].get("Message") or "no reason given").rstrip(".")
    if code in ("", "Unknown") or code.isdigit():
        code = {413: "RequestEntityTooLarge", 429: "ThrottlingException"}.get(status, f"Http{status}")
        code = "ServerError" if status >= 500 else code
    kind = _KIND_OF_CODE.get(code) or ("server" if status >= 500 else "refused")
    if code == "QueueDoesNotExist":
        return NoSuchQueue(action, code, f"{text}; {_REMEDY['no_such_queue']}")
    if kind == "clock" or (code == "SignatureDoesNotMatch" and _SIGNATURE_TIME.search(text)):
        return AwsUnavailable(action, code, f"{text}; {_clock_words(clock_ahead)}", "clock")
    if code == "SignatureDoesNotMatch":
        kind = "credentials"
    remedy = f"; {_REMEDY[kind]}" if kind in _REMEDY else ""
    if kind == "server":
        text = f"AWS failed with HTTP status {status}: {text}"
    return AwsUnavailable(action, code, f"{text}{remedy}", kind)


def _clock_words(clock_ahead: float | None) -> str:
    if clock_ahead is None or abs(clock_ahead) < 2:
        return "the host's clock seems to be wrong; set it (chrony, systemd-timesyncd)"
    way = "ahead of" if clock_ahead > 0 else "behind"
    return f"the host's clock is {abs(clock_ahead):.0f} s {way} AWS's; set it (chrony, systemd-timesyncd)"


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:500]
