"""What became of our orders, where messages may have been lost: working ones, ended ones, the position they made."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, Protocol

import structlog

from emp.access.fix.answers import RefusedError
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders
from emp.access.fix.pacing import Conversation
from emp.access.fix.terms import NEVER
from emp.access.fix.text import FieldError
from emp.core.approval import Cleared
from emp.core.clock import Clock
from emp.core.codes import OrderStatus
from emp.core.contracts import OrderUpdate, QueryOrder
from emp.core.errors import VenueError

MOST: Final = 1_024
"""Filled orders asked for at most, newest first, where a position is not what our fills make it."""

AT_ONCE: Final = 64
"""Of which so many are asked for before the position is looked at again."""

_UNTOLD = 3  # refused requests for positions, or those unanswered in one session, after which none is made

log = structlog.get_logger("emp.access.fix")


class Host(Protocol):
    """The access whose orders these are."""

    orders: Orders
    clock: Clock

    @property
    def address(self) -> str:
        """Of the session that carries orders."""

    def send(self, cleared: Cleared) -> None:
        """Hand over a command."""

    def report(self, update: OrderUpdate) -> None:
        """Hand out a report."""

    def wake(self) -> None:
        """Something is due earlier than it was."""

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run something beside the session, until the access closes."""

    async def ask(self, kind: bytes, body: Callable[[str], bytes]) -> list[Message]:
        """Send a request and collect its answers until they are complete."""

    async def unexplained(self) -> Mapping[str, int]:
        """Lots that the venue says we hold and that no fill of ours explains, per instrument."""


