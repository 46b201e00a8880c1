"""``cron-runner keys``: the keys that jobs are signed with."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from runner.cli import printing
from runner.errors import CronRunnerError

if TYPE_CHECKING:
    import argparse

    from runner.signing.keypairs import PublicKey

EXAMPLE: Final = """\
cron-runner keys new ops.key
cron-runner keys show ops.key
cron-runner keys show awskms:arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab > kms.pem
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The words behind `keys`."""
    from runner.cli.words import Words  # noqa: PLC0415 - main imports this module when it is asked for

    words = Words(parser, "keys")
    new = words.add("new", "make a key pair: FILE, and its public half in FILE.pub", "ops.key")
    new.set_defaults(does=_new)
    new.add_argument("file", metavar="FILE", type=Path, help="the private key; it must not be there yet")
    new.add_argument(
        "--kind", choices=("ed25519", "p256"), default="ed25519", help="Ed25519 (the default), or ECDSA on P-256"
    )
    shown = words.add("show", "a key's id and its public half, as a file that hosts read", "ops.key > ops.pem")
    shown.set_defaults(does=_show)
    shown.add_argument("key", metavar="KEY", help="a private or a public key's file, or awskms:ARN")


def execute(args: argparse.Namespace) -> int:
    """Do what was asked."""
    return int(args.does(args))


def _new(args: argparse.Namespace) -> int:
    from runner.cli.signing import need_cryptography  # noqa: PLC0415 - `--help` needs none of it

    need_cryptography()
    from runner.signing import keypairs  # noqa: PLC0415 - loads cryptography

    pem = keypairs.new(args.kind)
    public = keypairs.key_pair(pem, str).public
    beside = args.file.with_name(f"{args.file.name}.pub")
    _write(args.file, pem, 0o600)
    try:
        _write(beside, public.pem.encode(), 0o644)
    except CronRunnerError:
        args.file.unlink()
        raise
    if args.json:
        printing.document({**_facts(public), "file": str(args.file), "public_file": str(beside)})
        return 0
    printing.lines(
        f"key {public.keyid} ({public.words}): {args.file} is private, {beside} is for the hosts:",
        "",
        "[[signing.keys]]",
        f'file = "/etc/cron-runner/keys/{beside.name}"',
    )
    return 0


def _write(path: Path, data: bytes, mode: int) -> None:
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        with os.fdopen(made, "wb") as file:
            file.write(data)
    except FileExistsError:
        raise CronRunnerError(f"cannot make {path}: it is there already; give another name") from None
    except OSError as error:
        raise CronRunnerError(f"cannot make {path}: {error.strerror}; give a place that you may write to") from error


def _show(args: argparse.Namespace) -> int:
    from runner.cli.signing import public_of  # noqa: PLC0415 - as above

    public = public_of(args.key)
    if args.json:
        printing.document({**_facts(public), "public_key": public.pem})
    else:
        # What stands before the first dashes is a note, to whoever reads PEM.
        printing.data(f"key {public.keyid} ({public.words})\n{public.pem}")
    return 0


def _facts(public: PublicKey) -> dict[str, str]:
    return {"keyid": public.keyid, "kind": public.kind}
