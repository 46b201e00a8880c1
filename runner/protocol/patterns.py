"""The regular expressions of success rules: google-re2, whose matching time is linear in the text.

What they cost before they match anything is the sender's choice, so that it has bounds in sum: `[\\pL\\pN]{1,300}` is
twenty characters, 200 ms and 7 MB.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MOST_PATTERNS: Final = 64  # of one job: every line of output is searched for every one
MOST_TEXT: Final = 16 << 10  # bytes of them together
MOST_COMPILED: Final = 20_000  # re2's instructions, of 16 bytes, together; `ERROR` has 26, `\\pL` has 1,200
# What costs before anything is compiled, and so before re2's own limit: each Unicode class is built from its table
# (0.1 ms), each repetition is written out.
_MOST_CLASSES: Final = 64
_MOST_REPEATED: Final = 50_000
_CLASS: Final = re.compile(r"\\[pP]")
_REPEATED: Final = re.compile(r"\{(?:\d{1,9},)?(\d{1,9}),?\}")
# re2 takes two thirds for the program and compares a quarter of that with its instructions' bytes; less refuses what
# the bound above allows, more costs time until it is refused.
_COMPILING_BYTES: Final = 6 * 16 * MOST_COMPILED + (64 << 10)
_MATCHING_BYTES: Final = 8 << 20  # what matching may keep, of all patterns of a run together


def check(patterns: Iterable[tuple[str, str]]) -> None:
    """Refuse what is no pattern, and what all of them together cost too much; raises Faulty, which names the path.

    `patterns` are (path, pattern).
    """
    listed = list(patterns)
    if not listed:
        return
    first, every = listed[0][0].partition("[")[0], [pattern for _, pattern in listed]
    if len(every) > MOST_PATTERNS:
        raise Faulty(first, f"there are {len(every)} patterns in all; give at most {MOST_PATTERNS}")
    size = sum(len(pattern.encode()) for pattern in every)
    if size > MOST_TEXT:
        raise Faulty(first, f"the patterns have {size} bytes in all; give at most {MOST_TEXT}")
    if (classes := sum(len(_CLASS.findall(pattern)) for pattern in every)) > _MOST_CLASSES:
        raise Faulty(first, f"the patterns name {classes} Unicode classes; give at most {_MOST_CLASSES}")
    if sum(int(count) for pattern in every for count in _REPEATED.findall(pattern)) > _MOST_REPEATED:
        raise Faulty(first, f"the patterns repeat more than {_MOST_REPEATED} times in all; give smaller counts")
    left = MOST_COMPILED
    for path, pattern in listed:
        try:
            left -= _size(pattern)
        except ValueError as error:
            raise Faulty(path, str(error)) from None
        if left < 0:
            raise Faulty(path, f"the patterns up to this one are too large when compiled; {_SIMPLER}")


class Faulty(ValueError):
    """The field at `path`, and what is wrong with it."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(text)
        self.path = path


_SIMPLER: Final = "use fewer and smaller repetitions of large classes"


@lru_cache(maxsize=64)  # of numbers: a compiled pattern is kept by the run that needs it, and no longer
def _size(pattern: str) -> int:
    """Of the compiled pattern, in instructions; raises ValueError with re2's reason."""
    if not pattern:
        raise ValueError("an empty pattern matches every line; leave it out")
    return int(_compiled(pattern, _COMPILING_BYTES).programsize)


def to_match(pattern: str, among: Sequence[str]) -> Any:
    """The pattern to be searched in lines of bytes, in multi-line mode. `among` are all of its run, which share what
    may be kept while matching."""
    in_lines, share = b"(?m:" + pattern.encode() + b")", _MATCHING_BYTES // max(1, len(among))
    try:
        return _compiled(in_lines, _COMPILING_BYTES + share)
    except ValueError:  # a run of a version that allowed more
        return _compiled(in_lines, _MATCHING_BYTES)


def is_all(pattern: str, text: str) -> bool:
    """Whether a pattern that was checked is all of a text."""
    return _compiled(pattern, _COMPILING_BYTES + _MATCHING_BYTES).fullmatch(text) is not None


def _compiled(pattern: str | bytes, most_bytes: int) -> Any:
    import re2  # noqa: PLC0415 -- loads a large shared library, and most jobs have no rules

    options = re2.Options()
    options.log_errors = False  # re2 writes them to stderr, which is the agent's log
    options.max_mem = most_bytes
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        reason = error.args[0] if error.args else "bad pattern"
        text = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        if "too large" in text:
            raise ValueError(f"the pattern is too large when compiled; {_SIMPLER}") from None
        text = re.sub(r"[^ -~]", lambda found: found[0].encode("unicode_escape").decode(), text[:200])
        raise ValueError(f"not a regular expression of google-re2: {text}") from None
    finally:
        re2.purge()  # its own cache would keep 128 of them, of whatever size
