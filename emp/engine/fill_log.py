"""The fills of a run as they pass by: what each was believed to bring, and what it brought."""

from collections import OrderedDict, deque
from collections.abc import Callable

import msgspec

from emp.core.contracts import OrderUpdate
from emp.execution.transitions import Order
from emp.observe.trading_views import FillView

FILLS_SHOWN = 64
GIVEN_UP_NS = 4_000_000_000
ORDERS_KEPT = 4_096
"""Orders whose cumulative quantity is remembered; a fill of an older one is taken as all of its quantity."""


class FillLog:
    """The newest fills of one instrument."""

    def __init__(
        self, order_of: Callable[[str], Order | None], belief_of: Callable[[int], float | None]
    ) -> None:
        """`order_of` finds an order by any of its ids; `belief_of` says what the decision of that number expected."""
        self.fills: deque[FillView] = deque(maxlen=FILLS_SHOWN)  # newest first
        self._order_of, self._belief_of = order_of, belief_of
        self._filled: OrderedDict[str, int] = OrderedDict()  # by the id that an order was first sent under
        self._count = 0

    def take(self, update: OrderUpdate) -> None:
        """Take a report: what it adds to its order's cumulative quantity is a fill."""
        order = self._order_of(update.clOrdID)
        if order is None:
            return
        first = order.original
        before = self._filled.get(first.cl_ord_id, 0)
        self._filled[first.cl_ord_id] = max(before, update.filled)
        self._filled.move_to_end(first.cl_ord_id)
        if len(self._filled) > ORDERS_KEPT:
            self._filled.popitem(last=False)
        if update.filled <= before or update.correction:
            return
        self._count += 1
        self.fills.appendleft(
            FillView(
                n=self._count,
                ts=update.ts,
                order=first.cl_ord_id,
                side=first.side,
                qty=update.filled - before,
                px=update.price,
                fee_ticks=update.fee,
                maker=update.maker,
                reason=first.reason.name.lower(),
                expected_ticks=self._belief_of(first.decision_seq),
            )
        )

    def settle(self, mid_after: Callable[[int], float | None]) -> None:
        """Note what fills brought whose time has come; `mid_after` is the mid some time after another, if known."""
        for i, fill in enumerate(self.fills):
            if fill.realised_ticks is None and (mid := mid_after(fill.ts)) is not None:
                brought = fill.side * (mid - fill.px) - fill.fee_ticks / fill.qty
                self.fills[i] = msgspec.structs.replace(fill, realised_ticks=brought)

    def waiting_since(self, newest: int) -> int:
        """When the oldest fill happened whose outcome is awaited; `newest` where there is none.

        A fill before an interruption of the market never has one: after a while it is awaited no more.
        """
        waiting = (fill.ts for fill in self.fills if fill.realised_ticks is None)
        return min((ts for ts in waiting if ts > newest - GIVEN_UP_NS), default=newest)
