"""The event stream of a simulated market, in the same terms as a recording's, with samples of its depth."""

from typing import Any

import msgspec
import numpy as np

from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    BUY,
    LO,
    MASK,
    N_FILLS,
    ORDER_WORDS,
    ORDERS,
    TRADE_QTY,
    clear_trade,
    level_qty,
    new_fills,
    next_level,
    u,
)
from emp.sim.flow.observe import HIT, KINDS, OBS, classify, look, rank_of
from emp.sim.flow.state import ADD, DELETE
from emp.sim.tape.observe import observe_replay
from emp.sim.tape.replay import Plan, replay_message
from emp.sim.world.market import Market, flow_event

DEPTH_TICKS = 64
SAMPLE_EVERY = 50

DEPTH = np.dtype(
    [("gap_bid", "i4"), ("gap_ask", "i4"), ("qty", "f4", (DEPTH_TICKS,))],
    align=True,
)
"""A sample of the book: ticks from the best to the second price, and lots by distance from the own best."""


class Tape(msgspec.Struct):
    """What the stylised facts are measured on: events (OBS) and samples of the book's depth (DEPTH)."""

    name: str
    obs: Array
    depth: Array

    @property
    def hours(self) -> float:
        """Length in hours."""
        return float(self.obs["ts"][-1] - self.obs["ts"][0]) / 3.6e12


@kernel
def sample_depth(b: Any, row: Any) -> None:
    """Write one DEPTH row; both sides are averaged."""
    row.qty[:] = 0
    for side in range(2):
        best = int(b[BEST + side])
        end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
        second = next_level(b, side, best)
        gap = abs(second - best) if second != end else 0
        if side == BUY:
            row.gap_bid = gap
        else:
            row.gap_ask = gap
        px = best
        while px != end and abs(px - best) < DEPTH_TICKS:
            row.qty[abs(px - best)] += 0.5 * level_qty(b, side, px)
            px = next_level(b, side, px)


@kernel
def observe_flow(flow: Any, n_events: int, out: Any, depth: Any, born: Any) -> tuple[int, int]:
    """Run the market for `n_events`; write OBS rows and depth samples; return how many of each.

    `born` (int64, (records, 2)) keeps event number and time of each order's arrival.
    """
    flow = borrowed(flow)
    b, s = flow.book, flow.state[0]
    n, k = 0, 0
    start = int(b[ORDERS])
    for _i in range(n_events):
        o = out[n]
        good = look(b, o)
        flow_event(flow)
        if s.qty == 0 or not good:
            continue
        o.ts = s.now
        traded = int(b[u(TRADE_QTY)])
        classify(o, s.kind, s.side, s.px, s.qty)
        o.rank = rank_of(b, s.side, s.px)
        record = (s.handle - start) // ORDER_WORDS
        if traded != 0:
            maker_side = 1 if traded > 0 else 0
            o.type = HIT + KINDS * maker_side
            o.sign = 2 * maker_side - 1
            o.dist = o.rank = 0
            o.qty = abs(traded)
        elif s.kind == DELETE and born[record, 0] >= 0:
            o.age = n - born[record, 0]
            o.age_ns = s.now - born[record, 1]
        if s.kind == ADD and s.handle != 0:
            born[record, 0] = n
            born[record, 1] = s.now
        n += 1
        if n % SAMPLE_EVERY == 0 and k < len(depth):
            sample_depth(b, depth[k])
            k += 1
    return n, k


def observe_market(market: Market, n_events: int, name: str, warmup: int = 20_000) -> Tape:
    """Let a market run for `n_events` after a warm-up and return its tape."""
    market.run(2**62, warmup)
    out = np.zeros(n_events + 1, OBS)
    depth = np.zeros(n_events // SAMPLE_EVERY + 1, DEPTH)
    born = np.full(((len(market.book) - int(market.book[ORDERS])) // ORDER_WORDS, 2), -1, np.int64)
    n, k = observe_flow(market.flow, n_events, out, depth, born)
    return Tape(name, out[:n], depth[:k])


@kernel
def _depth_of_replay(b: Any, fills: Any, msgs: Any, depth: Any) -> int:
    k = 0
    for i in range(len(msgs)):
        clear_trade(b)
        replay_message(b, fills, msgs[i])
        b[N_FILLS] = 0
        if i % SAMPLE_EVERY == 0 and k < len(depth):
            sample_depth(b, depth[k])
            k += 1
    return k


def observe_plan(plan: Plan, name: str) -> Tape:
    """The tape of a recording."""
    depth = np.zeros(len(plan.msgs) // SAMPLE_EVERY + 1, DEPTH)
    k = _depth_of_replay(plan.new_book(), new_fills(64), plan.msgs, depth)
    return Tape(name, observe_replay(plan), depth[:k])
