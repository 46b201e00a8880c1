"""What the events of a run add up to, in whatever order, however late and however often they come. Pure.

An attempt is what its events said: each of its facts is set by one kind of event, so it does not matter which comes
first, and the same event twice changes nothing. A run is a function of its attempts alone.

States of a run: `running`; `retrying` between two attempts; or its outcome, or `skipped` or `rejected`.

    (nothing) ─▶ running ─▶ retrying ─▶ running … ─▶ an outcome
                    └─ silent for too long ─▶ lost ─ heard of again ─▶ what was heard
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.control.definition import JobDefinition
    from runner.control.recording.told import Told

Item = dict[str, Any]

RUNNING: Final = "running"
RETRYING: Final = "retrying"
LOST: Final = "lost"
FAILURES: Final = frozenset(
    ("failed", "timed_out", "killed", "oom_killed", "start_failed", LOST, "rejected"),
)
"""Bad ends. `cancelled` was somebody's wish, `interrupted` and `skipped` are not the job's doing."""

BEATS: Final = 3
LEAST_SILENCE_S: Final = 60.0
AFTER_TIMEOUT_S: Final = 900.0
_APART_S: Final = 30.0
"""As far as the clocks of hosts and recorder may be apart, and events on their way, before both times are kept."""
RETRY_WITHIN_S: Final = 6 * 3600.0
_NO_TIMEOUT_S: Final = 7 * keys.DAY_S
_RETENTION_S: Final = 90 * keys.DAY_S

_OF_STARTED: Final = (
    *("pid", "command", "user", "started_at", "queue_latency_s", "timeout_s", "heartbeat_s", "log", "signed_by"),
    "traceparent",
    *("message_bytes", "masked"),
)
_OF_END: Final = (
    "outcome",
    "reason",
    "exit_code",
    "signal",
    "started_at",
    "finished_at",
    "duration_s",
    "usage",
    "output",
    "will_retry",
    "log",
    "detail",
)


_OF_BOTH: Final = frozenset(("started_at", "log"))


def is_open(state: str) -> bool:
    return state in (RUNNING, RETRYING)


def attempt_told(old: Item | None, told: Told, *, heard: float | None = None) -> Item:
    """An attempt after one more event of it, that the recorder had at ``heard`` by its own clock."""
    data = told.data
    item: Item = dict(old) if old is not None else _new_attempt(told)
    at = format_time(told.at)
    new = told.kind in ("started", "heartbeat") and told.sequence > item.get("sequence", -1)
    if new and heard is not None and heard > told.at + _APART_S:
        # Its host's clock is behind, or the event was long on its way: silence is counted from when it was heard.
        item["heard_at"] = max(item.get("heard_at", at), format_time(heard))
    item["began"] = min(item.get("began", at), at)
    item["seen_at"] = max(item.get("seen_at", at), at)
    item["sequence"] = max(item.get("sequence", 0), told.sequence)
    if told.kind == "started":
        item["started"] = _some(data, _OF_STARTED)
        if data.get("message") is not None:
            # As text: DynamoDB would make 1.0 of a message into 1, and it is sent again as it was.
            item["started"]["message"] = json.dumps(data["message"], separators=(",", ":"))
    elif told.kind in ("finished", "skipped", "rejected"):
        item["ended"] = {"kind": told.kind, "at": at, **_some(data, _OF_END)}
    if "started" in item and "ended" in item:
        # What both say is kept once: an attempt costs by the kilobyte.
        began = item["started"]
        item["ended"] = {
            name: value
            for name, value in item["ended"].items()
            if name not in _OF_BOTH or value is None or began.get(name) != value
        }
    return item


def attempt_lost(old: Item, *, now: float) -> Item:
    """An attempt of which nothing has been heard for too long: lost, until something later is heard."""
    return {**old, "lost": {"at": format_time(now), "seen_at": old["seen_at"]}}


def run_of(attempts: Iterable[Item], old: Item | None, job: JobDefinition | None) -> Item:
    """The run's item for all of its attempts; of ``old`` only what the watch has noted is kept."""
    all_attempts = list(attempts)
    now_on = _current(all_attempts)
    state = _state(now_on)
    started, ended = now_on.get("started", {}), now_on.get("ended", {})
    marked = now_on.get("lost", {}) if state == LOST and not ended else {}
    ran = {**started, **{name: value for name, value in ended.items() if value is not None}}
    item: Item = {
        **keys.run(now_on["group"], now_on["run_id"]).attributes(),
        "group": now_on["group"],
        "job": now_on["job"],
        "run_id": now_on["run_id"],
        "state": state,
        "execution": now_on["execution"],
        "attempt": now_on["attempt"],
        "host": now_on["host"],
        "scheduled_at": now_on["scheduled_at"],
        "started_at": ran.get("started_at"),
        "ended_at": ended.get("finished_at") or ended.get("at") or marked.get("at"),
        "duration_s": ran.get("duration_s"),
        "exit_code": ended.get("exit_code"),
        "signal": ended.get("signal"),
        "reason": _reason(ended) or ("its host sends nothing any more" if marked else None),
        "log": ran.get("log"),
        "usage": ended.get("usage"),
        "labels": now_on["labels"],
        "attempts": len(all_attempts),
        "seen_at": max(attempt["seen_at"] for attempt in all_attempts),
        "at": min(attempt["began"] for attempt in all_attempts),
        **_heard(all_attempts),
        "too_long_told": bool(old and old.get("too_long_told")),
    }
    item |= {name: ran[name] for name in ("signed_by", "traceparent") if ran.get(name)}
    if is_open(state):
        item["ended_at"] = None
    if now_on["job"]:
        item["job_key"] = keys.job_key(now_on["job"])
    item["state_key"] = _state_key(item)
    item["state_at"] = _look_at(item, started, job) if is_open(state) else item["ended_at"]
    item[keys.EXPIRES] = expires(item["seen_at"], job)
    return item


