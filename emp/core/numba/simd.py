"""Sixty-four bytes of floats side by side in kernels, as the processor's vector units hold them.

The compiler may not reorder sums, and it unrolls short loops before it looks for vectors; so where a kernel's cost
lies in short rows of numbers, it says itself that eight float64, or sixteen float32, are worked at together. What is
computed does not depend on how wide the processor's registers are: `total` always adds in the same order.
"""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from emp.core.records import Array

ROW_BYTES = 64


def aligned(x: Array) -> Array:
    """A copy of an array that begins at a cache line, so that rows at multiples of 64 bytes lie within one."""
    room = np.zeros(x.nbytes + 64, np.uint8)
    at = -room.ctypes.data % 64
    copy: Array = room[at : at + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


class Row(types.Type):
    """Floats of one kind, `width` of them."""

    def __init__(self, element: types.Float) -> None:
        self.element = element
        self.width = ROW_BYTES * 8 // element.bitwidth
        scalar = ir.DoubleType() if element == types.float64 else ir.FloatType()
        self.vector = ir.VectorType(scalar, self.width)
        super().__init__(name=f"Row({element.name} x {self.width})")


ROWS = {element: Row(element) for element in (types.float32, types.float64)}


@register_model(Row)
class _Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.vector)


def _arithmetic(operation: Any, instruction: str) -> None:
    @infer_global(operation)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            both = len(args) == 2 and isinstance(args[0], Row) and args[0] == args[1]
            return signature(args[0], *args) if both else None

    @lower_builtin(operation, Row, Row)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _arithmetic(_operation, _instruction)


def _row_of(array: Any) -> Row | None:
    """The kind of rows that an array holds; None where it holds none."""
    if not isinstance(array, types.Array) or array.layout != "C":
        return None
    return ROWS.get(array.dtype)


def _place(context: Any, builder: Any, row: Row, array: Any, value: Any, at: Any) -> Any:
    data = context.make_array(array)(context, builder, value).data
    return builder.bitcast(builder.gep(data, [at]), row.vector.as_pointer())


def _load(typing: Any, array: Any, at: Any) -> Any:
    row = _row_of(array)
    if row is None:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_place(context, builder, row, array, *args), align=row.element.bitwidth // 8)

    return row(array, types.intp), code


def _store(typing: Any, array: Any, at: Any, values: Any) -> Any:
    row = _row_of(array)
    if row is None:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _place(context, builder, row, array, *args[:2])
        builder.store(args[2], place, align=row.element.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, row), code


def _splat_value(builder: Any, row: Row, value: Any) -> Any:
    first = builder.insert_element(ir.Constant(row.vector, ir.Undefined), value, cgutils.int32_t(0))
    return builder.shuffle_vector(
        first, first, ir.Constant(ir.VectorType(cgutils.int32_t, row.width), [0] * row.width)
    )


def _splat(typing: Any, x: Any) -> Any:
    row = ROWS.get(x)
    if row is None:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _splat_value(builder, row, args[0])

    return row(x), code


def _clip(typing: Any, values: Any, bound: Any) -> Any:
    if not isinstance(values, Row):
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        high = _splat_value(builder, values, args[1])
        low = _splat_value(builder, values, builder.fneg(args[1]))
        less = builder.select(builder.fcmp_ordered("<", args[0], high), args[0], high)
        return builder.select(builder.fcmp_ordered(">", less, low), less, low)

    return values(values, values.element), code


def _within(typing: Any, values: Any, low: Any, high: Any) -> Any:
    if not isinstance(values, Row):
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        low, high = (_splat_value(builder, values, bound) for bound in args[1:])
        less = builder.select(builder.fcmp_unordered("<", args[0], high), args[0], high)
        return builder.select(builder.fcmp_unordered(">", less, low), less, low)

    return values(values, values.element, values.element), code


