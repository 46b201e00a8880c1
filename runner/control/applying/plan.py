"""What `jobs apply` is about to do: the table's jobs against the files'. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from runner.control.chains.chain import faults
from runner.errors import JobFilesInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from runner.control.applying.files import Wanted
    from runner.control.definition import GroupDefinition, JobDefinition

Does = Literal["create", "change", "delete"]


@dataclass(frozen=True, slots=True)
class Change:
    """One job or group to create, change or delete; ``fields`` are (name, before, after) of a change."""

    does: Does
    what: Literal["group", "job"]
    name: str
    old: JobDefinition | GroupDefinition | None
    new: JobDefinition | GroupDefinition | None
    fields: tuple[tuple[str, Any, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes, groups first, and what is as it should be already."""

    changes: tuple[Change, ...]
    unchanged: int
    not_in_files: tuple[str, ...]
    """Jobs of these groups that no file has, where they are not pruned."""

    def count(self, does: Does) -> int:
        return sum(change.does == does for change in self.changes)


def plan(
    wanted: Wanted,
    jobs: Iterable[JobDefinition],
    groups: Mapping[str, GroupDefinition],
    *,
    prune: bool,
) -> Plan:
    """Compare. Pruned are only jobs of groups that the files are about: another team's group is none of it.

    Raises JobFilesInvalid for a job that would run after one that is not there, or in a circle.
    """
    there = {(job.group, job.name): job for job in jobs}
    changes = [change for group in wanted.groups if (change := _group(groups.get(group.name), group))]
    asked = {(job.group, job.name): job for job in wanted.jobs}
    unchanged = len(wanted.groups) - len(changes)
    for key, new in sorted(asked.items()):
        if change := _job(there.get(key), new):
            changes.append(change)
        else:
            unchanged += 1
    ours = {group.name for group in wanted.groups} | {job.group for job in wanted.jobs}
    extra = sorted(key for key in there if key[0] in ours and key not in asked)
    gone = set(extra) if prune else set()
    if wrong := faults((job for key, job in {**there, **asked}.items() if key not in gone), asked):
        raise JobFilesInvalid(wrong)
    if prune:
        changes += [Change("delete", "job", "/".join(key), there[key], None) for key in extra]
    return Plan(tuple(changes), unchanged, () if prune else tuple("/".join(key) for key in extra))


def _group(old: GroupDefinition | None, new: GroupDefinition) -> Change | None:
    if old is None:
        return Change("create", "group", new.name, None, new)
    if old == new:
        return None
    return Change("change", "group", new.name, old, new, _different(old.item(), new.item()))


def _job(old: JobDefinition | None, new: JobDefinition) -> Change | None:
    name = f"{new.group}/{new.name}"
    if old is None:
        return Change("create", "job", name, None, new)
    different = _different(old.says(), new.says())
    # One that cannot be read is written again, whatever it seems to say.
    if different or old.fault:
        return Change("change", "job", name, old, new, different)
    return None


def _different(old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[tuple[str, Any, Any], ...]:
    names = [*old, *(name for name in new if name not in old)]
    return tuple((name, old.get(name), new.get(name)) for name in names if not _same(old.get(name), new.get(name)))


def _same(old: object, new: object) -> bool:
    # Parameters have an order, in which those that are arguments stand.
    return old == new and not (isinstance(old, dict) and isinstance(new, dict) and list(old) != list(new))
