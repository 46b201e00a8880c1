"""Modules that wait to be asked."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from runner.deferred import defer, is_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Makes a module of a name that nobody else has."""
    monkeypatch.syspath_prepend(str(tmp_path))
    made: list[str] = []

    def make(name: str, code: str) -> None:
        path = tmp_path / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
        importlib.invalidate_caches()
        made.append(name)

    yield make
    for name in made:
        sys.modules.pop(name, None)


def test_a_module_is_loaded_when_it_is_asked(module: Callable[[str, str], None]) -> None:
    module("asked_of", "value = 1\nloaded_as = __name__\n")
    defer("asked_of")
    import asked_of  # type: ignore[import-not-found]

    assert is_waiting("asked_of")
    assert (asked_of.value, asked_of.loaded_as) == (1, "asked_of")
    assert not is_waiting("asked_of")
    assert type(asked_of) is type(sys)
    assert asked_of.__spec__.loader is asked_of.__loader__


def test_a_module_of_a_package_waits_as_well(module: Callable[[str, str], None]) -> None:
    module("waiting_room.__init__", "")
    module("waiting_room.patient", "value = 2\n")
    defer("waiting_room.patient")
    from waiting_room import patient  # type: ignore[import-not-found]

    assert is_waiting("waiting_room.patient")
    assert patient.value == 2


def test_a_module_that_was_loaded_before_stays_as_it_is(module: Callable[[str, str], None]) -> None:
    module("loaded_before", "value = 3\n")
    import loaded_before  # type: ignore[import-not-found]

    defer("loaded_before")
    assert importlib.import_module("loaded_before") is loaded_before
    assert loaded_before.value == 3


def test_a_module_that_cannot_be_loaded_says_so_each_time(module: Callable[[str, str], None]) -> None:
    module("broken_for_now", "import sys\nif not hasattr(sys, 'mended'): raise OSError('not yet')\nvalue = 4\n")
    defer("broken_for_now")
    import broken_for_now  # type: ignore[import-not-found]

    for _ in range(2):
        with pytest.raises(OSError, match="not yet"):
            _ = broken_for_now.value
    sys.mended = True  # type: ignore[attr-defined]
    try:
        assert broken_for_now.value == 4
    finally:
        del sys.mended  # type: ignore[attr-defined]


def test_no_thread_sees_half_a_module(module: Callable[[str, str], None]) -> None:
    """Its code asks itself and another one that waits, and gives way to other threads between its lines."""
    module("slow_helper", "import time\ntime.sleep(0.05)\nvalue = 5\n")
    module(
        "slow_one",
        "import sys, time, slow_helper\nfirst = 1\nassert sys.modules[__name__].first == 1\ntime.sleep(0.05)\n"
        "last = slow_helper.value\n",
    )
    defer("slow_one", "slow_helper")
    import slow_one  # type: ignore[import-not-found]

    seen: list[object] = []
    threads = [threading.Thread(target=lambda: seen.append(getattr(slow_one, "last", None))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [5] * 8


def test_nothing_of_a_client_is_loaded_before_there_is_one() -> None:
    """And all of it is there, and used, with the first client of a session."""
    code = """
import sys
from runner.aws.lean import ONLY_FOR_CLIENTS, LeanSession
from runner.deferred import is_waiting
session = LeanSession()
session.set_credentials("a", "b")
print([name for name in ONLY_FOR_CLIENTS if not is_waiting(name)], "botocore.args" in sys.modules)
client = session.create_client("sts", region_name="eu-west-1")
print(is_waiting("botocore.client"), is_waiting("botocore.handlers"), "botocore.args" in sys.modules)
import botocore.session
plain = botocore.session.Session()
def handlers(session):
    return len(list(session.get_component("event_emitter")._emitter._handlers.prefix_search("before-call.x.y")))
session.create_client("sqs", region_name="eu-west-1")
print(handlers(session) == handlers(plain) > 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["[] False", "False False True", "True"], done.stderr
