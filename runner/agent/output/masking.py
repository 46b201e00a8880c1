"""Masking of secret values in output, in the supervisor's own way, and where output may be cut."""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING

from runner.supervisor.masking import Masks, Span, joined, patterns

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Masks", "Span", "joined", "patterns", "whole"]


def whole(cut: int, spans: Sequence[Span], pending: int) -> int:
    """The greatest position up to `cut` that lies in no secret and behind the start of no possible one."""
    cut = min(cut, pending)
    index = bisect_right(spans, (cut, -1)) - 1
    if index >= 0 and spans[index][0] < cut < spans[index][1]:
        return spans[index][0]
    return cut
