"""SHA-256 whose state can be kept and taken up again (FIPS 180-4); the digest is that of `hashlib.sha256`.

OpenSSL's is several times as fast and cannot be saved, so that whoever goes on with a stream would have to read it
again from its beginning. This one is for streams that grow for weeks.
"""

import struct
from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array

BLOCK = 64
_STATE = struct.Struct("<8IQ")
_PRIMES = [p for p in range(2, 312) if all(p % d for d in range(2, int(p**0.5) + 1))]


def _fraction(root: int, n: int) -> int:
    """The first 32 bits of the fractional part of the square or cube root of n, in integers alone."""
    scaled = n << 32 * root
    low, high = 0, 1 << 40
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**root <= scaled else (low, middle)
    return low & 0xFFFFFFFF


_K: Array = np.array([_fraction(3, p) for p in _PRIMES[:64]], np.uint32)
_BEGIN = tuple(_fraction(2, p) for p in _PRIMES[:8])


@kernel
def _turned(x: Any, n: int) -> Any:
    return ((x >> np.uint32(n)) | (x << np.uint32(32 - n))) & np.uint32(0xFFFFFFFF)


@kernel
def _compress(h: Array, data: Array, k: Array, w: Array) -> None:
    """Take blocks in: `h` uint32[8], `data` uint8[64 n], `k` the round constants, `w` uint32[64] scratch."""
    for start in range(0, data.size, 64):
        for t in range(16):
            at = start + 4 * t
            w[t] = (
                (np.uint32(data[at]) << np.uint32(24))
                | (np.uint32(data[at + 1]) << np.uint32(16))
                | (np.uint32(data[at + 2]) << np.uint32(8))
                | np.uint32(data[at + 3])
            )
        for t in range(16, 64):
            a, b = w[t - 15], w[t - 2]
            s0 = _turned(a, 7) ^ _turned(a, 18) ^ (a >> np.uint32(3))
            s1 = _turned(b, 17) ^ _turned(b, 19) ^ (b >> np.uint32(10))
            w[t] = np.uint32(w[t - 16] + s0 + w[t - 7] + s1)
        a, b, c, d, e, f, g, i = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
        for t in range(64):
            s1 = _turned(e, 6) ^ _turned(e, 11) ^ _turned(e, 25)
            t1 = np.uint32(i + s1 + ((e & f) ^ (~e & g)) + k[t] + w[t])
            s0 = _turned(a, 2) ^ _turned(a, 13) ^ _turned(a, 22)
            t2 = np.uint32(s0 + ((a & b) ^ (a & c) ^ (b & c)))
            i, g, f, e, d, c, b, a = g, f, e, np.uint32(d + t1), c, b, a, np.uint32(t1 + t2)
        h[0], h[1], h[2], h[3] = h[0] + a, h[1] + b, h[2] + c, h[3] + d
        h[4], h[5], h[6], h[7] = h[4] + e, h[5] + f, h[6] + g, h[7] + i


class RollingSha256:
    """Like a `hashlib` object, with `state` and `of`."""

    def __init__(self, data: bytes = b"") -> None:
        self._h: Array = np.array(_BEGIN, np.uint32)
        self._rest = b""  # less than a block
        self._length = 0  # bytes in all
        self.update(data)

    def update(self, data: bytes | memoryview) -> None:
        """Take bytes in."""
        self._length += len(data) if isinstance(data, bytes) else data.nbytes
        joined = self._rest + bytes(data)
        whole = len(joined) // BLOCK * BLOCK
        if whole:
            _compress(self._h, np.frombuffer(joined, np.uint8, whole), _K, np.zeros(64, np.uint32))
        self._rest = joined[whole:]

    def hexdigest(self) -> str:
        """The digest of what was taken in so far, in hex."""
        end = self.copy()
        end.update(
            b"\x80" + b"\0" * ((BLOCK - 9 - self._length) % BLOCK) + struct.pack(">Q", 8 * self._length)
        )
        return end._h.astype(">u4").tobytes().hex()

    def copy(self) -> "RollingSha256":
        """Another that goes on from here."""
        return RollingSha256.of(self.state())

    def state(self) -> bytes:
        """Everything that is needed to go on."""
        return _STATE.pack(*self._h.tolist(), self._length) + self._rest

    @classmethod
    def of(cls, state: bytes) -> "RollingSha256":
        """Go on from a state; ValueError where it is none."""
        if len(state) < _STATE.size:
            raise ValueError("not the state of a hash")
        *words, length = _STATE.unpack_from(state)
        rest = state[_STATE.size :]
        if len(rest) != length % BLOCK:
            raise ValueError("not the state of a hash")
        found = cls()
        found._h, found._rest, found._length = np.array(words, np.uint32), rest, length
        return found