def _floor(typing: Any, values: Any) -> Any:
    if not isinstance(values, Row):
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        name = f"llvm.floor.v{values.width}f{values.element.bitwidth}"
        kind = ir.FunctionType(values.vector, [values.vector])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return values(values), code


def _finite(typing: Any, values: Any) -> Any:
    if not isinstance(values, Row):
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        nothing = builder.fsub(args[0], args[0])
        bits = builder.bitcast(builder.fcmp_ordered("==", nothing, nothing), ir.IntType(values.width))
        return builder.icmp_unsigned("==", bits, ir.Constant(bits.type, -1))

    return types.boolean(values), code


def _power_of_two(typing: Any, values: Any) -> Any:
    if values != ROWS[types.float32]:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        ints = ir.VectorType(cgutils.int32_t, values.width)
        constant = (
            ir.Constant(ints, [n] * values.width) for n in (127, 23)
        )  # bias and place of the exponent
        exponent = builder.add(builder.fptosi(args[0], ints), next(constant))
        return builder.bitcast(builder.shl(exponent, next(constant)), values.vector)

    return values(values), code


def _floats(typing: Any, array: Any, at: Any) -> Any:
    if not isinstance(array, types.Array) or array.layout != "C" or array.dtype != types.int64:
        return None
    row = ROWS[types.float32]

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = builder.gep(context.make_array(array)(context, builder, args[0]).data, [args[1]])
        ints = ir.VectorType(ir.IntType(64), row.width)
        return builder.sitofp(builder.load(builder.bitcast(data, ints.as_pointer()), align=8), row.vector)

    return row(array, types.intp), code


def gather(offsets: Sequence[int]) -> Any:
    """A function of an array and a place `at`: the row whose every number is array[at + its offset]."""
    distinct = sorted(set(offsets))
    lanes = [distinct.index(offset) for offset in offsets]

    def typed(typing: Any, array: Any, at: Any) -> Any:
        row = _row_of(array)
        if row is None or row.width != len(lanes):
            return None

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            data = context.make_array(array)(context, builder, args[0]).data
            some: Any = ir.Constant(ir.VectorType(row.vector.element, len(distinct)), ir.Undefined)
            for k, offset in enumerate(distinct):
                place = builder.gep(data, [builder.add(args[1], ir.Constant(args[1].type, offset))])
                some = builder.insert_element(some, builder.load(place), cgutils.int32_t(k))
            mask = ir.Constant(ir.VectorType(cgutils.int32_t, row.width), lanes)
            return builder.shuffle_vector(some, some, mask)

        return row(array, types.intp), code

    return intrinsic(typed)


def _total(typing: Any, values: Any) -> Any:
    if not isinstance(values, Row):
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [builder.extract_element(args[0], cgutils.int32_t(i)) for i in range(values.width)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(parts[i], parts[i + half]) for i in range(half)]
        return parts[0]

    return values.element(values), code


load: Any = intrinsic(_load)
"""`load(array, at)`: a row of a float32 or float64 array from its element `at` on; nothing is checked."""

store: Any = intrinsic(_store)
"""`store(array, at, row)`: write them back."""

splat: Any = intrinsic(_splat)
"""`splat(x)`: a row of the same number."""

clip: Any = intrinsic(_clip)
"""`clip(row, bound)`: each limited to -bound .. bound."""

within: Any = intrinsic(_within)
"""`within(row, low, high)`: each limited to low .. high; what is no number stays none."""

floor: Any = intrinsic(_floor)
"""`floor(row)`: of each."""

power_of_two: Any = intrinsic(_power_of_two)
"""`power_of_two(row)`: 2**n of whole float32 n from -126 to 127."""

finite: Any = intrinsic(_finite)
"""`finite(row)`: whether all are."""

floats: Any = intrinsic(_floats)
"""`floats(array, at)`: a row of float32, from as many elements of an int64 array; nothing is checked."""

total: Any = intrinsic(_total)
"""`total(row)`: their sum, in halves."""
