"""Where a run-once keeps its journal, spool and socket: with the host's own, or nowhere for long."""

from __future__ import annotations

import contextlib
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runner.agent.supervision.launch import companion_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runner.config import Config


@contextlib.contextmanager
def own_paths(config: Config, *, temporary: bool) -> Iterator[Config]:
    """The host's own directories where they may be used, else temporary ones that are removed at the end."""
    with contextlib.ExitStack() as stack:
        state, runtime = config.paths.state, config.paths.runtime
        if temporary or not _usable(state):
            state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cron-runner-once-")))
        if not _reachable(runtime):
            runtime = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cron-runner-once-")))
        yield replace(config, paths=replace(config.paths, state=state, runtime=runtime))


def _usable(directory: Path) -> bool:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(directory, os.W_OK | os.X_OK)


def _reachable(runtime: Path) -> bool:
    """Whether a supervisor is, or can be, at home in this runtime directory."""
    companion = companion_of(runtime) / "supervisor.sock"
    return (companion.exists() and os.access(companion, os.W_OK)) or _usable(runtime)
