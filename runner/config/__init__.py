"""TOML and environment → one frozen, checked `Config`."""

from runner.config.changes import NOT_YET_ACTED_ON, not_acted_on, reload_differences, reloadable
from runner.config.model import Config
from runner.config.reader import DEFAULT_PATH, load
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
