"""One line of a check."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "failed"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it is, and what to do where it is not well. ``remedy`` is empty with ``ok`` only."""

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def line(self) -> str:
        """The finding as one line of text: ``warning  redrive       why; do Y``."""
        said = not self.remedy or self.detail.endswith(self.remedy)  # a fault of the configuration has both in one
        text = self.detail if said else f"{self.detail}; {self.remedy}"
        return f"{self.status:<8} {self.name:<13} {' '.join(text.split())}"


def ok(name: str, detail: str) -> Finding:
    return Finding(name, "ok", detail)


def warning(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name, "warning", detail, remedy)


def failed(name: str, detail: str, remedy: str) -> Finding:
    return Finding(name, "failed", detail, remedy)
