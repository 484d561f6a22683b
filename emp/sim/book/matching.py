"""Matching: what an arriving order does to the book, by price-time priority."""

from typing import Any

from emp.core.numba.jit import inlined, kernel
from emp.sim.book.book import (
    AUCTION,
    BAD_FOK,
    BAD_FULL,
    BAD_HANDLE,
    BAD_PHASE,
    BAD_POST,
    BAD_PRICE,
    BAD_QTY,
    BEST,
    BUY,
    CONTINUOUS,
    FILLED,
    FOK,
    FREE,
    HALTED,
    HEAD,
    IOC,
    LIMIT,
    LO,
    LOST_FILLS,
    MARKET,
    MASK,
    N_FILLS,
    NEXT,
    OK_EXPIRED,
    OK_FILLED,
    OK_REDUCED,
    OK_RESTING,
    OWNER,
    PHASE,
    POST_ONLY,
    PX,
    QTY,
    REPLACE,
    REPLACE_KEEPS,
    SIDE,
    STATUS,
    STP,
    STP_CANCEL_NEW,
    STP_CANCEL_OLD,
    STP_NONE,
    TAG,
    TRADE_LAST,
    TRADE_PX,
    TRADE_QTY,
    TRADED,
    alive,
    cancel,
    level_of,
    next_level,
    release,
    rest_at,
    shrink,
    u,
    unlink,
)


@kernel
def log_fill(
    b: Any, fills: Any, h: int, side: int, px: int, qty: int, ahead: int, owner: int, tag: int
) -> None:
    """Write one row of the fill log; `h` is the maker, already reduced by `qty`."""
    n = int(b[N_FILLS])
    if n >= len(fills):
        b[LOST_FILLS] += 1
        return
    row = fills[n]
    row.maker = b[h + OWNER]
    row.maker_tag = b[h + TAG]
    row.taker = owner
    row.taker_tag = tag
    row.side = side
    row.px = px
    row.qty = qty
    row.leaves = b[h + QTY]
    row.ahead = ahead
    row.handle = h
    b[N_FILLS] = n + 1


@kernel
def _self_trade(b: Any, h: int, qty: int) -> int:
    """Apply self-trade prevention to the maker `h`; return what is left of the taker (0 under cancel-new)."""
    rule = b[STP]
    if rule == STP_CANCEL_NEW:
        return 0
    if rule == STP_CANCEL_OLD:
        cancel(b, h)
        return qty
    both = min(int(b[h + QTY]), qty)
    if both == b[h + QTY]:
        cancel(b, h)
    else:
        shrink(b, h, both, False)
    return qty - both


@inlined
def _note_trade(b: Any, side: int, px: int, qty: int) -> None:
    if b[u(TRADE_PX)] != px or b[u(TRADE_QTY)] == 0:
        b[u(TRADE_PX)] = px
        b[u(TRADE_LAST)] = 0
    b[u(TRADE_LAST)] += qty
    b[u(TRADE_QTY)] += qty - 2 * side * qty
    b[u(TRADED)] += qty
    b[u(FILLED)] += qty


@kernel
def _take_level(b: Any, fills: Any, side: int, px: int, qty: int, owner: int, tag: int) -> int:
    """Trade against one price of the other side, first come first served; return what is left."""
    lv = level_of(b, 1 - side, px)
    ahead = 0
    while qty > 0:
        h = int(b[u(lv + HEAD)])
        if h == 0:
            break
        maker = int(b[u(h + OWNER)])
        if owner != 0 and maker == owner and b[STP] != STP_NONE:
            qty = _self_trade(b, h, qty)
            continue
        have = int(b[u(h + QTY)])
        take = min(have, qty)
        b[u(lv + QTY)] -= take
        if take == have:
            unlink(b, h, lv)
        else:
            b[u(h + QTY)] = have - take
        if (owner | maker) != 0:
            log_fill(b, fills, h, side, px, take, ahead, owner, tag)
        if take == have:
            release(b, h)
        _note_trade(b, side, px, take)
        ahead += take
        qty -= take
    return qty


@kernel
def match(b: Any, fills: Any, side: int, limit: int, qty: int, owner: int, tag: int) -> int:
    """Trade an aggressor against the other side up to its limit; return the lots left.

    Under STP_CANCEL_NEW the meeting with one's own order ends the aggressor: 0 is left, and FILLED says how
    much of it traded.
    """
    opp = 1 - side
    sign = 1 - 2 * side
    while qty > 0:
        px = int(b[u(BEST + opp)])
        if (limit - px) * sign < 0:
            break
        qty = _take_level(b, fills, side, px, qty, owner, tag)
        if b[u(BEST + opp)] == px and b[u(level_of(b, opp, px))] == 0:
            b[u(BEST + opp)] = next_level(b, opp, px)
    return qty


