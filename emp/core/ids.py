"""Ids and seeds are pure functions of what they name, so that a restart makes the same ones."""

import hashlib

import numpy as np

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U


def run_id(*parts: str | int) -> str:
    """Eight characters that name a run: the same inputs give the same name."""
    digest = int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:5], "big")
    return "".join(_ALPHABET[digest >> shift & 31] for shift in range(35, -5, -5))


def cl_ord_id(run: str, sequence: int) -> str:
    """The client order id of a run's `sequence`-th order: at most 20 characters, FIX-safe."""
    if sequence < 0:
        raise ValueError(f"sequence must not be negative, was {sequence}")
    return f"{run}-{sequence:08d}"


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """A random generator for a named stream of a seed; streams are independent of each other."""
    digest = hashlib.sha256("\x1f".join(map(str, stream)).encode()).digest()
    return np.random.Generator(np.random.PCG64([seed, int.from_bytes(digest[:8], "big")]))
