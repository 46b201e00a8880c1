"""The regular expressions of success rules: google-re2, whose matching time is linear in the text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

LONGEST_PATTERN: Final = 4096  # characters
MOST_PATTERNS: Final = 100  # of each kind: every line of output is searched for every one
_PROGRAM_BYTES: Final = 8 << 20  # what one compiled pattern may take; re2's own default, made explicit


@lru_cache(maxsize=512)
def compiled(pattern: str) -> Any:
    """The compiled re2 pattern, to be searched in one line; raises ValueError with re2's reason."""
    import re2  # noqa: PLC0415 -- loads a large shared library, and most jobs have no rules

    if not pattern:
        raise ValueError("an empty pattern matches every line; leave it out")
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"the pattern has {len(pattern)} characters; give at most {LONGEST_PATTERN}")
    options = re2.Options()
    options.log_errors = False  # re2 writes them to stderr, which is the agent's log
    options.max_mem = _PROGRAM_BYTES
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "bad pattern"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        text = re.sub(r"[^ -~]", lambda found: found[0].encode("unicode_escape").decode(), text[:200])
        raise ValueError(f"not a regular expression of google-re2: {text}") from None
