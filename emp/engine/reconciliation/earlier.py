"""Orders that were at work when this process began and are none of its run's: withdrawn at the start, then of the past.
Those of engines that held the account's lease before are known by their ids.

What such an order has filled is part of the position that the venue told at the start. A report that comes behind that
and tells nothing new would look like somebody else's trade.
"""

from collections.abc import Mapping

from emp.core.contracts import OrderUpdate
from emp.core.errors import LeaseError
from emp.core.ids import token_of


class EarlierOrders:
    """What is known of them; of earlier holders nothing where this engine has no lease (token 0)."""

    def __init__(self, run: str, token: int) -> None:
        self._run, self._token = run, token
        self._filled: dict[str, int] = {}

    def are(self, name: str) -> bool:
        """Whether an order is one of an earlier holder's, in a run other than ours.

        Raises LeaseError where it is a later one's: the lease was lost without our knowing.
        """
        token = token_of(name) if self._token else 0
        if not token or name.startswith(f"{self._run}-"):
            return False
        if token > self._token:
            raise LeaseError(
                f"the venue has an order of a later holder of the lease, {name}: token {token}, ours is {self._token}"
            )
        return True

    def note(self, update: OrderUpdate) -> None:
        """Take what is told of one before the venue tells positions."""
        self._filled[update.clOrdID] = max(update.filled, self._filled.get(update.clOrdID, 0))

    def know(self, filled: Mapping[str, int]) -> None:
        """Take what orders of anybody, by their ids, had filled when the venue told positions."""
        for name, lots in filled.items():
            self._filled[name] = max(lots, self._filled.get(name, 0))

    def tell_nothing(self, update: OrderUpdate) -> bool:
        """Whether a report behind that says nothing new of one. What was not at work then has filled before."""
        known = self._filled.get(update.clOrdID)
        return self.are(update.clOrdID) if known is None else update.filled <= known


class Withdrawn:
    """Lots that orders of others had filled when the venue told positions: what comes behind adds to these.

    The start that withdraws them and whoever reads its ledger keep the same account, in the order of the rows.
    """

    def __init__(self) -> None:
        self._order_of: dict[str, str] = {}  # id of our cancel -> the order that it is about
        self._filled: dict[str, int] = {}

    def cancel(self, name: str, orig: str) -> None:
        """Our cancel `name` of such an order leaves."""
        self._order_of[name] = orig

    def tell(self, update: OrderUpdate) -> None:
        """The venue tells of one, by its own id or by that of our cancel."""
        name = self._order_of.get(update.clOrdID, update.clOrdID)
        self._filled[name] = max(update.filled, self._filled.get(name, 0))

    def filled(self) -> Mapping[str, int]:
        """Lots by every id under which they may be told again."""
        return self._filled | {name: self._filled.get(orig, 0) for name, orig in self._order_of.items()}
