"""The scheduler's definitions: read again when they have changed, and only then."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from runner.control import store
from runner.control.applying.apply import Who, apply, save
from runner.control.applying.files import Wanted
from runner.control.applying.plan import plan
from runner.control.definition import GroupDefinition, JobDefinition
from runner.control.definitions import READ_ALL_EVERY_S, Definitions
from runner.protocol import table as keys

if TYPE_CHECKING:
    import pytest

    from runner.aws.session import Session
    from runner.aws.table import Table

T0 = 1_900_000_020.0
WHO = Who("ann", T0)
GROUP = GroupDefinition("web", "https://sqs.eu-west-1.amazonaws.com/123456789012/web")
JOBS = [JobDefinition("web", f"j{n}", schedule="* * * * *") for n in range(3)]


async def put(table: Table, session: Session, *jobs: JobDefinition, prune: bool = True) -> None:
    there, groups = await store.jobs(table), await store.groups(table)
    planned = plan(Wanted(jobs, (GROUP,)), there, groups, prune=prune)
    await apply(session, table, planned, there, groups, WHO)


class Reads:
    """How often all jobs are read."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        read = store.jobs

        async def counted(table: Table) -> Any:
            self.count += 1
            return await read(table)

        monkeypatch.setattr(store, "jobs", counted)

    def since(self) -> int:
        count, self.count = self.count, 0
        return count


async def names(definitions: Definitions, now: float) -> list[str]:
    _, jobs = await definitions.at(now)
    return [job.name for job in jobs if job.enabled]


async def test_jobs_are_read_again_only_when_they_have_changed(
    table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(table, cloud, *JOBS)
    reads, definitions = Reads(monkeypatch), Definitions(table)
    for minute in range(10):
        assert await names(definitions, T0 + 60 * minute) == ["j0", "j1", "j2"]
    # Twice: what the index did not show yet in the first minute, it does in the second.
    assert reads.since() == 2
    await put(table, cloud, *JOBS[:2])
    (old,) = await store.named(table, "j0")
    reads.since()
    assert await names(definitions, T0 + 600) == ["j0", "j1"]
    await save(table, old, replace(old, enabled=False), WHO)
    for minute in range(11, 16):
        assert await names(definitions, T0 + 60 * minute) == ["j1"]
    assert reads.since() == 3


async def test_what_an_older_version_changes_is_found(
    table: Table, cloud: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    await table.put_many([GROUP.item(), *(job.item() for job in JOBS)])
    reads, definitions = Reads(monkeypatch), Definitions(table)
    for minute in range(5):
        await definitions.at(T0 + 60 * minute)
    assert reads.since() == 5, "a group that has no number is read each minute"
    await put(table, cloud, *JOBS, JobDefinition("web", "j3", schedule="* * * * *"))
    for minute in range(5, 9):
        await definitions.at(T0 + 60 * minute)
    await table.put(JobDefinition("web", "j4", schedule="* * * * *").item())
    assert "j4" not in await names(definitions, T0 + 600)
    assert "j4" in await names(definitions, T0 + 600 + READ_ALL_EVERY_S)


async def test_applying_what_is_there_gives_no_other_number(table: Table, cloud: Session) -> None:
    await put(table, cloud, *JOBS)
    before = await table.get(keys.defined("web"))
    await put(table, cloud, *JOBS)
    assert await table.get(keys.defined("web")) == before
