"""A deaf agent turns red; a stuck one is restarted by the watchdog; one that waits, is idle, full or paused is neither.

The test is the service manager: it listens on NOTIFY_SOCKET and acts on a watchdog that is not fed. The agent's own
limits of a minute and two are shortened to seconds here; tests/deaf.sh runs the same tests with the real ones.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from asking import Systemd, health, listen
from fleet import processes_of
from waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aws import Aws
    from faults import Proxy
    from fleet import Fleet, Host

pytestmark = [
    pytest.mark.parametrize("aws_server", ["standin"], indirect=True),
    pytest.mark.timeout(400),
]

REAL = bool(os.environ.get("DEAF_REAL"))
# When the agent calls itself deaf, when it calls itself stuck, and what systemd allows between two feedings.
DEAF_S, STUCK_S, WATCHDOG_S = (60.0, 120.0, 30.0) if REAL else (3.0, 10.0, 6.0)
# From the fault until the page is red: the issue of deafness is promised within this.
RED_WITHIN_S = 90.0 if REAL else 30.0
# What no watchdog may bite in.
LONG_S = STUCK_S + 20 if REAL else STUCK_S + 3
HASTY = f"""
import asyncio, os, sys, time
from runner.agent.operator import health
from runner.agent.operator import health_watch as watch
from runner.aws import backoff, session
from runner.aws.sqs import Queue
if not {REAL}:
    health.DEAF_AFTER_S, health.STUCK_AFTER_S, watch.EVERY_S = {DEAF_S}, {STUCK_S}, 0.5
    whole = session.Timeouts
    session.Timeouts = lambda: whole(connect=1.0, answer=1.0, slack=1.0)
    backoff.retrying.__kwdefaults__["cap"] = 2.0
receive = Queue.receive
async def stuck(self, *args):
    how = os.path.exists(os.environ["STUCK"]) and open(os.environ["STUCK"]).read()
    if how == "poll":
        await asyncio.Event().wait()
    if how == "loop":
        time.sleep(3600)
    return await receive(self, *args)
Queue.receive = stuck
from runner.cli.main import entry
sys.exit(entry())
"""
PROGRAM = (sys.executable, "-c", HASTY)


class Watched:
    """A host whose agent is watched as systemd does, and asked for its health."""

    def __init__(self, fleet: Fleet, systemd: Systemd, **settings: str) -> None:
        self.host: Host = fleet.host(**settings)
        self.address = listen(self.host)
        self.systemd = systemd
        self.stick = fleet.directory / "stuck"

    def start(self) -> None:
        environment = self.systemd.environment(WATCHDOG_S)
        self.host.start(program=PROGRAM, STUCK=str(self.stick), **environment)

    def wait(self, status: int, word: str = "", within: float = 60.0) -> float:
        """Wait until health is this; returns the seconds that it took."""
        began = time.monotonic()

        def found() -> bool:
            code, page = health(self.address)
            return code == status and word in " ".join(page["reasons"])

        wait_for(found, f"health is {status}", within, lambda: f"{health(self.address)}\n{self.host.log()}")
        return time.monotonic() - began

    def unfed_s(self) -> float:
        """For how long the watchdog has not been fed, which systemd counts from READY on."""
        fed = [at for at, fields in list(self.systemd.told) if "WATCHDOG" in fields or "READY" in fields]
        return time.monotonic() - max(fed) if fed else 0.0

    def lasts(self, seconds: float, check: Callable[[], None]) -> None:
        """`check` holds for so long, and systemd finds no reason to restart the agent."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            check()
            assert self.unfed_s() < WATCHDOG_S, self.host.log()
            assert self.host.agent.poll() is None, self.host.log()
            time.sleep(0.1)


@pytest.fixture
def watched(fleet: Fleet, proxy: Proxy) -> Iterator[Watched]:
    """By way of the proxy, not started yet."""
    fleet.endpoint = proxy.endpoint
    with Systemd(fleet.directory) as systemd:
        yield Watched(fleet, systemd)


def is_red(watched: Watched) -> None:
    assert health(watched.address)[0] == 503


def is_green(watched: Watched) -> None:
    status, page = health(watched.address)
    assert status == 200, page


# -- deaf: red in time, and nobody is restarted for it


@pytest.mark.parametrize("how", ["removed", "expired", "blocked"])
def test_a_deaf_agent_turns_red_in_time_and_is_not_restarted(
    fleet: Fleet, aws: Aws, proxy: Proxy, watched: Watched, how: str
) -> None:
    watched.start()
    watched.wait(200)
    word = {"removed": "QueueDoesNotExist", "expired": "ExpiredToken", "blocked": "no answer to a receive"}[how]
    match how:
        case "removed":
            aws.sqs.delete_queue(QueueUrl=fleet.queue)
        case "expired":
            calls = ("ReceiveMessage", "SendMessageBatch", "GetQueueAttributes", "GetQueueUrl")
            proxy.deny(*calls, code="ExpiredTokenException")
        case "blocked":
            proxy.swallow("ReceiveMessage")
    assert watched.wait(503, word, RED_WITHIN_S) >= DEAF_S / 2
    _, page = health(watched.address)
    receive = next(problem for problem in page["problems"] if problem["kind"] == "receive")
    assert receive["for_s"] >= DEAF_S
    assert receive["since"].endswith("Z")
    wait_for(
        lambda: any("AWS away for" in line or "no answer" in line for line in watched.systemd.said("STATUS")[-3:]),
        "systemctl status says it",
        30,
        lambda: str(watched.systemd.said("STATUS")[-3:]),
    )
    watched.lasts(LONG_S, lambda: is_red(watched))
    if how == "removed":
        fleet.queue = aws.queue(fleet.queue.rpartition("/")[2])
    proxy.heal()
    watched.wait(200, within=RED_WITHIN_S)
    fleet.send({"job": "after", "run_id": "after", "command": "true"})
    fleet.events.wait_ended(["after"], within=90)


