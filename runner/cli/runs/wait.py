"""``cron-runner wait RUN_ID…``: until runs have ended, with the job's exit status; and the same for `send --wait`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from runner.cli import agent_socket, printing
from runner.cli.numbers import lasting
from runner.cli.runs.one_run import UNKNOWN, Finder, add_options, is_over, not_known
from runner.errors import CronRunnerError, WrongUsage

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

EXAMPLE: Final = """\
cron-runner wait nightly-2030-01-31 && echo "it is done"
cron-runner wait --follow nightly-2030-01-31
cron-runner wait --timeout 1h nightly-2030-01-30 nightly-2030-01-31
"""
# What is no exit status of the job: every other number may be one.
JOBS_OWN: Final = 125
_HERE_S: Final = 0.3
_TABLE_S: Final = 2.0
_APPEARS_S: Final = 5.0  # what was sent a moment ago may not have been received
_LATE_S: Final = 30.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which runs, and for how long."""
    parser.usage_status = JOBS_OWN  # type: ignore[attr-defined] # main.Parser's
    parser.add_argument("run_id", metavar="RUN_ID", nargs="+", help="the runs")
    parser.add_argument("-f", "--follow", action="store_true", help="show its output meanwhile; of one run")
    parser.add_argument(
        "--timeout", metavar="DURATION", type=lasting("0s", "3650d"), help="give up after so long (default: never)"
    )
    add_options(parser)
    parser.epilog = (
        "The runs of this host, or of the fleet's table. Exit status: as of run-once: the job's own (1 if it exited\n"
        "with 0 and a rule failed it), 124 timed out, 128+n ended by a signal, 126 or 127 not started, and 125 for\n"
        "all else, such as a run that nobody knows, one that was skipped, or --timeout. Of several it is that of the\n"
        f"first, as they were named, that did not succeed.\n\n{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Wait; the exit status of the first that did not succeed."""
    return of_a_job(_execute, args)


def of_a_job(work: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """Do the work of a command whose exit status is a job's: what goes wrong with us has one of its own."""
    try:
        return work(args)
    except printing.ReaderLeft:
        raise
    except CronRunnerError as error:
        error.exit_status = JOBS_OWN
        raise


def _execute(args: argparse.Namespace) -> int:
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415 - `--help` needs none of it

    if args.follow and (len(args.run_id) > 1 or args.json):
        raise WrongUsage("cannot follow that: --follow shows the output of one run, as it is; leave it out")
    finder = Finder(args)
    until = float("inf") if args.timeout is None else time.monotonic() + args.timeout
    run_ids = [run_id_of(run_id, "wait for a run") for run_id in args.run_id]
    runs = [_Waiting(finder, run_id, follow=args.follow, until=until).end() for run_id in run_ids]
    if args.json:
        printing.document(runs[0] if len(runs) == 1 else runs)
    elif args.follow:
        printing.note(told(runs[0]))
    else:
        printing.lines(*(told(run) for run in runs))
    return next((status for run in runs if (status := status_of(run))), 0)


def after_sending(args: argparse.Namespace) -> Callable[[dict[str, str]], int]:
    """What waits for a run that is sent now. Raises where its end could not be heard of: nothing is sent then."""
    args.socket = args.table = args.group = None
    finder = Finder(args)
    finder.find("-")  # raises where there is neither an agent nor a table

    def wait(sent: dict[str, str]) -> int:
        run_id = sent["run_id"]
        if args.follow:
            printing.note(f"sent run {run_id}")
        elif not args.json:
            printing.lines(run_id)
        run = _Waiting(finder, run_id, follow=args.follow, until=float("inf"), comes=True).end()
        if args.json:
            printing.document({**sent, **run}, indent=None)
        else:
            printing.note(told(run))
        return status_of(run)

    return wait


class _Waiting:
    """For one run. `comes`: it is on the queue, and whoever receives it may be a while."""

    def __init__(self, finder: Finder, run_id: str, *, follow: bool, until: float, comes: bool = False) -> None:
        self._finder = finder
        self._run_id = run_id
        self._follow = follow
        self._until = until
        self._comes = comes
        self._began = time.monotonic()
        self._output = Output(finder, run_id)
        self._said = False
        self._last: dict[str, Any] | None = None

    def end(self) -> dict[str, Any]:
        """The run, when it has ended."""
        while True:
            run = self._found()
            if run["state"] == UNKNOWN:
                self._not_known()
            elif self._follow:
                self._output.show(run, over=is_over(run))
            if is_over(run):
                return run
            now = time.monotonic()
            if now >= self._until:
                raise CronRunnerError(
                    f"cannot wait longer for run {self._run_id}: it is {run['state']}; see `cron-runner show "
                    f"{self._run_id}`"
                )
            here = run["state"] == UNKNOWN or "phase" in run
            time.sleep(max(0.0, min(_HERE_S if here else _TABLE_S, self._until - now)))

    def _found(self) -> dict[str, Any]:
        """An agent that is restarted while somebody waits comes back: the run goes on meanwhile."""
        try:
            self._last = self._finder.find(self._run_id)
        except agent_socket.NoAgent as error:
            if self._last is None:
                raise
            if not self._said:
                self._said = True
                printing.note(f"{error}; waiting for it, Ctrl-C ends this")
        assert self._last is not None
        return self._last

    def _not_known(self) -> None:
        waited = time.monotonic() - self._began
        if not self._comes and self._until == float("inf") and waited > _APPEARS_S:
            raise not_known(self._run_id, "wait for")
        if waited > _LATE_S and not self._said and not self._finder.table:
            self._said = True
            printing.note(f"run {self._run_id} has not come to this host yet; if another one has it, only the fleet's "
                          "table (--table of `cron-runner wait`) can tell of its end; Ctrl-C ends this")  # fmt: skip


class Output:
    """The output of a run as it comes: by the agent's socket, for which nobody needs a right to its files; else of
    CloudWatch."""

    def __init__(self, finder: Finder, run_id: str) -> None:
        self._finder = finder
        self._run_id = run_id
        self._at = 0

    def show(self, run: dict[str, Any], *, over: bool) -> None:
        """What has come since the last call; `over`: all of it."""
        if "phase" not in run:
            if over:
                self._from_cloudwatch()
            return
        while True:
            part = self._finder.output(self._run_id, self._at)
            if not part.get("here", True) and over and run.get("log"):
                self._from_cloudwatch()
                return
            printing.data(part["text"].encode("utf-8", "surrogateescape"))
            moved = part["next"] > self._at
            self._at = part["next"]
            if part["end"] or not moved:
                return

    def _from_cloudwatch(self) -> None:
        """Of a run that has ended."""
        from runner.cli.runs import logs  # noqa: PLC0415 - only for what this host has not

        logs.shown(self._finder.args, self._run_id)


def told(run: dict[str, Any]) -> str:
    """How it ended, as a line."""
    reason = f": {run['reason']}" if run.get("reason") else ""
    return f"run {run['run_id']} of {run['job'] or 'no job'} ended {run['outcome']}{reason}"


def status_of(run: dict[str, Any]) -> int:
    """The exit status, by the rules of run-once."""
    from runner.protocol.outcome import Outcome, Verdict, exit_status  # noqa: PLC0415 - `--help` needs none of it

    if run["outcome"] not in tuple(Outcome):
        return JOBS_OWN  # skipped or rejected: there was no job
    verdict = Verdict(Outcome(run["outcome"]), run.get("reason") or "", run.get("exit_code"), run.get("signal"))
    return exit_status(verdict)
