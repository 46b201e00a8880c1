"""Worlds whose hosts take signed messages alone, none twice; and what is sent by who has the queue and no key."""

from __future__ import annotations

import json
from functools import cache
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from runner.protocol import signed
from runner.protocol.units import format_time
from runner.signing.keypairs import KeyPair, key_pair

if TYPE_CHECKING:
    from pathlib import Path

    from tests.simulation.world import World

HOUR = 3600.0
INTRUDER = "evil"
"""How the run ids begin that nobody has signed."""


@cache
def pair(number: int = 7) -> KeyPair:
    """The same in every process, as all of a world is."""
    private = Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32)
    return key_pair(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), str)


def lines(folder: Path) -> str:
    """[signing] of a host's file."""
    file = folder / "ops.pem"
    file.write_text(pair().public.pem)
    return f'[signing]\nrequire = true\nfresh = true\n[[signing.keys]]\nfile = "{file}"\n'


def envelope(world: World, body: dict[str, Any]) -> str:
    """A message for one run, as `send --key` makes it."""
    return json.dumps(signed.sign({"group": "g", "not_after": format_time(world.wall + 20 * HOUR), **body}, pair()))


def intrude(world: World, body: dict[str, Any], number: int) -> None:
    """What has a run's message, and wants it to run once more, or something else in its name."""
    run = f"{INTRUDER}{number}"
    good = json.loads(envelope(world, body))
    once = {"job": "a", "group": "g", "command": "x"}
    order = {**once, "schedule": "* * * * *", "valid_until": "2999-01-01T00:00:00Z"}
    due = format_time(world.wall - world.wall % 60 - 7200)
    others: tuple[Any, ...] = (
        {**body, "run_id": run},  # signed by nobody
        {**good, "run": {"run_id": run}},  # replayed as another run
        {**json.loads(envelope(world, {**body, "run_id": run})), "payload": good["payload"][:-4] + "AAA="},
        signed.sign({**body, "group": "g", "run_id": run}, pair(8)),  # by a key of his own
        {**signed.sign(once, pair()), "run": {"run_id": run}},  # an old one
        {**signed.sign(order, pair()), "run": {"run_id": run, "scheduled_at": due}},  # an order, long over
    )
    kind = number % len(others)
    # What it is rejected as: as the run that is signed, or that it names.
    told = {"run_id": body["run_id"] if kind == 1 else run}
    world.send(json.dumps(others[kind]), group="evil" if world.kind.fifo else None, said=told)