@contextmanager
def black_hole() -> Iterator[str]:
    """An address whose packets are dropped: the backlog of one who never accepts is full."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = server.getsockname()
        while True:
            filler = stack.enter_context(socket.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(address)
            except TimeoutError:
                break
        yield f"http://{address[0]}:{address[1]}"


def test_a_black_hole_from_the_start_is_red_in_time_too(fleet: Fleet) -> None:
    with black_hole() as endpoint, Systemd(fleet.directory) as systemd:
        fleet.endpoint = endpoint
        watched = Watched(fleet, systemd)
        watched.start()
        # AWS is not asked before the agent says that it is ready: it waits the outage out.
        wait_for(lambda: systemd.said("READY"), "the agent is ready", 60, watched.host.log)
        watched.wait(503, "no answer to a receive", RED_WITHIN_S)
        watched.lasts(LONG_S, lambda: is_red(watched))


# -- stuck: not fed any more, and well after the restart


@pytest.mark.parametrize("how", ["poll", "loop"])
def test_a_stuck_poll_loop_is_restarted_and_its_jobs_do_not_notice(fleet: Fleet, watched: Watched, how: str) -> None:
    go = fleet.directory / "go"
    watched.start()
    fleet.send({"job": "long", "run_id": "long", "command": f"while [ ! -e {go} ]; do sleep 0.1; done; echo done"})
    fleet.events.wait("long", "started")
    watched.wait(200)
    watched.stick.write_text(how)
    # The service manager's part: the watchdog's signal when it was not fed in time, then a new agent.
    wait_for(lambda: watched.unfed_s() > WATCHDOG_S, "the watchdog bites", STUCK_S + 90, watched.host.log)
    if how == "poll":
        assert "watchdog_not_fed" in watched.host.log()
        # One that only says so: the status line is as fresh as ever.
        assert time.monotonic() - watched.systemd.told[-1][0] < WATCHDOG_S
    watched.host.signal(signal.SIGABRT)
    assert watched.host.wait() == -signal.SIGABRT
    assert processes_of(str(go))
    watched.stick.unlink()
    watched.start()
    watched.wait(200)
    go.touch()
    [event] = fleet.events.wait_ended(["long"], within=60)
    assert event["data"]["outcome"] == "succeeded"
    assert watched.unfed_s() < WATCHDOG_S


# -- neither


def test_an_idle_agent_is_well(watched: Watched) -> None:
    watched.start()
    watched.wait(200)
    watched.lasts(LONG_S, lambda: is_green(watched))


def test_a_full_agent_is_well(fleet: Fleet, proxy: Proxy) -> None:
    fleet.endpoint = proxy.endpoint
    with Systemd(fleet.directory) as systemd:
        watched = Watched(fleet, systemd, more='admission.hold = "1m"\n')
        watched.host.config.write_text(watched.host.config.read_text().replace("max_jobs = 8", "max_jobs = 1"))
        watched.start()
        fleet.send({"job": "long", "run_id": "long", "command": "sleep 600"})
        fleet.events.wait("long", "started")
        watched.wait(200)
        asked = proxy.count("ReceiveMessage")
        watched.lasts(LONG_S, lambda: is_green(watched))
        # It did not ask, which is what makes it different from a deaf one.
        assert proxy.count("ReceiveMessage") <= asked + 1
        assert "1 running, 0 held; waits for room: max_jobs: 1 of 1 are running" in systemd.said("STATUS")


def test_a_paused_agent_is_well(watched: Watched) -> None:
    watched.host.state.mkdir(mode=0o700)
    pause = {"by": "ann", "since": time.time(), "note": "patching", "until": None}
    (watched.host.state / "pause.json").write_text(json.dumps(pause))
    watched.start()
    watched.wait(200)
    watched.lasts(LONG_S, lambda: is_green(watched))
    assert health(watched.address)[1]["notes"][0].startswith("paused by ann")
    assert any("paused by ann" in line and line.endswith(": patching") for line in watched.systemd.said("STATUS"))


def test_a_long_drain_is_given_its_time(fleet: Fleet, watched: Watched) -> None:
    """systemd would kill what it takes for stuck: a drain that goes on says so, and the watchdog stays fed."""
    go = fleet.directory / "go"
    watched.start()
    fleet.send({"job": "long", "run_id": "long", "command": f"while [ ! -e {go} ]; do sleep 0.1; done"})
    fleet.events.wait("long", "started")
    watched.host.signal(signal.SIGTERM)
    wait_for(lambda: watched.systemd.said("STOPPING"), "the stop is said", detail=watched.host.log)
    watched.lasts(LONG_S, lambda: is_green(watched))
    extended = [at for at, fields in watched.systemd.told if fields.get("EXTEND_TIMEOUT_USEC") == "60000000"]
    assert len(extended) >= 4
    assert time.monotonic() - extended[-1] < WATCHDOG_S
    assert "1 running, 0 held; stopping: waits for the running jobs" in watched.systemd.said("STATUS")
    go.touch()
    assert watched.host.wait(60) == 0, watched.host.log()
    [event] = fleet.events.wait_ended(["long"])
    assert event["data"]["outcome"] == "succeeded"
