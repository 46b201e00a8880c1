"""runner.aws against a real stand-in, and against an endpoint that fails in every way there is."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from runner.aws.logs import Logs
from runner.aws.session import Session, Timeouts
from runner.aws.sqs import Outgoing, Queue, Received
from runner.errors import AwsUnavailable, NoSuchQueue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

    from aws import Aws

QUICK = Timeouts(connect=1.0, answer=0.6, slack=8.0)
REGION = "eu-west-1"


@pytest.fixture(autouse=True, params=["direct", "botocore"])
def client(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who makes the calls that are made all the time: every test holds for both."""
    assert Session.__init__.__kwdefaults__ is not None
    monkeypatch.setitem(Session.__init__.__kwdefaults__, "direct", request.param == "direct")


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The AWS settings of a test and of nobody else."""
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_DEFAULT_REGION",
        "AWS_ENDPOINT_URL",
        "HTTP_PROXY",
        "http_proxy",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_REGION", REGION)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def run(work: Callable[[Session], Awaitable[None]], *, timeouts: Timeouts | None = None, queue_url: str = "") -> None:
    """Run ``work`` with a session of its own, in a loop of its own."""

    async def main() -> None:
        session = Session(timeouts=timeouts, queue_url=queue_url)
        try:
            await work(session)
        finally:
            session.close()

    asyncio.run(asyncio.wait_for(main(), 60))


# -- the stand-in -------------------------------------------------------------------------------------------


@pytest.fixture
def stand_in(aws: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws.endpoint)
    return aws


async def receive_all(queue: Queue, count: int) -> list[Received]:
    received: list[Received] = []
    for _ in range(20):
        received += await queue.receive(10, 1.0, 60.0)
        if len(received) >= count:
            break
    return received


def test_messages_are_sent_received_extended_and_deleted(stand_in: Aws) -> None:
    stand_in.queue("work")

    async def work(session: Session) -> None:
        queue = Queue(session, name="work")
        assert await queue.send([Outgoing(f"m{i}", f"body {i} ✓") for i in range(10)]) == []
        received = await receive_all(queue, 10)
        assert sorted(m.body for m in received) == sorted(f"body {i} ✓" for i in range(10))
        first = received[0]
        assert first.delivery == 1
        assert abs(first.sent_at - time.time()) < 60
        assert first.asked_at <= first.arrived_at <= time.clock_gettime(time.CLOCK_BOOTTIME)
        failed = await queue.extend([(first.receipt, 0.0), ("no receipt", 30.0)])
        assert [(f.index, f.gone) for f in failed] == [(1, True)]
        [again] = await receive_all(queue, 1)
        assert (again.message_id, again.delivery) == (first.message_id, 2)
        receipts = [m.receipt for m in received[1:]] + [again.receipt]
        assert await queue.delete(receipts) == []
        assert await queue.receive(10, 0.0, 60.0) == []
        assert session.stats.requests["SendMessageBatch"] == 1
        assert set(session.stats.last_success) == {"receive", "results", "lease"}
        assert session.stats.clock_ahead is not None
        assert abs(session.stats.clock_ahead) < 5

    run(work)


@pytest.mark.parametrize("by", ["source_profile = base", "web_identity_token_file = {token}"])
def test_a_role_is_assumed(stand_in: Aws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, by: str) -> None:
    """For that botocore makes a client of its own."""
    (tmp_path / "token").write_text("token")
    (tmp_path / "config").write_text(
        f"[profile agent]\nrole_arn = arn:aws:iam::123456789012:role/agent\n{by.format(token=tmp_path / 'token')}\n"
        "[profile base]\naws_access_key_id = AKIAAAAAAAAAAAAAAAAA\naws_secret_access_key = secret\n"
    )
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "agent")
    stand_in.queue("assumed")

    async def work(session: Session) -> None:
        assert (await session.credentials()).temporary
        queue = Queue(session, name="assumed")
        assert await queue.send([Outgoing("0", "hello")]) == []
        [message] = await queue.receive(10, 5, 30)
        assert message.body == "hello"

    run(work)


def test_fifo_facts_and_dead_letters(stand_in: Aws) -> None:
    dead = stand_in.queue("dead.fifo")
    url = stand_in.queue("work.fifo", dead_letter=dead, max_receive_count=4, VisibilityTimeout="77")

    async def work(session: Session) -> None:
        queue = Queue(session, url=url)
        assert queue.fifo
        assert await queue.send([Outgoing("1", "one", "group a", "d1"), Outgoing("2", "two", "group b", "d2")]) == []
        assert {m.group_id for m in await receive_all(queue, 2)} == {"group a", "group b"}
        facts = await queue.facts()
        assert (facts.fifo, facts.visibility) == (True, 77.0)
        assert facts.redrive is not None
        assert facts.redrive.max_receive_count == 4
        assert (await queue.url_of_arn(facts.redrive.target_arn)).endswith("/dead.fifo")

    run(work)


def test_a_queue_that_comes_later_is_found(stand_in: Aws) -> None:
    async def work(session: Session) -> None:
        queue = Queue(session, name="later")
        with pytest.raises(NoSuchQueue) as caught:
            await queue.receive(1, 0.0, 30.0)
        assert caught.value.code == "QueueDoesNotExist"
        assert "create the queue" in caught.value.detail
        assert "receive" in session.stats.failing_since
        await asyncio.to_thread(stand_in.queue, "later")
        assert await queue.receive(1, 0.0, 30.0) == []
        assert "receive" not in session.stats.failing_since

    run(work)


def test_a_cancelled_receive_loses_nothing(stand_in: Aws) -> None:
    url = stand_in.queue("work")

    async def work(session: Session) -> None:
        queue = Queue(session, url=url)
        polling = asyncio.create_task(queue.receive(10, 10.0, 60.0))
        await asyncio.sleep(0.1)  # either way nothing is lost: with the poll on its way, or just before it
        polling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await polling
        await queue.send([Outgoing("1", "late")])
        assert [m.body for m in await queue.receive_in_flight()] == ["late"]
        assert await queue.receive_in_flight() == []
        assert session.stats.requests["ReceiveMessage"] == 1

    run(work)


def test_logs_are_put_and_read_back(stand_in: Aws) -> None:
    async def work(session: Session) -> None:
        logs = Logs(session)
        now = int(time.time() * 1000)
        with pytest.raises(AwsUnavailable) as caught:
            await logs.put_events("/g", "s", [(now, "x")])
        assert (caught.value.code, caught.value.kind) == ("ResourceNotFoundException", "missing")
        assert await logs.create_group("/g", 30)
        assert not await logs.create_group("/g", 30)
        assert await logs.create_stream("/g", "s")
        assert not await logs.create_stream("/g", "s")
        assert await logs.put_events("/g", "s", [(now, "one"), (now, "zwei ✓")]) is None
        rejected = await logs.put_events("/g", "s", [(now - 30 * 86_400_000, "old"), (now, "three")])
        assert rejected is not None
        assert rejected.too_old_end is not None
        page = await logs.get_events("/g", "s")
        assert [text for _, text in page.events][:2] == ["one", "zwei ✓"]

    run(work)
    assert stand_in.logs.describe_log_groups()["logGroups"][0]["retentionInDays"] == 30


def test_a_process_does_not_wait_for_its_poll(stand_in: Aws) -> None:
    url = stand_in.queue("work")
    code = (
        "import asyncio, sys\n"
        "from runner.aws.session import Session\nfrom runner.aws.sqs import Queue\n"
        "async def main():\n"
        "    session = Session()\n"
        "    poll = asyncio.create_task(Queue(session, url=sys.argv[1]).receive(1, 20, 30))\n"
        "    while not session.stats.requests['ReceiveMessage']: await asyncio.sleep(0.01)\n"
        "    await asyncio.sleep(0.3)\n"
        "asyncio.run(main())\n"
    )
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", code, url], check=True, timeout=30)
    assert time.monotonic() - began < 15


# -- an endpoint that fails -----------------------------------------------------------------------------------


Answer = tuple[int, dict[str, str], str]


def accept(request: Any) -> Answer:
    """Every entry of a batch succeeds; any other call has nothing to say."""
    done = [{"Id": entry["Id"]} for entry in request.get("Entries", ())]
    return 200, {}, json.dumps({"Successful": done, "nextSequenceToken": "0"})


class Endpoint(ThreadingHTTPServer):
    """Answers every request as ``answer`` says: (status, headers, body), or by a way of failing."""

    daemon_threads = True
    # The threads of held requests are daemons of the test process; joining them would wait for `held`.
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Answer | str | Callable[[Any], Answer] = "hold"
        self.seen: list[tuple[str, Any]] = []
        self.signatures: list[str] = []
        self.held = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def refuse(self, code: str, text: str = "no", status: int = 400, **headers: str) -> None:
        self.answer = (status, headers, json.dumps({"__type": code, "message": text}))


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.headers["X-Amz-Target"].partition(".")[2], body))
        self.server.signatures.append(self.headers["Authorization"])
        answer = self.server.answer
        if callable(answer):
            answer = answer(body)
        if answer == "hold":
            self.server.held.wait(30)
            self.close_connection = True
        elif answer == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
        elif answer == "drip":
            self.drip()
        else:
            status, headers, text = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(text.encode())

    def drip(self) -> None:
        """A byte now and then, so that no read ever times out."""
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            while not self.server.held.wait(0.1):
                self.wfile.write(b" ")
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Nothing: the test says what went wrong."""


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[Endpoint]:
    with Endpoint() as server:
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
        yield server
        server.held.set()
        server.shutdown()
        serving.join()


