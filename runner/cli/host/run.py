"""``cron-runner run``: the daemon, in the foreground."""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from runner.config import Config

EXAMPLE: Final = "cron-runner --config /etc/cron-runner/config.toml run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A daemon is told everything by its configuration."""
    parser.set_defaults(prints=False)
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="only read the configuration: 0 where it can be used, else its faults and 78; a reload of the unit does "
        "it first",
    )
    stopping = "SIGTERM or Ctrl-C: what runs is finished, for up to [agent] drain_timeout; a second one stops it."
    parser.epilog = f"{stopping}\n\n{parser.epilog}"


def execute(args: argparse.Namespace) -> int:
    """Run the agent until a signal ends it; 0 after a clean stop."""
    from runner import config, log  # noqa: PLC0415 - `--help` needs none of it

    settings = config.load(args.config, os.environ)
    if args.check_config:
        return 0
    with _copy(settings) as copy:
        log.configure(settings.agent.log_level, copy=copy)
        from runner.agent import daemon  # noqa: PLC0415 - not for a look at the configuration

        return daemon.main(settings, copy if settings.agent.metrics == "emf" else None)


@contextlib.contextmanager
def _copy(settings: Config) -> Iterator[Callable[[str], None] | None]:
    """The copy of the agent's own log in CloudWatch, where the configuration asks for one."""
    if not settings.agent.cloudwatch_log_group:
        yield None
        return
    from runner.aws.session import Session  # noqa: PLC0415 - only for those who ask for it
    from runner.log_shipping import CloudWatchCopy  # noqa: PLC0415

    session = Session(queue_url=settings.queue.url)
    copy = CloudWatchCopy(settings.agent.cloudwatch_log_group, socket.gethostname(), session.logs_client)
    try:
        yield copy
    finally:
        copy.close()
        session.close()
