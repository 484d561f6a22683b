"""The state table: what a streaming model remembers of each instrument, named by the model that made it."""

from typing import Any

import numpy as np

from emp.core.records import Array

ALIGNMENT = 64


class StateTable:
    """Recurrent state of a model for every instrument, preallocated and aligned to cache lines.

    `rows` is float32[instruments, size]; an all-zero row is the state before the first event. The table
    belongs to one model: another model's hash invalidates every row.
    """

    def __init__(self, instruments: int, size: int, model_hash: str) -> None:
        self.model_hash = model_hash
        self.rows: Array = _aligned(instruments, size)

    def reset(self, instrument: int) -> None:
        """Forget everything about one instrument."""
        self.rows[instrument] = 0.0

    def swap(self, size: int, model_hash: str) -> None:
        """Make the table that of another model (hot reload): all rows start from zero."""
        if model_hash != self.model_hash:
            self.rows = _aligned(len(self.rows), size)
            self.model_hash = model_hash

    def clone_state(self, instrument: int) -> Array:
        """Return a copy of one row for a planner to carry forward; the table never sees it again."""
        return self.rows[instrument].copy()


def _aligned(rows: int, columns: int) -> Array:
    """Zeroed float32[rows, columns] whose every row starts on a cache line, touched so it is resident."""
    per_line = ALIGNMENT // 4
    stride = max(per_line, -(-columns // per_line) * per_line)
    raw: np.ndarray[Any, Any] = np.zeros(rows * stride + per_line, np.float32)
    skip = (-raw.ctypes.data % ALIGNMENT) // 4
    table = raw[skip : skip + rows * stride].reshape(rows, stride)[:, :columns]
    table[...] = 0.0
    return table
