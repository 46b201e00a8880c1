"""One line a check, and the sum at the end."""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Report:
    """Counts what held and what did not. A check that fails does not end the test: the others are told as well."""

    def __init__(self) -> None:
        self.passed = self.failed = self.skipped = 0
        self._since = time.monotonic()

    @contextlib.contextmanager
    def check(self, what: str) -> Iterator[None]:
        """What happens inside is the check; any exception of it is its failure."""
        began = time.monotonic()
        try:
            yield
        except Exception as error:  # noqa: BLE001 - that is the result
            self.failed += 1
            where = traceback.extract_tb(error.__traceback__)[-1]
            text = str(error).strip() or where.line or ""
            self._say(f"FAILED  {what}  ({type(error).__name__} at {where.name}:{where.lineno})")
            self._say("".join(f"        {line}\n" for line in text.splitlines()[-25:]).rstrip())
        else:
            self.passed += 1
            self._say(f"ok      {what}  ({time.monotonic() - began:.1f} s)")

    def note(self, text: str) -> None:
        """A figure, for whoever reads along."""
        self._say(f"        {text}")

    def skip(self, what: str, why: str) -> None:
        """What cannot be checked on this machine."""
        self.skipped += 1
        self._say(f"skipped {what}: {why}")

    def part(self, name: str) -> None:
        """A heading."""
        self._say(f"\n== {name}")

    def close(self) -> int:
        """The closing line; the exit status."""
        skipped = f", {self.skipped} skipped" if self.skipped else ""
        self._say(f"\nin {time.monotonic() - self._since:.0f} s:\n{self.passed} passed, {self.failed} failed{skipped}")
        return 1 if self.failed or not self.passed else 0

    def _say(self, text: str) -> None:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