def failure_of(timeouts: Timeouts = QUICK, *, url: str = "http://q/1/q") -> AwsUnavailable:
    """What a delete ends in, as each of the calls would."""
    failures: list[AwsUnavailable] = []

    async def work(session: Session) -> None:
        with pytest.raises(AwsUnavailable) as caught:
            await Queue(session, url=url).delete(["r"])
        assert session.stats.errors["DeleteMessageBatch", caught.value.code] == 1
        assert session.stats.last_error["lease"] is caught.value
        failures.append(caught.value)

    run(work, timeouts=timeouts)
    return failures[0]


@pytest.mark.parametrize(
    ("aws_code", "status", "code", "kind"),
    [
        ("InternalFailure", 500, "InternalFailure", "server"),
        ("ServiceUnavailable", 503, "ServiceUnavailable", "server"),
        ("ThrottlingException", 400, "ThrottlingException", "throttled"),
        ("RequestThrottled", 403, "ThrottlingException", "throttled"),
        ("ExpiredTokenException", 403, "ExpiredToken", "credentials"),
        ("UnrecognizedClientException", 400, "InvalidClientTokenId", "credentials"),
        ("AccessDeniedException", 403, "AccessDenied", "denied"),
        ("com.amazonaws.sqs#QueueDoesNotExist", 400, "QueueDoesNotExist", "no_such_queue"),
    ],
)
def test_what_aws_refuses_has_a_stable_code(
    endpoint: Endpoint, aws_code: str, status: int, code: str, kind: str
) -> None:
    endpoint.refuse(aws_code, status=status)
    failure = failure_of()
    assert (failure.call, failure.code, failure.kind) == ("DeleteMessageBatch", code, kind)
    assert len(endpoint.seen) == 1  # botocore itself retried nothing


