"""Borrowed arrays: the same elements, without the owner."""

from typing import Any

import numpy as np
import pytest

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel

ROW = np.dtype([("a", "i4"), ("b", "f8")], align=True)


@kernel
def _rotate(words: Any, rows: Any) -> int:
    words, rows = borrowed(borrowed(words)), borrowed(rows)
    first = words[0]
    for i in range(len(words) - 1):
        words[np.uint64(i)] = words[i + 1]
    words[len(words) - 1] = first + 0.9
    rows[len(rows) - 1].a += 5
    rows[0].b = rows[1].b
    return len(words) * 100 + len(rows)


def test_reads_and_writes_what_the_array_holds() -> None:
    words = np.arange(5, dtype=np.int32)
    rows = np.zeros(3, ROW)
    rows["b"] = (1.0, 2.0, 3.0)
    assert _rotate(words, rows) == 503
    assert words.tolist() == [1, 2, 3, 4, 0]
    assert rows["a"].tolist() == [0, 0, 5]
    assert rows["b"].tolist() == [2.0, 2.0, 3.0]


def test_refuses_what_is_not_contiguous() -> None:
    with pytest.raises(Exception, match="borrowed"):
        _rotate(np.arange(10, dtype=np.int32)[::2], np.zeros(3, ROW))
