"""What differs between two configurations, and what of one is not acted on yet."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from runner.config.keys import KEYS, default_of, value_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runner.config.model import Config

# Keys that are read and checked, and whose behaviour the agent does not have yet: the whole key (None),
# or some of its values. An entry is taken out when its behaviour is built.
NOT_YET_ACTED_ON: Mapping[str, frozenset[str] | None] = {}


@dataclass(frozen=True, slots=True)
class Reload:
    """What the last reload came to. `at` is unix seconds.

    `refused` holds the faults for which the file was not taken; `changed` the keys that have new values; `restart` the
    keys whose values in the file differ from those in use, until a restart.
    """

    at: float
    refused: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()

    def __str__(self) -> str:
        """What of it is still to be seen to; empty where all is in force."""
        if self.refused:
            more = f" (and {len(self.refused) - 1} more)" if len(self.refused) > 1 else ""
            return f"the changed configuration was refused: {self.refused[0]}{more}"
        return f"restart to change {', '.join(self.restart)}" if self.restart else ""


def reload_differences(old: Config, new: Config) -> tuple[list[str], list[str]]:
    """The keys that differ: (those a reload can change, those that need a restart).

    A declared job that was added, taken out or changed is ``jobs.NAME``.
    """
    changeable: list[str] = []
    fixed: list[str] = []
    for path, key in KEYS.items():
        if value_of(old, path) != value_of(new, path):
            (fixed if key.setting.fixed else changeable).append(path)
    names = sorted(old.jobs.keys() | new.jobs.keys())
    changeable += [f"jobs.{name}" for name in names if old.jobs.get(name) != new.jobs.get(name)]
    return changeable, fixed


def reloadable(old: Config, new: Config) -> Config:
    """What a reload may put in force: ``new``, with the keys that need a restart as they are in ``old``."""

    def merged(ours: Any, theirs: Any) -> Any:
        kept: dict[str, Any] = {}
        for entry in fields(theirs):
            value = getattr(ours, entry.name)
            setting = entry.metadata.get("setting")
            if setting is not None and setting.fixed:
                kept[entry.name] = value
            elif setting is None and is_dataclass(value):
                kept[entry.name] = merged(value, getattr(theirs, entry.name))
        return replace(theirs, **kept)

    config: Config = merged(old, new)
    return config


def not_acted_on(config: Config) -> list[str]:
    """The keys that are set and have no effect yet: ``agent.listen``, ``admission.policy = "resources"``…"""
    found: list[str] = []
    for path, values in NOT_YET_ACTED_ON.items():
        value = value_of(config, path)
        if value == default_of(KEYS[path]):
            continue
        if values is None:
            found.append(path)
        elif isinstance(value, tuple):
            found += [f"{path}: {json.dumps(entry)}" for entry in value if entry in values]
        elif value in values:
            found.append(f"{path} = {json.dumps(value)}")
    return found
