"""Settings of the C library's allocator, mallopt(3), that keep the agent small."""

from __future__ import annotations

import ctypes

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

LARGE_BYTES = 256 << 10
ARENAS = 2


def keep_small() -> None:
    """Call before threads are started. Nothing happens where the C library has no such settings (musl).

    glibc gives threads arenas of their own, eight for each core, and after the first large buffer that is freed it
    takes buffers of that size from them for ever. The batches of output on their way through the threads of AWS
    calls then leave holes in every arena: 20 jobs that print at once cost 50 MB, and 15 MB with these settings.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    mallopt(_M_MMAP_THRESHOLD, LARGE_BYTES)
    mallopt(_M_ARENA_MAX, ARENAS)
