"""``cron-runner demo --web``: the demo's host behind its page, with jobs that come again and again, until Ctrl-C."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final, Protocol

from runner.cli import remedy
from runner.cli.demos.demo_table import say
from runner.cli.demos.stand_in import tied_to_us
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_EACH_S: Final = 5.0
_IMPORT: Final = r"""
printf '\033[1mimport-orders 4.12.0\033[0m env=demo\n'
for shop in storefront-de storefront-at marketplace; do
  printf '\033[36m%s\033[0m\n' "$shop"
  for share in 25 50 75 100; do sleep 2; printf '  upsert \033[32m%3d %%\033[0m\n' "$share"; done
done
printf '\033[33mwarn\033[0m 17 rows without a currency\n'
"""
_KINDS: Final[tuple[tuple[str, int, dict[str, Any]], ...]] = (
    ("import-orders", 7, {"command": _IMPORT, "timeout": "2m", "labels": {"team": "data"}}),
    ("warm-cache", 2, {"command": "for n in 1 2 3 4 5 6; do echo warmed $n; sleep 0.4; done"}),
    ("reconcile", 5, {"command": "echo reading; sleep 1; echo 'ERROR: 2 payments differ' >&2; exit 3", "retries": 1}),
    ("export", 24, {"command": "i=0; while :; do i=$((i+1)); echo row $i; sleep 0.5; done", "timeout": "10m"}),
    ("slow-report", 9, {"command": "echo begun; sleep 600", "timeout": "20s", "grace": "1s"}),
)


class Demo(Protocol):
    """What is needed of the demo."""

    @property
    def config(self) -> Path: ...
    @property
    def ended(self) -> int | None: ...
    def environment(self) -> dict[str, str]: ...
    def put(self, *bodies: str) -> None: ...


def show(demo: Demo, listen: str) -> None:
    """Serve the page of the demo's host, and send more jobs, until Ctrl-C."""
    if todo := remedy.missing("web", ("starlette", "uvicorn", "jinja2")):
        raise CronRunnerError(f"cannot show the page: Starlette, uvicorn or Jinja2 is not installed; {todo}")
    command = [sys.executable, "-P", "-m", "runner", "--config", str(demo.config), "web", "--listen", listen]
    process = subprocess.Popen(
        tied_to_us(command), env=demo.environment(), stdin=subprocess.DEVNULL, start_new_session=True
    )
    say("the page is at the address below; Ctrl-C ends all of it")
    try:
        for bodies in _messages():
            demo.put(*bodies)
            try:
                status = process.wait(_EACH_S)
            except subprocess.TimeoutExpired:
                status = None
            if status is not None or demo.ended is not None:
                raise CronRunnerError(f"cannot go on: the {'page' if status is not None else 'agent'} ended")
    except KeyboardInterrupt:
        say("\nending")
    finally:
        process.terminate()
        process.wait()


def _messages() -> Iterator[list[str]]:
    """For each turn those that are due in it."""
    for turn in itertools.count():
        yield [
            json.dumps({"job": job, "run_id": f"{job}-{turn}", **message})
            for job, each, message in _KINDS
            if turn % each == 0
        ]
