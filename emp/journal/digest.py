"""One figure for a stretch of a run's journalled events, however they are cut into parts."""

import hashlib
from collections.abc import Iterable

import numpy as np

from emp.core.records import EVENT, Array


class Digest:
    """Of the events [first, end) of a journal, of which pieces come in their order."""

    def __init__(self, first: int, end: int) -> None:
        self._first, self._end = first, end
        self._columns = {name: hashlib.sha256() for name in EVENT.names or ()}

    def take(self, at: int, piece: Array) -> None:
        """Take what EVENT[n], before which the journal has `at`, holds of them."""
        chosen = piece[max(self._first - at, 0) : max(self._end - at, 0)]
        if len(chosen):
            for name, column in self._columns.items():
                column.update(np.ascontiguousarray(chosen[name]).tobytes())

    def hexdigest(self) -> str:
        """SHA-256 of the hashes of the columns, 64 hex digits."""
        return hashlib.sha256(b"".join(one.digest() for one in self._columns.values())).hexdigest()


def digest(at: int, pieces: Iterable[Array], first: int, end: int) -> str:
    """The digest of the events [first, end), where the first of the pieces begins with event `at`."""
    one = Digest(first, end)
    for piece in pieces:
        one.take(at, piece)
        at += len(piece)
    return one.hexdigest()
