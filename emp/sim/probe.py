"""How likely an order that joins the best price is to be filled, by the lots that stand before it.

A probe is one lot of ours at the end of the best queue, left for a fixed number of events or until the price
has moved away or it is filled. Probes run in a simulated market and in a replayed recording alike.
"""

from typing import Any

import numpy as np

from emp.core.borrow import borrowed
from emp.core.jit import kernel
from emp.core.records import Array
from emp.sim.book import BEST, LO, MASK, N_FILLS, POST_ONLY, alive, cancel, clear_trade, level_qty, new_fills
from emp.sim.desk import OWNER
from emp.sim.market import Market, flow_event
from emp.sim.matching import submit
from emp.sim.replay import Plan, replay_message

WAIT = 200
PAUSE = 100


@kernel
def _place(b: Any, fills: Any, side: int) -> tuple[int, int]:
    px = int(b[BEST + side])
    if px == b[LO] or px == b[LO] + b[MASK]:
        return 0, 0
    ahead = level_qty(b, side, px)
    return submit(b, fills, side, px, 1, POST_ONLY, OWNER, 0), ahead


@kernel
def probe_market(b: Any, fills: Any, s: Any, p: Any, r: Any, probes: int, out: Any) -> None:
    """Write (lots ahead, filled) per probe."""
    b, fills, r = borrowed(b), borrowed(fills), borrowed(r)
    for i in range(probes):
        for _ in range(PAUSE):
            flow_event(b, fills, s, p, r)
        clear_trade(b)
        h, ahead = _place(b, fills, i & 1)
        filled = 0
        if h != 0:
            for _ in range(WAIT):
                flow_event(b, fills, s, p, r)
                if b[N_FILLS] > 0 or not alive(b, h):
                    filled = int(b[N_FILLS] > 0)
                    break
            if filled == 0 and alive(b, h):
                cancel(b, h)
        out[i, 0] = ahead
        out[i, 1] = filled


@kernel
def probe_replay(b: Any, fills: Any, msgs: Any, out: Any) -> int:
    """Write (lots ahead, filled) per probe; return the probes."""
    n, h, since = 0, 0, 0
    for i in range(len(msgs)):
        clear_trade(b)
        replay_message(b, fills, msgs[i])
        since += 1
        if h != 0:
            if b[N_FILLS] > 0 or since > WAIT:
                out[n, 1] = int(b[N_FILLS] > 0)
                if alive(b, h):
                    cancel(b, h)
                n += 1
                h, since = 0, 0
        elif since > PAUSE and n < len(out):
            h, ahead = _place(b, fills, n & 1)
            out[n, 0] = ahead
            since = 0
    return n


def probes_of_market(market: Market, probes: int = 4000) -> Array:
    """int64 (probes, 2): lots ahead, filled."""
    out = np.zeros((probes, 2), np.int64)
    args = (market.book, market.fills, market.state[0], market.params[0], market.rng)
    probe_market(*args, probes, out)
    return out


def probes_of_plan(plan: Plan) -> Array:
    """The same in a recording."""
    out = np.zeros((len(plan.msgs) // PAUSE + 1, 2), np.int64)
    return out[: probe_replay(plan.new_book(), new_fills(64), plan.msgs, out)]


def fill_curve(probes: Array, edges: Array) -> Array:
    """Fill probability per bucket of lots ahead; nan where there are fewer than 30 probes."""
    which = np.searchsorted(edges, probes[:, 0], side="right")
    return np.array(
        [probes[which == k, 1].mean() if (which == k).sum() >= 30 else np.nan for k in range(len(edges) + 1)]
    )
