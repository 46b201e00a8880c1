"""The ends of a job's last runs as one text of a few bytes each: a status is written at each end, and billed by the
kilobyte. Pure.

An end is `STATE ENDED DUE ID`: its state; when it ended, in seconds of unix time, microseconds behind a point; how long
before that the run was due, in the same way, or `-`; and `+` for the id that a schedule gives the run of that time, or
the run's id behind `=`, or behind a hyphen what stands behind the job's name and a hyphen. Ends are separated by line
feeds, the oldest first. An id may hold blanks, as it is last; `%25` and `%0A` are its percent signs and line feeds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from runner.control.definition import run_id_at
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Item = dict[str, Any]


def packed(ends: Sequence[Mapping[str, Any]], job: str) -> str:
    """Ends ({state, run_id, ended_at, scheduled_at}) as a text."""
    return "\n".join(_line(one, job) for one in ends)


def unpacked(text: str, job: str) -> list[Item]:
    """What `packed` was given."""
    return [_end(line, job) for line in text.split("\n")] if text else []


def _line(one: Mapping[str, Any], job: str) -> str:
    ended = _micros(one["ended_at"])
    due = None if one["scheduled_at"] is None else _micros(one["scheduled_at"])
    run_id = str(one["run_id"])
    if due is not None and run_id == run_id_at(job, due // 1_000_000):
        said = "+"
    elif run_id.startswith(f"{job}-"):
        said = f"-{run_id.removeprefix(f'{job}-')}"
    else:
        said = f"={run_id}"
    said = said.replace("%", "%25").replace("\n", "%0A")
    return f"{one['state']} {_text(ended)} {'-' if due is None else _text(ended - due)} {said}"


def _end(line: str, job: str) -> Item:
    state, ended_text, before, said = line.split(" ", 3)
    ended = _number(ended_text)
    due = None if before == "-" else ended - _number(before)
    said = said.replace("%0A", "\n").replace("%25", "%")
    run_id = said[1:]
    if said[0] == "+":
        assert due is not None
        run_id = run_id_at(job, due // 1_000_000)
    elif said[0] == "-":
        run_id = f"{job}-{run_id}"
    return {
        "state": state,
        "run_id": run_id,
        "ended_at": _time(ended),
        "scheduled_at": None if due is None else _time(due),
    }


def _micros(text: str) -> int:
    return round(parse_time(text) * 1_000_000)


def _time(micros: int) -> str:
    return format_time(micros / 1_000_000)


def _text(micros: int) -> str:
    """Seconds, as short as they can be said."""
    sign, whole, rest = "-" if micros < 0 else "", *divmod(abs(micros), 1_000_000)
    return f"{sign}{whole}.{rest:06}".rstrip("0").rstrip(".")


def _number(text: str) -> int:
    whole, _, rest = text.removeprefix("-").partition(".")
    micros = int(whole) * 1_000_000 + int(rest.ljust(6, "0"))
    return -micros if text.startswith("-") else micros
