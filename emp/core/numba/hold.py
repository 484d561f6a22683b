"""Arrays that a compiled function is called with again and again, unpacked once.

    held = hold((desk, policy))         # a NamedTuple, or a plain tuple of such
    call = entry_point(kernel, held, events)
    call(held, events)                  # in the kernel: desk, policy = opened(held)

Each call of a compiled function asks every argument for its type, takes every array of a NamedTuple apart and counts
a reference to it: for a desk and a model that is more than the work on one event. What is held was taken apart when
it was held: the kernel gets one pointer, and the arrays are `lent` to it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import typeof, types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, typeof_impl, unbox

from emp.core.numba.jit import kernel
from emp.core.numba.lend import lend, lent_type
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


def _words_of(context: Any, kind: Any) -> int:
    return -(-context.get_abi_sizeof(context.get_value_type(kind)) // 8)


def _size(typing: Any, value: Any) -> Any:
    kind = lent_type(value)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.get_constant(types.intp, _words_of(context, kind))

    return types.intp(value), code


def _store(typing: Any, value: Any, words: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        made = lend(context, builder, value, args[0])
        data = context.make_array(words)(context, builder, args[1]).data
        builder.store(made, builder.bitcast(data, made.type.as_pointer()), align=8)
        return context.get_dummy_value()

    return types.void(value, words), code


def _open(typing: Any, held: Any) -> Any:
    if not isinstance(held, HeldType):
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        at = context.get_value_type(held.kind).as_pointer()
        return builder.load(builder.bitcast(args[0], at), align=8)

    return held.kind(held), code


_size_of: Any = intrinsic(_size)
_store_into: Any = intrinsic(_store)

opened: Any = intrinsic(_open)
"""In a kernel: the tuple that is held, its arrays lent."""


@kernel
def _count_words(value: Any) -> int:
    return _size_of(value)


@kernel
def _take_apart(value: Any, words: Any) -> None:
    _store_into(value, words)


def hold(value: Any) -> Held:
    """Take a tuple of arrays, numbers and NamedTuples of them apart, for many calls."""
    words: Array = np.zeros(int(_count_words(value)), np.int64)
    _take_apart(value, words)
    return Held(value, words, lent_type(typeof(value)))


def entry_point(function: Any, *like: Any) -> Callable[..., Any]:
    """The compiled function for arguments of the types of `like`, to be called with no others: nothing is checked.

    Compiled now, or loaded, where it has not been yet.
    """
    found: Callable[..., Any] = function.compile(tuple(typeof(one) for one in like))
    return found
