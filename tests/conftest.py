"""Puts `tests/support` on the path, and offers its fixtures to every test."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

# --import-mode=importlib adds nothing to sys.path; the support modules are imported by their plain names.
sys.path.insert(0, str(Path(__file__).parent / "support"))

from hypothesis import settings

from runner.agent.engine import run

from fixtures import aws, aws_server, cloud, fleet, log_restored, proxy, table, tmp_path
from lambdas import code, control, functions
from receiver import receiver

# `pytest &` in a script has SIGINT ignored, and so would every child that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and under nohup this one

# What cannot happen to a run is a fault.
run.STRICT = True

# A busy machine is slow now and then; how long an example takes is no test's matter.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

__all__ = [
    "aws",
    "aws_server",
    "cloud",
    "code",
    "control",
    "fleet",
    "functions",
    "log_restored",
    "proxy",
    "receiver",
    "table",
    "tmp_path",
]
