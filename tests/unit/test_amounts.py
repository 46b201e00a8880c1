"""Amounts as people read them."""

from __future__ import annotations

import pytest

from runner.agent.runs.admission.amounts import shown


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (1000, "1000"),
        (1e15, "1000000000000000"),
        (1234.5, "1234.5"),
        (100, "100"),
        (2.0, "2"),
        (0.5, "0.5"),
        (1 / 3, "0.333"),
        (0.00002, "0.00002"),
        (0, "0"),
        (-1, "0"),
    ],
)
def test_amounts_are_plain_numbers(amount: float, text: str) -> None:
    assert shown("cpu", amount) == text


def test_memory_has_its_unit() -> None:
    assert shown("memory", 3.1 * 2**30) == "3.1G"
