"""The endpoint that is called without a client is the one that botocore's client calls, whatever is set."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import EndpointProviderError, EndpointVariantError, InvalidRegionError
from botocore.loaders import Loader

from runner.aws.endpoints import PROTOCOLS, place_of

if TYPE_CHECKING:
    from pathlib import Path

    from botocore.session import Session

# One of each partition, and some more of the largest.
REGIONS = (
    *("us-east-1", "us-west-2", "eu-central-1", "ap-southeast-4", "us-gov-west-1", "cn-north-1", "us-iso-east-1"),
    *("us-isob-east-1", "eu-isoe-west-1", "us-isof-south-1", "eusc-de-east-1", "xx-unknown-9"),
)
CALL = {
    "sqs": ("get_queue_url", {"QueueName": "q"}),
    "logs": ("create_log_group", {"logGroupName": "g"}),
    "dynamodb": ("get_item", {"TableName": "t", "Key": {"pk": {"S": "p"}}}),
}


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_DATA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))


def called_by_a_client(session: Session, service: str, region: str) -> tuple[str, str]:
    """Where a client's request goes, and the region that it is signed for; nothing is sent."""
    seen: list[Any] = []

    def answer(request: Any, **_: object) -> AWSResponse:
        seen.append(request)
        return AWSResponse(request.url, 200, {}, _Raw())

    client = session.create_client(service, region_name=region)
    client.meta.events.register("before-send", answer)
    name, arguments = CALL[service]
    getattr(client, name)(**arguments)
    client.close()
    authorization = seen[0].headers["Authorization"]
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    return seen[0].url, text.partition("Credential=test/")[2].split("/")[1]


class _Raw:
    """An empty answer's body."""

    def read(self, *_: object) -> bytes:
        return b""

    def stream(self, *_: object) -> list[bytes]:
        return [b"{}"]


def called_without(session: Session, service: str, region: str, endpoint: str | None = None) -> tuple[str, str]:
    place = place_of(session, service, region, endpoint)
    assert place is not None
    return place.endpoint_url.rstrip("/") + "/", place.region_name


@pytest.mark.parametrize("service", PROTOCOLS)
@pytest.mark.parametrize(("fips", "dual_stack"), list(product((False, True), repeat=2)))
def test_in_every_partition(service: str, fips: bool, dual_stack: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", str(fips).lower())
    monkeypatch.setenv("AWS_USE_DUALSTACK_ENDPOINT", str(dual_stack).lower())
    session = botocore.session.Session()
    compared = 0
    for region in REGIONS:
        try:
            expected = outcome(called_by_a_client, session, service, region)
        except EndpointVariantError:  # a client also asks an older table, which knows some partitions less well
            continue
        assert outcome(called_without, session, service, region) == expected
        compared += 1
    assert compared >= len(REGIONS) / 2


def outcome(look: Any, session: Session, service: str, region: str) -> object:
    """What it says, or that it cannot: not every partition has every kind of endpoint."""
    try:
        return look(session, service, region)
    except EndpointProviderError:
        return "no such endpoint"


@pytest.mark.parametrize("service", PROTOCOLS)
@pytest.mark.parametrize(
    ("environment", "config"),
    [
        ({"AWS_ENDPOINT_URL": "http://localhost:1"}, ""),
        ({"AWS_ENDPOINT_URL": "http://localhost:1/aws/", "AWS_USE_FIPS_ENDPOINT": "true"}, ""),
        ({"AWS_ENDPOINT_URL": "http://localhost:1", "AWS_ENDPOINT_URL_SQS": "http://localhost:2"}, ""),
        ({"AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": "http://localhost:3"}, ""),
        ({"AWS_ENDPOINT_URL": "http://localhost:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, ""),
        ({}, "[default]\nendpoint_url = http://localhost:4\n"),
        ({}, "[default]\nendpoint_url = http://localhost:4\nignore_configured_endpoint_urls = true\n"),
        (
            {},
            "[default]\nservices = own\nendpoint_url = http://localhost:4\n"
            "[services own]\nsqs =\n  endpoint_url = http://localhost:5\n",
        ),
        ({}, "[default]\nuse_fips_endpoint = true\n"),
        ({}, "[default]\nuse_dualstack_endpoint = true\n"),
    ],
)
def test_where_an_endpoint_is_set(
    service: str, environment: dict[str, str], config: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "config").write_text(config)
    session = botocore.session.Session()
    assert called_without(session, service, "us-east-1") == called_by_a_client(session, service, "us-east-1")


def test_what_only_a_client_can_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    session = botocore.session.Session()
    assert place_of(session, "sts", "eu-west-1", None) is None
    assert place_of(session, "sqs", "fips-us-east-1", None) is None
    assert place_of(session, "sqs", "eu-west-1", "no-scheme:4566") is None
    with pytest.raises(InvalidRegionError):
        place_of(session, "sqs", "evil.example/", None)
    monkeypatch.setenv("AWS_ACCOUNT_ID_ENDPOINT_MODE", "required")
    assert place_of(botocore.session.Session(), "dynamodb", "eu-west-1", None) is None
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    assert place_of(session, "sqs", "eu-west-1", None) is None


@pytest.mark.parametrize("service", PROTOCOLS)
def test_the_protocol_is_that_of_the_service(service: str) -> None:
    said = Loader().load_service_model(service, "service-2")["metadata"]
    ours = PROTOCOLS[service]
    assert ours.signing_name == said.get("signingName", said["endpointPrefix"])
    assert {**said, **ours.metadata} == said
    assert ("awsQueryCompatible" in ours.metadata) == ("awsQueryCompatible" in said)
