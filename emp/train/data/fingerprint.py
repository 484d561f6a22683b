"""What market data are, by the content of their rows: the same whether a file was packed, cut or renamed.

A row is (ts, bid, ask) of one visible event. Of the 64-bit hashes of all rows, those divisible by SAMPLING stand for
the recording (a sample by content: Broder 1997), so that any stretch of it shares its own part of the sample.
"""

import base64
import hashlib

import numpy as np

from emp.core.records import Array

SAMPLING = 128
"""One row in so many is in the sample: a stretch of a thousand rows is missed by chance once in 2,500."""


def rows_sha256(ts: Array, bid: Array, ask: Array) -> str:
    """SHA-256 of rows: int64[n] ns and ticks each."""
    digest = hashlib.sha256()
    for column in (ts, bid, ask):
        digest.update(np.ascontiguousarray(column, "<i8").tobytes())
    return digest.hexdigest()


def sample(ts: Array, bid: Array, ask: Array) -> Array:
    """Sorted hashes of the rows in the sample: uint64[m]."""
    mixed = np.zeros(len(ts), np.uint64)
    for column in (ts, bid, ask):
        mixed = _mix(mixed ^ np.ascontiguousarray(column, np.int64).view(np.uint64))
    return np.unique(mixed[mixed % np.uint64(SAMPLING) == 0])


def pack(hashes: Array) -> str:
    """A sample as text."""
    return base64.b64encode(hashes.astype("<u8").tobytes()).decode()


def unpack(text: str) -> Array:
    """Inverse of `pack`."""
    return np.frombuffer(base64.b64decode(text), "<u8")


def _mix(x: Array) -> Array:
    """The finaliser of SplitMix64 (Steele, Lea, Flood 2014), after its increment."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))
