"""A job and a group as the table keeps them, and the message that one fire time makes of a job. Pure."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from runner.control import parameters
from runner.control.chains.chain import AFTER_WHEN, AfterWhen, words
from runner.control.notices.notify import Notify, notify_of
from runner.control.signatures import body, signature_in
from runner.control.timetable.firing import Timetable
from runner.control.timetable.schedule import Schedule, parse_schedule, parse_timezone
from runner.control.timetable.timing import Timing, timing_of
from runner.control.timetable.words import in_words
from runner.errors import CronRunnerError
from runner.protocol import table as keys
from runner.protocol.units import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.protocol.params import Param

Missed = Literal["skip", "last", "all"]
Fire = Literal["scheduler", "eventbridge"]

MISSED: Final = ("skip", "last", "all")
FIRES: Final = ("scheduler", "eventbridge")
_NONE: Final = type(None)
_KINDS: Final[Mapping[str, type | tuple[type, ...]]] = {
    "schedule": (str, _NONE),
    "timezone": str,
    "enabled": bool,
    "owner": (str, _NONE),
    "start_within": (int, float, _NONE),
    "finish_within": (int, float, _NONE),
    "too_long": (int, float, _NONE),
    "revision": int,
    "scheduled": str,
}
DEFAULT_RETENTION_S: Final = 90 * keys.DAY_S


class Unreadable(CronRunnerError):
    """A job of the table that this version, or this machine's tz database, cannot read; another one wrote it."""


@dataclass(frozen=True, slots=True)
class GroupDefinition:
    """A group's queue and how its schedules fire: by our scheduler function, or by EventBridge Scheduler itself.

    ``queue`` is a URL. ``role`` is what EventBridge Scheduler sends as, ``schedules`` its schedule group. ``notify``
    is for jobs that name nobody.
    """

    name: str
    queue: str
    fire: Fire = "scheduler"
    role: str = ""
    schedules: str = "default"
    notify: Notify = field(default_factory=Notify)
    keys: tuple[str, ...] = ()
    """The ids of the keys that its hosts know; where there are some, its jobs have to be signed by one of them."""

    def item(self) -> dict[str, Any]:
        return {
            **keys.group(self.name).attributes(),
            "queue": self.queue,
            "fire": self.fire,
            "role": self.role,
            "schedules": self.schedules,
            "notify": self.notify.item(),
            **({"keys": list(self.keys)} if self.keys else {}),
        }

    def unusual(self) -> dict[str, Any]:
        """What it says beside what every group is without saying so."""
        usual = GroupDefinition(self.name, "").item()
        return {name: value for name, value in self.item().items() if usual.get(name) != value}


def group_of(item: Mapping[str, Any]) -> GroupDefinition:
    """What `GroupDefinition.item` wrote; ValueError, LookupError or TypeError for what another version wrote."""
    if item["fire"] not in FIRES:
        raise ValueError(f"fire is {item['fire']!r}; this version knows {', '.join(FIRES)}")
    for name in ("queue", "role", "schedules"):
        if not isinstance(item[name], str):
            raise TypeError(f"{name} is a {type(item[name]).__name__}")
    return GroupDefinition(
        name=item["sk"],
        queue=item["queue"],
        fire=item["fire"],
        role=item["role"],
        schedules=item["schedules"],
        notify=notify_of(item["notify"]),
        keys=tuple(str(key) for key in item.get("keys") or ()),
    )