def expires(seen_at: str, job: JobDefinition | None) -> int:
    """When DynamoDB may forget it: a job's own retention after the last news."""
    return int(parse_time(seen_at) + (job.retention if job is not None else _RETENTION_S))


def lost_at(run: Mapping[str, Any], started: Mapping[str, Any]) -> float:
    """From when on an open run is lost if nothing is heard of it.

    With heartbeats: after three of them, or a minute. Without: a quarter of an hour after its timeout, when its
    supervisor has killed it long since. Between two attempts: after six hours.
    """
    seen = parse_time(max(run["seen_at"], run.get("heard_at", "")))
    if run["state"] == RETRYING:
        return seen + RETRY_WITHIN_S
    if beat := started.get("heartbeat_s"):
        return float(seen + max(BEATS * beat, LEAST_SILENCE_S))
    began = parse_time(run["started_at"]) if run["started_at"] else seen
    return float(max(seen, began + (started.get("timeout_s") or _NO_TIMEOUT_S)) + AFTER_TIMEOUT_S)


def too_long_at(run: Mapping[str, Any], job: JobDefinition | None) -> float | None:
    """When an open run has taken too long by its job's own measure; None where that is not asked for, or was told."""
    if job is None or job.too_long is None or not run["started_at"] or run["too_long_told"]:
        return None
    return parse_time(run["started_at"]) + job.too_long


def _new_attempt(told: Told) -> Item:
    data = told.data
    return {
        **keys.attempt(told.group, told.run_id, told.execution, told.attempt).attributes(),
        "group": told.group,
        "job": told.job,
        "run_id": told.run_id,
        "execution": told.execution,
        "attempt": told.attempt,
        "delivery": data.get("delivery"),
        "sent_at": data.get("sent_at"),
        "host": (data.get("host") or {}).get("name"),
        "instance_id": (data.get("host") or {}).get("instance_id"),
        "scheduled_at": data.get("scheduled_at"),
        "labels": data.get("labels") or {},
    }


def _heard(attempts: Iterable[Item]) -> Item:
    """When an event was had last, where that was long after its host says that it was."""
    heard = [attempt["heard_at"] for attempt in attempts if "heard_at" in attempt]
    return {"heard_at": max(heard)} if heard else {}


def _some(data: Mapping[str, Any], names: Iterable[str]) -> Item:
    return {name: data[name] for name in names if name in data}


def _state(attempt: Mapping[str, Any]) -> str:
    if ended := attempt.get("ended"):
        if ended["kind"] != "finished":
            return str(ended["kind"])
        return RETRYING if ended.get("will_retry") else str(ended["outcome"])
    lost = attempt.get("lost")
    # A later sign of life than the one after which it was given up takes that back.
    return LOST if lost and attempt["seen_at"] <= lost["seen_at"] else RUNNING


def _current(attempts: list[Item]) -> Item:
    """The attempt that speaks for the run: the last one of the execution that the queue gave out last.

    The queue's word counts before the hosts' clocks, which may be minutes apart: a later message before an earlier
    one of the same run (`sent_at`, the queue's own clock: a message that comes back from a dead-letter queue counts
    its deliveries from one again), then the later `delivery`, and only then when an execution began.

    An execution that did not run (skipped: stale, maintenance, or overlapping with the run itself) speaks only where
    none did.
    """
    began: dict[str, str] = {}
    ran: dict[str, bool] = {}
    given: dict[str, tuple[str, int]] = {}
    for one in attempts:
        execution = one["execution"]
        began[execution] = min(began.get(execution, one["began"]), one["began"])
        did = one.get("ended", {}).get("kind", "finished") == "finished"
        ran[execution] = ran.get(execution, False) or did
        by_queue = (one.get("sent_at") or "", one.get("delivery") or 0)
        given[execution] = max(given.get(execution, by_queue), by_queue)

    def order(one: Item) -> tuple[Any, ...]:
        execution = one["execution"]
        return ran[execution], given[execution], began[execution], execution, one["attempt"]

    return max(attempts, key=order)


def _reason(ended: Mapping[str, Any]) -> str | None:
    """Why it ended so; of a rejected message what is wrong with it, too."""
    reason, detail = ended.get("reason"), ended.get("detail")
    return f"{reason}: {detail}" if reason and detail else reason


def _state_key(run: Mapping[str, Any]) -> str:
    if is_open(run["state"]):
        return keys.OPEN
    return keys.ended_key(str(run["ended_at"])[:10], failed=run["state"] in FAILURES)


def _look_at(run: Mapping[str, Any], started: Mapping[str, Any], job: JobDefinition | None) -> str:
    """When the watch has to look at an open run next."""
    moments = [lost_at(run, started)]
    if (moment := too_long_at(run, job)) is not None:
        moments.append(moment)
    return format_time(min(moments))
