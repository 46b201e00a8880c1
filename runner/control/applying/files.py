"""Job files: TOML or YAML to jobs and groups, with all faults at once.

::

    [groups.web]
    queue = "https://sqs.eu-west-1.amazonaws.com/123456789012/cron-web"

    [defaults]                    # of every job of this file
    group = "web"

    [jobs.nightly]
    schedule = "0 3 * * *"
    timezone = "Europe/Berlin"
    command = ["/srv/app/bin/nightly"]
"""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, Final

from runner.control import parameters
from runner.control.applying import calendars
from runner.control.chains.chain import AFTER_WHEN, MOST_PARENTS
from runner.control.definition import FIRES, MISSED, GroupDefinition, JobDefinition, run_id_at
from runner.control.notices.notify import parse_notify
from runner.control.timetable.schedule import parse_schedule, parse_timezone
from runner.control.timetable.timing import Timing
from runner.errors import JobFilesInvalid
from runner.protocol import fields, params
from runner.protocol.invalid import InvalidMessage
from runner.protocol.specification import OF_MESSAGES
from runner.protocol.suggest import shown, unknown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

LARGEST_MESSAGE: Final = 200 * 1024
"""Bytes. An item of the table holds 400 KB, and EventBridge Scheduler takes 256 KB of input."""
_OF_FIRE: Final = frozenset(("version", "job", "run_id", "scheduled_at", "not_after", "traceparent"))
_KEYID: Final = re.compile(r"[0-9a-f]{16}")
_TABLES: Final = ("groups", "calendars", "defaults", "jobs")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the files ask for."""

    jobs: tuple[JobDefinition, ...]
    groups: tuple[GroupDefinition, ...]
    warnings: tuple[str, ...] = ()
    """What is no fault yet, such as a calendar that ends soon."""


def read_files(paths: Iterable[Path], today: date | None = None) -> Wanted:
    """All jobs and groups of the files; raises JobFilesInvalid with every fault of all of them."""
    today = today or datetime.now(UTC).date()
    reader = _Reader()
    for path in paths:
        reader.read(path)
    placed = [(reader.places[key], job) for key, job in reader.jobs.items()]
    jobs = tuple(calendars.with_days(placed, reader.calendars, today, reader.faults))
    if reader.faults:
        raise JobFilesInvalid(reader.faults)
    return Wanted(jobs, tuple(reader.groups.values()), tuple(calendars.ending(jobs, today)))


class _Reader:
    def __init__(self) -> None:
        self.faults: list[str] = []
        self.jobs: dict[tuple[str, str], JobDefinition] = {}
        self.places: dict[tuple[str, str], str] = {}
        self.groups: dict[str, GroupDefinition] = {}
        self.calendars: dict[str, calendars.Calendar | None] = {}

    def read(self, path: Path) -> None:
        try:
            content = _content(path)
        except (OSError, ValueError) as error:
            self.faults.append(f"{path}: {getattr(error, 'strerror', None) or error}")
            return
        tables = {name: content.pop(name, {}) for name in _TABLES}
        self.faults += [f"{path}: {unknown('table', str(name), _TABLES)}" for name in content]
        for name, table in tables.items():
            if not isinstance(table, dict):
                self.faults.append(f"{path}: {name}: is no table; give {name}.NAME and its fields")
                tables[name] = {}
        for name, table in tables["groups"].items():
            self._group(path, str(name), table)
        for name, table in tables["calendars"].items():
            self._calendar(path, str(name), table)
        for name, table in tables["jobs"].items():
            self._job(path, str(name), table, tables["defaults"])

    def _group(self, path: Path, name: str, table: object) -> None:
        said = self._fields(path, f"groups.{name}", table, _OF_GROUPS)
        if said is None or self._refuse(path, "groups", lambda: fields.job_name(name, name)):
            return
        if not said.get("queue"):
            self.faults.append(f"{path}: groups.{name}.queue: is missing; give the URL of the group's job queue")
        elif said.get("fire") == "eventbridge" and not said.get("role"):
            self.faults.append(
                f"{path}: groups.{name}.role: is missing; give the ARN of the role that EventBridge Scheduler sends as"
            )
        elif name in self.groups:
            self.faults.append(f"{path}: groups.{name}: is here twice; keep one")
        else:
            self.groups[name] = GroupDefinition(name, **said)

    def _calendar(self, path: Path, name: str, table: object) -> None:
        where = f"calendars.{name}"
        try:
            read = calendars.parse_calendar(where, name, table, path)
        except InvalidMessage as error:
            self.faults += [f"{path}: {fault}" for fault in error.faults]
            self.calendars[name] = None
            return
        if name in self.calendars:
            self.faults.append(f"{path}: {where}: is here twice; keep one")
        self.calendars[name] = replace(read, where=f"{path}: {where}")

    def _job(self, path: Path, name: str, table: object, defaults: Mapping[str, Any]) -> None:
        where = f"jobs.{name}"
        merged: dict[str, Any] | None = {**defaults, **table} if isinstance(table, dict) else None
        said = self._fields(path, where, merged, _OF_JOBS)
        if merged is None or said is None or self._refuse(path, "jobs", lambda: fields.job_name(name, name)):
            return
        for field, text in _across(name, said, table):
            self.faults.append(f"{path}: {where}.{field}: {text}")
        message = {field: merged[field] for field in said if field in _OF_MESSAGE}
        about = {field: value for field, value in said.items() if field not in _OF_MESSAGE}
        if (size := len(json.dumps(message))) > LARGEST_MESSAGE:
            self.faults.append(f"{path}: {where}: is {size} bytes of message; the most is {LARGEST_MESSAGE}")
        key = (about.get("group", ""), name)
        if key in self.jobs:
            self.faults.append(f"{path}: {where}: is here twice for group {key[0]}; keep one")
        elif key[0]:
            timing = Timing(about.pop("splay", None), about.pop("except", ()), about.pop("only", ()))
            self.places[key] = f"{path}: {where}"
            self.jobs[key] = JobDefinition(name=name, message=message, timing=timing, **about)

    def _fields(
        self, path: Path, where: str, table: object, parsers: Mapping[str, fields.Parser]
    ) -> dict[str, Any] | None:
        """Every field parsed, or a fault for each that cannot be; None where there are no fields."""
        if not isinstance(table, dict):
            self.faults.append(f"{path}: {where}: is no table of fields")
            return None
        said: dict[str, Any] = {}
        for name, value in table.items():
            if name in _OF_FIRE and parsers is _OF_JOBS:
                self.faults.append(f"{path}: {where}.{name}: is said when the job fires; leave it out")
            elif name not in parsers:
                self.faults.append(f"{path}: {where}: {unknown('field', str(name), parsers)}")
            else:
                try:
                    said[name] = parsers[name](name, value)
                except InvalidMessage as error:
                    self.faults += [f"{path}: {where}.{fault}" for fault in error.faults]
        return said

    def _refuse(self, path: Path, where: str, check: Any) -> bool:
        try:
            check()
        except InvalidMessage as error:
            self.faults += [f"{path}: {where}.{fault}" for fault in error.faults]
            return True
        return False


def _content(path: Path) -> dict[str, Any]:
    """The file as a table; ValueError says what is wrong with its syntax."""
    text = path.read_text("utf-8")
    if path.suffix == ".toml":
        return tomllib.loads(text)
    if path.suffix not in (".yaml", ".yml"):
        raise ValueError("is neither .toml nor .yaml; name it for what it is")
    content = _yaml(text)
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ValueError("is no mapping; give jobs: and below it a name and its fields")  # noqa: TRY004 - of a file
    _only_text_keys(content)
    return content


def _yaml(text: str) -> object:
    import yaml  # noqa: PLC0415 - for those who have YAML

    class Loader(yaml.SafeLoader):
        """As strict as TOML: YAML 1.2 (3.2.1.1) wants the keys of a mapping unique, and PyYAML takes the last one."""

        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            # Here, before merges are written out: what a merge brings may be said again.
            seen: dict[object, Any] = {}
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                    first = seen.setdefault((key.tag, key.value), key)
                    if first is not key:
                        lines = f"in lines {first.start_mark.line + 1} and {key.start_mark.line + 1}"
                        raise ValueError(f"{shown(key.value)} stands twice, {lines}; keep one")
            return node

    try:
        return yaml.load(text, Loader)  # noqa: S506 - a safe loader's child
    except yaml.YAMLError as error:
        said = " ".join(str(error).split())
        mark = getattr(error, "problem_mark", None)
        line = text.splitlines()[mark.line] if mark is not None and mark.line < len(text.splitlines()) else ""
        if re.search(r":\s+\*[/\s]", line):
            said += '; a value that begins with * stands in quotes, as schedule: "*/30 * * * *"'
        raise ValueError(said) from None


def _only_text_keys(value: object) -> None:
    """YAML makes a number or a truth of a bare 1, yes or on, also where it is the name of a field."""
    if isinstance(value, dict):
        for key, entry in value.items():
            if not isinstance(key, str):
                raise ValueError(f"{shown(key)} is no name of a field; put it in quotes")  # noqa: TRY004 - of a file
            _only_text_keys(entry)
    elif isinstance(value, list):
        for entry in value:
            _only_text_keys(entry)


def _across(name: str, said: Mapping[str, Any], own: object) -> Iterable[tuple[str, str]]:
    """Faults between the fields of a job: (field, text). Those that are not its ``own`` are the file's defaults."""
    if "group" not in said:
        yield "group", "is missing; name the group of hosts that runs it"
    for field in ("timezone", "missed", "start_within", "finish_within", "splay", "except", "only"):
        if isinstance(own, dict) and field in own and not said.get("schedule"):
            yield field, "needs a schedule; give one or leave it out"
    yield from _across_chain(name, said)
    if said.get("schedule"):
        try:
            parse_schedule(said["schedule"], said.get("timezone", "UTC"))
        except ValueError as error:
            yield "schedule", str(error)
        if len(run_id_at(name, 0.0)) > 128:
            yield "schedule", "the name is too long for the ids of its runs; shorten it to 107 characters"
    yield from parameters.faults(said)


