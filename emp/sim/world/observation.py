"""What a strategy inside the simulator is shown: the book in ticks and shares, its own orders with queue places."""

from typing import Any

import numpy as np

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.sim.book.book import BEST, BUY, LO, MASK, SELL, ahead_of, level_qty, next_level
from emp.sim.world.desk import CANCELLING, FREE, RESTING, SENT, SLOTS

DEPTH = 5
OBSERVATIONS = 26

NAMES = (
    "spread_ticks",
    "imbalance",
    "microprice_off",
    "log_load_hz",
    "last_trade_sign",
    *(f"bid_share_{i}" for i in range(DEPTH)),
    *(f"ask_share_{i}" for i in range(DEPTH)),
    "position",
    "own_bid",  # 1 resting, 0.5 on its way, 0 none
    "own_bid_dist",  # ticks from the best bid
    "own_bid_ahead",  # lots before it over lots of its level
    "own_bid_leaves",
    "own_ask",
    "own_ask_dist",
    "own_ask_ahead",
    "own_ask_leaves",
    "own_bid_queue",  # lots before it, log1p
    "own_ask_queue",
)


@kernel
def _own(b: Any, d: Any, side: int, best: int, out: Any, at: int, queue_at: int) -> None:
    for slot in range(SLOTS):
        o = d.orders[slot]
        if o.state == FREE or o.side != side:
            continue
        out[at] = 1.0 if o.state == RESTING or o.state == CANCELLING else 0.5
        out[at + 1] = (best - o.px) * (1 - 2 * side)
        out[at + 3] = o.leaves
        if o.handle != 0 and o.state != SENT:
            ahead = ahead_of(b, o.handle)
            total = level_qty(b, side, o.px)
            out[at + 2] = ahead / total if total > 0 else 0.0
            out[queue_at] = np.log1p(ahead)
        return


@kernel
def write_observation(world: Any, out: Any) -> None:
    """Write OBSERVATIONS features (see NAMES) as float32; everything is from the venue's present."""
    world = borrowed(world)
    b, s, d = world.flow.book, world.flow.state[0], world.desk[0]
    bid, ask = int(b[BEST]), int(b[BEST + 1])
    qb = float(level_qty(b, BUY, bid))
    qa = float(level_qty(b, SELL, ask))
    out[:] = 0
    out[0] = ask - bid
    both = qb + qa
    imb = (qb - qa) / both if both > 0 else 0.0
    out[1] = imb
    out[2] = 0.5 * imb
    out[3] = np.log1p(s.load)
    out[4] = s.memory[0]
    total = 0.0
    for side in range(2):
        px = bid if side == BUY else ask
        end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
        for k in range(DEPTH):
            if px == end:
                break
            q = level_qty(b, side, px)
            out[5 + DEPTH * side + k] = q
            total += q
            px = next_level(b, side, px)
    if total > 0:
        for k in range(2 * DEPTH):
            out[5 + k] /= total
    out[15] = d.seen_position
    _own(b, d, BUY, bid, out, 16, 24)
    _own(b, d, SELL, ask, out, 20, 25)
