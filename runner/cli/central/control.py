"""``cron-runner control --local``: the scheduler and the recorder as one process, where there is no Lambda."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import socket
from typing import TYPE_CHECKING, Final

from runner.cli import fleet
from runner.cli.numbers import lasting
from runner.errors import AwsUnavailable, CronRunnerError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from runner.config import Config
    from runner.control.recording.measured import Measured

EXAMPLE: Final = """\
cron-runner control --local
cron-runner control --local --table cron --results https://sqs.eu-west-1.amazonaws.com/123456789012/cron-results
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where it works."""
    parser.set_defaults(prints=False)
    parser.add_argument("--local", action="store_true", required=True, help="run here; in the cloud Lambda runs it")
    parser.add_argument("--results", metavar="URL", help="the results queue (default: [results] url)")
    parser.add_argument("--make", action="store_true", help="create the table where there is none, for a stand-in")
    parser.add_argument(
        "--every",
        metavar="DURATION",
        type=lasting("0.1s", "1h"),
        default=60.0,
        help="how often the scheduler looks (1m; shorter in a demo)",
    )
    fleet.add_table(parser)
    parser.epilog = (
        "Several may run side by side, and beside the Lambda functions: a fire time is enqueued once all the same.\n\n"
        f"{parser.epilog}"
    )


def execute(args: argparse.Namespace) -> int:
    """Run until SIGTERM or SIGINT; 0 then."""
    from runner import config, log  # noqa: PLC0415 - `--help` needs none of it
    from runner.aws.sqs import Queue  # noqa: PLC0415
    from runner.control.local import serve  # noqa: PLC0415

    fleet.need_schedules()
    every = args.every
    log.configure("info")
    settings = None if args.results else config.load(args.config, os.environ)
    url = args.results or (settings.results.url if settings else "")
    name = settings.results.name if settings and not url else ""
    if not (url or name):
        raise CronRunnerError("cannot record: no results queue is known; give its URL with --results")

    async def main(measured: Measured | None) -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with fleet.opened(args) as (session, table):
            if args.make:
                try:
                    await table.make()
                except AwsUnavailable as error:
                    what = "create table" if error.call == "CreateTable" else "let items of the existing table"
                    more = "" if error.call == "CreateTable" else " expire"
                    raise CronRunnerError(f"cannot {what} {table.name}{more}: {error.code}: {error.detail}") from error
            results = Queue(session, url=url, name=name)
            await serve(session, table, results, every=max(0.1, every), stop=stop, measured=measured)

    with _measured(settings) as measured:
        asyncio.run(main(measured))
    return 0


@contextlib.contextmanager
def _measured(settings: Config | None) -> Iterator[Measured | None]:
    """Metrics of what is recorded, where they are asked for: into the agents' log group; without a configuration, as in
    a container, by standard output."""
    if (settings.agent.metrics if settings else os.environ.get("CRON_RUNNER_AGENT__METRICS")) != "emf":
        yield None
        return
    from runner.control.recording.measured import Measured  # noqa: PLC0415 - only for those who ask for it

    if settings is None:
        yield Measured(functools.partial(print, flush=True))
        return
    from runner.aws.session import Session  # noqa: PLC0415
    from runner.log_shipping import CloudWatchCopy  # noqa: PLC0415

    session = Session(queue_url=settings.queue.url)
    stream = f"{socket.gethostname()}/control"
    copy = CloudWatchCopy(settings.agent.cloudwatch_log_group, stream, session.logs_client)
    try:
        yield Measured(copy)
    finally:
        copy.close()
        session.close()
