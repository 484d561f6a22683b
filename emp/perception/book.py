"""The visible book: what order flow made it."""

from typing import Any

from emp.core.codes import EventFlag
from emp.core.numba.jit import kernel
from emp.perception.state import FLOW_SPAN

TRADE = int(EventFlag.TRADE)
TRADE_OR_AUCTION = TRADE | int(EventFlag.AUCTION)
NO_SIZE = int(EventFlag.NO_SIZE)

FLOW_WEIGHT = 2.0 / (FLOW_SPAN + 1.0)
FLOW_KEEP = 1.0 - FLOW_WEIGHT


@kernel
def order_flow(p: Any, event: Any) -> float:
    """Signed order flow from the book in `p` to the book in `event`, in lots.

    e = [b >= b'] q_b - [b <= b'] q_b' - [a <= a'] q_a + [a >= a'] q_a' (Cont, Kukanov and Stoikov 2014,
    eq. 2, where ' is the book before). Where a trade caused the event, the side that it hit gives at least the
    traded quantity with the trade's sign: what a refill or a hidden order conceals in the quotes is still
    flow. Where the event or the book before has no sizes every quantity is 1, which leaves the signs of the quote
    moves.
    """
    if event.flags & NO_SIZE or not p.has_size:
        bid_sz = ask_sz = old_bid_sz = old_ask_sz = 1.0
    else:
        bid_sz, ask_sz = float(event.bid_sz[0]), float(event.ask_sz[0])
        old_bid_sz, old_ask_sz = float(p.bid_sz), float(p.ask_sz)
    bid, ask = event.bid_px[0], event.ask_px[0]
    from_bid = 0.0
    if bid >= p.bid:
        from_bid += bid_sz
    if bid <= p.bid:
        from_bid -= old_bid_sz
    from_ask = 0.0
    if ask <= p.ask:
        from_ask -= ask_sz
    if ask >= p.ask:
        from_ask += old_ask_sz
    if event.flags & TRADE_OR_AUCTION == TRADE:  # an auction has no aggressor
        traded = float(event.trade_qty)
        if traded > 0.0:
            from_ask = max(from_ask, traded)
        else:
            from_bid = min(from_bid, traded)
    return from_bid + from_ask


@kernel
def update_flow(p: Any, event: Any, weight: float) -> None:
    """Add the event's order flow to the exponential sum, then its magnitude to the past-only scale."""
    p.flow = FLOW_KEEP * p.flow + order_flow(p, event)
    p.flow_scale += weight * (abs(p.flow) - p.flow_scale)


@kernel
def remember_book(p: Any, event: Any) -> None:
    """Make the event's best prices the ones that the next event is compared with."""
    p.bid, p.ask = event.bid_px[0], event.ask_px[0]
    p.bid_sz, p.ask_sz = event.bid_sz[0], event.ask_sz[0]
    p.has_book = True


@kernel
def running_weight(count: float, span: float) -> float:
    """Weight of the newest value: a plain mean until `span` values are known, exponential from then on."""
    return 1.0 / min(count, span)
