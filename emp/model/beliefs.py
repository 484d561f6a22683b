"""What a model of one's own can say, in one call; it works in Python and inside a function that numba compiles."""

from typing import Any

from numba.extending import register_jitable

from emp.core.records import HORIZONS
from emp.model.own import QUARTILE


@register_jitable
def believe(forecast: Any, horizon: int, mean: float, sigma: float = 0.0) -> None:
    """Expect a move of `mean` to a horizon, give or take `sigma`, both in units of delta_hat.

    Args:
        forecast: as the model was given it.
        horizon: index in `emp.HORIZONS`.
        sigma: of the move; without one, or with 0, the market's own is taken. Quartiles and classes follow from it.
    """
    if horizon < 0 or horizon >= HORIZONS:
        raise IndexError("believe: no such horizon")
    if not sigma >= 0.0:
        raise ValueError("believe: sigma is below 0, or no number")
    forecast.mean[horizon] = mean
    if sigma > 0.0:
        wide = QUARTILE * sigma
        forecast.q[horizon, 0] = mean - wide
        forecast.q[horizon, 1] = mean
        forecast.q[horizon, 2] = mean + wide
