"""The decisions of runner.aws that need no AWS: backoff, batches, regions, what a failure is called."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.aws import backoff
from runner.aws.backoff import CAP, FLOOR, delay, pause, retrying
from runner.aws.failures import plain_code, unavailable
from runner.aws.models import cut_service
from runner.aws.regions import endpoint_of_queue_url, region_of_queue_url
from runner.aws.sqs import batches
from runner.errors import AwsUnavailable, NoSuchQueue


@given(failures=st.integers(1, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_under_a_second_nor_over_the_cap(failures: int, draw: float) -> None:
    assert FLOOR <= delay(failures, draw) <= CAP


def test_the_window_of_a_delay_doubles_up_to_the_cap() -> None:
    assert [delay(n, 1.0) for n in range(1, 7)] == [2, 4, 8, 16, 30, 30]
    assert [delay(n, 0.0) for n in (1, 5, 99)] == [1, 1, 1]
    assert delay(9, 1.0, cap=5.0) == 5.0


def test_a_pause_ends_when_the_stop_is_set() -> None:
    async def run() -> None:
        stop = asyncio.Event()
        assert not await pause(0.001, stop)
        waiting = asyncio.create_task(pause(3600, stop))
        await asyncio.sleep(0)
        stop.set()
        assert await waiting
        assert await pause(3600, stop)

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_stop_ends_the_retrying_with_the_last_failure_and_no_further_try() -> None:
    async def run() -> None:
        stop = asyncio.Event()
        tries: list[float] = []

        def say(error: AwsUnavailable, wait: float) -> None:
            assert error.code == "ServerError"
            tries.append(wait)
            stop.set()

        async def call() -> None:
            async for attempt in retrying(stop=stop, on_failure=say, draw=lambda: 0.5):
                with attempt:
                    calls.append(1)
                    raise AwsUnavailable("ReceiveMessage", "ServerError", "x")

        calls: list[int] = []
        with pytest.raises(AwsUnavailable):
            await call()
        assert (calls, tries) == ([1], [1.5])

    asyncio.run(asyncio.wait_for(run(), 10))


def test_retrying_ends_with_the_first_success(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "FLOOR", 0.0)

    async def run() -> None:
        waits: list[float] = []
        calls = 0
        async for attempt in retrying(on_failure=lambda _, wait: waits.append(wait), cap=0.0):
            with attempt:
                calls += 1
                if calls < 3:
                    raise AwsUnavailable("ReceiveMessage", "ServerError", f"{calls}")
        assert (calls, waits) == (3, [0.0, 0.0])

    asyncio.run(asyncio.wait_for(run(), 30))


def test_retrying_lets_other_errors_and_hopeless_ones_through() -> None:
    async def run(error: Exception) -> None:
        async for attempt in retrying(give_up=lambda failure: failure.kind == "denied"):
            with attempt:
                raise error

    for error in (ZeroDivisionError(), AwsUnavailable("X", "AccessDenied", "x", "denied")):
        with pytest.raises(type(error)):
            asyncio.run(asyncio.wait_for(run(error), 10))


@given(st.lists(st.integers(0, 400_000), max_size=60))
def test_batches_keep_order_and_limits(sizes: list[int]) -> None:
    cut = batches(sizes, lambda size: size)
    assert [size for batch in cut for size in batch] == sizes
    for batch in cut:
        assert 1 <= len(batch) <= 10
        assert sum(batch) <= 262_144 or len(batch) == 1


@pytest.mark.parametrize(
    ("url", "region", "endpoint"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/123456789012/q", "eu-west-1", None),
        ("https://sqs.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1", None),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q.fifo", "cn-north-1", None),
        ("https://sqs.eusc-de-east-1.amazonaws.eu/1/q", "eusc-de-east-1", None),
        ("https://eu-central-1.queue.amazonaws.com/1/q", "eu-central-1", None),
        ("https://queue.amazonaws.com/1/q", "us-east-1", None),
        (
            "https://sqs-fips.us-east-2.amazonaws.com/1/q",
            "us-east-2",
            "https://sqs-fips.us-east-2.amazonaws.com",
        ),
        ("https://sqs.us-east-1.api.aws/1/q", "us-east-1", "https://sqs.us-east-1.api.aws"),
        (
            "https://vpce-0a-1b.sqs.ap-south-1.vpce.amazonaws.com/1/q",
            "ap-south-1",
            "https://vpce-0a-1b.sqs.ap-south-1.vpce.amazonaws.com",
        ),
        ("http://127.0.0.1:4566/000000000000/q", None, "http://127.0.0.1:4566"),
        ("http://[broken/q", None, None),
        ("", None, None),
    ],
)
def test_region_and_endpoint_of_a_queue_url(url: str, region: str | None, endpoint: str | None) -> None:
    assert region_of_queue_url(url) == region
    assert endpoint_of_queue_url(url) == endpoint


def refused(code: str, text: str = "x", status: int = 400, ahead: float | None = None) -> AwsUnavailable:
    error = Exception()
    error.response = {  # type: ignore[attr-defined]
        "Error": {"Code": code, "Message": text},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return unavailable("ReceiveMessage", error, clock_ahead=ahead)


def test_codes_are_one_for_all_protocols() -> None:
    assert plain_code("AWS.SimpleQueueService.NonExistentQueue") == "QueueDoesNotExist"
    assert plain_code("com.amazonaws.sqs#QueueDoesNotExist") == "QueueDoesNotExist"
    assert plain_code("RequestThrottled") == "ThrottlingException"
    assert plain_code("ExpiredTokenException") == "ExpiredToken"
    assert isinstance(refused("AWS.SimpleQueueService.NonExistentQueue"), NoSuchQueue)
    assert refused("503", status=503).code == "ServerError"
    assert refused("404", status=404).code == "Http404"
    assert refused("InternalFailure", status=500).kind == "server"


def test_a_wrong_clock_is_said_in_words() -> None:
    early = "Signature expired: 20240101T000000Z is now earlier than 20240101T010000Z"
    assert "3600 s behind AWS's" in refused("InvalidSignatureException", early, ahead=-3600).detail
    assert "clock" in refused("RequestExpired").detail
    plain = refused("SignatureDoesNotMatch", "The request signature we calculated does not match")
    assert (plain.kind, "clock" in plain.detail) == ("credentials", False)


def test_an_unknown_exception_of_a_parser_is_a_bad_answer() -> None:
    assert unavailable("X", TypeError("odd")).code == "BadAnswer"


def test_a_service_model_is_cut_to_what_is_called() -> None:
    model = {
        "metadata": {},
        "operations": {
            "Keep": {"input": {"shape": "In"}, "documentation": "words"},
            "Drop": {"input": {"shape": "Other"}},
        },
        "shapes": {
            "In": {"type": "structure", "members": {"documentation": {"shape": "Text", "documentation": "w"}}},
            "Text": {"type": "string"},
            "Other": {"type": "string"},
            "Fault": {"type": "structure", "exception": True, "members": {}},
        },
    }
    cut = cut_service(model, frozenset(("Keep",)))
    assert set(cut["operations"]) == {"Keep"}
    assert set(cut["shapes"]) == {"In", "Text", "Fault"}
    assert cut["shapes"]["In"]["members"] == {"documentation": {"shape": "Text"}}
    assert "documentation" not in cut["operations"]["Keep"]


def test_importing_the_queue_imports_no_botocore() -> None:
    code = (
        "import sys, runner.aws.sqs, runner.aws.logs, runner.aws.session, runner.aws.backoff\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('boto3', 'botocore', 'tenacity')])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_our_remedy_goes_on_from_the_sentence_of_aws() -> None:
    error = refused("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
    assert str(error).startswith(
        "cannot call ReceiveMessage: QueueDoesNotExist: The specified queue does not exist; create the queue, or"
    )


@pytest.mark.parametrize("endpoint", ["foo", "localhost:4566", "http://", "http://a b", "ftp:x"])
def test_an_endpoint_that_is_no_url_is_a_setting_and_no_answer(endpoint: str) -> None:
    import botocore.session

    with pytest.raises(ValueError, match="Invalid endpoint") as caught:
        botocore.session.Session().create_client(
            "sqs", region_name="eu-west-1", endpoint_url=endpoint, aws_access_key_id="a", aws_secret_access_key="b"
        )
    error = unavailable("SendMessage", caught.value)
    assert (error.kind, error.code) == ("settings", "BadAwsSettings")
    assert f'the endpoint "{endpoint}" is no URL; correct AWS_ENDPOINT_URL' in str(error)
