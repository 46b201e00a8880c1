"""Any call of the system may fail once, and again after: each run ends once, nothing of it is left."""

from __future__ import annotations

import json
import os

import pytest
from supervisor_worlds import inhabit, learn

COUNT = 60
FIRST = int(os.environ.get("SUPERVISOR_WORLDS_FROM", "0"))


@pytest.fixture(scope="module")
def places() -> list[str]:
    return learn(6)


@pytest.mark.parametrize("first", range(FIRST, FIRST + COUNT, 10))
def test_whatever_call_fails_each_run_ends_once(places: list[str], first: int) -> None:
    for seed in range(first, first + 10):
        said = inhabit(seed, places)
        assert not said["problems"], json.dumps(
            {name: value for name, value in said.items() if name != "places"}, indent=1
        )
