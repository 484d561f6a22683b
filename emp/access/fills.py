"""Which reports tell of a fill that was not known, so that an access can hold its books against it."""

from emp.core.contracts import Command, NewOrder, OrderUpdate, Replace

REMEMBERED = 10_000
"""Orders remembered, oldest forgotten first."""


class Fills:
    """What has filled of the orders that this process has sent.

    Of other orders it is not known when they filled: what they cost says nothing of where the market is.
    """

    def __init__(self) -> None:
        self._filled: dict[str, list[int]] = {}  # lots, by id; all ids of an order have the same list of one

    def sent(self, command: Command) -> None:
        """An order, or another form of one, leaves."""
        if isinstance(command, NewOrder):
            self._filled[command.cl_ord_id] = [0]
        elif isinstance(command, Replace) and command.orig in self._filled:
            self._filled[command.cl_ord_id] = self._filled[command.orig]
        while len(self._filled) > REMEMBERED:
            del self._filled[next(iter(self._filled))]

    def first(self, update: OrderUpdate) -> bool:
        """Whether a report is the first to tell of a fill."""
        known = self._filled.get(update.clOrdID)
        if known is None or update.filled <= known[0]:
            return False
        known[0] = update.filled
        return not update.correction
