"""How likely an order that joins the best price is to be filled, by the lots that stand before it.

A probe is a virtual lot at the end of the best queue, watched for WAIT events and never sent, so that nothing it
would do can disturb a recording: lots that stand before it leave by trades and cancels, and it is filled by the first
trade that takes more than what is left of them at its price, by one at a worse price, or by an order from the other
side that reaches its price. The same rule serves simulated markets and order-by-order recordings.
"""

from typing import Any

import numpy as np

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    BUY,
    HEAD,
    LO,
    MASK,
    NEXT,
    QTY,
    SELL,
    SEQ,
    STAMP,
    clear_trade,
    level_of,
    level_qty,
    new_fills,
    u,
)
from emp.sim.flow.state import ADD, TRADE
from emp.sim.tape.replay import Plan, replay_message
from emp.sim.world.market import Market, flow_event

WAIT = 200
PAUSE = 100
PASSES = 8


@kernel
def ahead_of(b: Any, side: int, px: int, stamp: int) -> int:
    """Lots at a price that arrived no later than `stamp`."""
    h = int(b[u(level_of(b, side, px) + HEAD)])
    lots = 0
    while h != 0 and b[u(h + SEQ)] <= stamp:
        lots += int(b[u(h + QTY)])
        h = int(b[u(h + NEXT)])
    return lots


@kernel
def reached(kind: int, side: int, px: int, qty: int, own: int, at: int, ahead: int) -> bool:
    """Whether a message fills a virtual order of side `own` at `at`, behind `ahead` lots.

    The message's side is that of the resting order, for a limit order its own.
    """
    sign = 1 - 2 * own
    if kind == TRADE and side == own:
        return bool((at - px) * sign > 0 or (px == at and qty > ahead))
    return bool(kind == ADD and side != own and (at - px) * sign >= 0)


@kernel
def _touch(b: Any) -> float:
    return 0.5 * (level_qty(b, BUY, int(b[BEST])) + level_qty(b, SELL, int(b[BEST + 1])))


@kernel
def both_sides(b: Any) -> bool:
    """Whether both sides have a price, the bid below the ask."""
    return bool(b[BEST] != b[LO] and b[BEST + 1] != b[LO] + b[MASK] and b[BEST] < b[BEST + 1])


@kernel
def probe_market(flow: Any, out: Any) -> float:
    """Write (lots ahead, filled) per probe; return the mean quantity at the best prices."""
    flow = borrowed(flow)
    b, s = flow.book, flow.state[0]
    touch, n = 0.0, 0
    while n < len(out):
        for _ in range(PAUSE):
            flow_event(flow)
        if not both_sides(b):
            continue
        side = n & 1
        px, stamp = int(b[BEST + side]), int(b[STAMP])
        touch += _touch(b)
        out[n, 0], out[n, 1] = level_qty(b, side, px), 0
        for _ in range(WAIT):
            ahead = ahead_of(b, side, px, stamp)
            flow_event(flow)
            if s.qty > 0 and reached(s.kind, s.side, s.px, s.qty, side, px, ahead):
                out[n, 1] = 1
                break
        n += 1
    return touch / max(1, n)


@kernel
def probe_replay(b: Any, fills: Any, msgs: Any, skip: int, out: Any) -> tuple[int, float]:
    """The same in a recording, after its first `skip` messages; return the probes and the mean quantity."""
    n, since, waiting, touch = 0, 0, False, 0.0
    side, px, stamp = 0, 0, 0
    for i in range(len(msgs)):
        m = msgs[i]
        if waiting and reached(m.kind, m.side, m.px, m.qty, side, px, ahead_of(b, side, px, stamp)):
            out[n, 1] = 1
            since = WAIT
        clear_trade(b)
        replay_message(b, fills, m)
        since += 1
        if waiting and since > WAIT:
            n += 1
            waiting, since = False, 0
        elif not waiting and since > PAUSE and i >= skip and n < len(out) and both_sides(b):
            side = n & 1
            px, stamp, waiting, since = int(b[BEST + side]), int(b[STAMP]), True, 0
            out[n, 0] = level_qty(b, side, px)
            touch += _touch(b)
    return n, touch / max(1, n)


def probes_of_market(market: Market, probes: int = 4000) -> tuple[Array, float]:
    """int64 (probes, 2): lots ahead, filled; and the mean quantity at the best prices."""
    out = np.zeros((probes, 2), np.int64)
    return out, float(probe_market(market.flow, out))


def probes_of_plan(plan: Plan, since_ns: int = 0) -> tuple[Array, float]:
    """The same in a recording from a time on, PASSES times with other moments."""
    first = int(np.searchsorted(plan.msgs["ts"], since_ns))
    found, touches = [], []
    for k in range(PASSES):
        out = np.zeros((len(plan.msgs) // PAUSE + 1, 2), np.int64)
        skip = first + k * (PAUSE + WAIT) // PASSES
        n, touch = probe_replay(plan.new_book(), new_fills(64), plan.msgs, skip, out)
        found.append(out[:n])
        touches.append(touch)
    return np.concatenate(found), float(np.mean(touches))


def fill_curve(probes: Array, edges: Array) -> Array:
    """Fill probability per bucket of lots ahead; nan where there are fewer than 30 probes."""
    which = np.searchsorted(edges, probes[:, 0], side="right")
    return np.array(
        [probes[which == k, 1].mean() if (which == k).sum() >= 30 else np.nan for k in range(len(edges) + 1)]
    )
