"""Where a service is called and how, found out with botocore's rules and without one of its clients.

A client reads the whole description of its service and a table of all endpoints there are, megabytes of objects, to
say these few words. What is said here is what the client would say; a test holds it to that.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner.aws.settings import configured_endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from botocore.session import Session as BotocoreSession


@dataclass(frozen=True, slots=True)
class Protocol:
    """What the description of a service says of its protocol; by the names of botocore's service model."""

    signing_name: str
    metadata: Mapping[str, Any]

    def operation_model(self, _operation: str) -> _Operation:
        """A refusal is read without the operation's own description: it has a code and a text."""
        return _Operation()


@dataclass(frozen=True, slots=True)
class _Operation:
    output_shape: None = None


PROTOCOLS: Final[Mapping[str, Protocol]] = {
    "sqs": Protocol(
        "sqs", {"protocol": "json", "jsonVersion": "1.0", "targetPrefix": "AmazonSQS", "awsQueryCompatible": {}}
    ),
    "logs": Protocol("logs", {"protocol": "json", "jsonVersion": "1.1", "targetPrefix": "Logs_20140328"}),
    "dynamodb": Protocol("dynamodb", {"protocol": "json", "jsonVersion": "1.0", "targetPrefix": "DynamoDB_20120810"}),
}


@dataclass(frozen=True, slots=True)
class Place:
    """What a client says of itself in its ``meta``."""

    service_model: Protocol
    endpoint_url: str
    region_name: str

    @property
    def meta(self) -> Place:
        """Itself, as of a client."""
        return self


def place_of(session: BotocoreSession, service: str, region: str, endpoint: str | None) -> Place | None:
    """Where a client of this session would call ``service``; None where only a client can tell.

    ``endpoint`` is called whatever the settings say. Raises what the client would raise on its first call.
    """
    # Descriptions of the operator's own may say anything, and the names of pseudo-regions (fips-us-east-1) are
    # translated by clients.
    if service not in PROTOCOLS or os.environ.get("AWS_DATA_PATH") or "fips" in region:
        return None
    # Where the account's own address is asked for, DynamoDB has it; the region's serves for all others.
    if service == "dynamodb" and session.get_config_variable("account_id_endpoint_mode") == "required":
        return None
    from botocore.utils import is_valid_endpoint_url, validate_region_name  # noqa: PLC0415 - loaded with the session

    validate_region_name(region)
    url = endpoint or configured_endpoint(session, service) or _by_the_rules(session, service, region)
    if not is_valid_endpoint_url(url):
        return None  # it says what is wrong with it, or knows better
    return Place(PROTOCOLS[service], url, region)


def _by_the_rules(session: BotocoreSession, service: str, region: str) -> str:
    from botocore.endpoint_provider import EndpointProvider  # noqa: PLC0415 - loaded with the session
    from botocore.loaders import Loader  # noqa: PLC0415 - as above

    # A loader that is forgotten with all it has read.
    loader = Loader()
    rules = EndpointProvider(loader.load_service_model(service, "endpoint-rule-set-1"), loader.load_data("partitions"))
    found = rules.resolve_endpoint(
        Region=region,
        UseFIPS=bool(session.get_config_variable("use_fips_endpoint")),
        UseDualStack=bool(session.get_config_variable("use_dualstack_endpoint")),
    )
    return str(found.url)
