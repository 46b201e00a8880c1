"""Settings of the allocators that keep the agent small, and its garbage collection cheap."""

from __future__ import annotations

import asyncio
import ctypes
import gc

_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

LARGE_BYTES = 256 << 10
ARENAS = 2
SETTLED_AFTER_S = 2.0
TRIM_EVERY_S = 600.0
_GC_FIRST = 5_000


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


async def settle() -> None:
    """When everything is loaded: collect it never again, and give back what loading it took and no longer needs.

    The descriptions of AWS's services are read from JSON of several times their size, and a full collection would
    go through all modules for the sake of a few cycles.
    """
    gc.set_threshold(_GC_FIRST, 20, 20)
    await asyncio.sleep(SETTLED_AFTER_S)
    gc.collect()
    gc.freeze()
    while True:
        try:
            ctypes.CDLL(None).malloc_trim(0)
        except AttributeError:  # musl
            return
        await asyncio.sleep(TRIM_EVERY_S)
