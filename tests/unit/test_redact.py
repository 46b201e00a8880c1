"""Masks: every byte of every occurrence, alone or overlapping, and nothing else."""

from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from runner.agent.output.masking import Masks, whole

ALPHABET = st.text("ab", min_size=6, max_size=9)


@given(st.lists(ALPHABET, min_size=1, max_size=4), st.text("ab", max_size=80))
def test_exactly_the_bytes_of_occurrences_are_masked(secrets: list[str], text: str) -> None:
    inside = set()
    for secret in secrets:
        for start in range(len(text)):
            if text.startswith(secret, start):
                inside.update(range(start, start + len(secret)))
    spans = Masks(secrets).spans(text.encode())
    assert {position for start, end in spans for position in range(start, end)} == inside
    left = "".join(character for position, character in enumerate(text) if position not in inside)
    assert Masks(secrets).mask_text(text).replace("*", "") == left


@given(st.lists(ALPHABET, min_size=1, max_size=4), st.text("ab", max_size=60), st.integers(0, 60))
def test_a_cut_never_goes_through_an_occurrence(secrets: list[str], text: str, cut: int) -> None:
    masks = Masks(secrets)
    data = text.encode()
    seen = data[: cut + 5]
    safe = whole(min(cut, len(seen)), masks.spans(seen), masks.pending(seen))
    for secret in secrets:
        for start in range(len(text)):
            if text.startswith(secret, start):
                assert not start < safe < start + len(secret)


def test_short_values_are_left() -> None:
    assert not Masks(["12345", ""])
    assert Masks(["12345"]).mask_text("12345") == "12345"


def test_each_line_of_a_value_of_several_lines_is_masked() -> None:
    key = "-----BEGIN KEY-----\nAAAABBBBCCCC\nDD==\n-----END KEY-----\n"
    masks = Masks([key])
    assert masks.mask_text(f"x\n{key}y") == "x\n***\n***\n***\n***\ny"
    assert masks.mask_text("only AAAABBBBCCCC here") == "only *** here"
    assert masks.mask_text("DD==") == "DD=="


def test_a_value_that_overlaps_itself_takes_no_step_per_byte() -> None:
    masks = Masks(["000000", "abababab"])
    started = time.process_time()
    assert masks.mask(b"0" * (1 << 20) + b"ab" * (1 << 19)) == b"******"
    assert time.process_time() - started < 1.0