@kernel
def _within_reach(b: Any, side: int, limit: int, qty: int, owner: int) -> bool:
    """Whether `qty` lots of others rest at the limit or better (fill-or-kill)."""
    opp = 1 - side
    sign = 1 - 2 * side
    px = int(b[BEST + opp])
    while (limit - px) * sign >= 0:
        h = int(b[level_of(b, opp, px) + HEAD])
        while h != 0:
            if owner == 0 or b[STP] == STP_NONE or b[h + OWNER] != owner:
                qty -= b[h + QTY]
                if qty <= 0:
                    return True
            elif b[STP] != STP_CANCEL_OLD:
                return False
            h = int(b[h + NEXT])
        px = next_level(b, opp, px)
    return False


@kernel
def _refusal(b: Any, side: int, px: int, qty: int, kind: int, owner: int) -> int:
    """The reason to refuse an order, or 0."""
    if qty <= 0:
        return BAD_QTY
    if px <= b[LO] or px >= b[LO] + b[MASK]:
        return BAD_PRICE
    if b[PHASE] == HALTED:
        return BAD_PHASE
    if b[PHASE] == AUCTION:
        if kind in (IOC, FOK, POST_ONLY):
            return BAD_PHASE
        return BAD_FULL if b[FREE] == 0 else 0
    if kind == POST_ONLY and (px - b[BEST + 1 - side]) * (1 - 2 * side) >= 0:
        return BAD_POST
    if kind == FOK and not _within_reach(b, side, px, qty, owner):
        return BAD_FOK
    if b[FREE] == 0 and kind in (LIMIT, POST_ONLY):
        return BAD_FULL
    return 0


@kernel
def submit(b: Any, fills: Any, side: int, px: int, qty: int, kind: int, owner: int, tag: int) -> int:
    """Process a new order; return the handle of what rests, 0 where nothing does. STATUS says why.

    A market order's price is ignored. In an auction limit and market orders are collected; market orders
    stand before all limits. IOC, FOK and post-only belong to continuous trading.
    """
    b[u(FILLED)] = 0
    if kind == MARKET:
        px = int(b[LO]) + (b[MASK] - 1 if side == BUY else 1)
    bad = _refusal(b, side, px, qty, kind, owner)
    if bad != 0:
        b[u(STATUS)] = bad
        return 0
    if b[PHASE] == AUCTION and kind == MARKET:
        px = int(b[LO]) + (b[MASK] if side == BUY else 0)
    left = qty
    if b[u(PHASE)] == CONTINUOUS and kind != POST_ONLY:
        left = match(b, fills, side, px, qty, owner, tag)
        if left == 0:
            b[u(STATUS)] = OK_FILLED if b[u(FILLED)] == qty else OK_EXPIRED
            return 0
        if kind != LIMIT:
            b[u(STATUS)] = OK_EXPIRED
            return 0
    h = int(b[u(FREE)])
    b[u(FREE)] = b[u(h + NEXT)]
    rest_at(b, h, side, px, left, owner, tag)
    b[u(STATUS)] = OK_RESTING
    return h


@kernel
def replace(b: Any, fills: Any, h: int, px: int, qty: int) -> int:
    """Change an order's price or open size; return the handle that rests, 0 where none does.

    A smaller size at the same price keeps its place (CME Globex rule) unless the book's rule is
    REPLACE_LOSES (Nasdaq ITCH: a replace is a cancel and a new order). Everything else goes to the end of
    the queue, and may trade.
    """
    if not alive(b, h):
        b[STATUS] = BAD_HANDLE
        return 0
    if b[PHASE] == HALTED:
        b[STATUS] = BAD_PHASE
        return h
    if qty <= 0 or px <= b[LO] or px >= b[LO] + b[MASK]:
        b[STATUS] = BAD_QTY if qty <= 0 else BAD_PRICE
        return h
    if b[REPLACE] == REPLACE_KEEPS and px == b[h + PX] and qty <= b[h + QTY]:
        if qty < b[h + QTY]:
            shrink(b, h, int(b[h + QTY]) - qty, False)
        b[STATUS] = OK_REDUCED
        return h
    side = int(b[h + SIDE])
    owner = int(b[h + OWNER])
    tag = int(b[h + TAG])
    cancel(b, h)
    return submit(b, fills, side, px, qty, LIMIT, owner, tag)


@inlined
def execute_maker(b: Any, fills: Any, h: int, px: int, qty: int, ahead: int) -> bool:
    """Trade `qty` lots of one resting order at `px`, whatever its place (replay, auctions).

    Return whether the order is gone; its record is then the caller's to release.
    """
    side = int(b[h + SIDE])
    at = int(b[h + PX])
    lv = level_of(b, side, at)
    gone = bool(qty >= b[u(h + QTY)])
    if gone:
        qty = int(b[u(h + QTY)])
        b[u(lv + QTY)] -= qty
        unlink(b, h, lv)
        if b[u(lv + QTY)] == 0 and b[u(BEST + side)] == at:
            b[u(BEST + side)] = next_level(b, side, at)
    else:
        b[u(h + QTY)] -= qty
        b[u(lv + QTY)] -= qty
    if b[u(h + OWNER)] != 0:
        log_fill(b, fills, h, 1 - side, px, qty, ahead, 0, 0)
    _note_trade(b, 1 - side, px, qty)
    return gone