def test_the_code_of_the_old_protocol_is_understood(endpoint: Endpoint) -> None:
    endpoint.refuse("QueueDoesNotExist", x_amzn_query_error="AWS.SimpleQueueService.NonExistentQueue;Sender")
    assert isinstance(failure_of(), NoSuchQueue)


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ((502, {}, "<html>Bad Gateway</html>"), "ServerError"),
        ((200, {}, "<html>Please sign in</html>"), "BadAnswer"),
        ((200, {}, '{"Failed": [7]}'), "BadAnswer"),
        ((200, {}, "{}"), "BadAnswer"),
        ("reset", "ConnectionClosed"),
        ("hold", "ReadTimeout"),
        ("drip", "Deadline"),
    ],
)
def test_what_is_no_answer_has_a_code_and_ends_in_time(endpoint: Endpoint, answer: Any, code: str) -> None:
    endpoint.answer = answer
    timeouts = Timeouts(connect=1.0, answer=0.6, slack=0.4) if code == "Deadline" else QUICK
    began = time.monotonic()
    failure = failure_of(timeouts)
    assert failure.code == code
    assert failure.detail
    assert time.monotonic() - began < 10


def test_a_call_that_was_given_up_makes_room_for_the_next(endpoint: Endpoint) -> None:
    async def work(session: Session) -> None:
        queue = Queue(session, url="http://q/1/q")
        endpoint.answer = "drip"
        for _ in range(2):
            with pytest.raises(AwsUnavailable, match="Deadline"):
                await queue.receive(1, 0.0, 30.0)
        endpoint.answer = accept
        assert await queue.receive(1, 0.0, 30.0) == []

    run(work, timeouts=Timeouts(connect=1.0, answer=0.3, slack=1.0))


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: refused, and nobody else's
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert failure_of().code == "ConnectFailed"


def test_a_wrong_clock_is_measured(endpoint: Endpoint) -> None:
    endpoint.refuse("InvalidSignatureException", "Signature expired: 2024 is now earlier than 2025")
    failure = failure_of()
    assert failure.kind == "clock"
    assert "clock" in failure.detail


