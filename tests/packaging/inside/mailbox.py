"""In the host under test: runs the shell scripts that arrive in /mailbox, and answers with status and output.

A directory that both sides see is the one way in that a container and a user-mode kernel have in common.
"""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

MAILBOX = Path("/mailbox")


def main() -> None:
    """Until the host goes down."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (MAILBOX / f"boot-{boot}-{os.getpid()}").touch()
    while True:
        for name in sorted(os.listdir(MAILBOX)):  # noqa: PTH208 - names alone, fifty times a second
            if name.endswith(".cmd"):
                taken = MAILBOX / name.replace(".cmd", ".run")
                (MAILBOX / name).rename(taken)
                threading.Thread(target=answer, args=(taken,), daemon=True).start()
        time.sleep(0.02)


def answer(letter: Path) -> None:
    """Run one script."""
    asked = json.loads(letter.read_text())
    try:
        done = subprocess.run(
            ["/bin/bash", "-c", asked["script"]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=asked["timeout"],
            check=False,
            env={
                "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                "LANG": "C.UTF-8",
                "HOME": "/root",
            },
        )
        status, output = done.returncode, done.stdout.decode(errors="replace")
    except subprocess.TimeoutExpired as error:
        status, output = -1, f"not within {asked['timeout']} s: {(error.stdout or b'').decode(errors='replace')}"
    new = letter.with_suffix(".new")
    new.write_text(json.dumps({"status": status, "output": output}))
    new.rename(letter.with_suffix(".done"))


if __name__ == "__main__":
    main()
