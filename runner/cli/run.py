"""``cron-runner run``: the daemon, in the foreground."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import argparse

EXAMPLE: Final = "cron-runner --config /etc/cron-runner/config.toml run"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Nothing of its own: a daemon is told everything by its configuration."""
    parser.epilog = f"SIGTERM finishes what runs and ends; a second one stops what runs.\n\n{parser.epilog}"


def execute(args: argparse.Namespace) -> int:
    """Run the agent until a signal ends it; 0 after a clean stop."""
    from runner import config, log  # noqa: PLC0415 - `--help` needs none of it
    from runner.agent import agent  # noqa: PLC0415

    settings = config.load(args.config, os.environ)
    log.configure(settings.agent.log_level)
    return agent.main(settings)
