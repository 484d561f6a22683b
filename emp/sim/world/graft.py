"""A market that goes on from a recorded book: what was shown is taken as it was, what nobody saw is the flow's own.

    market = graft(warm, event, ours)

The warm market, which has run for a while, lends its memory, its pace, its level, and the orders behind those that
the recorded book shows, moved to the recorded price. Each shown level is made of as many orders as the warm market has
at that place, because the flow's cancels go by orders.
"""

from typing import Any, NamedTuple

import numpy as np

from emp.core.codes import EventFlag
from emp.core.errors import UsageError
from emp.core.numba.jit import kernel
from emp.core.numba.simd import aligned
from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    BUY,
    COUNT,
    FREE,
    HEAD,
    LO,
    MASK,
    NEXT,
    QTY,
    SELL,
    SEQ,
    STAMP,
    alive,
    level_of,
    new_book,
    new_fills,
    next_level,
    rest_at,
)
from emp.sim.flow.state import RECENT, FlowWorld
from emp.sim.world.market import Market

MIN_PX = 1_000  # ticks, below which a flow has no room
MOST_LOTS = 1 << 24  # at one price, which the book's words still add up
TICKS, ORDERS = 8192, 16384
TRIES, STRETCH = 400, 50
"""The warm market runs on by STRETCH events at a time, at most TRIES times, to come near the recorded spread."""


class Ours(NamedTuple):
    """An order of ours that rests in the recorded market."""

    side: int  # +1 buy, -1 sell
    px: int
    qty: int
    ahead: int  # lots before it at its price; -1: all that others show there
    shown: bool  # whether the recorded book counts it
    owner: int
    tag: int


NOBODY = Ours(0, 0, 0, -1, False, 0, 0)


@kernel
def _put(b: Any, side: int, px: int, qty: int, owner: int, tag: int) -> int:
    """Rest an order, without a trade; return its handle."""
    h = int(b[FREE])
    b[FREE] = b[h + NEXT]
    rest_at(b, h, side, px, qty, owner, tag)
    return h


