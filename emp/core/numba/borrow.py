"""Arrays that compiled code only borrows: no reference count, no wraparound of negative indices.

Numba passes an array as seven words and counts references to it with an atomic addition at every call that keeps
a name for it; a dozen of those cost as much as an event of the market. A kernel whose caller holds its arrays
for the whole call needs none of it: it borrows them first, and passes on a pointer and a length.
"""

import operator
from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.builtins import normalize_1d_index
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model


class Borrowed(types.Type):
    """A one-dimensional contiguous array of `dtype` that somebody else keeps alive."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Borrowed({dtype})")


@register_model(Borrowed)
class _Model(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [("data", types.CPointer(kind.dtype)), ("n", types.intp)])


def _borrowed_type(kind: Any) -> Any:
    """The type of what is borrowed from a value of type `kind`, None where nothing can be."""
    if isinstance(kind, Borrowed):
        return kind
    if isinstance(kind, types.Array):
        return Borrowed(kind.dtype) if kind.ndim == 1 and kind.layout == "C" else None
    if isinstance(kind, types.NamedTuple | types.NamedUniTuple):
        fields = [_borrowed_type(field) for field in kind.types]
        if None in fields:
            return None
        return types.BaseTuple.from_types(fields, kind.instance_class)
    return None


def _lend(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The value borrowed from `value` of type `kind`."""
    if isinstance(kind, Borrowed):
        return value
    lent = _borrowed_type(kind)
    if isinstance(kind, types.NamedTuple | types.NamedUniTuple):
        fields = cgutils.unpack_tuple(builder, value)
        parts = [_lend(context, builder, *field) for field in zip(kind.types, fields, strict=True)]
        return context.make_tuple(builder, lent, parts)
    owned = context.make_array(kind)(context, builder, value)
    made = cgutils.create_struct_proxy(lent)(context, builder)
    made.data, made.n = owned.data, owned.nitems
    return made._getvalue()


def _borrow(typing: Any, owner: Any) -> Any:
    lent = _borrowed_type(owner)
    if lent is None:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _lend(context, builder, owner, args[0])

    return lent(owner), code


borrowed: Any = intrinsic(_borrow)
"""An array without its owner, or a NamedTuple of such arrays (or of such NamedTuples): for the arguments of a kernel,
never to be returned or kept."""


@infer_global(operator.getitem)
class _Get(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], Borrowed) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], normalize_1d_index(args[1]))
        return None


@infer_global(operator.setitem)
class _Set(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        if isinstance(args[0], Borrowed) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], normalize_1d_index(args[1]), args[0].dtype)
        return None


@infer_global(len)
class _Len(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(types.intp, args[0]) if isinstance(args[0], Borrowed) else None


def _element(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    made = cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0])
    return builder.gep(made.data, [args[1]], inbounds=True)


@lower_builtin(operator.getitem, Borrowed, types.Integer)
def _get(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return context.unpack_value(builder, sig.return_type, _element(context, builder, sig, args))


@lower_builtin(operator.setitem, Borrowed, types.Integer, types.Any)
def _set(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    context.pack_value(builder, sig.args[0].dtype, args[2], _element(context, builder, sig, args))
    return context.get_dummy_value()


@lower_builtin(len, Borrowed)
def _len(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return cgutils.create_struct_proxy(sig.args[0])(context, builder, args[0]).n
