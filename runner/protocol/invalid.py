"""The one error of a message that cannot be a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

Reason = Literal["invalid", "not_allowed", "does_not_fit"]


class InvalidMessage(ValueError):
    """A message, or a declared job, that cannot be a run.

    `detail` names the field and what to do, and holds no environment value. `job`, `run_id`, `labels` and
    `scheduled_at` (unix seconds) are given as far as they could be read, else None, and no labels.
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
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason: Reason = reason
        self.job = job
        self.run_id = run_id
        self.labels: Mapping[str, str] = labels or {}
        self.scheduled_at = scheduled_at
