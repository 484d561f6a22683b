"""The market seen in a mirror: bid for ask, buying for selling.

Mirrored, an input vector is another one that could be seen, and the move to expect is the opposite one. A
model that obeys this cannot learn which way one training day happened to drift, and needs half the data. The
inputs split into an even part, which the mirror leaves as it is, and an odd part, whose sign it turns.
"""

import numpy as np

from emp.core.records import DEPTH_FEATURES, Array
from emp.perception.normalise import INPUT_NAMES, INPUTS

ODD = ("impulse", "ofi_norm", "qimbalance", "momentum")
"""Inputs whose sign the mirror turns."""

PAIRS = (
    ("slope_bid", "slope_ask"),
    ("curve_bid", "curve_ask"),
    *((f"depth_{i}", f"depth_{i + DEPTH_FEATURES // 2}") for i in range(DEPTH_FEATURES // 2)),
)
"""Inputs that the mirror exchanges."""


def mirror_matrix() -> Array:
    """M with mirrored x = x @ M: float64[INPUTS, INPUTS]."""
    place = {name: i for i, name in enumerate(INPUT_NAMES)}
    matrix = np.eye(INPUTS)
    for name in ODD:
        matrix[place[name], place[name]] = -1.0
    for bid, ask in PAIRS:
        i, j = place[bid], place[ask]
        matrix[[i, j]] = matrix[[j, i]]
    return matrix


def mirror_basis() -> tuple[Array, Array]:
    """Orthonormal columns that span the even and the odd part: float64[INPUTS, n_even], float64[INPUTS, n_odd]."""
    place = {name: i for i, name in enumerate(INPUT_NAMES)}
    unit = np.eye(INPUTS)
    paired = {name for pair in PAIRS for name in pair}
    half = np.sqrt(0.5)
    even = [unit[place[n]] for n in INPUT_NAMES if n not in paired and n not in ODD]
    odd = [unit[place[n]] for n in ODD]
    for bid, ask in PAIRS:
        even.append(half * (unit[place[bid]] + unit[place[ask]]))
        odd.append(half * (unit[place[bid]] - unit[place[ask]]))
    return np.stack(even, axis=1), np.stack(odd, axis=1)


def without_depth() -> tuple[Array, Array]:
    """The columns of `mirror_basis` that do not touch the depth features."""
    depth = [i for i, name in enumerate(INPUT_NAMES) if name.startswith("depth_")]
    even, odd = mirror_basis()
    return even[:, ~even[depth].any(axis=0)], odd[:, ~odd[depth].any(axis=0)]
