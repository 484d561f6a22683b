"""The forecasting port of the compiled path: one name, `forecast`, compiled for the kind of model at hand.

A kind of model is a NamedTuple of parameter arrays and a kernel with the signature of `forecast`; `register`
joins them. The engine's step calls `forecast` and is compiled once per kind, so there is no branch or
indirection left at run time.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import overload

from emp.core.numba.inner import INNER

_KERNELS: dict[type, Callable[..., Any]] = {}


def forecast(params: Any, state: Any, domain: int, x: Any, out: Any) -> None:
    """Process one event.

    Args:
        params: the model's parameters, a NamedTuple type known to `register`.
        state: float32[state_size] of this instrument, changed in place; all zero after a reset.
        domain: index of the head for the instrument's asset class and venue.
        x: float32[INPUTS], the model input of the event.
        out: FORECAST record, overwritten.
    """
    _KERNELS[type(params)](params, state, domain, x, out)


def register(params_type: type, kernel: Callable[..., Any]) -> None:
    """Make `forecast` run `kernel` for parameters of `params_type`."""
    _KERNELS[params_type] = kernel


@overload(forecast, jit_options=INNER)
def _compiled_forecast(params: Any, state: Any, domain: Any, x: Any, out: Any) -> Any:
    if (
        not isinstance(params, (types.NamedTuple, types.NamedUniTuple))
        or params.instance_class not in _KERNELS
    ):
        return None
    kernel = _KERNELS[params.instance_class]

    def run(params: Any, state: Any, domain: Any, x: Any, out: Any) -> None:
        kernel(params, state, domain, x, out)

    return run
