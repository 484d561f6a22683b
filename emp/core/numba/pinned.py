"""Memory that is there before it is needed: whole pages of its own, touched, and locked where the system permits."""

import ctypes
import mmap
import os
from typing import Any, NamedTuple

import numpy as np

from emp.core.records import Array

_mlock: Any = ctypes.CDLL(None, use_errno=True).mlock
_mlock.argtypes = (ctypes.c_void_p, ctypes.c_size_t)


class Pinned(NamedTuple):
    """Zeroed bytes on pages that nothing else shares; unlocked and freed with the last view of them."""

    raw: Array  # uint8[whole pages], page-aligned
    why_not: str  # why the pages may be swapped out; empty where they are locked


def pinned_zeros(size: int) -> Pinned:
    """At least `size` zeroed bytes, each page touched, so that no first use costs a fault.

    A limit on locked memory (RLIMIT_MEMLOCK) is no error: `why_not` says that it was in the way.
    """
    pages = mmap.mmap(
        -1, max(1, -(-size // mmap.PAGESIZE)) * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    )
    raw: Array = np.frombuffer(pages, np.uint8)
    raw[...] = 0
    if _mlock(raw.ctypes.data, raw.nbytes) == 0:
        return Pinned(raw, "")
    return Pinned(raw, f"mlock of {raw.nbytes:,} bytes: {os.strerror(ctypes.get_errno()).lower()}")
