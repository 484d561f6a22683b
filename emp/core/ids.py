"""Ids and seeds are pure functions of what they name, so that a restart makes the same ones."""

import hashlib
import re

import numpy as np

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford: no I, L, O, U
_TOKEN, _NUMBER = 5, 6  # characters of a lease's token and of an order's number in an id that tells a token
_TAIL = re.compile(f"[{_ALPHABET}]{{{_TOKEN + _NUMBER}}}")
_LEASED = re.compile(
    f"[{_ALPHABET}]{{8}}-([{_ALPHABET}]{{{_TOKEN}}})[{_ALPHABET}]{{{_NUMBER}}}(?![{_ALPHABET}]{{2}})"
)


def run_id(*parts: str | int) -> str:
    """Eight characters that name a run: the same inputs give the same name."""
    digest = int.from_bytes(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()[:5], "big")
    return "".join(_ALPHABET[digest >> shift & 31] for shift in range(35, -5, -5))


def cl_ord_id(run: str, sequence: int, token: int = 0) -> str:
    """The client order id of a run's `sequence`-th order: at most 20 characters, FIX-safe.

    With the fencing token of a lease (`emp.engine.lease`) the id tells it: the run, then five characters of the token
    and six of the number, in base 32, so that ids of later tokens sort behind. ValueError beyond 2^25 tokens or 2^30
    orders.
    """
    if sequence < 0:
        raise ValueError(f"sequence must not be negative, was {sequence}")
    if token < 0:
        raise ValueError(f"token must not be negative, was {token}")
    if not token:
        return f"{run}-{sequence:08d}"
    if token >= 32**_TOKEN or sequence >= 32**_NUMBER:
        raise ValueError(f"no id holds token {token} and number {sequence}")
    return f"{run}-{_base32(token, _TOKEN)}{_base32(sequence, _NUMBER)}"


def sequence_of(run: str, name: str) -> int:
    """The number in a client order id of this run, with or without a token; -1 in any other id."""
    number = name.removeprefix(f"{run}-")
    if number == name:
        return -1
    if _TAIL.fullmatch(number):
        return _of_base32(number[_TOKEN:])
    return int(number) if number.isascii() and number.isdigit() else -1


def token_of(name: str) -> int:
    """The fencing token in a client order id, 0 where it tells none. What a door hangs onto an id changes nothing."""
    found = _LEASED.match(name)
    return _of_base32(found[1]) if found else 0


def _base32(number: int, digits: int) -> str:
    return "".join(_ALPHABET[number >> 5 * k & 31] for k in range(digits - 1, -1, -1))


def _of_base32(text: str) -> int:
    number = 0
    for one in text:
        number = number << 5 | _ALPHABET.index(one)
    return number


def generator(seed: int, *stream: str | int) -> np.random.Generator:
    """A random generator for a named stream of a seed; streams are independent of each other."""
    digest = hashlib.sha256("\x1f".join(map(str, stream)).encode()).digest()
    return np.random.Generator(np.random.PCG64([seed, int.from_bytes(digest[:8], "big")]))
