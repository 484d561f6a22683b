"""Arrays lent to compiled code, and tuples of them that are held for many calls."""

import gc
import weakref
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba import typeof
from numba.core.registry import cpu_target
from numba.core.runtime import _nrt_python, rtsys

from emp.core.numba.hold import entry_point, hold, opened
from emp.core.numba.jit import kernel
from emp.core.numba.lend import lent, lent_type
from emp.core.records import Array

PLACE = np.dtype([("at", "i8"), ("row", "f4", (3,))], align=True)


class Inner(NamedTuple):
    """Arrays of several shapes and kinds, and a number."""

    table: Array  # float32[n, m], rows further apart than they are long
    records: Array
    width: int


class Outer(NamedTuple):
    """A tuple in a tuple."""

    inner: Inner
    words: Array


def _outer() -> Outer:
    wide = np.arange(32, dtype=np.float32).reshape(4, 8)
    records = np.zeros(2, PLACE)
    records["at"], records["row"] = [5, 7], [[1, 2, 3], [4, 5, 6]]
    return Outer(Inner(wide[:, :6], records, 3), np.arange(5))


@kernel
def _work(outer: Any) -> float:
    inner, words = outer.inner, outer.words
    total = 0.0
    for i in range(inner.table.shape[0]):
        row = inner.table[i]
        part = row[1 : inner.width]
        for x in part:
            total += x
        row[0] = -1.0
    for r in inner.records:
        total += r.at * r.row[1]
    words[-1] = words.size
    return total


@kernel
def _work_lent(outer: Any) -> float:
    return _work(lent(lent(outer)))  # type: ignore[no-any-return]


@kernel
def _work_held(held: Any, more: Any) -> float:
    (outer, also) = opened(held)
    also[0] += more[0]
    return _work(outer)  # type: ignore[no-any-return]


def test_what_is_lent_does_what_the_array_does() -> None:
    """Rows, slices, records, nested arrays, negative indices, writes; strides that are no row's length."""
    owned, given = _outer(), _outer()
    assert _work(owned) == _work_lent(given) == 1 + 2 + 9 + 10 + 17 + 18 + 25 + 26 + 5 * 2 + 7 * 5
    for one in (owned, given):
        assert one.inner.table[:, 0].tolist() == [-1.0] * 4
        assert one.words[-1] == 5


@kernel
def _new_from(x: Any) -> Any:
    given = lent(x)
    return given.copy(), np.empty_like(given), given * 2.0


def test_what_is_made_from_a_lent_array_is_owned() -> None:
    """A copy belongs to who asked for it, and its memory is given back: nothing counts references to what is lent."""
    x = np.arange(4.0)
    _new_from(x)
    if not _nrt_python.memsys_stats_enabled():
        _nrt_python.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for _ in range(100):
        copy, alike, twice = _new_from(x)
    assert copy.tolist() == [0.0, 1.0, 2.0, 3.0]
    assert twice.tolist() == [0.0, 2.0, 4.0, 6.0]
    assert alike.shape == (4,)
    del copy, alike, twice
    gc.collect()
    after = rtsys.get_allocation_stats()
    assert after.alloc - before.alloc == after.free - before.free > 0


def test_no_reference_is_counted_to_what_is_lent() -> None:
    """The promise itself, as the compiler knows it: a lent array, alone or in a tuple, has no owner to be counted."""
    counted = cpu_target.target_context.data_model_manager
    for one in (np.zeros((2, 3)), np.zeros(2, PLACE), _outer()):
        assert counted.lookup(typeof(one)).contains_nrt_meminfo()
        assert not counted.lookup(lent_type(typeof(one))).contains_nrt_meminfo()
    row = lent_type(typeof(np.zeros((2, 3)))).copy(ndim=1)
    assert not counted.lookup(row).contains_nrt_meminfo()


def test_what_is_held_is_taken_apart_once_and_kept_alive() -> None:
    """Calls see the arrays themselves, not copies; they live as long as what holds them, and no longer."""
    outer, also = _outer(), np.zeros(1)
    held, more = hold((outer, also)), np.full(1, 2.0)
    call = entry_point(_work_held, held, more)
    first = call(held, more)
    assert (first, call(held, more)) == (153.0, 153.0)
    assert also[0] == 4.0
    alive = weakref.ref(outer.words)
    del outer, also
    gc.collect()
    assert alive() is not None
    assert _work_held(held, more) == 153.0  # through the dispatcher, which finds the type
    del held
    gc.collect()
    assert alive() is None


def test_an_entry_point_is_of_the_types_it_was_made_for() -> None:
    """Another tuple of the same types may be passed; one that cannot be held is refused by name."""
    held, other = hold((_outer(), np.zeros(1))), hold((_outer(), np.ones(1)))
    call = entry_point(_work_held, held, np.zeros(1))
    assert call(other, np.zeros(1)) == 153.0
    with pytest.raises(Exception, match="object"):
        hold((object(),))


class _Pair(NamedTuple):
    one: Any
    other: Any


@kernel
def _sum_held(held: Any) -> Any:
    pair, on, number, part, small, (left, right), wide = opened(held)
    total = pair.one[1] + 10 * pair.other[2] + 100 * number + 1000 * part + 1e4 * small
    return total + 1e5 * left + 1e6 * right + 1e7 * wide[1, 2] + (1e8 if on else 0.0)


def test_what_is_held_may_be_numbers_and_tuples_of_any_kind() -> None:
    """Bytes and places are those that compiled code sees: numbers of one byte, tuples of equal parts, rows."""
    wide = np.arange(6, dtype=np.int16).reshape(2, 3)
    value = (_Pair(np.arange(3.0), np.arange(4.0)), True, 3, 0.5, np.int8(-2), (4, np.float32(1.5)), wide)
    expected = 1 + 20 + 300 + 500 - 2e4 + 4e5 + 1.5e6 + 5e7 + 1e8
    assert _sum_held(hold(value)) == expected
    assert _sum_held(hold((*value[:6], wide[:, ::-1]))) == expected - 2e7
