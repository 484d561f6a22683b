"""Orders of engines that held the account's lease before: known by their ids, withdrawn at the start, then of the past.

What such an order has filled is part of the position that the venue told at the start. A report that comes behind that
and tells nothing new would look like somebody else's trade.
"""

from emp.core.contracts import OrderUpdate
from emp.core.errors import LeaseError
from emp.core.ids import token_of


class EarlierOrders:
    """What is known of them; nothing where this engine has no lease (token 0)."""

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

    def tell_nothing(self, update: OrderUpdate) -> bool:
        """Whether a report behind that says nothing new of one. What was not at work then has filled before."""
        return self.are(update.clOrdID) and update.filled <= self._filled.get(update.clOrdID, update.filled)
