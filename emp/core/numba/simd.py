"""Eight floats side by side in kernels, as the processor's vector units hold them.

The compiler may not reorder sums, and it unrolls short loops before it looks for vectors; so where a kernel's cost
lies in short rows of numbers, it says itself that eight of them are worked at together. What is computed does not
depend on how wide the processor's registers are: `total` always adds in the same order.
"""

import operator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from emp.core.records import Array

WIDTH = 8
_ROW = ir.VectorType(ir.DoubleType(), WIDTH)


def aligned(x: Array) -> Array:
    """A copy of an array that begins at a cache line, so that rows at multiples of 64 bytes lie within one."""
    room = np.zeros(x.nbytes + 64, np.uint8)
    at = -room.ctypes.data % 64
    copy: Array = room[at : at + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


class Float64x8(types.Type):
    """Eight float64."""

    def __init__(self) -> None:
        super().__init__(name="Float64x8")


FLOAT64X8 = Float64x8()


@register_model(Float64x8)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _ROW)


def _arithmetic(operation: Any, instruction: str) -> None:
    @infer_global(operation)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            both = len(args) == 2 and all(isinstance(a, Float64x8) for a in args)
            return signature(FLOAT64X8, *args) if both else None

    @lower_builtin(operation, Float64x8, Float64x8)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


for _operation, _instruction in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _arithmetic(_operation, _instruction)


def _row(context: Any, builder: Any, array: Any, value: Any, at: Any) -> Any:
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [at]), _ROW.as_pointer())


def _is_row(array: Any) -> bool:
    return isinstance(array, types.Array) and array.dtype == types.float64 and array.layout == "C"


def _load(typing: Any, array: Any, at: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_row(context, builder, array, *args), align=8)

    return (FLOAT64X8(array, types.intp), code) if _is_row(array) else None


def _store(typing: Any, array: Any, at: Any, row: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _row(context, builder, array, *args[:2]), align=8)
        return context.get_dummy_value()

    return (types.void(array, types.intp, FLOAT64X8), code) if _is_row(array) else None


def _splat_value(builder: Any, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(_ROW, ir.Undefined), value, cgutils.int32_t(0))
    return builder.shuffle_vector(
        first, first, ir.Constant(ir.VectorType(cgutils.int32_t, WIDTH), [0] * WIDTH)
    )


def _splat(typing: Any, x: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat_value(builder, args[0])

    return FLOAT64X8(types.float64), code


def _clip(typing: Any, row: Any, bound: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        high = _splat_value(builder, args[1])
        low = _splat_value(builder, builder.fneg(args[1]))
        less = builder.select(builder.fcmp_ordered("<", args[0], high), args[0], high)
        return builder.select(builder.fcmp_ordered(">", less, low), less, low)

    return FLOAT64X8(FLOAT64X8, types.float64), code


def _total(typing: Any, row: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [builder.extract_element(args[0], cgutils.int32_t(i)) for i in range(WIDTH)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(parts[i], parts[i + half]) for i in range(half)]
        return parts[0]

    return types.float64(FLOAT64X8), code


load: Any = intrinsic(_load)
"""`load(array, at)`: the eight elements of a float64 array from index `at`; nothing is checked."""

store: Any = intrinsic(_store)
"""`store(array, at, row)`: write them back."""

splat: Any = intrinsic(_splat)
"""`splat(x)`: the same number eight times."""

clip: Any = intrinsic(_clip)
"""`clip(row, bound)`: each limited to -bound .. bound."""

total: Any = intrinsic(_total)
"""`total(row)`: their sum, in halves."""
