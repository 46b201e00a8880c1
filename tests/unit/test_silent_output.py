"""A run that wrote nothing ends without a look at its file, its rules' patterns or its sinks."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest

from runner.agent.output import shipper as module
from runner.agent.output.shipper import Shipper
from runner.agent.runs.output import OutputEnd, OutputReport, Rules
from runner.sinks import Tag

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from runner.agent.runs.output import Committed


class Offsets:
    async def load(self, key: str) -> Sequence[Committed]:
        del key
        return []

    async def commit(self, entries: Sequence[Committed]) -> None:
        raise AssertionError(entries)

    async def known(self) -> Sequence[tuple[Tag, bool]]:
        return []

    async def removed(self, keys: Sequence[str]) -> None:
        raise AssertionError(keys)


class Deaf:
    """A sink to which nothing may be sent; `shared`: all runs in one stream."""

    name, flush, parallel = "deaf", 1.0, 1

    def __init__(self, *, shared: bool) -> None:
        self.shared = shared

    def stream(self, tag: Tag) -> str:
        return "all" if self.shared else tag.run_id

    def prefix(self, tag: Tag) -> str:
        return f"{tag.run_id} " if self.shared else ""

    async def close(self) -> None:
        """Nothing is open."""

    async def send(self, *_: Any) -> None:
        raise AssertionError

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


@pytest.mark.parametrize("shared", [False, True])
async def test_a_run_that_wrote_nothing_is_looked_at_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared: bool
) -> None:
    for name in ("read", "size_of", "written_at"):
        monkeypatch.setattr(module.spool_file, name, lambda *_: pytest.fail("the file was looked at"))
    shipper = Shipper(spool_dir=tmp_path, sinks=[Deaf(shared=shared)], offsets=Offsets())  # type: ignore[list-item]
    task = asyncio.create_task(shipper.run())
    tag = Tag(execution="e", attempt=1, job="j", run_id="r", started_at=0.0, host="h", max_bytes=1 << 20)
    os.close(shipper.open(tag, secrets=["secret-1"], rules=Rules(fail_on=("^$",), require=("done",))))
    shipper.learn(tag.key, ["secret-2"])
    await asyncio.sleep(0)
    report = await shipper.finish(tag.key, OutputEnd(0, 0))
    assert report == OutputReport(0, 0, 0, truncated=False, tail="", failed_on=None, missing="done", lines=0)
    assert shipper.has_settled(tag.key)
    await shipper.settled(tag.key)
    assert shipper.oldest() is None
    assert shipper.backlog() == 0
    shipper.forget(tag.key)
    assert not list(shipper.followed)
    await shipper.close()
    await task
