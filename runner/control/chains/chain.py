"""What runs after what: the words for it, the ids of the runs that it makes, and what is wrong with a chain. Pure.

A job with `after` is a child of the jobs that it names, its parents, all of its group. It has a run for each run of
one parent, or, of several, for each time for which all of them were due.
"""

from __future__ import annotations

import graphlib
import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal, Protocol, TypeVar

from runner.protocol.suggest import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

AfterWhen = Literal["success", "failure", "any"]

AFTER_WHEN: Final = ("success", "failure", "any")
MOST_PARENTS: Final = 50
"""So that a child is written in one transaction with what its parents know of it."""
AFTER: Final = "after"
"""The label with the ids of the parents' runs, a blank between two; its host makes CRON_RUNNER_AFTER of it."""
CHAIN: Final = "chain"
"""The label with the id of the run at the head of a chain that was due at no time: started by hand, say."""
LONGEST_RUN_ID: Final = 128
_HASHED: Final = 12


class Member(Protocol):
    """What is looked at of a job; `JobDefinition` has it."""

    @property
    def group(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def after(self) -> tuple[str, ...]: ...


M = TypeVar("M", bound=Member)


def words(after: Collection[str], when: str) -> str:
    """``after extract and load, when they succeed``; "" of a job that is after none."""
    if not after:
        return ""
    *first, last = after
    names = f"{', '.join(first)} and {last}" if first else last
    one = len(after) == 1
    ends = {
        "success": "it succeeds" if one else "they succeed",
        "failure": "it does not succeed" if one else "none of them succeeds",
        "any": "it has ended" if one else "they have ended",
    }
    return f"after {names}, when {ends[when]}"


def child_run_id(child: str, parent: str, run_id: str) -> str:
    """The id of the run of ``child`` that a run of ``parent`` fires: the same whoever fires it, so that all fire one.

    Of a scheduled run it is what a schedule of the same time would give the child.
    """
    if run_id.startswith(f"{parent}-") and len(said := f"{child}{run_id[len(parent) :]}") <= LONGEST_RUN_ID:
        return said
    return _digested(child, f"{parent} {run_id}")


def joined_run_id(child: str, due: float | None, head: str) -> str:
    """The id of the run of a child of several parents: by the time for which these were due, or, where they were due at
    none, by the run at the head of the chain that all of them are of."""
    if due is not None and len(said := f"{child}-{_time_in_id(due)}") <= LONGEST_RUN_ID:
        return said
    return _digested(child, head if due is None else f"at {due}")


def _time_in_id(due: float) -> str:
    """As `runner.control.definition.run_id_at` has it."""
    return datetime.fromtimestamp(due, UTC).strftime("%Y-%m-%dT%H-%M-%SZ")


def _digested(child: str, what: str) -> str:
    digest = hashlib.sha256(what.encode()).hexdigest()[:_HASHED]
    return f"{child[: LONGEST_RUN_ID - _HASHED - 7]}-after-{digest}"


def faults(meant: Iterable[Member], asked: Collection[tuple[str, str]]) -> list[str]:
    """What is wrong with the chains of all jobs that there are meant to be, as far as it is of those that are asked for
    ((group, name))."""
    jobs = {(job.group, job.name): job for job in meant}
    found: list[str] = []
    for job in (jobs[key] for key in sorted(asked) if key in jobs):
        missing = [name for name in job.after if (job.group, name) not in jobs]
        found += [f"jobs.{job.name}.after: {_unknown(name, job, jobs)}" for name in missing]
    return found + [
        f"jobs.{cycle[0]}.after: goes round in a circle: {' after '.join(cycle)}; take one of them out"
        for cycle in _cycles(jobs, asked)
    ]


def in_order(jobs: Iterable[M]) -> list[M]:
    """The jobs, each one's parents before it; as they come where they go round in a circle."""
    by_key = {(job.group, job.name): job for job in jobs}
    graph = {key: [(job.group, name) for name in job.after] for key, job in by_key.items()}
    try:
        return [by_key[key] for key in graphlib.TopologicalSorter(graph).static_order() if key in by_key]
    except graphlib.CycleError:
        return list(by_key.values())


def _unknown(name: str, job: Member, jobs: Mapping[tuple[str, str], Member]) -> str:
    others = sorted(group for group, other in jobs if other == name)
    if others:
        return (
            f'"{name}" is a job of group {others[0]}, and this one is of {job.group}: a job runs after jobs of its own'
            " group; name one of these"
        )
    near = nearest(name, [other for group, other in jobs if group == job.group and other != job.name])
    question = f'did you mean "{near}"?' if near else "apply it in the same files, or leave it out"
    return f'there is no job "{name}" in group {job.group}; {question}'


def _cycles(jobs: Mapping[tuple[str, str], Member], asked: Collection[tuple[str, str]]) -> list[list[str]]:
    """A circle of each group that has one with a job that is asked for, as names, the first one again at its end."""
    graphs: dict[str, dict[str, list[str]]] = {}
    for (group, name), job in jobs.items():
        if job.after:
            graphs.setdefault(group, {})[name] = [parent for parent in job.after if (group, parent) in jobs]
    found = []
    for group, graph in sorted(graphs.items()):
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            # As graphlib has it each one is named by the next one; here each names the next.
            cycle = [str(name) for name in reversed(error.args[1])]
            if any((group, name) in asked for name in cycle):
                found.append(cycle)
    return found
