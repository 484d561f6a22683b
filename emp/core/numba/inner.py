"""How kernels that other kernels call are compiled: no further than those need, where numba's insides are known.

With a release of numba that was not tried they are compiled as numba does it: the same results, a first start that
takes nearly twice as long.
"""

from typing import Any

import numba
from numba.core.caching import FunctionCache

TRIED = numba.__version__.startswith("0.68.")
"""Whether this release of numba is one of those whose insides are known."""

INNER: Any
"""Options of a function that only kernels call: for `njit`, and for `overload` as `jit_options`."""
InnerCache: Any
"""Numba's cache of one such kernel."""
inner: Any
"""A function compiled for callers that are compiled themselves."""

if TRIED:
    from emp.core.numba import linked

    INNER, InnerCache, inner = linked.INNER, linked.InnerCache, linked.inner
else:
    INNER, InnerCache, inner = {}, FunctionCache, numba.njit
