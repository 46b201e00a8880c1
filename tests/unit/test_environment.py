"""What a job's environment says of the runs before it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from runner.agent.runs.environment import environment_of


def of(labels: dict[str, str]) -> dict[str, str]:
    job = SimpleNamespace(job="load", run_id="load-1", env={}, labels=labels, scheduled_at=None, traceparent=None)
    execution: Any = SimpleNamespace(job=job, attempt=1)
    config: Any = SimpleNamespace(group="web", run=SimpleNamespace(inherit_env=()))
    return environment_of(execution, config, {})


def test_the_ids_of_its_parents_runs_come_by_a_label() -> None:
    assert of({"after": "extract-1 prices-1"})["CRON_RUNNER_AFTER"] == "extract-1 prices-1"


@pytest.mark.parametrize("said", ["", " ", "$(reboot)", "extract-1\nLD_PRELOAD=x;", "a" * 129, ".hidden"])
def test_a_label_that_is_no_list_of_run_ids_makes_no_variable(said: str) -> None:
    assert "CRON_RUNNER_AFTER" not in of({"after": said, "team": "web"})
