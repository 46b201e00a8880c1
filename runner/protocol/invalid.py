"""The one error of a message that cannot be a run, and how all that is wrong with one comes into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from runner.protocol.job import Job

Reason = Literal["invalid", "not_allowed", "does_not_fit", "not_signed", "bad_signature"]

# Each may cost a search for what was meant, and the text goes into an event and onto a terminal.
MOST_TOLD: Final = 20
_MOST_TEXT: Final = 1500  # characters


class InvalidMessage(ValueError):
    """A message, or a declared job, that cannot be a run.

    `detail` names the field and what to do, and holds no environment value; `faults` are the single ones that it
    tells. `job`, `run_id`, `labels`, `scheduled_at` (unix seconds) and `traceparent` are given as far as they could be
    read, else None, and no labels.
    """

    def __init__(
        self,
        detail: str,
        *,
        reason: Reason = "invalid",
        job: str | None = None,
        run_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        scheduled_at: float | None = None,
        traceparent: str | None = None,
        faults: Sequence[str] = (),
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults) or (detail,)
        self.reason: Reason = reason
        self.job = job
        self.run_id = run_id
        self.labels: Mapping[str, str] = labels or {}
        self.scheduled_at = scheduled_at
        self.traceparent = traceparent

    def of(self, job: Job) -> Self:
        """The same, of a message whose job could be read."""
        self.job, self.run_id, self.labels = job.job, job.run_id, job.labels
        self.scheduled_at, self.traceparent = job.scheduled_at, job.traceparent
        return self


class Faults:
    """Collects what is wrong with one thing while the reading goes on, up to a bound on what a sender may cost."""

    def __init__(self, reason: Reason = "invalid") -> None:
        self._reason = reason
        self._told: dict[str, None] = {}

    def add(self, error: InvalidMessage) -> None:
        """Raises InvalidMessage when there are enough: what comes behind is not read."""
        self._told |= dict.fromkeys(error.faults)
        if len(self._told) >= MOST_TOLD:
            raise self._all(enough=True)

    def ask_for(self, name: str) -> bool:
        """Whether a field was not known that was meant to be this one, which therefore is not missing."""
        return any(f'did you mean "{name}"?' in fault for fault in self._told)

    def settle(self) -> None:
        """Raise InvalidMessage where anything was wrong."""
        if self._told:
            raise self._all(enough=False)

    def _all(self, *, enough: bool) -> InvalidMessage:
        faults = tuple(self._told)[:MOST_TOLD]
        return InvalidMessage(_listed(faults, enough=enough), reason=self._reason, faults=faults)


def _listed(faults: tuple[str, ...], *, enough: bool) -> str:
    said = faults[0]
    for number, fault in enumerate(faults[1:], 1):
        if len(said) + len(fault) > _MOST_TEXT:
            return f"{said}; also {len(faults) - number}{' or more' if enough else ''} others"
        said += f"; also {fault}"
    return f"{said}; also others" if enough else said
