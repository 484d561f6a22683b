"""Replay of order-by-order recordings through the book.

Beforehand every order of the recording gets a record of the book (records are used again when an order is
gone), so the loop needs no look-up. A recording of the best levels is silent about two things, and both are
worked out from the whole file before the replay, as `Plan` says: orders that stood before it began or that
arrived out of view, and their sizes.
"""

from enum import IntEnum
from typing import Any

import msgspec
import numpy as np

from emp.core.errors import DataError
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import inlined, kernel
from emp.core.records import Array
from emp.sim.book.book import (
    BEST,
    BUY,
    HEAD,
    LO,
    MASK,
    NEXT,
    NUMBERED,
    ORDER_WORDS,
    OWN_LIVE,
    OWNER,
    PX,
    QTY,
    SEQ,
    SIDE,
    clear_trade,
    level_of,
    new_book,
    new_fills,
    release,
    rest_at,
    shrink,
    take_out,
    u,
)
from emp.sim.book.matching import execute_maker, match
from emp.sim.flow.state import ADD, CLEAR, CROSS, DELETE, MSG, REDUCE, TRADE
from emp.sim.tape.recording import Recording

MAX_TICKS = 1 << 22

SEED = 10
"""Kind of a message that the plan adds: an order that was there, or arrived, unseen."""

FORGET = 11
"""Kind of a message that the plan adds: lots that left unseen."""


class Plan(msgspec.Struct):
    """A recording made ready: messages whose `handle` is the record's number, and the book they fit in."""

    msgs: Array  # MSG, with the unseen orders added in their places
    source: Array  # int64 (n,): index of the message in the recording, -1 for an added one
    until: Array  # int64 (n,): index of the last message of the same order
    records: int  # how many orders live at once
    lo: int
    ticks: int
    unseen: int  # orders added

    def new_book(self, own_orders: int = 64) -> Array:
        """An empty book that this plan fits in, with room for orders of our own."""
        return new_book(self.lo, self.ticks, own_orders, numbered=self.records)


@kernel
def order_spans(msgs: Any, idx: Any, first: Any, last: Any, lots: Any, born: Any) -> None:
    """Per order: first and last message, lots it must have had before its first ADD, whether it has one.

    `idx` is the order's dense number per message, -1 where the message names none.
    """
    for i in range(len(msgs)):
        k = idx[i]
        if k < 0:
            continue
        if first[k] < 0:
            first[k] = i
            born[k] = msgs[i].kind == ADD
            lots[k] = 0
        last[k] = i
        if not born[k]:
            lots[k] += msgs[i].qty


@kernel
def births(msgs: Any, first: Any, born: Any, book: Any, birth: Any) -> None:
    """For every order without an ADD, the message before which it must have arrived.

    That is the first since its price was last out of the recorded view, looking back from the order's first
    message; 0 where the price was in view all along.
    """
    levels = book.shape[1] // 4
    for k in range(len(first)):
        if born[k] or first[k] < 0:
            continue
        i = first[k]
        px = msgs[i].px
        column = 4 * levels - 2 if msgs[i].side == BUY else 4 * levels - 4
        sign = 1 if msgs[i].side == BUY else -1
        j = i - 1
        while j >= 0:
            worst = book[j, column]
            if worst != 0 and (px - worst) * sign < 0:
                break
            j -= 1
        birth[k] = j + 1


@kernel
def assign_records(msgs: Any, idx: Any, last: Any, record: Any) -> int:
    """Replace dense numbers by recycled record numbers; return how many records live at once."""
    free = np.zeros(len(last) + 1, np.int64)
    n_free = 0
    used = 0
    for i in range(len(msgs)):
        k = idx[i]
        if k < 0:
            msgs[i].handle = -1
            continue
        if record[k] < 0:
            if n_free > 0:
                n_free -= 1
                record[k] = free[n_free]
            else:
                record[k] = used
                used += 1
        msgs[i].handle = record[k]
        if last[k] == i and msgs[i].kind == DELETE:
            free[n_free] = record[k]
            n_free += 1
    return used


def plan(recording: Recording) -> Plan:
    """Make a recording of book messages ready for replay."""
    msgs = recording.msgs
    named = np.isin(msgs["kind"], (ADD, REDUCE, DELETE, TRADE, CROSS)) & (msgs["handle"] > 0)
    if not named.any():
        raise DataError(f"{recording.name}: the recording names no orders")
    _, dense = np.unique(msgs["handle"][named], return_inverse=True)
    idx = np.full(len(msgs), -1, np.int64)
    idx[named] = dense
    n = int(dense.max()) + 1
    first, last, lots = (np.full(n, -1, np.int64) for _ in range(3))
    born = np.zeros(n, np.bool_)
    order_spans(msgs, idx, first, last, lots, born)
    birth = np.full(n, -1, np.int64)
    if recording.book is not None:
        births(msgs, first, born, recording.book, birth)
    unseen = np.flatnonzero((birth >= 0) & (lots > 0))
    seeds = np.zeros(len(unseen), MSG)
    at = birth[unseen]
    seeds["kind"] = SEED
    for name in ("side", "px"):
        seeds[name] = msgs[name][first[unseen]]
    seeds["ts"] = msgs["ts"][at]
    seeds["qty"] = lots[unseen]
    order = np.argsort(np.concatenate([at * 2, np.arange(len(msgs)) * 2 + 1]), kind="stable")
    merged = np.concatenate([seeds, msgs])[order]
    source = np.concatenate([np.full(len(seeds), -1), np.arange(len(msgs))])[order]
    who = np.concatenate([unseen, idx])[order]
    last.fill(-1)
    last[who[who >= 0]] = np.flatnonzero(who >= 0)
    records = int(assign_records(merged, who, last, np.full(n, -1, np.int64)))
    shown = np.zeros(0, np.int64) if recording.book is None else recording.book[:, 0::2]
    lo, ticks = _window(np.concatenate([merged[who >= 0]["px"], shown[shown > 0]]))
    until = np.where(who >= 0, last[who], -1)
    return Plan(merged, source, until, records + 1, lo, ticks, len(unseen))


