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


def _borrow(typing: Any, array: Any) -> Any:
    if isinstance(array, Borrowed):
        return array(array), lambda context, builder, sig, args: args[0]
    if not isinstance(array, types.Array) or array.ndim != 1 or array.layout != "C":
        return None
    kind = Borrowed(array.dtype)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        owned = context.make_array(array)(context, builder, args[0])
        made = cgutils.create_struct_proxy(kind)(context, builder)
        made.data, made.n = owned.data, owned.nitems
        return made._getvalue()

    return kind(array), code


borrowed: Any = intrinsic(_borrow)
"""An array without its owner, for the arguments of a kernel; never to be returned or kept."""


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
