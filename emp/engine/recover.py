"""The only start there is: ledger -> orders and positions -> agreement with the venue -> ready.

A first start is the recovery of an empty ledger. What was under way when the last process ended is in doubt, so
every order that is still open here is asked for; nothing is sent again. Orders that turn out to be working are
withdrawn, since nobody judged them while nothing ran. Once no order can fill any more, the venue's position is
the truth, and a difference is booked with its reason: as a report had claimed it, where one had; else at what the
market says first (`reconciliation.valuation`).
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec

from emp.access.port import MarketAccess
from emp.core.clock import Clock
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, Control, OrderUpdate, QueryOrder, VenuePosition
from emp.core.errors import VenueError
from emp.engine.carry import CARRIED
from emp.engine.driver import Driver
from emp.engine.earned import EARNED
from emp.engine.engine import Output
from emp.engine.rebuild import begin, recall
from emp.engine.reconciliation.earlier import EarlierOrders, Withdrawn
from emp.engine.reconciliation.others import OthersTrades
from emp.engine.reconciliation.valuation import ADJUSTMENT
from emp.execution.orders import Fill, Quarantined
from emp.execution.reconcile import Correction, CorrectionKind, reconcile_orders, reconcile_positions
from emp.journal.decisions import LAYOUT_NOTE, layout_note
from emp.journal.ledger import Ledger
from emp.journal.records import Body, Note, Scalar
from emp.journal.run import CONTINUED
from emp.journal.swaps import MODEL_SWAP

UNRECORDED = 1_000.0
"""Ids that every start but a run's first leaves out behind the last one that the ledger knows: a process whose ledger
had failed has closed with ids that it could not record, and the venue knows them.
"""

MOST_LOOKS = 20
"""So often the venue is asked what it holds, while reports of others' trades come in between."""

_WORKING = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


class Recovered(msgspec.Struct, frozen=True):
    """How a start went."""

    corrections: tuple[Correction, ...]
    quarantined: tuple[Quarantined, ...]  # messages that cannot be true: somebody must look at them


