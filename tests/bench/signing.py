"""What a signature adds to reading a message: CPU of the unsigned one beside it, and what of it is the check itself.

    .venv/bin/python tests/bench/signing.py            some seconds
    .venv/bin/python tests/bench/signing.py --quick    only to see that it works

The real reading of a host, in this process, the best of several rounds: CPU time, which other work hardly touches.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).resolve().parents[1] / "support"))

from runner.protocol import signed
from runner.protocol.job import Defaults
from runner.protocol.message import read_job

from signers import GROUP, envelope, message, pair, trust, trusted

if TYPE_CHECKING:
    from collections.abc import Callable

    from runner.signing.keypairs import Kind
    from runner.signing.trust import Trust

DEFAULTS = Defaults(group=GROUP, allowed_users=("app", "root"))


def best_us(each: Callable[[int], object], count: int, rounds: int) -> float:
    """Microseconds of CPU for one, of the best round."""
    found = []
    for _ in range(rounds):
        began = time.process_time()
        for at in range(count):
            each(at)
        found.append((time.process_time() - began) / count * 1e6)
    return min(found)


def reading(bodies: list[str], of: Trust | None, *, new: bool = False) -> Callable[[int], object]:
    def read(at: int) -> object:
        if new and of is not None:
            of._good.clear()  # noqa: SLF001 - as if no envelope had been seen
        return read_job(bodies[at], message_id="m", defaults=DEFAULTS, declarations={}, trust=of)

    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    count, rounds = (20, 2) if parser.parse_args().quick else (200, 25)
    runs = [f"r{at}" for at in range(count)]
    unsigned = best_us(reading([json.dumps(message(run_id=run)) for run in runs], None), count, rounds)
    say = sys.stdout.write
    say("| a message | CPU, µs | beyond unsigned | to unsigned | of it the check of the key |\n")
    say("| --- | --- | --- | --- | --- |\n")
    say(f"| unsigned | {unsigned:.0f} | | 1.00 | |\n")
    kinds: tuple[Kind, ...] = ("ed25519", "p256")
    for kind in kinds:
        key = pair("bench", kind)
        of = trust(trusted(key))
        one = envelope(signer=key)
        seen = [json.dumps({**one, "run": {"run_id": run}}) for run in runs]
        each = [json.dumps(envelope(message(run_id=run), key)) for run in runs]
        data = signed.encoded(json.dumps(message()).encode())
        sig = key.sign(data)
        check = best_us(lambda _, of=key, data=data, sig=sig: of.public.fits(data, sig), count, rounds)  # type: ignore[misc]
        for name, bodies, new in (("of a schedule, seen before", seen, False), ("of one run", each, True)):
            took = best_us(reading(bodies, of, new=new), count, rounds)
            part = f"{check:.0f}" if new else "none"
            say(f"| {kind}, {name} | {took:.0f} | {took - unsigned:.0f} | {took / unsigned:.2f} | {part} |\n")


if __name__ == "__main__":
    main()
