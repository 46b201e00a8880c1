"""``cron-runner logs RUN_ID [-f]``: a run's output, from this host's spool or from CloudWatch."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from runner.cli import fleet, printing
from runner.errors import AwsUnavailable, CronRunnerError, NotThere

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from runner.config import Config
    from runner.reading.cloudwatch import CloudOutput, Line
    from runner.reading.spool import KeptOutput, Known
    from runner.sinks import Piece

EXAMPLE: Final = """\
cron-runner logs nightly-2030-01-31
cron-runner logs -f nightly-2030-01-31
cron-runner logs nightly-2030-01-31 --job backup --json
"""
_LOOK_HERE_S: Final = 0.2
_LOOK_THERE_S: Final = 1.0
_SEARCH_S: Final = 3.0  # a search counts for more than a read, against a quota of 5 a second in some regions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and what helps to find it from another machine."""
    parser.add_argument("run_id", metavar="RUN_ID")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the run has ended")
    parser.add_argument("--job", metavar="NAME", help="the run's job: finds it in CloudWatch without a search")
    parser.add_argument("--stream", metavar="NAME", help="its log stream, as its events name it")
    fleet.add_table(parser)
    parser.add_argument("--group", metavar="GROUP", help="the run's group, where the table knows several of the id")
    parser.add_argument(
        "--json",
        action="store_true",
        help="a JSON object a line: time, run_id, message and more; time is null for what this host's spool still has, "
        "which notes none",
    )


def execute(args: argparse.Namespace) -> int:
    """Print the output; 0 when there was a run, with or without output."""
    import asyncio  # noqa: PLC0415 - `--help` needs none of it

    from runner import config  # noqa: PLC0415
    from runner.cli.run_ids import run_id_of  # noqa: PLC0415

    args.run_id = run_id_of(args.run_id, "show the output of a run")
    # With the fleet's table no configuration is needed, and so this works from anywhere.
    args.table = fleet.table_name(args)
    settings = config.load(args.config, os.environ, offline=bool(args.table))
    return asyncio.run(_Logs(settings, args).run())


