"""The one error of a message that cannot be a run."""

from __future__ import annotations

from typing import Literal

Reason = Literal["invalid", "not_allowed", "does_not_fit"]


class InvalidMessage(ValueError):
    """A message, or a declared job, that cannot be a run.

    `detail` names the field and what to do, and holds no environment value. `job` and `run_id` are given
    as far as they could be read, else None.
    """

    def __init__(
        self, detail: str, *, reason: Reason = "invalid", job: str | None = None, run_id: str | None = None
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.reason: Reason = reason
        self.job = job
        self.run_id = run_id
