"""What stands between a head and its forecast: tables of class probabilities and a measure for the quartiles.

Both were learned on the calibration part (`emp.train.fit.calibration`) and are stored in the artifact, where they
may be missing: then the temperature, which is folded into the weights, is all there is.

`ISOTONIC`  float32[domains, HORIZONS, KINDS, 2, KNOTS]: probability before and after, piecewise linear, rising.
            A horizon without a table is all zero.
`QUARTILES` float32[domains, HORIZONS, 2]: how far quantiles follow the head, and half the distance of the outer
            ones that is the same for all events, in units of delta_hat.
"""

from typing import Any

import numpy as np

from emp.core.errors import ArtifactError
from emp.core.numba.jit import kernel
from emp.core.records import HORIZONS, Array

ISOTONIC, QUARTILES = "isotonic", "quartiles"

KNOTS = 32
KINDS = 2
"""Up and down share a table, so that the mirror image of a forecast is the forecast of the mirror image."""
MOVE, FLAT = 0, 1

FLOOR = 1e-6
"""Least and, below 1, greatest probability that a table may give: the logarithm stays finite."""

CALIBRATION = np.dtype(
    [
        ("tabled", "i4", (HORIZONS,)),  # whether there is a table
        ("follow", "f4", (HORIZONS,)),
        ("rest", "f4", (HORIZONS,)),
        ("knots", "f4", (HORIZONS, KINDS, KNOTS)),
        ("values", "f4", (HORIZONS, KINDS, KNOTS)),
    ],
    align=True,
)
"""Calibration of one domain's head, as the compiled step reads it."""


@kernel
def look_up(knots: Any, values: Any, p: Any) -> Any:
    """The piecewise-linear map of `values` over `knots`, float32[KNOTS] each, at p in [0, 1]."""
    k = np.int32(0)
    for i in range(1, KNOTS - 1):  # counted, not searched: without branches, so that it is vectorised
        k += np.int32(p >= knots[i])
    share = (p - knots[k]) / (knots[k + 1] - knots[k])
    return values[k] + share * (values[k + 1] - values[k])


@kernel
def through_tables(c: Any, h: int, p: Any) -> None:
    """Take the probabilities p float32[3] (down, flat, up) of horizon h through its tables; they sum to 1 again."""
    down = look_up(c.knots[h, MOVE], c.values[h, MOVE], p[0])
    flat = look_up(c.knots[h, FLAT], c.values[h, FLAT], p[1])
    up = look_up(c.knots[h, MOVE], c.values[h, MOVE], p[2])
    share = np.float32(1.0) / ((down + up) + flat)
    p[0], p[1], p[2] = down * share, flat * share, up * share


def pack_calibration(tensors: dict[str, Array], domains: int, source: str) -> Array:
    """CALIBRATION[domains] from an artifact's tensors.

    Raises:
        ArtifactError: a table or measure has another shape, falls, or leaves its range.
    """
    packed = np.zeros(domains, CALIBRATION)
    packed["follow"] = 1.0
    if ISOTONIC in tensors:
        tables = _shaped(tensors, ISOTONIC, (domains, HORIZONS, KINDS, 2, KNOTS), source)
        tabled = tables.any(axis=(2, 3, 4))
        knots, values = tables[..., 0, :], tables[..., 1, :]
        ends = (knots[..., 0] == 0.0) & (knots[..., -1] == 1.0) & (np.diff(knots) > 0.0).all(axis=-1)
        inside = ((values > 0.0) & (values < 1.0) & (np.diff(values, prepend=0.0) >= 0.0)).all(axis=-1)
        if not (ends & inside).all(axis=-1)[tabled].all():
            raise ArtifactError(
                f"{source}: a table in {ISOTONIC} does not rise from 0 to 1 within probabilities"
            )
        packed["tabled"], packed["knots"], packed["values"] = tabled, knots, values
    if QUARTILES in tensors:
        measure = _shaped(tensors, QUARTILES, (domains, HORIZONS, 2), source)
        follow, rest = measure[..., 0], measure[..., 1]
        if not ((follow >= 0.0) & (follow <= 1.0) & (rest >= 0.0)).all():
            raise ArtifactError(f"{source}: a measure in {QUARTILES} is out of range")
        packed["follow"], packed["rest"] = follow, rest
    return packed


def _shaped(tensors: dict[str, Array], name: str, shape: tuple[int, ...], source: str) -> Array:
    if tensors[name].shape != shape:
        raise ArtifactError(f"{source}: the tensor {name} is {tensors[name].shape}, expected {shape}")
    return tensors[name].astype(np.float32)