@dataclass(frozen=True, slots=True)
class JobDefinition:
    """A job. Durations are seconds, None where not asked for.

    ``message`` holds the fields of the job message as they were written. ``start_within`` and ``finish_within`` count
    from the time it was due, ``too_long`` from its start. ``after`` are its parents. ``since`` is when its schedule
    began to count (unix seconds), so that a new job, or one that was enabled again, catches up with nothing.
    ``revision`` rises with every change.
    """

    group: str
    name: str
    message: Mapping[str, Any] = field(default_factory=dict)
    schedule: str | None = None
    timezone: str = "UTC"
    enabled: bool = True
    owner: str | None = None
    notify: Notify | None = None
    missed: Missed = "last"
    retention: float = DEFAULT_RETENTION_S
    start_within: float | None = None
    finish_within: float | None = None
    too_long: float | None = None
    after: tuple[str, ...] = ()
    after_when: AfterWhen = "success"
    since: float = 0.0
    revision: int = 0
    changed_at: float = 0.0
    changed_by: str = ""
    scheduled: str = ""
    """`SCHEDULE_GROUP DIGEST` of its schedule in EventBridge Scheduler; "" where it has none there. The digest is
    missing while it is put there: there may be one."""
    timing: Timing = field(default_factory=Timing)
    params: tuple[Param, ...] = ()
    """What may be said when it is triggered."""
    signed: str = ""
    """Its envelope as JSON, without `run`; "" where nobody has signed it."""
    fault: str = ""
    """Why its item cannot be read; what can be is in the other fields."""

    @property
    def key(self) -> keys.Key:
        return keys.job(self.group, self.name)

    def parsed(self) -> Schedule | None:
        """Its schedule; raises Unreadable: what applied it may have known more zones and forms than this."""
        read = self.fault or (_read(self.schedule, self.timezone) if self.schedule else None)
        if isinstance(read, str):
            raise Unreadable(
                f"cannot read job {self.name} of group {self.group}: {read}; apply it again with a schedule and a"
                " timezone that are known here, or upgrade what says this"
            )
        return read

    def after_words(self) -> str:
        """What it runs after, in words; "" where it does not."""
        return words(self.after, self.after_when)

    def timetable(self) -> Timetable | None:
        """When the scheduler fires it; raises Unreadable. None: it has no schedule."""
        schedule = self.parsed()
        if schedule is None:
            return None
        timing = self.timing
        return Timetable(schedule, timing.allowed, timing.delay(self.name), moved=timing.moved, since=self.since)

    def words(self, group: GroupDefinition | None) -> str:
        """When it runs; "" where nothing starts it by itself. Raises Unreadable."""
        by_aws = group is not None and group.fire == "eventbridge"
        return in_words(
            self.name, self.parsed(), self.timing, after=self.after, after_when=self.after_when, by_aws=by_aws
        )

    def says(self) -> dict[str, Any]:
        """What a file says of it, for showing and comparing: nothing that the table adds."""
        said: dict[str, Any] = {
            "group": self.group,
            "schedule": self.schedule,
            "timezone": self.timezone if self.schedule else None,
            "enabled": self.enabled,
            "owner": self.owner,
            "notify": self.notify.item() if self.notify is not None else None,
            "missed": self.missed if self.schedule else None,
            "retention": self.retention,
            "start_within": self.start_within,
            "finish_within": self.finish_within,
            "too_long": self.too_long,
            "after": list(self.after) or None,
            "after_when": self.after_when if self.after else None,
            **self.timing.says(),
            **self.message,
            **parameters.says(self.params),
            **self._signature(),
        }
        return {name: value for name, value in said.items() if value is not None}

    def sent(self, given: Mapping[str, object] | None = None) -> Mapping[str, Any]:
        """The fields of the message of a run with these parameters; raises InvalidMessage for wrong ones."""
        return parameters.filled(self.message, self.params, given) if self.params or given else self.message

    def _signature(self) -> dict[str, Any]:
        signature = signature_in(self.signed)
        if signature is None:
            return {}
        return {"signed_by": signature.keyid, "signed_until": format_time(signature.until)}

    def unusual(self) -> dict[str, Any]:
        """What it says beside its group and what every job is without saying so."""
        usual = JobDefinition(self.group, self.name, schedule=self.schedule).says()
        return {
            name: value
            for name, value in self.says().items()
            if name == "schedule" or name not in usual or usual[name] != value
        }

    def item(self) -> dict[str, Any]:
        return {
            **self.key.attributes(),
            "group": self.group,
            "job": self.name,
            # As text: DynamoDB would make 1.0 of a message into 1, and a schema of it is the hosts' to keep.
            "message": json.dumps(self.message, sort_keys=True),
            "schedule": self.schedule,
            "timezone": self.timezone,
            "enabled": self.enabled,
            "owner": self.owner,
            "notify": self.notify.item() if self.notify is not None else None,
            "missed": self.missed,
            "retention": self.retention,
            "start_within": self.start_within,
            "finish_within": self.finish_within,
            "too_long": self.too_long,
            "since": format_time(self.since),
            "revision": self.revision,
            "changed_at": format_time(self.changed_at),
            "changed_by": self.changed_by,
            "scheduled": self.scheduled,
            "state_key": keys.JOBS,
            "state_at": f"{self.name}#{self.group}",
            **({"after": list(self.after), "after_when": self.after_when} if self.after else {}),
            **self.timing.item(),
            **parameters.item(self.params),
            **({"signed": self.signed} if self.signed else {}),
        }