def _window(px: Array) -> tuple[int, int]:
    """A power-of-two window around the prices of all orders."""
    low, high = int(px.min()), int(px.max())
    if high - low > MAX_TICKS // 2:
        raise DataError(f"the recording's prices span {high - low} ticks, more than {MAX_TICKS // 2}")
    ticks = 1 << max(6, int(np.ceil(np.log2(high - low + 64))))
    return (low + high) // 2 - ticks // 2, ticks


@kernel
def _cross_own(b: Any, fills: Any, side: int, px: int, qty: int) -> int:
    """A recorded order meets what we left in its way; return the lots that are left to rest."""
    return match(b, fills, side, px, qty, 0, 0)


@kernel
def _ahead_own(b: Any, fills: Any, h: int, qty: int) -> int:
    """A recorded trade against order `h` first takes our orders that stand before it; return the rest."""
    side = int(b[h + SIDE])
    px = int(b[h + PX])
    sign = 1 - 2 * side
    while qty > 0 and b[OWN_LIVE] > 0 and (b[BEST + side] - px) * sign > 0:
        before = qty
        qty = match(b, fills, 1 - side, int(b[BEST + side]), qty, 0, 0)
        if qty == before:
            break
    m = int(b[level_of(b, side, px) + HEAD])
    ahead = 0
    while m != 0 and m != h and qty > 0:
        after = int(b[m + NEXT])
        if b[m + OWNER] != 0 and b[m + SEQ] < b[h + SEQ]:
            take = min(qty, int(b[m + QTY]))
            if execute_maker(b, fills, m, px, take, ahead):
                release(b, m)
            qty -= take
        else:
            ahead += b[m + QTY]
        m = after
    return qty


class Fit(IntEnum):
    """How a message fits the book as it stands."""

    FITS = 0
    UNKNOWN_ORDER = 1  # names an order that is not in the book
    OTHER_SIZE = 2  # names more lots than the order has, or withdraws another number than it has
    LIVE_ALREADY = 3  # adds an order that is in the book


FITS, UNKNOWN_ORDER, OTHER_SIZE, LIVE_ALREADY = (int(fit) for fit in Fit)


@inlined
def replay_message(b: Any, fills: Any, m: Any) -> int:
    """Apply one planned message; return a `Fit`."""
    kind = m.kind
    h = int(b[u(NUMBERED)]) + ORDER_WORDS * m.handle
    if kind in (ADD, SEED):
        if b[u(h + QTY)] != 0:
            return LIVE_ALREADY
        qty = m.qty
        if b[u(OWN_LIVE)] != 0:
            qty = _cross_own(b, fills, m.side, m.px, qty)
        if qty > 0:
            rest_at(b, h, m.side, m.px, qty, 0, 0)
        return FITS
    if kind in (TRADE, CROSS, DELETE, REDUCE, FORGET):
        if m.handle < 0 or b[u(h + QTY)] == 0:
            return UNKNOWN_ORDER
        return _known_order(b, fills, m, h)
    if kind == CLEAR:
        for side in range(2):
            end = int(b[LO]) + (0 if side == BUY else int(b[MASK]))
            while b[BEST + side] != end:
                take_out(b, int(b[level_of(b, side, int(b[BEST + side])) + HEAD]))
    return FITS


@inlined
def _known_order(b: Any, fills: Any, m: Any, h: int) -> int:
    have = b[u(h + QTY)]
    if m.kind == TRADE:
        qty = m.qty
        if b[u(OWN_LIVE)] != 0:
            qty = _ahead_own(b, fills, h, qty)
        if qty > 0:
            execute_maker(b, fills, h, int(b[u(h + PX)]), qty, 0)
        return OTHER_SIZE if qty > have else FITS
    if m.kind == CROSS:
        execute_maker(b, fills, h, m.px, m.qty, 0)
        return OTHER_SIZE if m.qty > have else FITS
    if m.kind == DELETE:
        take_out(b, h)
        return OTHER_SIZE if m.qty != have else FITS
    if m.qty >= have:
        take_out(b, h)
    else:
        shrink(b, h, m.qty, False)
    return FITS


@kernel
def replay_all(b: Any, fills: Any, msgs: Any) -> int:
    """Apply planned messages without looking at anything; return how many did not fit."""
    b, fills, msgs = borrowed(b), borrowed(fills), borrowed(msgs)
    misfits = 0
    for i in range(len(msgs)):
        clear_trade(b)
        misfits += replay_message(b, fills, msgs[i]) != FITS
    return misfits


def replay_book(plan: Plan) -> tuple[Array, int]:
    """Replay a whole plan; return the book at its end and the number of messages that did not fit."""
    b = plan.new_book()
    return b, int(replay_all(b, new_fills(64), plan.msgs))
