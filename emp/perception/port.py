"""The perception port of the compiled path: one name, `perceive`, compiled for the kind of features at hand.

A kind of features is a NamedTuple of parameter arrays and a kernel with the signature of `perceive`; `register` joins
them, as `emp.model.port` joins models. The built-in kind is `emp.perception.features.BookFeatures`.
"""

from collections.abc import Callable
from typing import Any

from numba import types
from numba.extending import overload

from emp.core.numba.inner import INNER

_KERNELS: dict[type, Callable[..., Any]] = {}


def perceive(features: Any, p: Any, event: Any, sessions: Any, venue_id: int, state: Any, x: Any) -> int:
    """Process one event of an instrument.

    Args:
        features: the parameters, a NamedTuple type known to `register`.
        p: PERCEPTION record of the instrument.
        event: EVENT record.
        sessions: SESSION records that cover the event.
        venue_id: codes.Venue of the instrument.
        state: MARKET_STATE record, overwritten when the book changed visibly.
        x: float32[INPUTS], the model's input vector, overwritten likewise.

    Returns:
        0 when `state` and `x` are new; `features.NO_VISIBLE_CHANGE`; else the codes.Quarantine reason for which the
        book is not believed (it is stale until a good one arrives).
    """
    return int(_KERNELS[type(features)](features, p, event, sessions, venue_id, state, x))


def register(features_type: type, kernel: Callable[..., Any]) -> None:
    """Make `perceive` run `kernel` for parameters of `features_type`."""
    _KERNELS[features_type] = kernel


@overload(perceive, jit_options=INNER)
def _compiled_perceive(
    features: Any, p: Any, event: Any, sessions: Any, venue_id: Any, state: Any, x: Any
) -> Any:
    if (
        not isinstance(features, (types.NamedTuple, types.NamedUniTuple))
        or features.instance_class not in _KERNELS
    ):
        return None
    kernel = _KERNELS[features.instance_class]

    def run(features: Any, p: Any, event: Any, sessions: Any, venue_id: Any, state: Any, x: Any) -> Any:
        return kernel(features, p, event, sessions, venue_id, state, x)

    return run
