"""Positions of bits in a word, one machine instruction each."""

from typing import Any

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
