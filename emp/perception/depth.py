"""Depth in tick space: two sides on one axis from the touch outwards, one shared encoder (B.1.1)."""

from typing import Any

import numpy as np

from emp.core.codes import EventFlag
from emp.core.numba.fastmath import sigmoid_row
from emp.core.numba.jit import kernel
from emp.core.numba.simd import floats, gather, splat, store
from emp.core.records import DEPTH_FEATURES
from emp.perception.state import CELLS

NO_DEPTH = int(EventFlag.NO_DEPTH)

CHANNELS = 4
TAPS = 3
POOLS = DEPTH_FEATURES // (2 * CHANNELS)
CELLS_PER_POOL = CELLS // POOLS

_SIDE, _CHANNEL, _POOL = (k.ravel().tolist() for k in np.indices((2, CHANNELS, POOLS)))  # of every output
of_pools = gather([s * (CELLS + 2) + p * CELLS_PER_POOL for s, p in zip(_SIDE, _POOL, strict=True)])
of_channels, biases = gather([c * TAPS for c in _CHANNEL]), gather(_CHANNEL)

ENCODER = np.dtype(
    [
        ("value", "f4", (CHANNELS, TAPS)),
        ("value_bias", "f4", (CHANNELS,)),
        ("gate", "f4", (CHANNELS, TAPS)),
        ("gate_bias", "f4", (CHANNELS,)),
    ],
    align=True,
)
"""Weights of the encoder: a 1-D convolution over cells, shared by both sides, gated (GLU)."""


@kernel
def fill_side(cells: Any, lots: Any, px: Any, sz: Any, levels: int, width: float, size_scale: float) -> None:
    """Lay one side of the book out in tick space.

    Args:
        cells: float32[CELLS + 2] of `PERCEPTION.grid`; cell 1 is the touch, the ends are padding and stay 0.
        lots: int64[CELLS + 1], scratch: the last is what lies beyond the cells.
        px, sz: int64[LEVELS], best first; the direction of prices does not matter (the ask axis is flipped
            by measuring distance from the touch).
        width: ticks per cell.
        size_scale: lots; sizes enter as q / (q + scale), in [0, 1).
    """
    for i in range(CELLS + 1):
        lots[i] = 0
    inverse = 1.0 / width
    touch = px[0]
    for level in range(levels):
        cell = int(abs(px[level] - touch) * inverse)
        lots[min(cell, CELLS)] += sz[level]  # a branch for what lies beyond would be guessed wrong
    sizes = floats(lots, 0)
    store(cells, 1, sizes / (sizes + splat(np.float32(size_scale))))


@kernel
def encode(grid: Any, encoder: Any, out: Any) -> None:
    """Convolve, gate and pool both sides: out[(side * CHANNELS + channel) * POOLS + pool] is a mean over cells.

    y[c, i] = (v_c * x + bv_c)[i] * sigmoid((g_c * x + bg_c)[i]), * the convolution with TAPS taps; then an
    adaptive average pool to POOLS. All outputs are computed side by side: cell after cell of their pools.

    Args:
        grid: float32[2, CELLS + 2], as `fill_side` leaves it.
        out: float32[DEPTH_FEATURES].
    """
    value, gate = encoder.value, encoder.gate
    v0, v1, v2 = of_channels(value, 0), of_channels(value, 1), of_channels(value, 2)
    g0, g1, g2 = of_channels(gate, 0), of_channels(gate, 1), of_channels(gate, 2)
    vb, gb = biases(encoder.value_bias, 0), biases(encoder.gate_bias, 0)
    sums = splat(np.float32(0.0))
    for i in range(CELLS_PER_POOL):
        left, here, right = of_pools(grid, i), of_pools(grid, i + 1), of_pools(grid, i + 2)
        gated = sigmoid_row(g0 * left + g1 * here + g2 * right + gb)
        sums = sums + (v0 * left + v1 * here + v2 * right + vb) * gated
    store(out, 0, sums * splat(np.float32(1.0 / CELLS_PER_POOL)))


@kernel
def update_depth_scales(p: Any, event: Any, weight: float) -> None:
    """Past-only mean distance between levels (ticks) and mean size per level (lots)."""
    levels = event.n_bid + event.n_ask
    spacings = levels - 2
    if spacings > 0:
        reach = event.bid_px[0] - event.bid_px[event.n_bid - 1]
        reach += event.ask_px[event.n_ask - 1] - event.ask_px[0]
        p.level_gap += weight * (reach / spacings - p.level_gap)
    total = 0
    for i in range(event.n_bid):
        total += event.bid_sz[i]
    for i in range(event.n_ask):
        total += event.ask_sz[i]
    p.level_size += weight * (total / levels - p.level_size)


@kernel
def depth_features(p: Any, event: Any, encoder: Any, out: Any) -> bool:
    """Write `depth_feat` (float32[DEPTH_FEATURES]); exactly zero, and False, where there is no depth.

    A cell is as wide as the mean distance between levels has been, and at least one tick, so that a sparse
    and a dense book fill the grid alike.
    """
    if event.flags & NO_DEPTH or event.n_bid < 2 or event.n_ask < 2:
        for i in range(DEPTH_FEATURES):
            out[i] = 0.0
        return False
    width = max(1.0, np.floor(p.level_gap + 0.5))
    size_scale = max(1.0, p.level_size)
    fill_side(p.grid[0], p.lots, event.bid_px, event.bid_sz, event.n_bid, width, size_scale)
    fill_side(p.grid[1], p.lots, event.ask_px, event.ask_sz, event.n_ask, width, size_scale)
    encode(p.grid, encoder, out)
    return True


@kernel
def slope_and_curve(px: Any, sz: Any, levels: int) -> tuple[float, float]:
    """Second-degree fit, through the touch, of normalised cumulative depth against distance in ticks.

    With x_i = |px_i - px_0| and y_i = (C_i - C_0) / C_last for i = 1 .. levels-1 (C the cumulative size):
    least squares of y = s x + c x^2. Returns (s, c), per tick and per tick squared; (0, 0) with one level,
    c = 0 with two.
    """
    if levels < 2:
        return 0.0, 0.0
    x2 = x3 = x4 = xy = x2y = 0.0
    cumulative = 0.0
    for i in range(1, levels):
        x = float(abs(px[i] - px[0]))
        cumulative += sz[i]
        xx = x * x
        x2 += xx
        x3 += xx * x
        x4 += xx * xx
        xy += x * cumulative
        x2y += xx * cumulative
    total = cumulative + sz[0]
    if total <= 0.0 or x2 <= 0.0:
        return 0.0, 0.0
    determinant = x2 * x4 - x3 * x3
    if levels == 2 or determinant <= 1e-9 * x2 * x4:
        return xy / x2 / total, 0.0
    slope = (x4 * xy - x3 * x2y) / determinant
    curve = (x2 * x2y - x3 * xy) / determinant
    return slope / total, curve / total
