"""Numbers, durations and times of the command line, each with its range; types for argparse."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def whole(least: int, most: int) -> Callable[[str], int]:
    """A whole number from ``least`` to ``most``."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = None
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
        return number

    return read


def lasting(least: str, most: str) -> Callable[[str], float]:
    """A duration from ``least`` to ``most``, in seconds."""

    def read(text: str) -> float:
        from runner.protocol.units import parse_duration  # noqa: PLC0415 - `--help` needs none of it

        try:
            seconds = parse_duration(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        if not parse_duration(least) <= seconds <= parse_duration(most):
            raise argparse.ArgumentTypeError(f"{text!r} is out of range: give {least} to {most}")
        return seconds

    return read


def moment(text: str) -> float:
    """A time with its offset from UTC, in unix seconds."""
    from runner.protocol.units import parse_time  # noqa: PLC0415 - `--help` needs none of it

    try:
        return parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
