"""What ``cron-runner logs`` shows, from wherever it is: this host's spool, CloudWatch, or where the table says."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from runner.cli import printing
from runner.cli.runs.logs_printer import Printer
from runner.errors import AwsUnavailable, CronRunnerError, NotThere
from runner.reading.cloudwatch import NoSuchGroup
from runner.reading.spool import KeptOutput, Known, NotReadable
from runner.reading.streams import Reading, Seen

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from runner.agent.runs.output import SpoolRow
    from runner.config import Config
    from runner.reading.cloudwatch import CloudOutput
    from runner.reading.spool import AttemptOutput

_LOOK_HERE_S: Final = 0.2
_LOOK_THERE_S: Final = 1.0
_SEARCH_S: Final = 3.0  # a search counts for more than a read, against a quota of 5 a second in some regions


def main(config: Config, args: argparse.Namespace) -> int:
    """Show the output of `args.run_id`; 0. Raises NotThere, CronRunnerError."""
    return asyncio.run(Logs(config, args).run())


class Logs:
    def __init__(self, config: Config, args: argparse.Namespace) -> None:
        self._config = config
        self._run_id: str = args.run_id
        self._job: str | None = args.job
        self._stream: str | None = args.stream
        self._table: str = args.table
        self._of_group: str | None = args.group
        self._follow: bool = args.follow
        self._attempt: int | None = args.attempt
        self._socket: Path | None = args.socket
        self._printer = Printer(args.run_id, args.wanted)
        self._kept: KeptOutput = KeptOutput(config.paths.state)
        self._unreadable = ""
        self._said = False

    async def run(self) -> int:
        await self._run()
        self._printer.caught_up()
        return 0

    async def _run(self) -> None:
        if self._stream is None:
            known = self._look_here()
            if known is None and self._table and await self._from_table():
                return
            if known is not None and await self._is_shown_from_here(known):
                return
            if known is None and not self._has_cloudwatch and not self._follow:
                raise NotThere(
                    f"cannot find run {self._run_id} on this host{self._unreadable}, and its output goes to "
                    f"{', '.join(self._config.output.sinks)}: look there"
                )
        else:
            known = None
        if not await self._from_cloudwatch(known):
            raise NotThere(
                f"cannot find the output of run {self._run_id}: this host has none{self._unreadable}, and log group "
                f"{self._group} has none; check the run id, or name its --job or its --stream"
            )

    @property
    def _has_cloudwatch(self) -> bool:
        return "cloudwatch" in self._config.output.sinks

    def _look_here(self) -> Known | None:
        try:
            return self._kept.known(self._run_id)
        except NotReadable as error:
            self._unreadable = f" ({error}; the users root and cron-runner may)"
            return None

    async def _is_shown_from_here(self, known: Known) -> bool:
        """Show the output of a run that this host has whole, or that has none; False where CloudWatch has it."""
        if known.never_ran:
            self._has_none(known.outcome, known.reason)
        elif self._kept.is_whole(known) or not self._has_cloudwatch or (self._follow and not known.attempts):
            await self._from_here(known)
        else:
            return False
        return True

    def _has_none(self, outcome: str, reason: str) -> None:
        printing.note(f"run {self._run_id} has no output: it never ran, and ended {outcome}: {reason}")

    # -- this host

    async def _from_here(self, known: Known) -> None:
        shown = 0
        output = None
        while True:
            rows = [row for row in known.attempts if self._attempt in (None, row.tag.attempt)]
            while shown < len(rows):
                output = output or self._kept.output(rows[shown])
                if not self._show_row(known, rows[shown], output):
                    break
                shown, output = shown + 1, None
            over = known.ended or (self._attempt is not None and shown > 0)
            if not self._follow or (over and shown >= len(rows)):
                if known.never_ran:
                    self._has_none(known.outcome, known.reason)
                return
            self._printer.caught_up()
            await asyncio.sleep(_LOOK_HERE_S)
            known = self._kept.known(self._run_id) or known

    def _show_row(self, known: Known, row: SpoolRow, output: AttemptOutput) -> bool:
        """Show what has come of an attempt; whether that was all that is to be shown of it."""
        output.update(row)
        if row.end is None and not self._printer.raw:
            output.grew(self._marks())
        # A further attempt, or the end of the run, ends this one.
        over = known.ended or row.end is not None or row.tag.attempt < known.attempts[-1].tag.attempt
        if over or not self._follow:
            output.end()
        try:
            self._printer.pieces(output.pieces(raw=self._printer.raw))
        except OSError as error:
            raise CronRunnerError(
                f"cannot read the spool file of run {self._run_id}: {error.strerror}; the users root and "
                "cron-runner may, and CloudWatch has it too (--stream)"
            ) from error
        return over or not self._follow

    def _marks(self) -> Sequence[int]:
        """When the output of the attempt that runs now was written, which only its agent knows."""
        from runner.cli import agent_socket  # noqa: PLC0415 - only where times are wanted

        if self._socket is None:
            return ()
        try:
            asked = {"from": 1 << 53, "marks": True}
            return list(agent_socket.ask(self._socket, "output", run_id=self._run_id, **asked).get("marks") or ())
        except CronRunnerError:  # no agent, or none of ours: no times then
            return ()

    # -- CloudWatch, by what the fleet's table says

    async def _from_table(self) -> bool:
        """Show the output that the table knows of; False where it knows none."""
        from runner.aws.logs import Logs  # noqa: PLC0415
        from runner.aws.session import Session  # noqa: PLC0415
        from runner.aws.table import Table  # noqa: PLC0415
        from runner.cli.runs.table_logs import told  # noqa: PLC0415
        from runner.reading.cloudwatch import CloudOutput  # noqa: PLC0415

        session = Session(queue_url=self._config.queue.url)
        table = Table(session, self._table)
        try:
            found = await told(table, self._run_id, self._of_group)
            while self._follow and (found is None or (found.open and not found.streams)):
                if self._look_here() is not None:
                    return False  # it has come to this host meanwhile
                self._say_waiting(f"{'the table has not heard of it yet' if found is None else 'it has no output yet'}")
                await asyncio.sleep(_LOOK_THERE_S)
                found = await told(table, self._run_id, self._of_group)
            if found is not None and found.never_ran:
                self._has_none(found.state, found.reason)
                return True
            if found is None or not found.streams:
                return False
            cloud = CloudOutput(Logs(session), found.group, found.template(self._run_id))

            async def look() -> Seen:
                now = await told(table, self._run_id, self._of_group) or found
                return Seen(now.streams, over=not now.open)

            await self._show(cloud, Seen(found.streams, over=not found.open), look)
        except AwsUnavailable as error:
            raise CronRunnerError(f"cannot ask table {self._table}: {error.code}: {error.detail}") from error
        else:
            return True
        finally:
            session.close()

    def _say_waiting(self, why: str) -> None:
        if not self._said:
            self._said = True
            printing.note(f"waiting for run {self._run_id}: {why}; Ctrl-C ends this")

    # -- CloudWatch

    @property
    def _group(self) -> str:
        return self._config.output.cloudwatch.log_group.replace("{group}", self._config.group)

    async def _from_cloudwatch(self, known: Known | None) -> bool:
        from runner.aws.logs import Logs  # noqa: PLC0415
        from runner.aws.session import Session  # noqa: PLC0415
        from runner.reading.cloudwatch import CloudOutput  # noqa: PLC0415

        session = Session(queue_url=self._config.queue.url)
        template = self._config.output.cloudwatch.log_stream
        cloud = CloudOutput(Logs(session), self._group, template, at_length=self._say_searching)
        try:
            return await self._read(cloud, known)
        finally:
            session.close()

    def _say_searching(self) -> None:
        if not self._said:
            where = "--stream NAME finds" if self._job else "--job NAME or --stream NAME finds"
            printing.note(f"searching the streams of {self._group} for run {self._run_id}; {where} it at once")

    async def _read(self, cloud: CloudOutput, known: Known | None) -> bool:
        job = self._job or (known.job if known else None)
        here = known is not None
        shown, searched = 0, float("-inf")

        async def look() -> Seen:
            nonlocal searched
            over = here and _is_over(self._look_here())
            if self._stream or (not over and time.monotonic() < searched + _SEARCH_S):
                return Seen((), over=over)
            searched = time.monotonic()
            try:
                return Seen(tuple(await cloud.streams(self._run_id, job)), over=over)
            except NoSuchGroup:
                if not self._follow:
                    raise
                return Seen((), over=over)  # the first run of the group makes it

        if self._follow and not here:
            self._say_waiting("this host does not know it and cannot see its end")
        seen = Seen((self._stream,)) if self._stream else await look()
        while not seen.streams:
            found = [line async for line in cloud.shared(self._run_id)] if self._has_cloudwatch else []
            self._printer.lines(found[shown:])
            shown = len(found)
            if not self._follow or seen.over:
                # A run of this host that has written nothing has no stream.
                return bool(found) or here
            if not here and not found and (come := await self._comes_here(_SEARCH_S)) is not None:
                await self._from_here(come)
                return True
            if here or found:
                self._printer.caught_up()
                await asyncio.sleep(_SEARCH_S)
            seen = await look()
        await self._show(cloud, seen, look)
        return True

    async def _comes_here(self, within: float) -> Known | None:
        """The run, where it comes to this host, as one does that was on the queue still."""
        for _ in range(int(within / _LOOK_HERE_S)):
            if (known := self._look_here()) is not None:
                return known
            await asyncio.sleep(_LOOK_HERE_S)
        return None

    async def _show(self, cloud: CloudOutput, seen: Seen, look: Callable[[], Awaitable[Seen]]) -> None:
        """Show the streams, one after the other; followed, also those of retries that come later, to the run's end."""
        at, reading = 0, Reading(cloud, self._run_id, seen.streams[0])
        while True:
            async for lines in reading.rest():
                self._printer.lines(lines)
            if at + 1 < len(seen.streams):
                at += 1
                reading = Reading(cloud, self._run_id, seen.streams[at])
            elif not self._follow or seen.over:
                return
            else:
                self._printer.caught_up()
                await asyncio.sleep(_LOOK_THERE_S)
                now = await look()
                # Named by the user, or found before: a stream does not go.
                seen = Seen((*seen.streams, *(name for name in now.streams if name not in seen.streams)), over=now.over)


def _is_over(known: Known | None) -> bool:
    return known is not None and known.ended and all(row.settled for row in known.attempts)
