"""How a job stands: how its last run ended, and since when something is wrong with it. Pure.

    well ──▶ in trouble     a run ends badly; people are told that one takes too long, or was not done in time
     ▲            │
     └────────────┘         a run succeeds, and nothing that they were told of still holds

What they were told of a run holds while it goes on. Of one that never began, or was handed back and did not come
again, it holds until a run that was due later succeeds. So every trouble ends by itself when the job does what it
should again, and none ends before.

How it stands is folded from the ends of its last runs, in whatever order they are heard of: see `_ends`.

The status is written in one transaction with the notices of what changed it, and its `changed_at` gives them their
order: it only rises, whatever the clocks of those who write it say.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runner.control.recording.ends import packed, unpacked
from runner.control.recording.run_state import FAILURES, is_open
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from runner.control.notices.facts import Fact

Item = dict[str, Any]

STEP_S: Final = 0.01
"""Between two changes of a status at least; the few notices of one lie closer together."""
_APART_S: Final = 0.001
_ENDS: Final = 20
"""Ends of runs that a status keeps: one that was given up for lost and is heard of after all is among them."""
_MOST_TROUBLES: Final = 100  # one read of the table; the oldest of more have nothing to add
_IN_TROUBLE_KEPT_S: Final = 400 * keys.DAY_S
"""For longer than a yearly job's next run takes: who forgets that it failed never says that it is well again."""


def after_end(
    before: Mapping[str, Any] | None, run: Mapping[str, Any], holding: Collection[str], now: float
) -> Item | None:
    """The job's status after a run has ended; None where that says nothing new about it.

    ``holding`` are the ids of other runs of which people were told, and that `holds` says are no better yet.
    """
    if not run["job"] or is_open(run["state"]):
        return None
    bad, good = run["state"] in FAILURES, run["state"] == "succeeded"
    new = dict(before or {"state": None, "run_id": None, "ended_at": None, "failing_since": None, "troubles": []})
    told = new.get("troubles", [])
    if run["state"] != "interrupted":  # then it is to run again
        new["troubles"] = [one for one in told if one["run_id"] != run["run_id"]]
    ends = _ends(before, run)
    if ends or (before is not None and before["state"] is not None):
        # None is left where the only one was given up for lost, and had been cancelled.
        last = ends[-1] if ends else {}
        new.pop("ends", None)
        new["last"] = packed(ends, run["job"])
        new |= {name: last.get(name) for name in ("state", "run_id", "ended_at")}
    other = before is None or any(new[name] != before[name] for name in ("state", "run_id", "ended_at"))
    over = len(new["troubles"]) < len(told)  # it took too long, say, and has been cancelled
    if new["state"] in FAILURES:
        new["failing_since"] = new["failing_since"] or new["ended_at"]
    elif new["state"] is not None and (good or bad or other or over):
        new["troubles"] = [one for one in new["troubles"] if one["run_id"] in holding]
        if not new["troubles"]:
            new["failing_since"] = None
    # A bad end that is heard of late is told all the same, and in its turn.
    return _changed(before, new, run["group"], run["job"], run[keys.EXPIRES], now) if bad or new != before else None


def last_end(status: Mapping[str, Any], job: str) -> Item:
    """The run by which the job stands as it does: {state, run_id, ended_at, scheduled_at}."""
    return unpacked(status["last"], job)[-1]


def last_good(before: Mapping[str, Any] | None, run: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The success by which the job is well after a run has ended, as `holds` looks at it; None where it is not."""
    if run["state"] == "succeeded":
        return run
    ends = _ends(before, run)
    return ends[-1] if ends and ends[-1]["state"] == "succeeded" else None


def _ends(before: Mapping[str, Any] | None, run: Mapping[str, Any]) -> list[Item]:
    """How the last runs ended, well or badly, in the order of their ends.

    A run is there once, as it was heard of last: one that was given up for lost has the end of the silence until it
    is heard of after all, and its own end then, which may lie before others'.
    """
    ends = list((before or {}).get("ends", ())) or unpacked((before or {}).get("last", ""), run["job"])
    if not ends and before is not None and before["state"] is not None:  # as an earlier version wrote it
        ends = [{name: before[name] for name in ("state", "run_id", "ended_at")} | {"scheduled_at": None}]
    if run["state"] == "interrupted":
        return ends
    ends = [one for one in ends if one["run_id"] != run["run_id"]]
    if run["state"] in FAILURES or run["state"] == "succeeded":
        due = run["scheduled_at"] or run["started_at"] or run["at"]
        mine = {"state": run["state"], "run_id": run["run_id"], "ended_at": run["ended_at"], "scheduled_at": due}
        ends = sorted([mine, *ends], key=lambda one: str(one["ended_at"]))
    return ends[-_ENDS:]


def in_trouble(before: Mapping[str, Any] | None, fact: Fact, expires: int, now: float) -> Item:
    """The job's status when people are told that a run takes too long, or did not start or finish in time."""
    new = dict(before or {"state": None, "run_id": None, "ended_at": None, "failing_since": None})
    since = fact.due_at if fact.due_at is not None else fact.started_at
    run_id = fact.run_id or fact.id
    others = [one for one in new.get("troubles", []) if one["run_id"] != run_id]
    one = {"run_id": run_id, "since": format_time(since if since is not None else fact.at)}
    new["troubles"] = [*others, one][-_MOST_TROUBLES:]
    new["failing_since"] = new["failing_since"] or format_time(fact.at)
    return _changed(before, new, fact.group, fact.job, expires, now)


def holds(trouble: Mapping[str, Any], its_run: Mapping[str, Any] | None, good: Mapping[str, Any]) -> bool:
    """Whether what people were told of a run holds still, now that another one has succeeded."""
    if its_run is not None and is_open(its_run["state"]):
        return True
    if its_run is not None and its_run["state"] != "interrupted":
        return False
    # It was to run after the good one: that one says nothing about it.
    return parse_time(trouble["since"]) > parse_time(_due(good))


def _due(good: Mapping[str, Any]) -> str:
    """When a success was due; of one that an earlier version noted, its end."""
    found = good["scheduled_at"] or good.get("started_at") or good.get("at") or good["ended_at"]
    return str(found)


def others_in_trouble(status: Mapping[str, Any] | None, run: Mapping[str, Any]) -> list[Item]:
    """What people were told of other runs of its job, where the job may be well after a run has ended."""
    if status is None or last_good(status, run) is None:
        return []
    return [one for one in status.get("troubles", []) if one["run_id"] != run["run_id"]]


def moment(new: Mapping[str, Any] | None, now: float, place: int = 0) -> float:
    """The time of a notice that is written with a status, the first one or one behind it; `now` without a status."""
    return now if new is None else parse_time(new["changed_at"]) + place * _APART_S


def _changed(before: Mapping[str, Any] | None, new: Item, group: str, job: str, expires: int, now: float) -> Item:
    last = (before or {}).get("changed_at")
    at = now if last is None else max(now, parse_time(last) + STEP_S)
    return {
        **new,
        **keys.status(group, job).attributes(),
        "changed_at": format_time(at),
        "version": (before or {}).get("version", 0) + 1,
        keys.EXPIRES: max(expires, int(now + _IN_TROUBLE_KEPT_S)) if new["failing_since"] else expires,
    }