def job_of(item: Mapping[str, Any]) -> JobDefinition:
    """What `JobDefinition.item` wrote. Of an item that cannot be read, what can be: ``fault`` says why. So one job
    never keeps anybody from all the others."""
    try:
        return _job_of(item)
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        group, _, name = item["pk"].partition("#JOB#")
        revision = item.get("revision")
        return JobDefinition(
            group,
            name,
            schedule=_text(item.get("schedule")),
            timezone=_text(item.get("timezone")) or "UTC",
            enabled=item.get("enabled") is not False,
            owner=_text(item.get("owner")),
            revision=revision if isinstance(revision, int) else 0,
            scheduled=_text(item.get("scheduled")) or "",
            fault=f"its item in the table is of another version ({type(error).__name__}: {error})",
        )


def _job_of(item: Mapping[str, Any]) -> JobDefinition:
    message = json.loads(item["message"])
    if not isinstance(message, dict) or item["missed"] not in MISSED:
        raise ValueError(f"missed is {item['missed']!r}, message a {type(message).__name__}")
    if item.get("after_when", "success") not in AFTER_WHEN:
        raise ValueError(f"after_when is {item['after_when']!r}; this version knows {', '.join(AFTER_WHEN)}")
    for name, kinds in _KINDS.items():
        if not isinstance(item[name], kinds):
            raise TypeError(f"{name} is a {type(item[name]).__name__}")
    return JobDefinition(
        group=item["group"],
        name=item["job"],
        message=message,
        schedule=item["schedule"],
        timezone=item["timezone"],
        enabled=item["enabled"],
        owner=item["owner"],
        notify=notify_of(item["notify"]) if item["notify"] is not None else None,
        missed=item["missed"],
        retention=float(item["retention"]),
        start_within=item["start_within"],
        finish_within=item["finish_within"],
        too_long=item["too_long"],
        after=tuple(str(name) for name in item.get("after") or ()),
        after_when=item.get("after_when", "success"),
        since=parse_time(item["since"]),
        revision=item["revision"],
        changed_at=parse_time(item["changed_at"]),
        changed_by=item["changed_by"],
        scheduled=item["scheduled"],
        timing=timing_of(item),
        signed=_text(item.get("signed")) or "",
        params=parameters.params_of(item),
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


@functools.lru_cache(maxsize=20_000)
def _read(schedule: str, timezone: str) -> Schedule | str:
    """The schedule, or why it cannot be read."""
    try:
        parse_timezone(timezone)
        return parse_schedule(schedule, timezone)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this job's alone, and is told with its name
        return str(error)


def changed(old: JobDefinition | None, new: JobDefinition, *, by: str, now: float) -> JobDefinition:
    """``new`` as the successor of ``old``: its schedule counts from now where it is another one or starts again."""
    same = old is not None and (old.schedule, old.timezone, old.enabled) == (new.schedule, new.timezone, new.enabled)
    stays = old if same else None
    return replace(
        new,
        since=stays.since if stays is not None else now,
        timing=stays.timing.successor(new.timing, new.name, now) if stays is not None else new.timing.settled(),
        revision=old.revision + 1 if old is not None else 1,
        changed_at=now,
        changed_by=by,
        scheduled=old.scheduled if old is not None else "",
    )


def time_in_id(moment: float) -> str:
    """A fire time as EventBridge Scheduler writes <aws.scheduler.scheduled-time>, e.g. 2030-01-31T06:00:00Z."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def run_id_at(job: str, moment: float) -> str:
    """The id of the run that is due then: the same whoever fires it, so that all fire one run."""
    return f"{job}-{time_in_id(moment).replace(':', '-')}"


def message_at(job: JobDefinition, moment: float) -> str:
    """The body of the message for one fire time."""
    run = {"run_id": run_id_at(job.name, moment), "scheduled_at": time_in_id(moment)}
    return body(job.name, job.sent(), job.signed, run)
