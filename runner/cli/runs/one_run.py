"""All that is known of one run, from whoever knows it: this host's agent, its journal where no agent answers, or the
fleet's table."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from runner.cli import agent_socket, fleet, printing
from runner.cli.agent_socket import NoAgent, NotAllowed
from runner.errors import AwsUnavailable, CronRunnerError, NotThere

if TYPE_CHECKING:
    import argparse

    from runner.aws.session import Session
    from runner.aws.table import Table

UNKNOWN: Final = "unknown"
ELSEWHERE: Final = "elsewhere"
_OF_AN_END: Final = ("outcome", "reason", "exit_code", "signal", "duration_s", "usage", "output", "will_retry", "log")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Who is asked."""
    agent_socket.add_options(parser)
    fleet.add_table(parser)
    parser.add_argument("--group", metavar="GROUP", help="the run's group, where the table knows several of the id")


def is_over(run: dict[str, Any]) -> bool:
    return run.get("outcome") is not None and run.get("state") == run.get("outcome")


class Finder:
    """Asks them in this order, or with ``--table`` the table alone. What is not there, or not for this user, is left
    out, and said where nobody else knows the run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self._socket = None if args.table else agent_socket.socket_of(args, os.environ)
        self._silent: CronRunnerError | None = None  # why the agent was not asked
        self._table: str | None = None
        self.warned = False

    def find(self, run_id: str) -> dict[str, Any]:
        """The run; its `state` is `unknown` where nobody who was asked knows it. Raises where nobody could be."""
        found: dict[str, Any] | None = self._of_host(run_id)
        if found is None and self._silent is not None:
            found = self._of_journal(run_id)
        if found is None and self.table:
            found = self._of_table(run_id)
            if found is None:
                return {"run_id": run_id, "state": UNKNOWN}
        if found is None and self._silent is not None:
            raise self._silent
        return found or {"run_id": run_id, "state": UNKNOWN}

    def output(self, run_id: str, start: int) -> dict[str, Any]:
        """A part of the output of a run that the agent knows, from this byte on."""
        assert self._socket is not None
        return agent_socket.ask(self._socket, "output", run_id=run_id, **{"from": start})

    @property
    def table(self) -> str:
        """The fleet's table; "" where there is none, or the configuration that would name it cannot be read."""
        if self._table is None:
            try:
                self._table = fleet.table_name(self.args)
            except CronRunnerError:
                if self.args.table:
                    raise
                self._table = ""
        return self._table

    def _of_host(self, run_id: str) -> dict[str, Any] | None:
        if self._socket is None:
            return None
        try:
            found = agent_socket.ask(self._socket, "show", run_id=run_id)
        except (NoAgent, NotAllowed) as error:
            self._silent = error
            return None
        self._silent = None
        return found if found["state"] != UNKNOWN else None

    def _of_journal(self, run_id: str) -> dict[str, Any] | None:
        """What the agent has written down, for those who may read that."""
        import sqlite3  # noqa: PLC0415 - only where no agent answers

        from runner.agent.journal import history  # noqa: PLC0415
        from runner.agent.operator.past_runs import account  # noqa: PLC0415
        from runner.cli.runs.local_history import FROM_JOURNAL, journal_of  # noqa: PLC0415

        try:
            with journal_of(self.args) as (journal, whose):
                pasts = history.executions(journal, run_id)
        except (CronRunnerError, OSError, sqlite3.Error):
            return None
        if not pasts:
            return None
        if not self.warned:
            printing.note(FROM_JOURNAL)
            self.warned = True
        return account(pasts, whose)

    def _of_table(self, run_id: str) -> dict[str, Any] | None:
        from runner.control import store  # noqa: PLC0415
        from runner.control.chains.shown import children_of  # noqa: PLC0415

        async def work(_: Session, table: Table) -> dict[str, Any] | None:
            try:
                run = await store.run(table, run_id, self.args.group)
            except store.NotFound:
                return None
            children = await children_of(table, [run])
            run["children"] = children.get((run["group"], run["run_id"]))
            return as_told(run, await store.attempts(table, run["group"], run_id))

        try:
            found: dict[str, Any] | None = fleet.run(self.args, work)
        except AwsUnavailable as error:
            raise CronRunnerError(f"cannot ask table {self.table}: {error.code}: {error.detail}") from error
        return found


def as_told(run: dict[str, Any], attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """A run of the table with the fields of one that a host tells of, as far as its events have said them."""
    from runner.control.shown import as_json  # noqa: PLC0415

    last = max(attempts, key=lambda one: (str(one["began"]), int(one["attempt"])), default={})
    started = last.get("started", {})
    return {
        **as_json(run),
        "execution": run["execution"],
        "command": started.get("command"),
        "user": started.get("user"),
        "pid": started.get("pid"),
        "timeout_s": started.get("timeout_s"),
        "message": {"delivery": last.get("delivery"), "sent_at": last.get("sent_at")},
        "attempts": [_attempt(one) for one in attempts if "started" in one or "ended" in one],
    }


def _attempt(told: dict[str, Any]) -> dict[str, Any]:
    started, ended = told.get("started", {}), told.get("ended", {})
    return {
        "execution": told["execution"],
        "attempt": told["attempt"],
        "started_at": ended.get("started_at") or started.get("started_at"),
        "ended_at": ended.get("finished_at") or ended.get("at"),
        **{name: ended.get(name) for name in _OF_AN_END},
        "outcome": ended.get("outcome") or ended.get("kind"),
        "log": ended.get("log") or started.get("log"),
    }


def not_known(run_id: str, purpose: str) -> NotThere:
    """What is said of a run that nobody knows."""
    return NotThere(
        f"cannot {purpose} run {run_id}: this host knows no such run; `cron-runner history` lists those that it knows, "
        "--table asks the fleet's table"
    )
