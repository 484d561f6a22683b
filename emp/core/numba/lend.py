"""Arrays of any shape that compiled code only looks at: everything an array can do, without reference counts.

Numba keeps an array alive by counting references to it, atomically: each name that a kernel gives to an array of a
NamedTuple, each row of a table and each view costs two locked instructions, about 8 ns each on a server, and they
depend on how the optimiser happened to pair them. The caller of a hot loop holds its arrays for the whole call, so
the loop needs none of it: `lent` gives the same arrays, in the same NamedTuple, without their owner.

Where `borrowed` (`emp.core.numba.borrow`) passes one-dimensional arrays on as two words and checks nothing, `lent`
takes any array, whatever its shape and strides, and whatever else stands in the NamedTuple, as it is.
"""

from typing import Any

from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model


class Lent(types.Array):
    """An array that somebody else keeps alive. Views of it are lent too; what is made from it anew is owned."""

    def __init__(self, dtype: Any, ndim: int, layout: Any, readonly: bool, aligned: bool) -> None:
        how = f"{'readonly ' if readonly else ''}{'' if aligned else 'unaligned '}"
        super().__init__(
            dtype, ndim, layout, readonly, f"lent {how}array({dtype}, {ndim}d, {layout})", aligned
        )

    def copy(self, dtype: Any = None, ndim: Any = None, layout: Any = None, readonly: Any = None) -> Any:
        """The type of a view; where numba says whether it may be written to, it is that of a new array."""
        if readonly is not None:
            return super().copy(dtype, ndim, layout, readonly)
        return Lent(
            self.dtype if dtype is None else dtype,
            self.ndim if ndim is None else ndim,
            self.layout if layout is None else layout,
            not self.mutable,
            self.aligned,
        )


@register_model(Lent)
class _Model(models.StructModel):
    """The words of an array, where that of the owner is nothing that numba counts."""

    def __init__(self, manager: Any, kind: Any) -> None:
        shape = types.UniTuple(types.intp, kind.ndim)
        members = [
            ("meminfo", types.voidptr),
            ("parent", types.voidptr),
            ("nitems", types.intp),
            ("itemsize", types.intp),
            ("data", types.CPointer(kind.dtype)),
            ("shape", shape),
            ("strides", shape),
        ]
        super().__init__(manager, kind, members)


def lent_type(kind: Any) -> Any:
    """The type of what is lent from a value of type `kind`: itself where it has no owner."""
    if isinstance(kind, Lent):
        return kind
    if isinstance(kind, types.Array):
        return Lent(kind.dtype, kind.ndim, kind.layout, not kind.mutable, kind.aligned)
    if isinstance(kind, types.NamedTuple | types.NamedUniTuple | types.Tuple | types.UniTuple):
        return types.BaseTuple.from_types(
            [lent_type(field) for field in kind.types], getattr(kind, "instance_class", None)
        )
    return kind


def lend(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The value lent from `value` of type `kind`, as code."""
    made_type = lent_type(kind)
    if made_type == kind:
        return value
    if isinstance(kind, types.Array):
        owned = context.make_array(kind)(context, builder, value)
        made = cgutils.create_struct_proxy(made_type)(context, builder)
        for name in ("nitems", "itemsize", "data", "shape", "strides"):
            setattr(made, name, getattr(owned, name))
        for name in ("meminfo", "parent"):
            setattr(made, name, cgutils.get_null_value(getattr(made, name).type))
        return made._getvalue()
    fields = cgutils.unpack_tuple(builder, value)
    parts = [lend(context, builder, *field) for field in zip(kind.types, fields, strict=True)]
    return context.make_tuple(builder, made_type, parts)


def _lent(typing: Any, owner: Any) -> Any:
    kind = lent_type(owner)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return lend(context, builder, owner, args[0])

    return kind(owner), code


lent: Any = intrinsic(_lent)
"""An array, or a tuple of arrays, numbers and tuples of them, without owners: for the arguments of a kernel."""
