"""The lots that an engine holds beside what our orders explain: claims that wait for the venue's word, differences that
it has told, and what such lots are worth.
"""

from collections.abc import Sequence

from emp.core.contracts import OrderUpdate
from emp.core.records import Array
from emp.engine.closing import Closing
from emp.engine.reconciliation.claims import Claims
from emp.engine.reconciliation.valuation import Adjustment, Unvalued, Valuation
from emp.execution.orders import Applied, Fill, OrderManager


class Positions:
    """Takes into an order manager what no order of ours explains. Instruments are named by their index."""

    def __init__(self, orders: OrderManager, closing: Closing) -> None:
        self.orders, self._closing = orders, closing
        self.claims = Claims()
        self.unvalued = Unvalued()

    def hear(self, update: OrderUpdate, applied: Applied) -> None:
        """Note the claim of a report that was applied, where it makes one: what the instrument holds is in doubt."""
        order, index = self.orders.order(update.clOrdID), self.orders.instruments.index
        if applied.stranger is not None:
            self.claims.add(index(applied.stranger.instrument), applied.stranger)
        if applied.alarm is None or not update.filled:
            return
        if order is not None:
            self._doubt(order.index)
        elif update.instrument in self.orders.instruments:
            self._doubt(index(update.instrument))

    def confirm(self, i: int, lots: int) -> list[Adjustment]:
        """The venue has said that it holds `lots`, signed, of a claim: that much is booked, and the doubt is over."""
        return [self._book(fill) for fill in self._settle(i, lots)]

    def differ(self, i: int, lots: int, px: float, ts: int) -> list[Valuation]:
        """The venue has said that it holds `lots`, signed, beyond ours, and what they cost (ticks; 0 where it has not):
        they are booked, whatever was claimed.
        """
        name = self.orders.instruments[i]
        self._settle(i, 0)
        self.orders.adjust(name, lots)
        if px and not self.unvalued.lots(i):
            self.orders.value(name, lots, px)
            return [Valuation(i, lots, px, ts)]
        self.unvalued.add(i, lots)
        return []

    def value(self, events: Array) -> list[Valuation]:
        """Book what lots that came without a report are worth, where a market of EVENT rows [n] now says so."""
        found = list(self.unvalued.take(events))
        for one in found:
            self.orders.value(self.orders.instruments[one.instrument], one.qty, one.px)
        return found

    def _doubt(self, i: int) -> None:
        self.claims.doubt(i)
        self._closing.doubt(i, doubted=True)

    def _settle(self, i: int, lots: int) -> Sequence[Fill]:
        """What an instrument holds is known; what is to be booked of the claim, of which the venue has `lots`."""
        self._closing.doubt(i, doubted=False)
        return self.claims.settle(i, lots)

    def _book(self, fill: Fill) -> Adjustment:
        """Book a fill of an order that is none of ours."""
        i, qty = self.orders.instruments.index(fill.instrument), fill.side * fill.qty
        self.orders.adjust(fill.instrument, qty, fill.fee)
        if fill.px:  # 0: nobody told; below it is a price, too
            self.orders.value(fill.instrument, qty, fill.px)
        else:
            self.unvalued.add(i, qty)
        return Adjustment(i, qty, fill.px, fill.fee, fill.cl_ord_id, fill.ts)
