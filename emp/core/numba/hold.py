"""Arrays that a compiled function is called with again and again, unpacked once.

    held = hold((desk, policy))         # a NamedTuple, or a plain tuple of such
    call = entry_point(kernel, held, events)
    call(held, events)                  # in the kernel: desk, policy = opened(held)

Each call of a compiled function asks every argument for its type, takes every array of a NamedTuple apart and counts
a reference to it: for a desk and a model that is more than the work on one event. What is held was taken apart when
it was held: the kernel gets one pointer, and the arrays are `lent` to it.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import typeof, types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import NativeValue, intrinsic, models, register_model, typeof_impl, unbox
from numba.np.numpy_support import as_dtype, from_dtype, map_layout

from emp.core.numba.lend import Lent, lent_type
from emp.core.records import Array


class HeldType(types.Type):
    """A pointer to the words of a tuple of `kind`."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind
        super().__init__(name=f"Held({kind})")


@register_model(HeldType)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, cgutils.voidptr_t)


class Held:
    """A tuple of arrays, numbers and NamedTuples of them, taken apart; it keeps all of them alive."""

    __slots__ = ("_kept", "_words", "address", "kind")

    def __init__(self, kept: Any, words: Array, kind: Any) -> None:
        self._kept = kept
        self._words = words
        self.address = int(words.ctypes.data)
        self.kind = kind


@typeof_impl.register(Held)
def _typeof(value: Held, context: Any) -> Any:
    return HeldType(value.kind)


@unbox(HeldType)
def _unbox(kind: Any, value: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(value, "address")
    pointer = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    return NativeValue(pointer)


def _open(typing: Any, held: Any) -> Any:
    if not isinstance(held, HeldType):
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = context.get_value_type(held.kind).as_pointer()
        return builder.load(builder.bitcast(args[0], at), align=8)

    return held.kind(held), code


opened: Any = intrinsic(_open)
"""In a kernel: the tuple that is held, its arrays lent."""


class _Layout(NamedTuple):
    """How compiled code sees a value: its bytes, and where the fields of a tuple begin."""

    size: int
    offsets: tuple[int, ...]


@cache
def _layout(kind: Any) -> _Layout:
    context: Any = cpu_target.target_context
    seen = context.get_value_type(kind)
    size = context.get_abi_sizeof(seen)
    if not isinstance(kind, types.BaseTuple):
        return _Layout(size, ())
    if isinstance(kind, types.UniTuple | types.NamedUniTuple):  # LLVM knows it as an array
        return _Layout(size, tuple(at * _layout(kind.dtype).size for at in range(len(kind))))
    target = context.target_data
    return _Layout(size, tuple(seen.get_element_offset(target, at) for at in range(len(kind))))


class _Same:
    """A dtype that is equal to itself alone: two that compare equal may lie in memory in two ways, aligned or not."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype

    def __hash__(self) -> int:
        return id(self.dtype)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.dtype is self.dtype


@lru_cache(maxsize=512)
def _array_type(dtype: _Same, dimensions: int, layout: Any, readonly: bool) -> Any:
    return types.Array(from_dtype(dtype.dtype), dimensions, layout, readonly=readonly)


def _type_of(value: Any) -> Any:
    """Numba's type of a value; those of records are kept, as numba makes them field by field.

    Raises:
        TypeError: names what has none.
    """
    if type(value) is np.ndarray:
        return _array_type(_Same(value.dtype), value.ndim, map_layout(value), not value.flags.writeable)
    if isinstance(value, tuple):
        return types.BaseTuple.from_types([_type_of(one) for one in value], type(value))
    try:
        return typeof(value)
    except ValueError:
        raise TypeError(f"cannot be held: {type(value).__name__}") from None


def _take_apart(kind: Any, value: Any, into: Any, at: int) -> None:
    """Write a value as compiled code sees it, its arrays lent, from byte `at` on; TypeError where it cannot be."""
    if isinstance(kind, types.BaseTuple):
        fields: Any = kind
        for field, one, offset in zip(fields.types, value, _layout(kind).offsets, strict=True):
            _take_apart(field, one, into, at + offset)
        return
    if isinstance(kind, Lent):
        shape, strides = value.shape, value.strides
        words: Array = np.array(
            [0, 0, value.size, value.itemsize, value.ctypes.data, *shape, *strides], np.int64
        )
    elif isinstance(kind, types.Number | types.Boolean):
        words = np.array([value], as_dtype(kind))
    else:
        raise TypeError(f"cannot be held: {kind}")
    written = words.view(np.uint8)
    into[at : at + len(written)] = written


def hold(value: Any) -> Held:
    """Take a tuple of arrays, numbers and NamedTuples of them apart, for many calls. Nothing is compiled for it."""
    kind = lent_type(_type_of(value))
    words: Array = np.zeros(-(-_layout(kind).size // 8), np.int64)
    _take_apart(kind, value, words.view(np.uint8), 0)
    return Held(value, words, kind)


def entry_point(function: Any, *like: Any) -> Callable[..., Any]:
    """The compiled function for arguments of the types of `like`, to be called with no others: nothing is checked.

    Compiled now, or loaded, where it has not been yet.
    """
    found: Callable[..., Any] = function.compile(tuple(typeof(one) for one in like))
    return found
