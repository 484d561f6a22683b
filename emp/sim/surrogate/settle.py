"""The book and the latent state of a surrogate world after a leap.

Orders of others stand as one order a price. Ours keep their records' meaning: those that were not filled stand at their
price, behind as many lots as were drawn. What evolves by itself is not learned: the levels and the rate that wander are
Ornstein-Uhlenbeck processes with exact transitions, and what we took is forgotten as in the flow (`flow/qr.py`).
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.numba.rng import uniform
from emp.sim.book.book import (
    BEST,
    BUY,
    HEAD,
    IOC,
    LO,
    MASK,
    NEXT,
    OWNER,
    POST_ONLY,
    PX,
    QTY,
    SELL,
    ahead_of,
    cancel,
    level_of,
    next_level,
    u,
)
from emp.sim.book.matching import submit
from emp.sim.flow.params import MEMORY, QUEUE_REACTIVE, RATES
from emp.sim.flow.state import recentre
from emp.sim.surrogate.encode import EMPTY_LOTS, LONG
from emp.sim.world.desk import DONE, SLOTS, tell
from emp.train.data.leaps import (
    AHEAD,
    BURST,
    DISPLACED,
    DURATION,
    GAP,
    LEVELS,
    LIVE,
    NONE,
    PACE,
    PART,
    SIGNS,
    SPLIT,
    SPREAD,
)
from emp.train.data.leaps import QTY as QUANTITY

SHORTEST_NS = 20_000_000
"""A leap takes no less: orders on their way arrive before it."""
NO_LEVEL = 1.9
"""Log distance beyond which there is no further price: log1p(FAR) is what stands for none."""


@kernel
def wander_by(s: Any, p: Any, seconds: float, r: Any) -> None:
    """Move rate and level on by any time: the exact transition of `flow.qr.wander`."""
    total, level = 0.0, 0.0
    for k in range(RATES):
        keep = np.exp(-seconds / p.rate_tau_s[k])
        step = np.sqrt((1.0 - keep * keep) * -2.0 * np.log(1.0 - uniform(r)))
        angle = 2.0 * np.pi * uniform(r)
        one, two = step * np.cos(angle), step * np.sin(angle)
        tie = p.level_rate[k]
        s.rate[k] = keep * s.rate[k] + np.sqrt(p.rate_var[k]) * one
        s.levels[k] = keep * s.levels[k] + np.sqrt(p.level_var[k]) * (
            tie * one + np.sqrt(1.0 - tie * tie) * two
        )
        total += s.rate[k] - 0.5 * p.rate_var[k]
        level += s.levels[k]
    s.speed = np.exp(total)
    s.level = np.exp(level)
    s.reach = np.exp(p.deep_elasticity * level)


@kernel
def execute(world: Any, latent: Any) -> None:
    """Send the market orders that fill ours as drawn: through all that stands before them."""
    b, d = world.flow.book, world.desk[0]
    for side in range(2):
        if latent.fill[side] <= NONE:
            continue
        h = int(d.orders[latent.slots[side]].handle)
        px, qty = int(b[u(h + PX)]), int(b[u(h + QTY)])
        if latent.fill[side] == PART:
            qty = min(qty, 1 + int(latent.share * qty))
        lots = ahead_of(b, h) + qty
        at = int(b[u(BEST + side)])
        while (at - px) * (1 - 2 * side) > 0:
            lots += int(b[u(level_of(b, side, at))])
            at = next_level(b, side, at)
        submit(b, world.flow.fills, 1 - side, px, lots, IOC, 0, 0)


@kernel
def _clear_side(b: Any, side: int) -> None:
    """Withdraw all orders of others of a side."""
    px = int(b[u(BEST + side)])
    end = int(b[u(LO)]) + (0 if side == BUY else int(b[u(MASK)]))
    while px != end:
        following = next_level(b, side, px)
        h = int(b[u(level_of(b, side, px) + HEAD)])
        while h != 0:
            after = int(b[u(h + NEXT)])
            if b[u(h + OWNER)] == 0:
                cancel(b, h)
            h = after
        px = following


@kernel
def _lift_own(world: Any, latent: Any, own: Any) -> None:
    """Take our orders out of the book; remember price, lots (0: none) and lots to be ahead, int64[SLOTS, 3]."""
    b, d = world.flow.book, world.desk[0]
    for slot in range(SLOTS):
        own[slot, 1] = 0
        h = int(d.orders[slot].handle)
        if h == 0:
            continue
        side = int(d.orders[slot].side)
        own[slot, 0], own[slot, 1] = b[u(h + PX)], b[u(h + QTY)]
        share = min(1.0, max(0.0, np.float64(latent.real[AHEAD + side])))
        own[slot, 2] = int(share * ahead_of(b, h) + 0.5)
    for slot in range(SLOTS):
        if own[slot, 1] > 0:
            cancel(b, int(d.orders[slot].handle))


@kernel
def _best_own(d: Any, own: Any, side: int, none: int) -> int:
    """Our best price of a side, `none` where no order of ours is left."""
    best = none
    for slot in range(SLOTS):
        if own[slot, 1] > 0 and d.orders[slot].side == side and (own[slot, 0] - best) * (1 - 2 * side) > 0:
            best = own[slot, 0]
    return best


@kernel
def touch(mid: float, spread: int, bid: int, ask: int, r: Any) -> tuple[int, int]:
    """Best prices about a mid, a spread apart, no worse than our own `bid` and `ask`, which were not filled."""
    new_bid = int(np.floor(mid - 0.5 * spread + uniform(r)))
    new_ask = new_bid + spread
    if bid > new_bid:
        new_bid = bid
        new_ask = max(new_ask, bid + 1)
    if ask < new_ask:
        new_ask = ask
        new_bid = max(bid, min(new_bid, ask - 1))
    return new_bid, new_ask


@kernel
def _return_own(world: Any, own: Any) -> None:
    """Put our orders back, behind the lots that are ahead of them."""
    b, d = world.flow.book, world.desk[0]
    for slot in range(SLOTS):
        if own[slot, 1] == 0:
            continue
        o = d.orders[slot]
        if own[slot, 2] > 0:
            submit(b, world.flow.fills, int(o.side), own[slot, 0], own[slot, 2], POST_ONLY, 0, 0)
        o.handle = submit(
            b, world.flow.fills, int(o.side), own[slot, 0], own[slot, 1], POST_ONLY, int(d.owner), slot
        )
        if o.handle == 0:
            tell(world, DONE, slot, 0, 0, -1, 0)


@kernel
def _place_side(world: Any, latent: Any, side: int, best: int, unit: float, lots: float) -> None:
    """Others' orders at the best price and behind it, as drawn."""
    b = world.flow.book
    px = best
    for k in range(LEVELS):
        node = LEVELS - 1 - k if side == BUY else LEVELS + k
        if k > 0:
            gap = np.float64(latent.real[GAP + node])
            if gap > NO_LEVEL:
                return
            px -= (1 - 2 * side) * max(1, int(np.expm1(gap) * unit + 0.5))
        qty = np.exp(min(8.0, np.float64(latent.real[QUANTITY + node]))) * lots
        have = int(b[u(level_of(b, side, px))])
        least = 0 if have > 0 else 1
        rest = max(least, int(qty + 0.5) if qty > 2.0 * EMPTY_LOTS else 0)
        if rest > 0:
            submit(b, world.flow.fills, side, px, rest, POST_ONLY, 0, 0)


