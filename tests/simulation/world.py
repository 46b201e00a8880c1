"""What there is beside the agents: the queue, the results queue, the fleet's table, the hosts; and one seed that draws
every decision about them."""

from __future__ import annotations

import json
import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tests.simulation.hosts import Host
from tests.simulation.table import Items
from tests.simulation.virtual import CLOCK, EPOCH, LIFE, Loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

T = TypeVar("T")
TERMINAL = ("finished", "skipped", "rejected")


class Violation(AssertionError):
    """Something that was promised does not hold."""


@dataclass(slots=True, eq=False)
class Message:
    """On the queue. Times are the loop's seconds; `due` is when it is visible, `held` when it was last received."""

    id: str
    body: str
    group: str | None = None
    due: float = 0.0
    held: float = 0.0
    receipt: int = 0
    count: int = 0
    keeper: str | None = None  # the life that has heard of its receive, while no call about it has failed since
    said: dict[str, Any] = field(default_factory=dict)

    @property
    def run(self) -> str:
        return str(self.said.get("run_id", self.id))

    def same_run(self, other: Message) -> bool:
        return all(self.said.get(name) == other.said.get(name) for name in ("run_id", "job", "command"))


@dataclass(slots=True)
class Kind:
    """What kind of world it is; a history says it itself, a seed draws it (course.py)."""

    policy: str = "free-for-all"
    max_jobs: int = 3
    on_lost: str = "continue"
    on_stop: str = "drain"
    visibility: float = 30.0
    wait: float = 5.0
    hold: float = 8.0
    fifo: bool = False
    hosts: int = 1
    table: bool = False
    power: bool = False  # it can fail: what was not flushed is lost then
    damage: bool = False  # a journal can be damaged: it is put aside, and a new one begun
    most_receives: int | None = None
    signed: bool = False  # hosts take signed messages alone
    long: bool = False  # longer than SQS holds any message
    lasts: tuple[float, ...] = (0.0, 0.05, 1.0, 5.0, 40.0)
    codes: tuple[int, ...] = (0, 0, 1)


class World:
    """One world. `draws` decides everything in it; `faults`: whether calls may fail and answers be lost."""

    def __init__(self, kind: Kind, draws: random.Random) -> None:
        self.kind, self.random = kind, draws
        self.faults = False
        self.log_level = "error"
        self.results_away = False
        self.deletions_unanswered = False
        self.dead_letters_away = False
        self.copies: list[Message] = []  # to come again with the next receive, whoever holds them
        self.disk_full = False
        self.loop = Loop()
        self.loop.set_exception_handler(self._unhandled)
        self.folder = Path(tempfile.mkdtemp(prefix="world-"))
        self.messages: dict[str, Message] = {}
        self.sent: list[Message] = []
        self.unsent = 0  # messages that come later
        self.deleted: set[str] = set()
        self.buried: set[str] = set()
        self.delivered: list[dict[str, Any]] = []
        self.told: dict[str, list[dict[str, Any]]] = {}  # what was delivered, by run
        self.table: Items = {}
        self.lapsed: set[str] = set()  # runs whose claim another host has taken when its time was over
        # Runs and messages of which a journal that was put aside knew alone: they may be run, or told, once more.
        self.forgotten: set[str] = set()
        self.nameless: set[str] = set()  # messages on the queue whose runs such a journal knew alone
        self.ran: dict[str, set[str]] = {}  # the executions that had a process, by message
        self.history: list[str] = []
        self.decisions = self.crashes = 0
        self.error: BaseException | None = None
        self.hosts = [Host(self, f"h{number}") for number in range(1, kind.hosts + 1)]

    # -- decisions

    def one_of(self, choices: Sequence[T]) -> T:
        self.decisions += 1
        return self.random.choice(choices)

    def chance(self, share: float) -> bool:
        self.decisions += 1
        return self.random.random() < share

    def goes_wrong(self, share: float) -> bool:
        return self.faults and self.chance(share)

    # -- what happened

    def note(self, *words: object) -> None:
        life = LIFE.get()
        who = getattr(life, "name", "") or "world"
        self.history.append(f"{CLOCK.mono - 1000:10.3f} {who:6} {' '.join(map(str, words))}")

    def violated(self, text: str) -> Violation:
        """The promise that does not hold, as what is to be raised; the world ends with the first."""
        violation = Violation(text)
        self.failed(violation)
        return violation

    def failed(self, error: BaseException) -> None:
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if self.error is None:
            self.error = error
        self.loop.stop()

    def _unhandled(self, _loop: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, BaseException):
            self.failed(error)

    # -- the queue

    def send(
        self, body: dict[str, Any] | str, *, group: str | None = None, said: dict[str, Any] | None = None
    ) -> Message:
        """A message; one that is no JSON object is a string here. `said`: what it says, else its fields."""
        said = said or (body if isinstance(body, dict) else {})
        text = body if isinstance(body, str) else self.written(body)
        message = Message(f"m{len(self.sent) + 1}", text, group, CLOCK.mono, said=said)
        self.messages[message.id] = message
        self.sent.append(message)
        self.note("sent", message.id, text)
        return message

    def written(self, body: dict[str, Any]) -> str:
        """The message's text: signed, where hosts take no others."""
        if not self.kind.signed:
            return json.dumps(body)
        from tests.simulation.signing import envelope

        return envelope(self, body)

    def held_by(self, receipt: str) -> tuple[str, Message | None]:
        """The message that a receipt names, and itself where that is its newest receipt."""
        name, _, number = receipt.partition(":")
        message = self.messages.get(name)
        return name, message if message is not None and message.receipt == int(number) else None

    def deliver(self, event: dict[str, Any]) -> None:
        self.delivered.append(event)
        self.told.setdefault(event.get("subject", ""), []).append(event)

    def terminal(self, run: str) -> list[dict[str, Any]]:
        """What was delivered of the ends of a run, repeats and all."""
        return [event for event in self.told.get(run, ()) if is_terminal(event)]

    # -- going on

    def go_on(self, until: Callable[[], bool], within: float, every: float = 0.5) -> bool:
        """Let time pass until something holds, at most so long; whether it does. Raises what went wrong."""
        end = CLOCK.mono + within

        def look() -> None:
            if until() or CLOCK.mono >= end:
                self.loop.stop()
            else:
                self.loop.later(every, look)

        self.loop.later(0.0, look)
        self.loop.run_forever()
        if self.error is not None:
            raise self.error
        return until()

    @property
    def wall(self) -> float:
        return EPOCH + CLOCK.mono


def kind_of(event: dict[str, Any]) -> str:
    return str(event["type"]).rpartition(".")[2]


def is_terminal(event: dict[str, Any]) -> bool:
    return kind_of(event) in TERMINAL and not event["data"].get("will_retry")