class Recovery:
    """Makes ledger, engine and venue agree; nothing may trade before `run` returns.

    The engine is fresh. Whoever is the sink of the market hands every report to `report` while this runs.
    """

    def __init__(
        self,
        driver: Driver,
        ledger: Ledger,
        access: MarketAccess,
        clock: Clock,
        others: OthersTrades | None = None,
    ) -> None:
        """`others` goes on to know which trades have explained a difference."""
        self._driver, self._ledger, self._access, self._clock = driver, ledger, access, clock
        self._engine, self._manager = driver.engine, driver.engine.orders
        self._foreign: set[str] = set()
        self._withdrawing: dict[str, str] = {}  # a cancel of an order that is not open here -> that order
        self._withdrawn = Withdrawn()
        self._heard = asyncio.Event()
        self._corrections: list[Correction] = []
        self._others = others or OthersTrades(self._manager, self._engine.run, access)
        self._known = 0  # messages that could not be true before this start
        self._left = 0  # when the account was last known as the ledger has it, ns UTC
        self.earlier = EarlierOrders(self._engine.run, self._engine.token)
        self.trades: dict[int, float] = {}
        """By instrument the ticks at which it was traded last since the ledger was left, as far as the venue told."""

    def rebuild(self) -> None:
        """Take in what the ledger says; to be called before the venue can report anything."""
        self._left = _left_at(self._ledger)
        with self._ledger.batch():
            token = str(self._engine.token or "")
            begins = Control(action="begin", ts=self._clock.now_ns(), reason=token, value=UNRECORDED)
            self._ledger.record_control(begins)
            self._ledger.record_note(layout_note(self._clock.now_ns()))
        self._foreign |= begin(self._ledger, self._engine).foreign
        self._known = len(self._manager.quarantined)

    @property
    def left_ns(self) -> int:
        """When the account was last known as the ledger has it, ns UTC."""
        return self._left

    async def run(self, answer_s: float = 10.0) -> Recovered:
        """Ask the venue and settle every difference.

        Raises VenueError where the venue does not account for an order within `answer_s`, JournalError where the
        ledger fails.
        """
        for order in self._manager.open_orders():
            for name in dict.fromkeys((order.asked_as, order.command.cl_ord_id)):
                self._query(name, order.command.instrument)
        listed = await self._access.open_orders()
        for one in listed:
            if self.earlier.are(one.clOrdID):
                self.earlier.note(one)
            recall(self._ledger, self._manager, one.clOrdID)
        self._correct(reconcile_orders(self._manager, listed, self._clock.now_ns()))
        await self._settle(answer_s)
        positions, prices = await self._held()
        self._adjust(positions, prices)
        self._note_start()
        return Recovered(tuple(self._corrections), tuple(self._manager.quarantined[self._known :]))

    async def _held(self) -> tuple[Sequence[VenuePosition], list[float]]:
        """What the venue holds, and of each difference that no claim explains what it cost, once nothing was reported
        meanwhile: what is told while the venue answers is in doubt like all that it has not been asked about.
        """
        for _ in range(MOST_LOOKS):
            positions = await self._access.positions()
            self._settle_claims(positions)
            differences = reconcile_positions(self._manager, positions)
            prices = [await self._others.price(one.instrument, one.qty, self._left) for one in differences]
            if not self._engine.positions.claims:
                return positions, prices
        raise VenueError(
            "somebody else goes on trading the account: what it holds is never still; start again"
        )

    @property
    def foreign(self) -> frozenset[str]:
        """Ids of orders that were not ours, and of our cancels of them."""
        return frozenset(self._foreign)

    def report(self, update: OrderUpdate) -> None:
        """Take a report of the venue."""
        if self.earlier.are(update.clOrdID):
            self._foreign.add(update.clOrdID)
            self.earlier.note(update)
        recall(self._ledger, self._manager, update.clOrdID)
        new = self._ledger.record_report(update)
        if update.clOrdID in self._foreign:
            self._withdrawn.tell(update)
        elif new:
            applied = self._manager.apply(update)
            self._claim(applied.stranger)
            self._note_trade(applied.fill or applied.stranger)
        if update.status.terminal:
            ended = update.clOrdID
            self._withdrawing = {c: o for c, o in self._withdrawing.items() if ended not in (c, o)}
        self._heard.set()

    def _query(self, cl_ord_id: str, instrument: str) -> None:
        """Ask for an order; where a replacement was on its way, by the id that it gave it, then by the one before: a
        venue may know either alone.
        """
        now = self._clock.now_ns()
        self._driver.send([QueryOrder(cl_ord_id=cl_ord_id, instrument=instrument, ts=now)])

    def _cancel(self, orig: str, instrument: str) -> None:
        command = CancelOrder(
            cl_ord_id=self._engine.next_id(),
            orig=orig,
            instrument=instrument,
            ts=self._clock.now_ns(),
            reason=Reason.STALE,
        )
        order = self._manager.order(orig)
        if order is None or order.status.terminal:
            self._withdrawing[command.cl_ord_id] = orig
        if order is None:
            self._foreign |= {orig, command.cl_ord_id}
            self._withdrawn.cancel(command.cl_ord_id, orig)
        self._driver.send([command], foreign=order is None)

    def _correct(self, corrections: Sequence[Correction]) -> None:
        """Apply what the venue's list of working orders says; every open order is asked for already."""
        for correction in corrections:
            self._corrections.append(correction)
            if correction.kind is CorrectionKind.FOREIGN:
                self._cancel(correction.cl_ord_id, correction.instrument)
            elif correction.update is not None:
                self.report(correction.update)

    async def _settle(self, answer_s: float) -> None:
        """Withdraw what works and wait until no order can fill any more."""
        try:
            async with asyncio.timeout(answer_s):
                while self._doubtful():
                    self._heard.clear()
                    for order in self._manager.open_orders():
                        if order.status in _WORKING:
                            self._cancel(order.command.cl_ord_id, order.command.instrument)
                    await self._heard.wait()
        except TimeoutError as error:
            names = ", ".join(self._doubtful())
            raise VenueError(
                f"the venue does not say within {answer_s:g} s what became of {names}: look there, start again"
            ) from error

    def _doubtful(self) -> list[str]:
        """Orders that may still fill."""
        return [o.command.cl_ord_id for o in self._manager.open_orders()] + list(self._withdrawing.values())

    def _note_trade(self, fill: Fill | None) -> None:
        if fill is not None:
            self.trades[self._manager.instruments.index(fill.instrument)] = float(fill.px)

    def _claim(self, fill: Fill | None) -> None:
        """An order that is none of ours is said to have filled: what the venue holds will say."""
        if fill is not None:
            self._engine.positions.claims.add(self._manager.instruments.index(fill.instrument), fill)

    def _settle_claims(self, positions: Sequence[VenuePosition]) -> None:
        """Book of what reports have claimed what the venue holds of it, at what they told that it cost."""
        held = {one.instrument: one.qty for one in positions}
        claims = self._engine.positions.claims
        for i, name in enumerate(self._manager.instruments):
            if not claims.doubted(i):
                continue
            beyond = held.get(name, 0) - self._manager.position(name)
            lots = beyond if claims.covers(i, beyond) else 0
            why = f"{lots:+d} lots of {claims.lots(i):+d} that reports had told of orders that are not ours"
            now = self._clock.now_ns()
            self._ledger.record_control(
                Control(action="confirmed", ts=now, instrument=name, value=float(lots))
            )
            booked = self._engine.positions.confirm(i, lots)
            self._driver.deliver(Output(adjustments=booked))
            if booked:
                self._corrections.append(
                    Correction(kind=CorrectionKind.ADJUST, instrument=name, reason=why, qty=lots)
                )

    def _adjust(self, positions: Sequence[VenuePosition], prices: Sequence[float]) -> None:
        """Book what the venue holds and our fills do not explain, at what it says that it cost, 0 where it does not."""
        for correction, px in zip(reconcile_positions(self._manager, positions), prices, strict=True):
            self._corrections.append(correction)
            data: dict[str, Scalar] = {
                "qty": correction.qty,
                "average": correction.px,  # the venue's, of its whole position: what the lots are worth is valued later
                "reason": correction.reason,
            }
            if px:
                data["px"] = px
            ts = self._clock.now_ns()
            self._ledger.record_note(
                Note(kind=ADJUSTMENT, ts=ts, instrument=correction.instrument, data=data)
            )
            i = self._manager.instruments.index(correction.instrument)
            entered = not self._manager.position(correction.instrument)  # then all of it is of since
            self.trades[i] = px or correction.px * entered or self.trades.get(i, 0.0)
            self._manager.adjust(correction.instrument, correction.qty)
            if px:
                self._manager.value(correction.instrument, correction.qty, px)
            else:
                self._engine.positions.unvalued.add(i, correction.qty)

    def _note_start(self) -> None:
        counts = Counter(c.kind.value for c in self._corrections)
        now = self._clock.now_ns()
        self._ledger.record_note(Note(kind="start", ts=now, data={**counts}))
        self._ledger.record_control(Control(action="start", ts=now))
        self._manager.count_from(self._withdrawn.filled())
        self.earlier.know(self._withdrawn.filled())


def _left_at(ledger: Ledger) -> int:
    """Time of the newest event that is not of a start itself, ns UTC; 0 where there is none."""
    last, span = ledger.last_seq, 64
    while True:
        first = max(0, last - span)
        told = [event.body.ts for event in ledger.events(first) if not _is_of_a_start(event.body)]
        if told or not first:
            return told[-1] if told else 0
        span *= 8


def _is_of_a_start(body: Body) -> bool:
    """Whether an event only says that a process begins."""
    if isinstance(body, Control):
        return body.action == "begin"
    return isinstance(body, Note) and body.kind in (LAYOUT_NOTE, CARRIED, CONTINUED, EARNED, MODEL_SWAP)
