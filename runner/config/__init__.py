"""TOML and environment → one frozen, checked `Config`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from runner.config.changes import NOT_YET_ACTED_ON, not_acted_on, reload_differences, reloadable
    from runner.config.model import Config
    from runner.config.place import DEFAULT_PATH
    from runner.config.reader import load
    from runner.config.sections import (
        Admission,
        AdmissionResources,
        Agent,
        CloudWatch,
        Output,
        Paths,
        Queue,
        Results,
        Run,
        Syslog,
    )

__all__ = [
    "DEFAULT_PATH",
    "NOT_YET_ACTED_ON",
    "Admission",
    "AdmissionResources",
    "Agent",
    "CloudWatch",
    "Config",
    "Output",
    "Paths",
    "Queue",
    "Results",
    "Run",
    "Syslog",
    "load",
    "not_acted_on",
    "reload_differences",
    "reloadable",
]

# Where each name is. Imported when it is asked for: a command that only prints needs a function or two of this package.
_WHERE: Final = {
    "Admission": "runner.config.sections",
    "AdmissionResources": "runner.config.sections",
    "Agent": "runner.config.sections",
    "CloudWatch": "runner.config.sections",
    "Config": "runner.config.model",
    "DEFAULT_PATH": "runner.config.place",
    "NOT_YET_ACTED_ON": "runner.config.changes",
    "Output": "runner.config.sections",
    "Paths": "runner.config.sections",
    "Queue": "runner.config.sections",
    "Results": "runner.config.sections",
    "Run": "runner.config.sections",
    "Syslog": "runner.config.sections",
    "load": "runner.config.reader",
    "not_acted_on": "runner.config.changes",
    "reload_differences": "runner.config.changes",
    "reloadable": "runner.config.changes",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_WHERE[name]), name)
