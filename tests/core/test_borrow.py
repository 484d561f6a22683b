"""Borrowed arrays: the same elements, without the owner."""

from typing import Any, NamedTuple

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


class _Pair(NamedTuple):
    words: Any
    rows: Any


class _Nest(NamedTuple):
    pair: _Pair
    more: Any


@kernel
def _add_up(nest: Any) -> float:
    nest = borrowed(borrowed(nest))
    pair = nest.pair
    pair.words[0] = 7
    pair.rows[1].a = pair.words[1]
    return pair.words[0] + pair.rows[0].b + nest.more[len(nest.more) - 1]


def test_a_named_tuple_is_borrowed_field_by_field() -> None:
    nest = _Nest(_Pair(np.arange(3, dtype=np.int32), np.ones(2, ROW)), np.array([0.25, 0.5]))
    assert _add_up(nest) == 7 + 1.0 + 0.5
    assert nest.pair.words.tolist() == [7, 1, 2]
    assert nest.pair.rows["a"].tolist() == [1, 1]


def test_refuses_a_named_tuple_with_a_field_that_cannot_be_borrowed() -> None:
    with pytest.raises(Exception, match="borrowed"):
        _add_up(_Nest(_Pair(np.arange(6, dtype=np.int32)[::2], np.ones(2, ROW)), np.zeros(1)))
