"""``cron-runner check``: the configuration, every AWS action that the agent will use, and this host."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing
from runner.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from runner.check.finding import Finding
    from runner.config import Config

EXAMPLE: Final = """\
cron-runner check
cron-runner check --json
cron-runner check --offline                 # the configuration and this host, without AWS
cron-runner check --iam-policy              # the host's policy; also: sender, reader
"""
FAILED: Final = 1
POLICIES: Final = ("agent", "sender", "reader")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is checked, and how it is shown."""
    parser.add_argument("--json", action="store_true", help="a list of objects: name, status, detail, remedy")
    parser.add_argument("--offline", action="store_true", help="ask nothing of AWS")
    policy = parser.add_argument_group("the IAM policy")
    policy.add_argument(
        "--iam-policy",
        nargs="?",
        const="agent",
        choices=POLICIES,
        help="print the least that AWS must allow by this configuration, and check nothing: for the hosts (agent), "
        "for those who send jobs (sender), for those who read output (reader)",
    )
    policy.add_argument("--account", default="", metavar="ID", help="the account of what is given by name")
    policy.add_argument("--dead-letter", default="", metavar="ARN", help="the target of the queue's redrive policy")
    policy.add_argument(
        "--kms-key", action="append", default=[], metavar="ARN", help="a key that encrypts a queue; repeatable"
    )


def execute(args: argparse.Namespace) -> int:
    """0 when nothing has failed, else 1."""
    import asyncio  # noqa: PLC0415 - `--help` needs none of it

    from runner import config  # noqa: PLC0415
    from runner.check.accounts import other_agent  # noqa: PLC0415
    from runner.check.everything import ABOUT_CONFIG, check_everything, config_faults  # noqa: PLC0415
    from runner.check.unit import add_environment  # noqa: PLC0415

    if args.iam_policy:
        return _print_policy(config.load(args.config, os.environ), args)
    own = set(os.environ)
    about = add_environment(args.config or config.DEFAULT_PATH, os.environ)
    try:
        settings = config.load(args.config, os.environ)
    except ConfigError as error:
        return _report([*config_faults(error), *about], as_json=args.json)
    agent = other_agent(os.environ, os.environ.keys() - own)
    findings = asyncio.run(check_everything(settings, offline=args.offline, agent=agent))
    return _report([*findings[:ABOUT_CONFIG], *about, *findings[ABOUT_CONFIG:]], as_json=args.json)


def _report(findings: Sequence[Finding], *, as_json: bool) -> int:
    counts = {status: sum(finding.status == status for finding in findings) for status in ("ok", "warning", "failed")}
    if as_json:
        from dataclasses import asdict  # noqa: PLC0415

        printing.document([asdict(finding) for finding in findings])
    else:
        total = f"{counts['ok']} ok, {_count(counts['warning'], 'warning')}, {counts['failed']} failed"
        printing.lines(*(finding.line() for finding in findings), total)
    return FAILED if counts["failed"] else 0


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def _print_policy(settings: Config, args: argparse.Namespace) -> int:
    from runner.aws import permissions  # noqa: PLC0415

    where: dict[str, Any] = {
        "region": os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "",
        "account": args.account,
    }
    if args.iam_policy == "sender":
        document = permissions.sender_policy(settings, kms_keys=args.kms_key, **where)
    elif args.iam_policy == "reader":
        document = permissions.reader_policy(settings, **where)
    else:
        document = permissions.agent_policy(settings, kms_keys=args.kms_key, dead_letter_arn=args.dead_letter, **where)
    printing.document(document)
    if permissions.DEAD_LETTER_PLACEHOLDER in json.dumps(document):
        printing.note(
            f"put the target of the queue's redrive policy in the place of {permissions.DEAD_LETTER_PLACEHOLDER}, or "
            "give it with --dead-letter ARN"
        )
    if args.iam_policy != "reader" and not args.kms_key:
        printing.note("for queues that are encrypted with a KMS key of your own add --kms-key ARN")
    return 0
