"""A lack that passes: of descriptors, processes, memory or room. It is no end of a run, which waits until it is over.

Errors: errno(3), and fork(2), pipe(2), memfd_create(2), mkdir(2) and execve(2) for who raises which.
"""

from __future__ import annotations

import errno

from runner.supervisor.request import BadRequest

_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.ENOSPC, errno.EDQUOT})


def passes(number: int | None) -> bool:
    """Whether an error number says that something has run out which others will give back."""
    return number in _ERRORS


class Lack(BadRequest):
    """The request can be met later."""

    def __init__(self, text: str) -> None:
        super().__init__(text, "lack")
