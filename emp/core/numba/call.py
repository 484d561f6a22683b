"""Calling compiled code by its address: what is called may change without compiling its caller anew."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _call(typing: Any, address: Any, first: Any, second: Any, third: Any) -> Any:
    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(ir.IntType(32), [word, word, word])
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return types.int32(types.int64, types.int64, types.int64, types.int64), code


call: Any = intrinsic(_call)
"""`call(address, a, b, c)`: the int32 that the function at an address returns of three words. For kernels."""
