"""What is promised of jobs that run after others, by what the table and the queue have seen."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from runner.control.chains.chain import child_run_id, joined_run_id
from runner.protocol import table as keys
from runner.protocol.units import parse_time

from .cloud import Violation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.control.definition import JobDefinition

    from .cloud import World
    from .whole_hosts import Hosts

Item = dict[str, Any]


class Chains:
    """``changed`` are jobs that somebody changed meanwhile: of these only what is fired is checked."""

    def __init__(self, world: World, jobs: Sequence[JobDefinition]) -> None:
        self._world = world
        self._jobs = [job for job in jobs if job.after]
        self.changed: set[str] = set()
        self._ended: dict[str, set[str]] = defaultdict(set)
        world.dynamo.changed.append(self._written)

    def _written(self, key: tuple[str, str], _before: Item | None, after: Item | None) -> None:
        if key[1] == keys.CHILDREN and after is not None:
            self._ended[after["run_id"]].add(after["state"])

    def check(self, hosts: Hosts) -> None:
        runs = {item["run_id"]: item for (_, sk), item in self._world.dynamo.items.items() if sk == keys.RUN}
        sent = {message["run_id"]: message for _, _, message in self._world.sqs.sent}
        for job in self._jobs:
            for run_id, parents in self._expected(job, runs).items():
                self._one(job, run_id, parents, runs, sent)
        for run_id in sent:
            if runs.get(run_id, {}).get("job", "o") != "o" and run_id not in hosts.over:
                raise Violation(f"{run_id} was sent, and has not ended")

    def _expected(self, job: JobDefinition, runs: dict[str, Item]) -> dict[str, dict[str, Item]]:
        """Each run that the job may have, with the runs of its parents that it is after."""
        found: dict[str, dict[str, Item]] = defaultdict(dict)
        for run_id, run in runs.items():
            if run["job"] not in job.after:
                continue
            if len(job.after) == 1:
                found[child_run_id(job.name, run["job"], run_id)][run["job"]] = run
            else:
                head = run["labels"].get("chain") or run_id
                due = parse_time(run["scheduled_at"]) if run["scheduled_at"] else None
                found[joined_run_id(job.name, due, head)][run["job"]] = run
        return found

    def _one(
        self, job: JobDefinition, run_id: str, parents: dict[str, Item], runs: dict[str, Item], sent: dict[str, Item]
    ) -> None:
        def well(state: str) -> bool:
            return job.after_when == "any" or (state == "succeeded") == (job.after_when == "success")

        names = f"{run_id}, {job.after_when} of {[(name, run['state']) for name, run in sorted(parents.items())]}"
        if run_id in sent:
            if job.name in self.changed:
                return
            for name in job.after:
                seen = self._ended[parents[name]["run_id"]] if name in parents else set()
                if not any(well(state) for state in seen) and not self._never(job, name, run_id):
                    raise Violation(f"{names} was fired, and {name} has ended {sorted(seen)}")
            said = sent[run_id]["labels"]["after"].split() if "after" in sent[run_id].get("labels", {}) else []
            if said and not set(said) <= set(runs) | set(self._ended):
                raise Violation(f"{names} is after {said}, which nobody knows")
            return
        if job.name in self.changed:
            return
        if len(parents) == len(job.after) and all(well(run["state"]) for run in parents.values()):
            raise Violation(f"{names} was never fired")
        bad = [run for run in parents.values() if not well(run["state"])]
        there = runs.get(run_id, {})
        if bad and (there.get("state") != "skipped" or not str(there["reason"]).startswith("upstream: ")):
            raise Violation(f"{names} is {there.get('state')}: {there.get('reason')}, and was not fired")

    def _never(self, job: JobDefinition, parent: str, run_id: str) -> bool:
        """Whether this parent's run had not started in time, by what was owed to the children."""
        time = run_id.removeprefix(job.name)
        return job.after_when != "success" and "not_started" in self._ended.get(f"{parent}{time}", ())
