"""What people are told of a job, as a fact that is written down before anybody is told.

The recorder and the watch write a notice in one transaction with the state that it is about, so none is lost and
each is made once: its id names the fact. Whoever delivers reads the notices that are due from the `by-state` index
(`TELL`, by the time of the next try), and takes them out of it when every target has it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from runner.protocol import table as keys
from runner.protocol.units import format_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.control.notices.notify import News

TELL: Final = "TELL"
NOTICE_KEPT_S: Final = 30 * keys.DAY_S


@dataclass(frozen=True, slots=True)
class Fact:
    """Something about a job that people want to know; times are unix seconds, None where they are not known.

    ``id`` is the same whenever the same fact is found again. ``log`` is {group, stream, url} as the run's events
    name it. ``previous`` is how long it had been failing, of a recovery: the time of its first failure.
    """

    id: str
    news: News
    group: str
    job: str
    at: float
    run_id: str | None = None
    due_at: float | None = None
    started_at: float | None = None
    duration_s: float | None = None
    host: str | None = None
    attempt: int | None = None
    outcome: str | None = None
    reason: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    tail: str | None = None
    log: Mapping[str, str] = field(default_factory=dict)
    owner: str | None = None
    previous: float | None = None


def notice_item(fact: Fact, to: Sequence[str], *, now: float, made_at: float | None = None) -> dict[str, Any]:
    """A notice that is to be delivered to its targets, at once.

    ``to`` are those who are left to be told; ``tries`` counts, and ``state_at`` is the time of the next try. The
    order of ``made_at`` (where it is not now) is the order in which a job's notices are told.
    """
    return {
        **keys.notice(fact.id).attributes(),
        "fact": asdict(fact),
        "to": list(to),
        "tries": 0,
        "made_at": format_time(now if made_at is None else made_at),
        "state_key": TELL,
        "state_at": format_time(now),
        keys.EXPIRES: int(now + NOTICE_KEPT_S),
    }


def fact_of(item: Mapping[str, Any]) -> Fact:
    """The fact of a notice."""
    return Fact(**item["fact"])
