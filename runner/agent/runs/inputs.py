"""What can happen to a run, in the past tense. Whoever finds out makes one, and step.py says what follows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from runner.agent.runs.output import OutputEnd, OutputReport, SpoolRow
    from runner.agent.runs.process import ExitRecord, Known, Started
    from runner.protocol.outcome import Outcome


class Input:
    """Something that has happened."""

    __slots__ = ()


# -- on the way to a process


@dataclass(frozen=True, slots=True)
class Accepted(Input):
    """Its row is written: it is this host's from here on."""


@dataclass(frozen=True, slots=True)
class Continued(Input):
    """What it had to wait for is done, and it may go on."""


@dataclass(frozen=True, slots=True)
class SecretsFetched(Input):
    """All that it needs is in memory; or it was stopped meanwhile."""


@dataclass(frozen=True, slots=True)
class SecretsRefused(Input):
    """One cannot be had. `why` names its reference."""

    why: str


@dataclass(frozen=True, slots=True)
class SpoolMade(Input):
    """There is a file for its output, open as `fd`."""

    fd: int


@dataclass(frozen=True, slots=True)
class SpoolRefused(Input):
    """The disk has no room for a file."""


@dataclass(frozen=True, slots=True)
class Began(Input):
    """The supervisor has answered the start."""

    started: Started


@dataclass(frozen=True, slots=True)
class Withdrawn(Input):
    """It was stopped while the supervisor put its start off: no supervisor has started it."""


# -- its end


@dataclass(frozen=True, slots=True)
class Ended(Input):
    """Its process is gone, and the supervisor says how."""

    record: ExitRecord


@dataclass(frozen=True, slots=True)
class Lost(Input):
    """Nobody has its process any more, and nobody can say how it ended."""


@dataclass(frozen=True, slots=True)
class Collected(Input):
    """Its output is there, as far as it came in time, and what it comes to. `end` None: none was ever begun."""

    record: ExitRecord | None
    report: OutputReport
    outcome: Outcome
    end: OutputEnd | None
    shipped: bool = True


@dataclass(frozen=True, slots=True)
class EndTold(Input):
    """The end of this attempt is in the journal, for good, with the event that tells it. `begun`: there was a file for
    its output; `shipped`: every sink has all of it."""

    shipped: bool = True
    begun: bool = True


@dataclass(frozen=True, slots=True)
class Due(Input):
    """The wait for its next attempt is over, or was ended."""


# -- from outside, at any time


@dataclass(frozen=True, slots=True)
class StopAsked(Input):
    """Somebody wants it to end. `there`: a start of it is under way, or its process is there."""

    there: bool


@dataclass(frozen=True, slots=True)
class LeaseLost(Input):
    """SQS, or the fleet's table, may have given it to another host. `policy`: `[queue] on_lost_lease`."""

    why: str
    policy: str


@dataclass(frozen=True, slots=True)
class LimitNear(Input):
    """SQS will not hold its message much longer."""


# -- after a restart of the agent


class Seen(StrEnum):
    """What the supervisor has of the present attempt."""

    NOTHING = "nothing"
    PENDING = "pending"  # whether its command can be executed is not known: who starts it again is told
    ALIVE = "alive"
    ENDED = "ended"
    NOT_EXECUTED = "not executed"


@dataclass(frozen=True, slots=True)
class Found(Input):
    """Its row was in the journal. `same`: the supervisor that it was given to is the one that was asked. `over`: its
    lease has run out meanwhile. `there` is what the supervisor has, `spool` the row of its output."""

    seen: Seen
    same: bool
    over: bool
    there: Known | None = None
    spool: SpoolRow | None = None


# -- before its row: what the fleet says


class Said(StrEnum):
    """The fleet's answer to a run that would start, or be told, here."""

    CLEAR = "clear"
    BUSY = "busy"  # another run of its job is active
    ELSEWHERE = "elsewhere"  # another host has this run
    OVER = "over"  # it has run to its end on another host
    ANOTHER = "another"  # its run id is that of another job's run, or of another command's
    AWAY = "away"  # the table cannot be asked


@dataclass(frozen=True, slots=True)
class ClaimAnswered(Input):
    """`leaving`: the agent stops, or its lease is lost. `ends`: it is to be told without a start. `welcome`: nothing
    has changed since its turn came. `goes_back`: the redrive policy and `admission.hold` let it go to another host."""

    said: Said
    overlap: str
    leaving: bool = False
    ends: bool = False
    welcome: bool = True
    goes_back: bool = False


INPUTS: Final = (
    *(
        ClaimAnswered,
        Accepted,
        Continued,
        SecretsFetched,
        SecretsRefused,
        SpoolMade,
        SpoolRefused,
        Began,
        Withdrawn,
        Ended,
        Lost,
        Collected,
        EndTold,
    ),
    *(Due, StopAsked, LeaseLost, LimitNear, Found),
)


def seen(there: Known | None) -> Seen:
    """What the supervisor has, in one word."""
    if there is None:
        return Seen.NOTHING
    if there.pending:
        return Seen.PENDING
    if there.exit is None:
        return Seen.ALIVE
    return Seen.NOT_EXECUTED if there.exit.start_error else Seen.ENDED
