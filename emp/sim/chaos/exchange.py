"""The market behind a world's venue: simulated books that go by, one for each instrument, and our orders against them.

It keeps books of its own (`Pit`: what we hold, what we paid), in plain integers, and shares no code with the engine or
with the other venues of the package: what the engine believes is compared with it. A resting order fills whole when the
other side's touch crosses its price, and by what trades at its price; an immediate one takes what is shown. What
befalls orders and reports is set from outside.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from emp.access.port import LinkState, Sink
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, QueryOrder, Replace, VenuePosition
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.sim.chaos.loop import Process, VirtualLoop
from emp.sim.chaos.pit import Pit

HURRY_NS = 5_000_000
"""Between rows of a market that is in a hurry."""

ENTRY_NS = 1_000_000
"""From a command's arrival to the matching engine."""


BY_HAND = "HAND"
"""What names of orders begin with that somebody trades by hand on our account."""


class Held(msgspec.Struct):
    """An order as the venue has it."""

    order: NewOrder
    status: OrderStatus = OrderStatus.NEW
    filled: int = 0
    price: int = 0  # of the last fill
    fills: list[tuple[int, int]] = []  # (lots, price) of what has filled and stands
    silent: bool = False  # nothing is told of it unless asked
    replacement: str = ""
    ended_ns: int = 0  # of the world


class Shortcomings(msgspec.Struct):
    """What the next commands, reports and rows meet with: how many of each."""

    rejects: int = 0  # new orders are refused
    lost_orders: int = 0  # commands that never arrive
    silent_orders: int = 0  # orders that are carried out without a word
    cancel_races: int = 0  # cancels that come after a fill
    refused_cancels: int = 0
    lost_reports: int = 0
    twice_reports: int = 0
    swapped_reports: int = 0
    late_reports: int = 0  # told LATE_NS later, in order
    same_executions: int = 0  # under the id of the execution before
    overfills: int = 0  # lots that the next report of a fill tells too many
    less_filled: int = 0  # reports of fills that tell a lot less
    dropped_rows: int = 0
    twice_rows: int = 0
    swapped_rows: int = 0


LATE_NS = 900_000_000


