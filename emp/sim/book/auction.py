"""Auctions and halts: collect orders without matching, then trade at one price.

The price is the one that trades the most; among those the one that leaves the least; among those the highest
where buyers are left over throughout, the lowest where sellers are, else the nearest to the reference. These
are the rules that Xetra and Euronext publish, in that order.
"""

from typing import Any

from emp.core.numba.jit import kernel
from emp.sim.book.book import (
    AUCTION,
    BEST,
    BUY,
    CONTINUOUS,
    HALTED,
    HEAD,
    LO,
    MASK,
    NEXT,
    PHASE,
    QTY,
    SELL,
    TRADE_LAST,
    TRADE_PX,
    TRADE_QTY,
    cancel,
    level_of,
    next_level,
    release,
)
from emp.sim.book.matching import execute_maker


@kernel
def begin_auction(b: Any) -> None:
    """Collect orders without matching, until `uncross`."""
    b[PHASE] = AUCTION


@kernel
def halt(b: Any) -> None:
    """Stop trading: cancels are accepted, nothing else."""
    b[PHASE] = HALTED


@kernel
def _side_total(b: Any, side: int) -> int:
    px = int(b[BEST + side])
    end = int(b[LO]) + (0 if side == BUY else b[MASK])
    total = 0
    while px != end:
        total += b[level_of(b, side, px)]
        px = next_level(b, side, px)
    return total


@kernel
def auction_price(b: Any, reference: int) -> tuple[int, int, int]:
    """Return the price, the volume and the surplus (> 0: buyers left); volume 0: nothing crosses."""
    lo = int(b[LO])
    hi = lo + b[MASK]
    best_px, best_volume, best_surplus = reference, 0, 0
    demand = _side_total(b, BUY)
    supply = int(b[level_of(b, SELL, lo)])
    for px in range(lo + 1, hi):
        demand -= b[level_of(b, BUY, px - 1)] if px - 1 > lo else 0
        supply += b[level_of(b, SELL, px)]
        volume = min(demand, supply)
        surplus = demand - supply
        if volume == 0 or volume < best_volume:
            continue
        better = volume > best_volume or abs(surplus) < abs(best_surplus)
        if not better and abs(surplus) == abs(best_surplus):
            if surplus > 0 and best_surplus > 0:
                better = True  # buyers left over: the highest price
            elif surplus < 0 and best_surplus < 0:
                better = False  # sellers left over: the lowest
            else:
                better = abs(px - reference) < abs(best_px - reference)
        if better:
            best_px, best_volume, best_surplus = px, volume, surplus
    if best_volume > 0 and b[BEST] == hi and b[BEST + 1] == lo:
        limits = next_level(b, BUY, hi) != lo or next_level(b, SELL, lo) != hi
        if not limits:
            best_px = reference
    return best_px, best_volume, best_surplus


@kernel
def _fill_side(b: Any, fills: Any, side: int, px: int, volume: int) -> None:
    """Execute a side's best orders at the auction price."""
    while volume > 0:
        lv = level_of(b, side, int(b[BEST + side]))
        h = int(b[lv + HEAD])
        take = min(volume, int(b[h + QTY]))
        if execute_maker(b, fills, h, px, take, 0):
            release(b, h)
        volume -= take


@kernel
def _withdraw_market_orders(b: Any, side: int) -> None:
    px = int(b[LO]) + (b[MASK] if side == BUY else 0)
    h = int(b[level_of(b, side, px) + HEAD])
    while h != 0:
        after = int(b[h + NEXT])
        cancel(b, h)
        h = after


@kernel
def uncross(b: Any, fills: Any, reference: int) -> tuple[int, int]:
    """End an auction: trade, withdraw the market orders left, go over to continuous trading.

    Return the price and the volume. TRADE_QTY stays 0 (nobody is the aggressor); TRADE_LAST is the volume.
    """
    px, volume, _ = auction_price(b, reference)
    _fill_side(b, fills, BUY, px, volume)
    _fill_side(b, fills, SELL, px, volume)
    _withdraw_market_orders(b, BUY)
    _withdraw_market_orders(b, SELL)
    b[TRADE_PX] = px if volume > 0 else 0
    b[TRADE_QTY] = 0
    b[TRADE_LAST] = volume
    b[PHASE] = CONTINUOUS
    return px, volume
