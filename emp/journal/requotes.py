"""How often an order was withdrawn and came back where it had stood: places in the queue given up for nothing."""

from collections.abc import Iterable

import msgspec

from emp.core.codes import Reason
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate, Replace
from emp.core.replacement import consents, replaced
from emp.journal.records import Body

OWN = frozenset({Reason.CHASE, Reason.CANCEL_TTL, Reason.CANCEL_EDGE_GONE})
"""Reasons of a cancel that are the decision's own; every other is forced: by risk, a silent feed, the owner."""


class Requotes(msgspec.Struct, frozen=True):
    """Withdrawals of one run, and how many came back at the price withdrawn from."""

    cancels: int
    followed: int  # after which another order on the same side was sent
    same_price: int  # of these, at the price withdrawn from though nothing forced the withdrawal: must be 0
    same_price_forced: int  # at that price, after a withdrawal that was forced


class _Follower:
    """Keeps every order as it is in force, and each side's last withdrawal until an order follows."""

    def __init__(self) -> None:
        self.cancels = self.followed = self.same_price = self.same_price_forced = 0
        self._orders: dict[str, NewOrder] = {}  # by every id
        self._pending: dict[str, Replace] = {}  # by the replacement's id
        self._left: dict[tuple[str, int], tuple[int, Reason]] = {}

    def take(self, body: Body) -> None:
        """Take the next entry of a ledger."""
        if isinstance(body, NewOrder):
            self._follow(body)
            self._orders[body.cl_ord_id] = body
        elif isinstance(body, Replace) and body.orig in self._orders:
            self._pending[body.cl_ord_id] = body
        elif isinstance(body, CancelOrder) and body.orig in self._orders:
            order = self._orders[body.orig]
            self.cancels += 1
            self._left[order.instrument, order.side] = order.px, Reason(body.reason)
        elif isinstance(body, OrderUpdate):
            self._report(body)

    def _report(self, update: OrderUpdate) -> None:
        pending = self._pending.get(update.replacement or update.clOrdID)
        if pending is not None and consents(self._orders[pending.orig], pending, update):
            order = replaced(self._orders[pending.orig], pending, update)
            self._orders[pending.orig] = self._orders[pending.cl_ord_id] = order

    def _follow(self, order: NewOrder) -> None:
        left = self._left.pop((order.instrument, order.side), None)
        if left is None:
            return
        self.followed += 1
        px, reason = left
        if order.px == px and reason in OWN:
            self.same_price += 1
        elif order.px == px:
            self.same_price_forced += 1


def count_requotes(bodies: Iterable[Body]) -> Requotes:
    """Count, over a ledger's entries in sequence, what followed each cancel on its side of its instrument."""
    seen = _Follower()
    for body in bodies:
        seen.take(body)
    return Requotes(seen.cancels, seen.followed, seen.same_price, seen.same_price_forced)
