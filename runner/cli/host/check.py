"""``cron-runner check``: the configuration, every AWS action that the agent will use, and this host."""

from __future__ import annotations

import argparse
import json
import os
import re
from typing import TYPE_CHECKING, Any, Final

from runner.cli import printing
from runner.errors import ConfigError, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from runner.check.finding import Finding
    from runner.config import Config

EXAMPLE: Final = """\
cron-runner check
cron-runner check --json
cron-runner check --offline                 # the configuration and this host, without AWS
cron-runner check --iam-policy              # the host's policy; also: sender, reader, web
"""
FAILED: Final = 1
POLICIES: Final = ("agent", "sender", "reader", "web")


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
        "for those who send jobs (sender), who read output (reader), for the page of the fleet (web)",
    )
    policy.add_argument("--account", type=_account, metavar="ID", help="the account of what is given by name")
    policy.add_argument("--dead-letter", type=_queue, metavar="ARN", help="the target of the queue's redrive policy")
    policy.add_argument(
        "--kms-key",
        type=_key,
        action="append",
        default=[],
        metavar="ARN",
        help="a key that encrypts a queue; repeatable",
    )
    policy.add_argument(
        "--secrets-kms-key",
        type=_key,
        action="append",
        default=[],
        metavar="ARN",
        help="a key that encrypts secrets of jobs; repeatable; without any, each key may be used for just these",
    )


def _shaped(pattern: str, what: str) -> Callable[[str], str]:
    """A type for argparse: what it refuses would stand in a policy that AWS refuses, or that allows nothing."""

    def read(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise argparse.ArgumentTypeError(f"{text!r} is not {what}")
        return text

    return read


_PARTITION: Final = r"arn:aws[a-z0-9-]*"
_account = _shaped(r"\d{12}", "an account, such as 123456789012")
_queue = _shaped(
    rf"{_PARTITION}:sqs:[a-z0-9-]+:\d{{12}}:[A-Za-z0-9_-]{{1,80}}(\.fifo)?",
    "a queue's ARN, such as arn:aws:sqs:eu-west-1:123456789012:cron-dead",
)
_key = _shaped(
    rf"{_PARTITION}:kms:[a-z0-9-]+:\d{{12}}:key/[A-Za-z0-9-]+",
    "a key's ARN, such as arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab",
)


def execute(args: argparse.Namespace) -> int:
    """0 when nothing has failed, else 1."""
    import asyncio  # noqa: PLC0415 - `--help` needs none of it

    from runner import config  # noqa: PLC0415
    from runner.check.accounts import other_agent  # noqa: PLC0415
    from runner.check.everything import ABOUT_CONFIG, check_everything, config_faults  # noqa: PLC0415
    from runner.check.unit import add_environment  # noqa: PLC0415
    from runner.cli import remedy  # noqa: PLC0415

    _need_effect(args)
    if args.iam_policy:
        return _print_policy(config.load(args.config, os.environ), args)
    own = set(os.environ)
    about = add_environment(args.config or config.DEFAULT_PATH, os.environ)
    try:
        settings = config.load(args.config, os.environ)
    except ConfigError as error:
        return _report([*config_faults(error), *about], as_json=args.json)
    agent = other_agent(os.environ, os.environ.keys() - own)
    install = remedy.missing("sign", ("cryptography", "cronsim")) if settings.signing.keys else ""
    findings = asyncio.run(check_everything(settings, offline=args.offline, agent=agent, install=install))
    return _report([*findings[:ABOUT_CONFIG], *about, *findings[ABOUT_CONFIG:]], as_json=args.json)


def _need_effect(args: argparse.Namespace) -> None:
    """Refuse options that would change nothing."""
    given = {"--account": args.account, "--dead-letter": args.dead_letter, "--kms-key": args.kms_key}
    given["--secrets-kms-key"] = args.secrets_kms_key
    for option in (option for option, value in given.items() if value):
        if not args.iam_policy:
            raise WrongUsage(f"cannot use {option} without --iam-policy: add --iam-policy")
        if args.iam_policy == "reader" and option == "--kms-key":
            raise WrongUsage("cannot use --kms-key with --iam-policy reader, who reads no queue: leave it out")
        if args.iam_policy != "agent" and option in ("--dead-letter", "--secrets-kms-key"):
            raise WrongUsage(f"cannot use {option} with --iam-policy {args.iam_policy}: leave it out")
    if args.iam_policy and args.offline:
        raise WrongUsage("cannot use --offline with --iam-policy, which asks nothing of AWS: leave it out")


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
        "account": args.account or "",
    }
    if args.iam_policy == "sender":
        document = permissions.sender_policy(settings, kms_keys=args.kms_key, **where)
    elif args.iam_policy == "web":
        document = permissions.web_policy(settings, kms_keys=args.kms_key, **where)
    elif args.iam_policy == "reader":
        document = permissions.reader_policy(settings, **where)
    else:
        document = permissions.agent_policy(
            settings,
            kms_keys=args.kms_key,
            secret_keys=args.secrets_kms_key,
            dead_letter_arn=args.dead_letter or "",
            **where,
        )
    printing.document(document)
    if permissions.DEAD_LETTER_PLACEHOLDER in json.dumps(document):
        printing.note(
            f"put the target of the queue's redrive policy in the place of {permissions.DEAD_LETTER_PLACEHOLDER}, or "
            "give it with --dead-letter ARN"
        )
    if args.iam_policy != "reader" and not args.kms_key:
        printing.note("for queues that are encrypted with a KMS key of your own add --kms-key ARN")
    return 0