class Recovery:
    """Keeps the orders that may still fill, and asks for them, and for what they left, one conversation at a time."""

    def __init__(self, host: Host, timeout_s: float) -> None:
        self._host = host
        self._timeout_s = timeout_s
        self._talk = Conversation(round(timeout_s * 5e9))
        self._live: dict[str, QueryOrder] = {}  # orders that may still fill, as the query to ask for them
        self._doubted: set[str] = set()  # replacements under way when the connection was lost
        self._disputed: set[str] = set()  # ended orders that are asked for
        self._others: dict[str, int] = {}  # lots held that no fill of ours explains
        self._agreed = False
        self._refused = 0
        self._unanswered = 0
        self._heard = asyncio.Event()
        self._task: asyncio.Task[None] | None = (
            None  # the conversation; what it said in an old session is void
        )

    # --- what leaves and comes back -------------------------------------------------------------------------

    def sent(self, cl_ord_id: str, instrument: str, ts: int) -> None:
        """An order or a replacement has left: it may fill from now on."""
        self._live[cl_ord_id] = QueryOrder(cl_ord_id=cl_ord_id, instrument=instrument, ts=ts)

    def told(self, update: OrderUpdate) -> None:
        """The venue has told something of an order, before the receiver hears of it."""
        orders = self._host.orders
        if update.status.terminal:
            self._live.pop(update.clOrdID, None)
        self._live.pop(orders.in_force(update.clOrdID), None)
        self._disputed.discard(update.clOrdID)

    def heard(self) -> None:
        """The venue has said something of an order, be it that it knows of none."""
        self._heard.set()

    def doubt(self, update: OrderUpdate) -> None:
        """The receiver has heard: an order whose replacement turns out not to have been carried out is asked for."""
        if update.clOrdID not in self._doubted:
            return
        self._doubted.discard(update.clOrdID)
        orig = self._live.get(self._host.orders.original(update.clOrdID))
        if update.status is OrderStatus.REJECTED and orig is not None:
            self._host.send(orig)  # not replaced: what became of the order itself while we were away?

    def dispute(self, message: Message) -> None:
        """A report was refused: the order that it names has to be asked for, even if it has ended."""
        name = self._host.orders.dispute(message)
        if name and name not in self._live:
            self.sent(name, self._host.orders.instrument_of(name), self._host.clock.now_ns())

    @property
    def busy(self) -> bool:
        """Whether what became of our orders, and of the position they made, is being found out, or is to be."""
        return (self._task is not None and not self._task.done()) or self._talk.due_ns() < NEVER

    def note_first_positions(self, unexplained: Mapping[str, int]) -> None:
        """What the venue holds beyond our fills at a start is agreed on; later looks at positions agree on nothing."""
        if not self._agreed:
            self._agree(unexplained)

    def _agree(self, unexplained: Mapping[str, int]) -> None:
        """From now on fills alone change the venue's position."""
        self._others, self._agreed = dict(unexplained), True

    # --- the conversation -----------------------------------------------------------------------------------

    def begin(self, *, anew: bool = False) -> None:
        """Find out what became of our orders: at once in a new session (`anew`), else when it is time."""
        now = self._host.clock.monotonic_ns()
        if anew:
            self._unanswered = 0
        if not self._live and not self._host.orders.traded:
            self._talk.stop()
        elif anew:
            self._talk.start(now)
            self._spawn()
        elif self._talk.want(now):
            self._spawn()
        else:
            self._host.wake()

    def begin_in_time(self) -> None:
        """One that had to wait may begin."""
        if self._talk.tick(self._host.clock.monotonic_ns()):
            self._spawn()

    def due_ns(self) -> int:
        """Monotonic time at which that is so, or at which the one that runs has taken too long."""
        return self._talk.due_ns()

    def _spawn(self) -> None:
        if self._task is not None:
            self._task.cancel()
        self._task = self._host.spawn(self._run(), "fix recovery")

    async def _run(self) -> None:
        whole = False
        try:
            if self._live:
                await self._ask_for_orders()
            whole = not self._host.orders.traded or await self._compare_positions()
        finally:
            now = self._host.clock.monotonic_ns()
            if self._task is not asyncio.current_task():  # another has begun since
                pass
            elif whole:
                self._talk.done(now)
            else:
                self._talk.failed(now)
                self._host.wake()

    async def _ask_for_orders(self) -> None:
        """Ask for all our working orders, then one by one for what the answer left out."""
        host = self._host
        messages: list[Message] = []
        try:
            messages = await host.ask(b"AF", host.orders.bodies.mass_status)
        except VenueError as error:  # asked one by one below; a lost connection begins this again
            log.warning("no mass status", address=host.address, reason=str(error))
        told = set()
        for message in messages:
            try:
                updates = host.orders.status_of(message) if message.kind == "8" else []
            except FieldError as error:
                log.error("an order's state cannot be read", address=host.address, reason=str(error))
                continue
            for update in updates:
                told.add(update.clOrdID)
                host.report(update)
        # A venue that has replaced an order may deny that it knows the old id: the new one is asked for first.
        doubted = {name for name in self._live if host.orders.original(name) and name not in told}
        skipped = told | {host.orders.original(name) for name in doubted}
        self._doubted |= doubted
        for cl_ord_id in [name for name in self._live if name not in skipped]:
            host.send(self._live[cl_ord_id])

    async def _compare_positions(self) -> bool:
        """Where the venue's position is not what our fills make it, a trade was taken back, or made, unheard.

        False where that is still open, because an answer did not come.
        """
        address = self._host.address
        if max(self._refused, self._unanswered) >= _UNTOLD:
            return True
        try:
            found = await self._host.unexplained()
            odd = self._odd(found)
            for name, lots in odd.items():
                log.warning(
                    "a position is not what our fills make it", address=address, instrument=name, lots=lots
                )
            if odd:
                found = await self._ask_for_filled(list(odd), found)
        except RefusedError as error:
            self._refused += 1
            log.warning("positions are not told", address=address, reason=str(error))
            return True
        except VenueError as error:
            self._unanswered += 1
            log.warning("positions are not told", address=address, reason=str(error))
            return False
        self._refused = self._unanswered = 0
        for name, lots in self._odd(found).items():
            log.error("a position stays unexplained", address=address, instrument=name, lots=lots)
        self._agree(found)
        return True

    def _odd(self, found: Mapping[str, int]) -> dict[str, int]:
        """By how many lots each position differs from what was agreed on."""
        others = self._others
        return {name: lots - others[name] for name, lots in found.items() if lots != others.get(name, lots)}

    async def _ask_for_filled(self, names: Sequence[str], found: Mapping[str, int]) -> Mapping[str, int]:
        """Ask for orders that have filled, newest first, until they explain the positions: what the venue now says
        of them stands. Returns what no order explains; VenueError where an answer does not come.
        """
        orders = self._host.orders
        filled = {name: orders.newest_filled(name, MOST) for name in names}
        for first in range(0, max(map(len, filled.values())), AT_ONCE):
            await self._ask_for(
                [(one, name) for name in filled for one in filled[name][first : first + AT_ONCE]]
            )
            found = await self._host.unexplained()
            if not self._odd(found):
                break
        return found

    async def _ask_for(self, asked: Sequence[tuple[str, str]]) -> None:
        """Ask for some orders, given as (id, instrument), and wait until each is told; VenueError where one is not."""
        host, now = self._host, self._host.clock.now_ns()
        self._disputed = {cl_ord_id for cl_ord_id, _ in asked}
        for cl_ord_id, name in asked:
            host.orders.dispute_order(cl_ord_id)
            host.send(QueryOrder(cl_ord_id=cl_ord_id, instrument=name, ts=now))
        try:
            async with asyncio.timeout(self._timeout_s):
                while any(host.orders.disputed(cl_ord_id) for cl_ord_id in self._disputed):
                    self._heard.clear()
                    await self._heard.wait()
        except TimeoutError:
            raise VenueError(
                f"{len(self._disputed)} of {len(asked)} orders were asked for and not told"
            ) from None
