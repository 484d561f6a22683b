"""Rows for the compiled step to write into, that nobody has seen."""

import numpy as np

from emp.core.records import DECISION, Array

NO_ROWS: Array = np.zeros(0, DECISION)
NO_LAPS: Array = np.zeros((0, 3), np.int32)

ROWS_AT_ONCE = 4096
"""Rows allocated at a time: a long batch that a command interrupts early must not cost a long allocation."""
ROWS_AT_HAND = 64
"""Rows of a block that is used up before the next one is allocated; for a few events at a time."""


class RowsAtHand:
    """DECISION rows and laps (int32[n, 3]); few come from a block, since allocating takes as long as deciding."""

    def __init__(self) -> None:
        self._rows, self._laps, self._used = NO_ROWS, NO_LAPS, 0

    def take(self, n: int) -> tuple[Array, Array]:
        """Room for `n` rows, all zero."""
        if n > ROWS_AT_HAND:
            return np.zeros(n, DECISION), np.zeros((n, 3), np.int32)
        if self._used + n > len(self._rows):
            self._used = 0
            self._rows, self._laps = np.zeros(ROWS_AT_HAND, DECISION), np.zeros((ROWS_AT_HAND, 3), np.int32)
        chosen = slice(self._used, self._used + n)
        return self._rows[chosen], self._laps[chosen]

    def written(self, asked: int, rows: int) -> None:
        """Keep so many of the rows that were last taken; the others are given out again."""
        if asked <= ROWS_AT_HAND:
            self._used += rows


def joined(parts: list[Array]) -> Array:
    """The rows of all parts, copied only where there are several."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
