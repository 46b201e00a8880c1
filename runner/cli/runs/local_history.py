"""The runs that this host remembers: asked of its agent, or, where none answers, read from its journal."""

from __future__ import annotations

import os
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from runner.cli import agent_socket, printing
from runner.cli.agent_socket import NoAgent, NotAllowed
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    import argparse
    import sqlite3
    from collections.abc import Iterator, Sequence

    from runner.agent.operator.past_runs import Here

_PAGE: Final = 500
FROM_JOURNAL: Final = "no agent answers; this is what its journal has"


@dataclass(frozen=True, slots=True)
class Asked:
    """Which runs; None: any. `since` is unix seconds; `state` is `open`, `ended` or "" for both."""

    job: str | None = None
    outcomes: Sequence[str] | None = None
    since: float | None = None
    state: str = ""
    limit: int = 20


@contextmanager
def journal_of(args: argparse.Namespace) -> Iterator[tuple[sqlite3.Connection, Here]]:
    """This host's journal, and whose it is, where no agent says it. Raises CronRunnerError, OSError, sqlite3.Error."""
    from runner import config  # noqa: PLC0415 - only where no agent answers
    from runner.agent.journal import history  # noqa: PLC0415
    from runner.agent.operator.past_runs import Here  # noqa: PLC0415

    settings = config.load(args.config, os.environ, offline=True)
    with history.reading(settings.paths.state / "journal.db") as journal:
        yield journal, Here(socket.gethostname(), settings, settings.run.user or None)


def runs(args: argparse.Namespace, asked: Asked) -> list[dict[str, Any]]:
    """The newest first. Raises NoAgent, NotAllowed where neither can be asked."""
    try:
        pages = _of_agent(args, asked)
        return _first(pages, asked)
    except (NoAgent, NotAllowed) as error:
        return _first(_of_journal(args, asked, error), asked)


def _first(pages: Iterator[list[dict[str, Any]]], asked: Asked) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for page in pages:
        found += page
        if len(found) >= asked.limit:
            break
    return found[: asked.limit]


def _of_agent(args: argparse.Namespace, asked: Asked) -> Iterator[list[dict[str, Any]]]:
    path = agent_socket.socket_of(args, os.environ)
    cursor: str | None = ""
    while cursor is not None:
        answer = agent_socket.ask(
            path,
            "runs",
            job=asked.job or "",
            outcomes=None if asked.outcomes is None else list(asked.outcomes),
            since=asked.since,
            state=asked.state,
            limit=min(asked.limit, _PAGE),
            cursor=cursor,
        )
        cursor = answer["cursor"]
        yield answer["runs"]


def _of_journal(args: argparse.Namespace, asked: Asked, silent: CronRunnerError) -> Iterator[list[dict[str, Any]]]:
    """What the agent has written down, for those who may read that; else why it was not asked."""
    import sqlite3  # noqa: PLC0415 - only where no agent answers

    from runner.agent.journal import history  # noqa: PLC0415
    from runner.agent.operator.past_runs import entry  # noqa: PLC0415

    try:
        with journal_of(args) as (journal, whose):
            printing.note(FROM_JOURNAL)
            wanted = history.Wanted(asked.job, asked.outcomes, asked.since)
            if asked.state != "ended" and asked.outcomes is None:
                rows = [row for row in history.open_rows(journal) if asked.job in (None, row.job)]
                yield [entry(history.Past(row, ()), whose) for row in rows]
            after: history.Place | None = wanted.first
            while after is not None and asked.state != "open":
                pasts, after = history.page(journal, wanted, after, min(asked.limit, _PAGE))
                yield [entry(past, whose) for past in pasts]
    except (CronRunnerError, OSError, sqlite3.Error):
        raise silent from None