@kernel
def _put_lots(b: Any, side: int, px: int, lots: int, orders: int) -> None:
    """Add lots at a price as so many orders of like sizes."""
    n = min(max(1, orders), lots)
    for k in range(n):
        _put(b, side, px, lots * (k + 1) // n - lots * k // n, 0, 0)


@kernel
def _transplant(old: Any, new: Any, side: int, shift: int, worst: int, handles: Any) -> None:
    """Copy a side's orders behind price `worst`, moved by `shift` ticks, with their age."""
    sign = 1 - 2 * side
    end = int(old[LO]) + (0 if side == BUY else int(old[MASK]))
    low, high = int(new[LO]), int(new[LO]) + int(new[MASK])
    px = int(old[BEST + side])
    while px != end:
        to = px + shift
        if (worst - to) * sign > 0 and low < to < high:
            h = int(old[level_of(old, side, px) + HEAD])
            while h != 0:
                made = _put(new, side, to, int(old[h + QTY]), 0, 0)
                new[made + SEQ] = old[h + SEQ]
                handles[h] = made
                h = int(old[h + NEXT])
        px = next_level(old, side, px)


@kernel
def _rank_counts(b: Any, side: int, counts: Any) -> None:
    """How many orders stand at each of a side's best prices; the last that there is for all behind it."""
    end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
    px = int(b[BEST + side])
    found = 1
    for k in range(counts.size):
        if px != end:
            found = int(b[level_of(b, side, px) + COUNT])
            px = next_level(b, side, px)
        counts[k] = found


@kernel
def _show(b: Any, side: int, pxs: Any, sizes: Any, n: int, counts: Any, ours: Any) -> int:
    """Put a recorded side into the book, our order at its place; return our order's handle, 0 without one."""
    mine = ours[0] != 0 and (ours[0] > 0) == (side == BUY)
    handle = 0
    for k in range(n):
        lots = int(sizes[k])
        if not mine or pxs[k] != ours[1]:
            _put_lots(b, side, int(pxs[k]), lots, int(counts[k]))
            continue
        others = max(0, lots - ours[2]) if ours[4] != 0 else lots
        ahead = others if ours[3] < 0 else min(others, ours[3])
        _put_lots(b, side, int(pxs[k]), ahead, int(counts[k]))
        handle = _put(b, side, ours[1], ours[2], ours[5], ours[6])
        _put_lots(b, side, int(pxs[k]), others - ahead, int(counts[k]))
    if mine and handle == 0:
        handle = _put(b, side, ours[1], ours[2], ours[5], ours[6])
    return handle


@kernel
def _remember_recent(old: Any, was: Any, new: Any, s: Any, handles: Any) -> None:
    """Let orders be found by their age in the new book: the state `s` counts events from another number than `was`."""
    for back in range(RECENT):
        i, j = (was.seq - back) & (RECENT - 1), (s.seq - back) & (RECENT - 1)
        h = int(was.recent[i])
        s.recent[j], s.stamp[j] = 0, -1
        if alive(old, h) and old[h + SEQ] == was.stamp[i] and handles[h] != 0:
            s.recent[j], s.stamp[j] = handles[h], new[handles[h] + SEQ]


def refuse_unlike(event: Array) -> None:
    """Raise UsageError where no flow can go on from an EVENT[1]."""
    e = event[0]
    if int(e["flags"]) & EventFlag.NO_SIZE or not (e["bid_sz"][0] > 0 and e["ask_sz"][0] > 0):
        raise UsageError("its book shows no sizes: a flow has no queue to begin with")
    if e["bid_px"][0] < MIN_PX:
        raise UsageError(f"its price is below {MIN_PX} ticks: a flow has no room there")
    if max(e["bid_sz"].max(), e["ask_sz"].max()) > MOST_LOTS:
        raise UsageError(f"its book shows more than {MOST_LOTS} lots at a price: a flow cannot count them")
    if e["ask_px"][0] <= e["bid_px"][0]:
        raise UsageError("its book is crossed there: choose another seq")


def come_near(warm: Market, event: Array) -> Market:
    """Let a warm market run on until its spread is that of an EVENT[1], and return it as it was when it was nearest."""
    wanted = int(event["ask_px"][0, 0] - event["bid_px"][0, 0])
    nearest, least = warm, 1 << 30
    for _ in range(TRIES):
        warm.run(2**62, STRETCH)
        b = warm.book
        whole = int(b[BEST]) != int(b[LO]) and int(b[BEST + 1]) != int(b[LO]) + int(b[MASK])
        off = abs(int(b[BEST + 1]) - int(b[BEST]) - wanted)
        if whole and off < least:
            nearest, least = warm.clone(), off
        if least <= wanted // 10:
            break
    return nearest


def graft(warm: Market, event: Array, ours: Ours, rng: Array) -> tuple[Market, int]:
    """The market of an EVENT[1] and the handle of our order in it, 0 where none rests.

    Args:
        warm: a market of the flow that has run; it is left as it is.
        event: a good two-sided book with sizes; see `refuse_unlike`.
        ours: NOBODY where none of our orders rests. Its price must not meet the other side.
        rng: uint64[1], what comes is drawn from.
    """
    e, old, was = event[0], warm.book, warm.state
    n_bid, n_ask = int(e["n_bid"]), int(e["n_ask"])
    mid = int(e["bid_px"][0] + e["ask_px"][0]) // 2
    shift = mid - (int(old[BEST]) + int(old[BEST + 1])) // 2
    span = max(mid - int(e["bid_px"][n_bid - 1]), int(e["ask_px"][n_ask - 1]) - mid)
    ticks = TICKS
    while ticks < 8 * span:
        ticks *= 2
    book = new_book(mid - ticks // 2, ticks, ORDERS)
    book[STAMP] = old[STAMP]
    handles = np.zeros(len(old), np.int64)
    place = np.array([ours.side, ours.px, ours.qty, ours.ahead, ours.shown, ours.owner, ours.tag], np.int64)
    counts = np.zeros(len(e["bid_px"]), np.int64)
    mine = 0
    for side, name, n in ((BUY, "bid", n_bid), (SELL, "ask", n_ask)):
        pxs, sizes = e[f"{name}_px"], e[f"{name}_sz"]
        _transplant(old, book, side, shift, int(pxs[n - 1]), handles)
        _rank_counts(old, side, counts)
        mine = max(mine, int(_show(book, side, pxs, sizes, n, counts, place)))
    book[STAMP] = max(int(book[STAMP]), int(old[STAMP]))
    state = aligned(was)
    s, w = state[0], was[0]
    s["now"], s["seq"] = e["ts"], e["seq"]
    s["next"] = int(e["ts"]) + int(w["next"] - w["now"])
    s["rate_due"] = int(e["ts"]) + int(w["rate_due"] - w["now"])
    s["ref"] = mid
    s["mid"] += shift
    s["high"] = int(book[FREE])
    _remember_recent(old, w, book, s, handles)
    flow = FlowWorld(book, new_fills(), state, warm.flow.params, rng)
    return Market.around(flow, event.copy()), mine