def _across_chain(name: str, said: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    after = said.get("after", ())
    if "after_when" in said and not after:
        yield "after_when", "needs `after`; name the jobs that it runs after, or leave it out"
    if after and said.get("schedule"):
        yield (
            "after",
            "fires it when its parents have ended, and its schedule would do so besides; leave one of them out",
        )
    if name in after:
        yield "after", "names the job itself; name others"


def _after(path: str, value: object) -> tuple[str, ...]:
    """Names of jobs, or one as a text."""
    said = (fields.job_name(path, value),) if isinstance(value, str) else fields.items(path, value, fields.job_name)
    if len(set(said)) < len(said):
        fields.refuse(path, "names a job twice; keep one")
    if len(said) > MOST_PARENTS:
        fields.refuse(path, f"names {len(said)} jobs; the most is {MOST_PARENTS}")
    return said


def _timezone(path: str, value: object) -> str:
    said = fields.text(path, value)
    try:
        return parse_timezone(said)
    except ValueError as error:
        fields.refuse(path, str(error))


def _keys(path: str, value: object) -> tuple[str, ...]:
    said = fields.words(path, value)
    for keyid in said:
        if not _KEYID.fullmatch(keyid):
            fields.refuse(path, f"{shown(keyid)} is no key's id; give its 16 hex digits (`cron-runner keys show`)")
    return said


def _queue(path: str, value: object) -> str:
    said = fields.name(path, value)
    if not said.startswith(("https://", "http://")):
        fields.refuse(path, "is no URL; give the queue's URL, as SQS shows it")
    return said


# A file's group is where the job belongs; signed, the message says it too.
_OF_MESSAGE: Final = {name: parser for name, parser in OF_MESSAGES.items() if name not in {*_OF_FIRE, "group"}}
_OF_JOBS: Final[Mapping[str, fields.Parser]] = {
    "schedule": fields.name,
    "timezone": _timezone,
    "enabled": fields.boolean,
    "group": fields.job_name,
    "owner": fields.name,
    "notify": parse_notify,
    "missed": fields.choice("policy", MISSED),
    "retention": fields.limit,
    "start_within": fields.limit,
    "finish_within": fields.limit,
    "too_long": fields.limit,
    "after": _after,
    "after_when": fields.choice("way", AFTER_WHEN),
    "splay": calendars.splay,
    "except": calendars.names,
    "only": calendars.names,
    "params": params.parse,
    **_OF_MESSAGE,
}
_OF_GROUPS: Final[Mapping[str, fields.Parser]] = {
    "queue": _queue,
    "fire": fields.choice("way", FIRES),
    "role": fields.name,
    "schedules": fields.name,
    "notify": parse_notify,
    "keys": _keys,
}
