"""Getting instruments flat at a venue that may refuse, be deaf or have no book: what to send, when, and why not yet."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from emp.core.approval import Approved, Cleared
from emp.core.codes import OrderStatus
from emp.core.contracts import NewOrder, OrderUpdate
from emp.execution.flatten import flatten, is_flat, left_to_close
from emp.execution.orders import OrderManager
from emp.execution.pace import Pace
from emp.execution.transitions import Order

PROTECTION = 10
"""Spreads beyond the best price that a closing order accepts: out at almost any price, but not at any."""


class Touch(NamedTuple):
    """The last believable best prices of an instrument, both 0 where there were none, and the number of their event."""

    bid: int
    ask: int
    seq: int


class Closing:
    """What is being closed, and the pace of it. Instruments are named by their index."""

    def __init__(
        self,
        names: Sequence[str],
        orders: OrderManager,
        next_id: Callable[[], str],
        touch: Callable[[int], Touch],
        approve: Callable[[int, NewOrder, int], Approved],
    ) -> None:
        """`approve` takes an instrument, a closing order of it, and the lots, signed, that are left to close."""
        self.flattening: set[int] = set()
        self._names = tuple(names)
        self._orders = orders
        self._next_id = next_id
        self._touch = touch
        self._approve = approve
        self._paces = [Pace() for _ in names]
        self._unheard: set[int] = set()
        self._doubted: set[int] = set()

    def hears(self, i: int, *, heard: bool) -> None:
        """Whether what is sent for instrument `i` reaches the venue from now on."""
        (self._unheard.discard if heard else self._unheard.add)(i)
        self.afresh(i)

    def doubt(self, i: int, *, doubted: bool) -> None:
        """Whether it is in doubt what the account holds of instrument `i`: until it is known, only cancels leave."""
        if doubted:
            self._doubted.add(i)
        elif i in self._doubted:
            self._doubted.discard(i)
            self.afresh(i)

    def unheard(self, i: int) -> bool:
        """Whether nothing that is sent for instrument `i` would reach the venue."""
        return i in self._unheard

    def afresh(self, i: int) -> None:
        """Let the next try of instrument `i` be due now."""
        self._paces[i].afresh()

    def goes_on(self, i: int, *, to_be_flat: bool) -> bool:
        """Whether instrument `i` is being closed; a fill may come after it was flat, and is closed too."""
        if to_be_flat and not is_flat(self._orders, self._names[i]):
            self.flattening.add(i)
        return i in self.flattening

    def is_refused(self, i: int) -> bool:
        """Whether the venue answers what would close instrument `i`, and refuses it."""
        return self._paces[i].refused > 0 and i not in self._unheard

    def why_not_flat(self, i: int) -> str:
        """What an instrument that is being closed, or is in doubt, waits for, in words; "" where it is neither."""
        if i not in self.flattening and i not in self._doubted:
            return ""
        if i in self._unheard:
            return "the trade link is down"
        if i in self._doubted:
            return "the venue has not said yet what it holds: a report told of lots that no order of ours explains"
        touch = self._touch(i)
        if not touch.bid < touch.ask:
            return "there is no book, so no price to close at"
        refused = self._paces[i].refused
        return (
            f"nothing was closed by the last {refused} orders"
            if refused
            else "the venue's answers are awaited"
        )

    def after_report(self, order: Order, update: OrderUpdate, *, filled: bool) -> list[Cleared]:
        """What a report asks for while its instrument is being closed; a refusal is answered by the timer."""
        pace = self._paces[order.index]
        if filled:
            pace.told(closed=True)
        elif order.command.immediate and order.status.terminal and not order.filled:
            pace.told(closed=False)
        if pace.refused or update.status is OrderStatus.REJECTED:
            return []
        return self.commands(order.index, update.ts, told=True)

    def commands(self, i: int, ts: int, *, told: bool = False) -> list[Cleared]:
        """Whatever still has to be sent to get instrument `i` flat; at most PROTECTION spreads off.

        Nothing while the venue cannot hear it, only cancels while it is in doubt what it holds, and no more than its
        pace allows: `told` is the venue's answer, whose time is the venue's and says nothing of the pace.
        """
        name, pace, doubted = self._names[i], self._paces[i], i in self._doubted
        if is_flat(self._orders, name):
            if not doubted:
                self.flattening.discard(i)
            return []
        at = pace.tried_ns if told else ts
        if i in self._unheard or not pace.due(at):
            return []
        touch = self._touch(i)
        held = left_to_close(self._orders, name)
        commands = flatten(
            self._orders,
            name,
            bid=0 if doubted else touch.bid,  # without a price nothing is closed
            ask=0 if doubted else touch.ask,
            through_ticks=PROTECTION * max(1, touch.ask - touch.bid),
            next_id=self._next_id,
            ts=ts,
            decision_seq=touch.seq,
        )
        if commands:
            pace.tried(at)
        return [self._approve(i, one, held) if isinstance(one, NewOrder) else one for one in commands]
