"""Positions of bits in a word, one machine instruction each; bytes as words."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def _lowest(typing: Any, word: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.cttz(args[0], cgutils.false_bit)

    return types.uint64(types.uint64), code


def _above_highest(typing: Any, word: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.ctlz(args[0], cgutils.false_bit)

    return types.uint64(types.uint64), code


trailing_zeros: Any = intrinsic(_lowest)
"""Zeros below the lowest set bit of a uint64; 64 where none is set. For kernels."""

leading_zeros: Any = intrinsic(_above_highest)
"""Zeros above the highest set bit of a uint64; 64 where none is set. For kernels."""


def _eight_bytes(typing: Any, buffer: Any, at: Any) -> Any:
    if not isinstance(buffer, types.Array) or buffer.dtype != types.uint8 or buffer.layout != "C":
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.load(
            builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(64).as_pointer()), align=1
        )

    return types.uint64(buffer, types.uint64), code


load_word: Any = intrinsic(_eight_bytes)
"""Eight bytes of a uint8 array as a uint64, the first of them lowest (little endian). For kernels: no index check."""


def _equal_bytes(typing: Any, buffer: Any, at: Any, byte: Any) -> Any:
    if not isinstance(buffer, types.Array) or buffer.dtype != types.uint8 or buffer.layout != "C":
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        row = ir.VectorType(ir.IntType(8), 64)
        loaded = builder.load(builder.bitcast(builder.gep(data, [args[1]]), row.as_pointer()), align=1)
        one = builder.insert_element(ir.Constant(row, ir.Undefined), args[2], ir.IntType(32)(0))
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
        same = builder.icmp_unsigned("==", loaded, builder.shuffle_vector(one, one, lanes))
        return builder.bitcast(same, ir.IntType(64))

    return types.uint64(buffer, types.uint64, types.uint8), code


equal_bytes: Any = intrinsic(_equal_bytes)
"""Which of 64 bytes of a uint8 array from index i equal a byte, a bit each, the first lowest. For kernels: no check."""


def _any_of(typing: Any, buffer: Any, at: Any, a: Any, b: Any, c: Any, d: Any, e: Any) -> Any:
    if not isinstance(buffer, types.Array) or buffer.dtype != types.uint8 or buffer.layout != "C":
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        row = ir.VectorType(ir.IntType(8), 16)
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), 16), [0] * 16)
        loaded = builder.load(builder.bitcast(builder.gep(data, [args[1]]), row.as_pointer()), align=1)
        found = ir.Constant(ir.VectorType(ir.IntType(1), 16), [0] * 16)
        for byte in args[2:]:
            one = builder.insert_element(ir.Constant(row, ir.Undefined), byte, ir.IntType(32)(0))
            found = builder.or_(
                found, builder.icmp_unsigned("==", loaded, builder.shuffle_vector(one, one, lanes))
            )
        return builder.zext(builder.bitcast(found, ir.IntType(16)), ir.IntType(64))

    byte = types.uint8
    return types.uint64(buffer, types.uint64, byte, byte, byte, byte, byte), code


any_of: Any = intrinsic(_any_of)
"""Which of 16 bytes of a uint8 array from index i are one of five, a bit each, the first lowest. For kernels: no index
check."""


def _move_items(typing: Any, array: Any, to: Any, at: Any, n: Any) -> Any:
    if not isinstance(array, types.Array) or array.layout != "C" or array.ndim != 1:
        return None

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.make_array(sig.args[0])(context, builder, args[0])
        target, source = (builder.gep(kind.data, [at]) for at in args[1:3])
        memmove: Any = cgutils.raw_memmove
        memmove(builder, target, source, args[3], kind.itemsize)
        return context.get_dummy_value()

    return types.void(array, types.intp, types.intp, types.intp), code


move_items: Any = intrinsic(_move_items)
"""Move n items of an array of one dimension from index `at` to index `to`, which may overlap. For kernels: no check."""