class _Logs:
    def __init__(self, config: Config, args: argparse.Namespace) -> None:
        from runner.reading.spool import KeptOutput  # noqa: PLC0415

        self._config = config
        self._run_id: str = args.run_id
        self._job: str | None = args.job
        self._stream: str | None = args.stream
        self._table: str = args.table
        self._of_group: str | None = args.group
        self._follow: bool = args.follow
        self._printer = _Printer(args.run_id, as_json=args.json)
        self._kept: KeptOutput = KeptOutput(config.paths.state)

    async def run(self) -> int:
        from runner.reading.spool import NotReadable  # noqa: PLC0415

        known, unreadable = None, ""
        try:
            known = self._kept.known(self._run_id) if self._stream is None else None
        except NotReadable as error:
            unreadable = f" ({error}; the users root and cron-runner may)"
        if known is not None and (self._kept.is_whole(known) or "cloudwatch" not in self._config.output.sinks):
            await self._from_here(known)
            return 0
        if known is None and self._stream is None and self._table and await self._from_table():
            return 0
        if "cloudwatch" not in self._config.output.sinks and self._stream is None:
            raise NotThere(
                f"cannot find run {self._run_id} on this host{unreadable}, and its output goes to "
                f"{', '.join(self._config.output.sinks)}: look there"
            )
        if not await self._from_cloudwatch(known):
            raise NotThere(
                f"cannot find the output of run {self._run_id}: this host has none{unreadable}, and log group "
                f"{self._group} has none; check the run id, or name its --job or its --stream"
            )
        return 0

    # -- this host

    async def _from_here(self, known: Known) -> None:
        import asyncio  # noqa: PLC0415

        shown = 0
        output = None
        while True:
            rows = known.attempts
            if output is None and shown < len(rows):
                output = self._kept.output(rows[shown])
            if output is not None:
                row = rows[shown]
                output.update(row)
                # A further attempt, or the end of the run, ends this one.
                over = known.ended or row.end is not None or shown + 1 < len(rows)
                if over or not self._follow:
                    output.end()
                try:
                    self._printer.pieces(output.pieces(raw=not self._printer.as_json))
                except OSError as error:
                    raise CronRunnerError(
                        f"cannot read the spool file of run {self._run_id}: {error.strerror}; the users root and "
                        "cron-runner may, and CloudWatch has it too (--stream)"
                    ) from error
                if over or not self._follow:
                    shown, output = shown + 1, None
                    if shown < len(rows):
                        continue
            if not self._follow or (known.ended and shown >= len(rows)):
                return
            await asyncio.sleep(_LOOK_HERE_S)
            known = self._kept.known(self._run_id) or known

    # -- CloudWatch, by what the fleet's table says

    async def _from_table(self) -> bool:
        """Show the output that the table knows of; False where it knows none."""
        from runner.aws.logs import Logs  # noqa: PLC0415
        from runner.aws.session import Session  # noqa: PLC0415
        from runner.aws.table import Table  # noqa: PLC0415
        from runner.cli.table_logs import told  # noqa: PLC0415
        from runner.reading.cloudwatch import CloudOutput  # noqa: PLC0415

        session = Session(queue_url=self._config.queue.url)
        try:
            found = await told(Table(session, self._table), self._run_id, self._of_group)
            if found is None:
                return False
            self._follow = self._follow and found.open
            cloud = CloudOutput(Logs(session), found.group, found.template(self._run_id))
            for stream in found.streams:
                await self._read_stream(cloud, stream, None, last=stream == found.streams[-1])
        except AwsUnavailable as error:
            raise CronRunnerError(f"cannot ask table {self._table}: {error.code}: {error.detail}") from error
        else:
            return True
        finally:
            session.close()

    # -- CloudWatch

    @property
    def _group(self) -> str:
        return self._config.output.cloudwatch.log_group.replace("{group}", self._config.group)

    async def _from_cloudwatch(self, known: Known | None) -> bool:
        from runner.aws.logs import Logs  # noqa: PLC0415
        from runner.aws.session import Session  # noqa: PLC0415
        from runner.reading.cloudwatch import CloudOutput  # noqa: PLC0415

        session = Session(queue_url=self._config.queue.url)
        cloud = CloudOutput(Logs(session), self._group, self._config.output.cloudwatch.log_stream)
        try:
            return await self._read(cloud, known)
        finally:
            session.close()

    async def _read(self, cloud: CloudOutput, known: Known | None) -> bool:
        import asyncio  # noqa: PLC0415

        if self._follow and known is None:
            printing.note("this host does not know the run and cannot see its end; Ctrl-C ends this")
        job = self._job or (known.job if known else None)
        streams = [self._stream] if self._stream else await cloud.streams(self._run_id, job)
        shown, over = 0, False
        while not streams:
            found = [line async for line in cloud.shared(self._run_id)]
            self._printer.lines(found[shown:])
            shown = len(found)
            if not self._follow or over:
                # A run of this host that has written nothing has no stream.
                return bool(found) or known is not None
            await asyncio.sleep(_SEARCH_S)
            known = self._kept.known(self._run_id) if known else None
            over = _is_over(known)
            streams = await cloud.streams(self._run_id, job)
        for stream in streams:
            await self._read_stream(cloud, stream, known, last=stream == streams[-1])
        return True

    async def _read_stream(self, cloud: CloudOutput, stream: str, known: Known | None, *, last: bool) -> None:
        import asyncio  # noqa: PLC0415

        token: str | None = None
        over = False
        while True:
            lines, after = await cloud.read(self._run_id, stream, token)
            self._printer.lines(lines)
            at_end, token = after == token, after
            if not at_end:
                continue
            if not self._follow or not last or over:
                return
            await asyncio.sleep(_LOOK_THERE_S)
            known = self._kept.known(self._run_id) if known else None
            # Read once more after the end: what was on its way has arrived by then.
            over = _is_over(known)


def _is_over(known: Known | None) -> bool:
    return known is not None and known.ended and all(row.settled for row in known.attempts)


class _Printer:
    """Prints what is read: bytes and lines as they were, or JSON."""

    def __init__(self, run_id: str, *, as_json: bool) -> None:
        self._run_id = run_id
        self.as_json = as_json

    def pieces(self, pieces: Any) -> None:
        for piece in pieces:
            printing.data(b"".join(self._of_piece(piece)) if self.as_json else piece.raw)

    def _of_piece(self, piece: Piece) -> Iterator[bytes]:
        for line in piece.lines:
            yield self._json(None, line, job=piece.tag.job, attempt=piece.tag.attempt)

    def lines(self, lines: Sequence[Line]) -> None:
        from runner.protocol.units import format_time  # noqa: PLC0415

        made = (
            self._json(format_time(line.ms / 1000), line.text.removesuffix("\n"))
            if self.as_json
            else line.text.encode()
            for line in lines
        )
        printing.data(b"".join(made))

    def _json(self, time: str | None, message: str, **more: Any) -> bytes:
        record = {"time": time, "run_id": self._run_id, **more, "message": message}
        return json.dumps(record).encode() + b"\n"
