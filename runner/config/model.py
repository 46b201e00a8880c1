"""The whole configuration as the agent uses it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runner.config.access import Control, Signing
from runner.config.kinds import TEXT, setting
from runner.config.sections import Admission, Agent, Fleet, Output, Paths, Queue, Results, Run
from runner.config.web import Web
from runner.protocol.message import Declaration, Defaults

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The group of a run-once that has no configuration and asks for none.
OFFLINE_GROUP = "local"


@dataclass(frozen=True, slots=True)
class Config:
    """A whole, checked configuration; `load` makes it.

    ``source`` is the file it was read from, None where only the environment was used.
    ``jobs`` are the declared jobs by name, those of ``jobs.d`` among them.
    """

    group: str = setting(
        "",
        TEXT,
        "The name of the group: the hosts that share this queue. Up to 128 of A-Z a-z 0-9 . _ -",
        fixed=True,
    )
    queue: Queue = field(default_factory=Queue)
    results: Results = field(default_factory=Results)
    fleet: Fleet = field(default_factory=Fleet)
    admission: Admission = field(default_factory=Admission)
    run: Run = field(default_factory=Run)
    output: Output = field(default_factory=Output)
    agent: Agent = field(default_factory=Agent)
    signing: Signing = field(default_factory=Signing)
    control: Control = field(default_factory=Control)
    paths: Paths = field(default_factory=Paths)
    web: Web = field(default_factory=Web)
    jobs: Mapping[str, Declaration] = field(default_factory=dict)
    source: Path | None = None

    def defaults(self) -> Defaults:
        """What a message is resolved against."""
        return Defaults(
            shell=self.run.shell,
            user=self.run.user,
            timeout=self.run.timeout,
            grace=self.run.grace,
            cwd=self.run.cwd,
            env=self.run.env,
            commands=self.run.commands,
            allowed_users=self.run.allowed_users,
            min_nice=self.run.min_nice,
            allowed_secrets=self.run.allowed_secrets,
            group="" if self.source is None and self.group == OFFLINE_GROUP else self.group,
        )
