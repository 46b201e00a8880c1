"""What the end of a parent's run makes of a child: it waits for others, is fired, or is skipped. Pure.

    (a parent has ended) ─▶ waits ─▶ fired
                              └────▶ skipped ─ a parent ends once more, and otherwise ─▶ fired

Fired is fired: nothing that is heard later takes it back. What is skipped because of a run that was given up for lost,
say, is fired when that run is heard of after all. So whatever comes late, twice or in another order, a child is fired
once where its parents have ended as it wants them to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from runner.control.chains.chain import AFTER, CHAIN, child_run_id, joined_run_id
from runner.control.recording.run_state import is_open
from runner.control.recording.told import Told
from runner.control.signatures import body
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.control.definition import JobDefinition

Item = dict[str, Any]

NOT_STARTED: Final = "not_started"
EXECUTION: Final = "upstream"
"""The execution of a run that no host was sent."""
FIRST_TRY_S: Final = 60.0
"""For as long who has ended a parent's run deals with its children; then anybody does."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """``why`` it is skipped: the reason, then in words."""

    says: Literal["wait", "fire", "skip"]
    why: tuple[str, str] = ("", "")


def owes(run: Mapping[str, Any]) -> bool:
    """Whether a run has ended as far as its job's children go: one that was handed back is to run again."""
    return bool(run["job"]) and not is_open(run["state"]) and run["state"] != "interrupted"


def owed_item(run: Mapping[str, Any], *, now: float) -> Item:
    """The end of a parent's run, to be written with it: owed to its job's children until they are dealt with."""
    return {
        **keys.children(run["group"], run["run_id"]).attributes(),
        **{name: run[name] for name in ("group", "job", "run_id", "state", "scheduled_at")},
        "chain": run["labels"].get(CHAIN),
        "number": run["version"],
        "tries": 0,
        "state_key": keys.OWED,
        "state_at": format_time(now + FIRST_TRY_S),
        keys.EXPIRES: run[keys.EXPIRES],
    }


def never_started(job: JobDefinition, run_id: str, due_at: float, *, now: float) -> Item:
    """The same of a run that has not started in time, and that nothing is known of."""
    run = {"group": job.group, "job": job.name, "run_id": run_id, "state": NOT_STARTED, "labels": {}, "version": 0}
    return owed_item({**run, "scheduled_at": format_time(due_at), keys.EXPIRES: int(now + job.retention)}, now=now)


def run_id_of(child: JobDefinition, owed: Mapping[str, Any]) -> str:
    """The id of the child's run that this end of a parent is part of."""
    if len(child.after) == 1:
        return child_run_id(child.name, owed["job"], owed["run_id"])
    due = owed["scheduled_at"]
    return joined_run_id(child.name, parse_time(due) if due else None, owed["chain"] or owed["run_id"])


def verdict(child: JobDefinition, ends: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """What is to become of a child whose parents have ended so, as far as they have: ``ends`` are {run_id, state} by
    the parent's name."""
    for parent in child.after:
        if parent in ends and not _wanted(child, ends[parent]["state"]):
            return Verdict("skip", ("upstream", f"{parent} {_words(ends[parent])}"))
    if any(parent not in ends for parent in child.after):
        return Verdict("wait")
    return Verdict("fire") if child.enabled else Verdict("skip", ("disabled", ""))


def _wanted(child: JobDefinition, state: str) -> bool:
    return child.after_when == "any" or (state == "succeeded") == (child.after_when == "success")


def _words(end: Mapping[str, Any]) -> str:
    state = "has never started" if end["state"] == NOT_STARTED else end["state"]
    return f"{state} ({end['run_id']})"


def run_part(child: JobDefinition, owed: Mapping[str, Any], ends: Mapping[str, Mapping[str, Any]]) -> Item:
    """What is said of a child's run beside what its job says: as much as is not signed of a signed one."""
    labels = {AFTER: " ".join(ends[parent]["run_id"] for parent in child.after if parent in ends)}
    if not owed["scheduled_at"]:
        labels[CHAIN] = owed["chain"] or owed["run_id"]
    due = {"scheduled_at": owed["scheduled_at"]} if owed["scheduled_at"] else {}
    return {"run_id": run_id_of(child, owed), **due, "labels": labels}


def message_after(child: JobDefinition, run: Mapping[str, Any]) -> str:
    """The body of the message of a child's run."""
    return body(child.name, child.sent(), child.signed, run)


def skipped(child: JobDefinition, run: Mapping[str, Any], why: tuple[str, str], at: float) -> Told:
    """A run that does not happen, as its host would tell it if it had been sent one."""
    labels = {**(child.message.get("labels") or {}), **run["labels"]}
    data = {"job": child.name, "scheduled_at": run.get("scheduled_at"), "labels": labels}
    return Told(
        id=f"{EXECUTION}/1/skipped",
        kind="skipped",
        at=at,
        group=child.group,
        run_id=run["run_id"],
        execution=EXECUTION,
        attempt=1,
        sequence=1,
        data={**data, "reason": why[0], "detail": why[1]},
    )