def test_the_failures_of_a_batch_are_told_apart(endpoint: Endpoint) -> None:
    expired = "Value x for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired."
    too_long = "Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout…"
    failed = [
        {"Id": "0", "Code": "InvalidParameterValue", "Message": expired, "SenderFault": True},
        {"Id": "1", "Code": "AWS.SimpleQueueService.MessageNotInflight", "SenderFault": True},
        {"Id": "2", "Code": "InvalidParameterValue", "Message": too_long, "SenderFault": True},
        {"Id": "3", "Code": "InternalError", "SenderFault": False},
    ]
    endpoint.answer = (200, {}, json.dumps({"Failed": failed, "Successful": []}))

    async def work(session: Session) -> None:
        answer = await Queue(session, url="http://q/1/q").extend([("r", 29.2)] * 4)
        assert [(f.index, f.gone, f.sender_fault) for f in answer] == [
            (0, True, True),
            (1, True, True),
            (2, False, True),
            (3, False, False),
        ]
        assert endpoint.seen[0][1]["Entries"][0]["VisibilityTimeout"] == 30

    run(work)


def test_a_batch_that_is_too_large_together_goes_in_parts(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    def limit(request: Any) -> Answer:
        if sum(len(entry["MessageBody"]) for entry in request["Entries"]) > 100:
            return 400, {}, '{"__type": "BatchRequestTooLong"}'
        return accept(request)

    monkeypatch.setattr(endpoint, "answer", limit)

    async def work(session: Session) -> None:
        bodies = ["x" * 40, "x" * 40, "x" * 101, "x" * 40]
        failed = await Queue(session, url="http://q/1/q").send([Outgoing(str(i), b) for i, b in enumerate(bodies)])
        assert [(f.index, f.code, f.sender_fault) for f in failed] == [(2, "BatchRequestTooLong", True)]

    run(work)


def test_events_that_are_there_already_are_accepted(endpoint: Endpoint) -> None:
    endpoint.refuse("DataAlreadyAcceptedException")

    async def work(session: Session) -> None:
        assert await Logs(session).put_events("g", "s", [(1, "x")]) is None

    run(work)


# -- settings -------------------------------------------------------------------------------------------------


def test_credentials_may_come_later(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    endpoint.answer = accept
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setattr("runner.aws.session._LOOK_AGAIN_S", 0.0)

    async def work(session: Session) -> None:
        queue = Queue(session, url="http://q/1/q")
        with pytest.raises(AwsUnavailable) as caught:
            await queue.delete(["r"])
        assert (caught.value.code, caught.value.kind) == ("NoCredentials", "credentials")
        assert not endpoint.seen
        (tmp_path / "credentials").write_text("[default]\naws_access_key_id=a\naws_secret_access_key=b\n")
        assert await queue.delete(["r"]) == []

    run(work)


def test_renewed_credentials_are_read_again(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id=OLD\naws_secret_access_key=b\n")
    endpoint.refuse("ExpiredToken", status=403)

    async def work(session: Session) -> None:
        queue = Queue(session, url="http://q/1/q")
        with pytest.raises(AwsUnavailable, match="ExpiredToken"):
            await queue.delete(["r"])
        file.write_text("[default]\naws_access_key_id=NEW\naws_secret_access_key=b\n")
        endpoint.answer = accept
        assert await queue.delete(["r"]) == []
        assert "Credential=NEW/" in endpoint.signatures[-1]

    run(work)


def test_a_stand_in_without_region_gets_one_and_a_note(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.answer = accept
    monkeypatch.delenv("AWS_REGION")

    async def assumed(session: Session) -> None:
        await Queue(session, url="http://q/1/q").delete(["r"])
        assert session.region == "us-east-1"
        assert session.notes == ["no region is set for the custom AWS endpoint; us-east-1 is assumed"]

    async def of_url(session: Session) -> None:
        await Logs(session).put_events("g", "s", [(1, "x")])
        assert (session.region, session.notes) == ("ap-south-1", [])

    run(assumed)
    run(of_url, queue_url="https://sqs.ap-south-1.amazonaws.com/1/q")


def test_a_queue_url_is_its_own_endpoint_where_none_is_set(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint.answer = accept
    monkeypatch.delenv("AWS_ENDPOINT_URL")

    async def work(session: Session) -> None:
        assert await Queue(session, url=f"{endpoint.url}/1/q").delete(["r"]) == []

    run(work)


def test_settings_that_cannot_work_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    assert failure_of().code == "BadAwsSettings"
    monkeypatch.delenv("AWS_PROFILE")
    monkeypatch.delenv("AWS_REGION")
    assert failure_of(url="https://host.invalid/1/q").code in {"ConnectFailed", "ProxyFailed"}
