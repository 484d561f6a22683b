"""What lots cost that came into a position by an order of somebody else: a stop that the venue kept, a hand, another
program. Where the venue tells such orders, what they cost is theirs; else it is what the market says they are worth.
"""

from emp.access.port import MarketAccess, TellsOthers
from emp.core.errors import VenueError
from emp.execution.orders import OrderManager

CLOCKS_APART_NS = 60_000_000_000
"""How far the venue's clock and its market's may be apart: both are the venue's."""


class OthersTrades:
    """Explains differences between what a venue holds and what our fills make, on one access."""

    def __init__(self, orders: OrderManager, run: str, access: MarketAccess) -> None:
        self._orders, self._run, self._access = orders, run, access
        self._taken: set[str] = set()  # orders that have explained a difference already

    async def price(self, instrument: str, lots: int, since: int) -> float:
        """What `lots`, signed, cost on average (ticks), where the newest orders of others that were executed since then
        (ns UTC) come to just as many; 0 where they do not, or nobody tells.
        """
        if not isinstance(self._access, TellsOthers):
            return 0.0
        try:
            told = await self._access.trades_of_others(since - CLOCKS_APART_NS, self._is_ours)
        except VenueError:
            return 0.0
        qty, cost, orders = 0, 0.0, set[str]()
        for one in told:
            known = (
                one.order in self._taken or one.order in self._orders.strangers
            )  # booked as it was reported
            if one.instrument != instrument or known:
                continue
            qty, cost = qty + one.qty, cost + one.qty * one.px
            orders.add(one.order)
            if qty == lots:
                self._taken |= orders
                return max(0.0, cost / lots)
        return 0.0

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"{self._run}-")
