"""Worlds by hand: `python -m tests.simulation --seed N --count M [--trace]`, or one history: `--history NAME`."""

from __future__ import annotations

import os
import sys

from tests.simulation import virtual

if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        # The order of sets is part of what a seed decides.
        line = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, line, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606 - itself
    virtual.install()
    # Only now: some modules keep `time.time` as a default.
    from tests.simulation import command

    sys.exit(command.main())