class Exchange:
    """`VenueMarket` of a world's FIX venue; see the module."""

    def __init__(
        self,
        pits: Sequence[Pit],
        loop: VirtualLoop,
        process: Process,
        wall: Callable[[], int],
    ) -> None:
        """`wall` is the venue's clock."""
        self.pits = tuple(pits)
        self.instruments = tuple(pit.instrument for pit in pits)
        self._by_name = {pit.instrument.name: pit for pit in pits}
        self.faults = Shortcomings()
        self.refuses_until_ns = 0  # no order is taken before
        self.orders: dict[str, Held] = {}
        self.tells_all = (
            False  # whoever hears reports keeps books, and has them befall who hears it: `pass_on`
        )
        self.on_fill: Callable[[Held, int, int], None] = lambda _held, _lots, _px: None
        self._loop, self._process, self._wall = loop, process, wall
        self._names: dict[str, str] = {}  # every id that an order had -> the one it has
        self._executions = 0
        self._told: dict[str, str] = {}  # of each order the id of the execution that was told last
        self._sink: Sink
        self._held_back: deque[Callable[[], None]] = deque()
        self._late_until_ns = 0
        self._over = False

    def pit(self, instrument: str) -> Pit:
        """The books of an instrument."""
        return self._by_name[instrument]

    @property
    def fills(self) -> int:
        """Of all instruments."""
        return sum(pit.fills for pit in self.pits)

    @property
    def others(self) -> int:
        """Lots that others have traded, of all instruments."""
        return sum(pit.others for pit in self.pits)

    # --- market data

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Begin to show rows."""
        self._sink = sink
        for channel in ("market", "trade"):
            sink.link(LinkState(channel=channel, up=True))
        for pit in self.pits:
            self._loop.schedule(self._process, self._loop.now_ns + 1, self._next, pit)

    def _next(self, pit: Pit) -> None:
        if self._over:
            return
        row, wait_ns = pit.following()
        now = self._loop.now_ns
        hurried = pit.hurried > 0 and now >= pit.silent_until_ns
        self._loop.schedule(self._process, now + (HURRY_NS if hurried else wait_ns), self._next, pit)
        if now < pit.silent_until_ns:
            return
        pit.hurried -= hurried
        pit.take_in(row, now, self._wall())
        self._match(pit, row[0])
        self._show(pit, pit.seen(row, now))

    def _show(self, pit: Pit, row: Array) -> None:
        faults = self.faults
        if faults.dropped_rows:
            faults.dropped_rows -= 1
            return
        if faults.swapped_rows and pit.held_row is None:
            faults.swapped_rows -= 1
            pit.held_row = row
            return
        self._sink.events(row)
        if faults.twice_rows:
            faults.twice_rows -= 1
            self._sink.events(row)
        if pit.held_row is not None:
            held, pit.held_row = pit.held_row, None
            self._sink.events(held)

    def _match(self, pit: Pit, row: Array) -> None:
        bid, ask = int(row["bid_px"][0]), int(row["ask_px"][0])
        traded, qty = int(row["trade_px"]), int(row["trade_qty"])
        name = pit.instrument.name
        for held in [h for h in self.orders.values() if not h.status.terminal]:
            order = held.order
            if order.instrument != name:
                continue
            rest = order.qty - held.filled
            crossed = (ask and order.px >= ask) if order.side > 0 else (bid and order.px <= bid)
            if crossed:
                self._fill(held, rest, order.px, maker=True)
            elif qty and qty * order.side < 0 and (traded - order.px) * order.side <= 0:
                self._fill(held, min(rest, abs(qty)), order.px, maker=True)

    # --- orders

    def take(self, command: Command) -> None:
        """A command is here."""
        faults = self.faults
        if faults.lost_orders and not isinstance(command, QueryOrder):
            faults.lost_orders -= 1
            return
        self._loop.schedule(self._process, self._loop.now_ns + ENTRY_NS, self._arrive, command)

    def _arrive(self, command: Command) -> None:
        if isinstance(command, NewOrder):
            self._new(command)
        elif isinstance(command, CancelOrder):
            self._cancel(command)
        elif isinstance(command, Replace):
            self._replace(command)
        else:
            held = self._known(command.cl_ord_id)
            if held is None:
                self._refuse(command, "unknown order")
            else:
                held.silent = False
                self._tell(self._state(held))

    def _known(self, name: str) -> Held | None:
        return self.orders.get(self._names.get(name, name))

    def _new(self, order: NewOrder) -> None:
        faults = self.faults
        held = Held(order)
        self.orders[order.cl_ord_id] = held
        touch = self.pit(order.instrument).opposite(order.side)
        takes = touch != 0 and (order.px - touch) * order.side >= 0
        if faults.rejects or self._loop.now_ns < self.refuses_until_ns:
            faults.rejects = max(0, faults.rejects - 1)
            self._end(held, OrderStatus.REJECTED, "refused, for once")
            return
        if takes and not order.immediate:
            self._end(held, OrderStatus.REJECTED, "post-only order would take")
            return
        if faults.silent_orders:
            faults.silent_orders -= 1
            held.silent = True
        self._tell_of(held)
        if order.immediate:
            self._sweep(held)
            if not held.status.terminal:
                self._end(held, OrderStatus.CANCELED, "immediate order: the rest is cancelled")

    def _sweep(self, held: Held) -> None:
        order, book = held.order, self.pit(held.order.instrument).book
        if book is None:
            return
        side = "ask" if order.side > 0 else "bid"
        for level in range(int(book[f"n_{side}"])):
            px, size = int(book[f"{side}_px"][level]), int(book[f"{side}_sz"][level])
            if (order.px - px) * order.side < 0 or held.status.terminal:
                return
            self._fill(held, min(size, order.qty - held.filled), px, maker=False)

    def _fill(self, held: Held, lots: int, px: int, *, maker: bool) -> None:
        if lots <= 0:
            return
        order = held.order
        held.filled += lots
        held.price = px
        held.fills.append((lots, px))
        held.status = OrderStatus.FILLED if held.filled == order.qty else OrderStatus.PARTIALLY_FILLED
        if held.status.terminal:
            held.ended_ns = self._loop.now_ns
        pit = self.pit(order.instrument)
        fee = lots * (pit.instrument.maker_fee if maker else pit.instrument.taker_fee)
        pit.trade(order.side, lots, px, fee)
        self.on_fill(held, lots, px)
        self._tell_of(held, fee=fee, maker=maker)

    def _cancel(self, cancel: CancelOrder) -> None:
        held = self._known(cancel.orig)
        if held is not None and not held.status.terminal:
            if self.faults.refused_cancels:
                self.faults.refused_cancels -= 1
                self._refuse(cancel, "not now")
                return
            if self.faults.cancel_races:
                self.faults.cancel_races -= 1
                self._fill(held, held.order.qty - held.filled, held.order.px, maker=True)
        if held is None or held.status.terminal:
            self._refuse(cancel, "too late" if held is not None else "unknown order")
        else:
            self._end(held, OrderStatus.CANCELED, "")

    def _replace(self, change: Replace) -> None:
        held = self._known(change.orig)
        touch = self.pit(change.instrument).opposite(change.side)
        takes = touch != 0 and (change.px - touch) * change.side >= 0
        if held is None or held.status.terminal or change.qty <= held.filled or takes:
            self._refuse(change, "cannot be replaced")
            return
        before = held.order.cl_ord_id
        held.order = msgspec.structs.replace(
            held.order, cl_ord_id=change.cl_ord_id, px=change.px, qty=change.qty
        )
        del self.orders[before]
        self.orders[change.cl_ord_id] = held
        self._names = {old: change.cl_ord_id if to == before else to for old, to in self._names.items()}
        self._names[before] = change.cl_ord_id
        held.replacement = change.cl_ord_id
        self._tell_of(held)
        held.replacement = ""

    # --- reports

    def _end(self, held: Held, status: OrderStatus, text: str) -> None:
        held.status, held.ended_ns = status, self._loop.now_ns
        self._tell_of(held, text=text)

    def _tell_of(self, held: Held, *, fee: float = 0.0, maker: bool = False, text: str = "") -> None:
        if held.silent and not self.tells_all:
            return
        update = self._state(held)
        self._tell(msgspec.structs.replace(update, fee=fee, maker=maker, text=text))

    def _state(self, held: Held) -> OrderUpdate:
        order = held.order
        self._executions += 1
        return OrderUpdate(
            clOrdID=order.cl_ord_id,
            execID=f"X{self._executions}",
            status=held.status,
            filled=held.filled,
            price=held.price or order.px,
            ts=self._wall(),
            instrument=order.instrument,
            side=order.side,
            leaves=0 if held.status.terminal else order.qty - held.filled,
            replacement=held.replacement,
        )

    def _refuse(self, command: CancelOrder | QueryOrder | Replace, text: str) -> None:
        self._executions += 1
        self._tell(
            OrderUpdate(
                clOrdID=command.cl_ord_id,
                execID=f"X{self._executions}",
                status=OrderStatus.REJECTED,
                filled=0,
                price=0,
                ts=self._wall(),
                instrument=command.instrument,
                text=text,
            )
        )

    def _tell(self, update: OrderUpdate) -> None:
        """Tell it, or what the faults make of it."""
        if self.tells_all:
            self._sink.report(update)
        else:
            wrong = self._untrue(update)
            self.pass_on(lambda: self._sink.report(wrong))

    def _untrue(self, update: OrderUpdate) -> OrderUpdate:
        """What the venue says of it in place of the truth."""
        faults, before = self.faults, self._told.get(update.clOrdID, "")
        if faults.same_executions and before:
            faults.same_executions -= 1
            update = msgspec.structs.replace(update, execID=before)
        if faults.overfills and update.filled:
            update = msgspec.structs.replace(update, filled=update.filled + faults.overfills)
            faults.overfills = 0
        elif faults.less_filled and update.filled:
            faults.less_filled -= 1
            update = msgspec.structs.replace(update, filled=update.filled - 1)
        self._told[update.clOrdID] = update.execID
        return update

    def is_silent(self, name: str) -> bool:
        """Whether nothing is told of an order."""
        held = self._known(name)
        return held is not None and held.silent

    def pass_on(self, say: Callable[[], None]) -> None:
        """Say something, or what the faults make of it: later, twice, behind what comes next, or not at all."""
        faults = self.faults
        if faults.lost_reports:
            faults.lost_reports -= 1
            return
        if faults.late_reports:
            faults.late_reports -= 1
            self._late_until_ns = self._loop.now_ns + LATE_NS
        if self._loop.now_ns < self._late_until_ns:
            self._loop.schedule(self._process, self._late_until_ns, self._say, say)
        else:
            self._say(say)

    def _say(self, say: Callable[[], None]) -> None:
        faults = self.faults
        if faults.swapped_reports and not self._held_back:
            faults.swapped_reports -= 1
            self._held_back.append(say)
            self._loop.schedule(self._process, self._loop.now_ns + LATE_NS, self._let_go)
            return
        say()
        if faults.twice_reports:
            faults.twice_reports -= 1
            say()
        self._let_go()

    def _let_go(self) -> None:
        while self._held_back:
            self._held_back.popleft()()

    def by_hand(self, instrument: str, lots: int, *, told: bool) -> None:
        """Somebody trades on the account, at the touch; `lots` are signed."""
        side, pit = 1 if lots > 0 else -1, self.pit(instrument)
        px = pit.opposite(side)
        if not lots or not px:
            return
        name = self.next_hand()
        self._executions += 1
        order = NewOrder(
            cl_ord_id=name,
            instrument=instrument,
            side=side,
            qty=abs(lots),
            px=px,
            immediate=True,
            ts=self._wall(),
            reason=Reason.NO_EDGE,
            decision_seq=0,
        )
        held = Held(order, silent=not told)
        self.orders[name] = held
        pit.others += abs(lots)
        self._fill(held, abs(lots), px, maker=False)

    def take_back(self, off: int = 0) -> bool:
        """Take the newest trade back; with `off` it was so many ticks worse for us instead. Whether there was one."""
        ours = [
            held
            for held in self.orders.values()
            if held.fills and not held.order.cl_ord_id.startswith(BY_HAND)
        ]
        if not ours:
            return False
        held = ours[-1]
        pit = self.pit(held.order.instrument)
        side, (lots, px) = held.order.side, held.fills.pop()
        if off:
            held.fills.append((lots, px + side * off))
            pit.cash -= lots * off
        else:
            held.filled -= lots
            pit.position -= side * lots
            pit.cash += side * lots * px
            pit.others += lots
            if held.status is OrderStatus.FILLED:
                held.status = OrderStatus.CANCELED
            elif not held.status.terminal:
                held.status = OrderStatus.PARTIALLY_FILLED if held.filled else OrderStatus.NEW
        cost = sum(lots * px for lots, px in held.fills)
        average = cost / held.filled if held.filled else 0.0
        if not held.silent:
            self._tell(msgspec.structs.replace(self._state(held), correction=True, average=average))
        return True

    def withdraw(self) -> None:
        """Withdraw the oldest order that rests, unasked."""
        for held in self.orders.values():
            if not held.status.terminal:
                self._end(held, OrderStatus.CANCELED, "withdrawn by the venue")
                return

    def next_hand(self) -> str:
        """The id of the next order that is placed by hand."""
        return f"{BY_HAND}{self._executions + 1}"

    # --- what may be asked

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """What is working."""
        await asyncio.sleep(0)
        return [self._state(held) for held in self.orders.values() if not held.status.terminal]

    async def positions(self) -> Sequence[VenuePosition]:
        """What is held."""
        return [
            VenuePosition(
                instrument=pit.instrument.name,
                qty=pit.position,
                avg_px=-pit.cash / pit.position if pit.position else 0.0,
            )
            for pit in self.pits
        ]

    async def close(self) -> None:
        """Show nothing any more."""
        self._over = True

    def ended_before(self, name: str, at_ns: int) -> bool:
        """Whether an order had ended by then."""
        held = self._known(name)
        return held is not None and held.status.terminal and held.ended_ns < at_ns

    def working(self) -> int:
        """Orders that may still fill."""
        return sum(not held.status.terminal for held in self.orders.values())