@kernel
def rebuild(world: Any, latent: Any, bid: int, ask: int, unit: float, lots: float, own: Any) -> None:
    """Let a book show the prices drawn; our orders were lifted from it."""
    b, s = world.flow.book, world.flow.state[0]
    _clear_side(b, BUY)
    _clear_side(b, SELL)
    s.ref = (bid + ask) >> 1
    recentre(b, s)
    _return_own(world, own)
    _place_side(world, latent, BUY, bid, unit, lots)
    _place_side(world, latent, SELL, ask, unit, lots)


@kernel
def _remember_signs(s: Any, latent: Any) -> None:
    """Averages of trade signs and the long order at work, as drawn."""
    for k in range(3):
        s.own[1 + k] = min(1.0, max(-1.0, np.float64(latent.real[SIGNS + k])))
    order = np.float64(latent.real[SPLIT])
    s.split_sign = 1.0 if order >= 0.0 else -1.0
    s.split_left = max(1, int(np.expm1(min(8.0, abs(order) / LONG)) + 0.5))


@kernel
def _remember_mid(s: Any, latent: Any, before: float, after: float, unit: float, every: int) -> None:
    """Averages of the mid: the quick ones as drawn, the slow ones over a straight way from one mid to the other."""
    for k in range(2):
        s.mid[3 + k] = after - latent.real[DISPLACED + k] * unit
    for k in range(5, 7):
        rate = 1.0 - s.keep[k]
        keep = np.exp(-rate * every)
        s.mid[k] = keep * s.mid[k] + after - keep * before - (after - before) * (1.0 - keep) / (rate * every)


@kernel
def _forget_ours(s: Any, p: Any, every: int) -> None:
    strange = 0.0
    for k in range(MEMORY):
        s.outside[k] *= s.keep[k] ** every
        strange += p.outside[k] * s.outside[k]
    s.strange = strange if abs(strange) > 1e-6 else 0.0


@kernel
def settle(world: Any, latent: Any, scale: Any, mid: float, began: int, every: int, own: Any) -> None:
    """Bring a world to the end of the leap whose outcome was drawn; `mid` and `began` are those of its beginning.

    The end's time is known already: `state.now`.
    """
    b, s, p, d, r = world.flow.book, world.flow.state[0], world.flow.params[0], world.desk[0], world.flow.rng
    unit = scale.unit * s.level
    if p.model == QUEUE_REACTIVE:
        wander_by(s, p, (s.now - began) * 1e-9, r)
    now = scale.unit * s.level
    spread = max(1, int(np.exp(min(3.0, np.float64(latent.real[SPREAD]))) * now + uniform(r)))
    _lift_own(world, latent, own)
    lowest, highest = int(b[LO]), int(b[LO]) + int(b[MASK])
    target = mid + latent.move * unit
    bid, ask = touch(target, spread, _best_own(d, own, BUY, lowest), _best_own(d, own, SELL, highest), r)
    rebuild(world, latent, bid, ask, now, scale.lots, own)
    latent.live = max(2.0, np.exp(min(2.0, np.float64(latent.real[LIVE]))) * scale.live)
    s.burst[2] = max(0.0, np.float64(latent.real[BURST]))
    s.pace[3] = p.pace_start + latent.real[PACE]
    if p.model == QUEUE_REACTIVE:
        _remember_signs(s, latent)
        _remember_mid(s, latent, mid, 0.5 * (bid + ask), now, every)
        if s.strange != 0.0:
            _forget_ours(s, p, every)


@kernel
def duration_ns(latent: Any, scale: Any, s: Any) -> int:
    """How long the leap takes."""
    seconds = np.exp(min(6.0, np.float64(latent.real[DURATION]))) * scale.duration / s.speed
    return max(SHORTEST_NS, int(seconds * 1e9))
