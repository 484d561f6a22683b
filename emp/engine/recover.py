"""The only start there is: ledger -> orders and positions -> agreement with the venue -> ready.

A first start is the recovery of an empty ledger. What was under way when the last process ended is in doubt, so
every order that is still open here is asked for; nothing is sent again. Orders that turn out to be working are
withdrawn, since nobody judged them while nothing ran. Once no order can fill any more, the venue's position is
the truth, and a difference is booked with its reason.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec

from emp.access.port import MarketAccess
from emp.core.clock import Clock
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate, QueryOrder, VenuePosition
from emp.core.errors import VenueError
from emp.core.ids import cl_ord_id
from emp.core.records import Array
from emp.execution.orders import OrderManager, Quarantined
from emp.execution.reconcile import Correction, CorrectionKind, reconcile_orders, reconcile_positions
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from emp.journal.records import Note, Scalar

ADJUSTMENT = "adjustment"
ACCOUNT_MARK = "account_mark"

_WORKING = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})


class Rebuilt(msgspec.Struct, frozen=True):
    """What a ledger said, beside the state it left in the order manager."""

    next_sequence: int  # of the run's next command id
    foreign: frozenset[str]  # ids of orders that were not ours, and of our cancels of them


class Recovery(msgspec.Struct, frozen=True):
    """How a start went."""

    next_sequence: int
    corrections: tuple[Correction, ...]
    quarantined: tuple[Quarantined, ...]  # messages that cannot be true: somebody must look at them


def rebuild(ledger: LedgerReader, manager: OrderManager) -> Rebuilt:
    """Bring a fresh order manager to where the ledger ends: the same state as when it was written.

    A replay that resumes from a checkpoint needs only this: its venue is restored with it.
    """
    foreign: set[str] = set()
    sequence = 0
    run = ledger.meta("run")
    for event in ledger.events():
        body = event.body
        if isinstance(body, NewOrder | CancelOrder):
            sequence = max(sequence, _sequence(run, body.cl_ord_id) + 1)
        if isinstance(body, CancelOrder) and manager.order(body.orig) is None:
            foreign |= {body.orig, body.cl_ord_id}
        elif isinstance(body, OrderUpdate):
            if body.clOrdID not in foreign:
                manager.apply(body)
        elif isinstance(body, Note):
            _apply_note(manager, body)
        else:
            manager.sent(body)
    return Rebuilt(sequence, frozenset(foreign))


def _sequence(run: str, name: str) -> int:
    """Sequence number in an id of this run, -1 in any other id."""
    number = name.removeprefix(f"{run}-")
    return int(number) if number != name and number.isdigit() else -1


def account_note(instrument: str, account: Array, ts: int) -> Note:
    """What fills alone cannot restore of an ACCOUNT record: record it when a day begins and at new peaks."""
    data: dict[str, Scalar] = {
        "pnl": float(account["pnl"]),
        "peak": float(account["peak"]),
        "day": int(account["day"]),
        "day_start": float(account["day_start"]),
    }
    return Note(kind=ACCOUNT_MARK, ts=ts, instrument=instrument, data=data)


def _apply_note(manager: OrderManager, note: Note) -> None:
    if note.instrument not in manager.instruments:
        return
    if note.kind == ADJUSTMENT:
        manager.adjust(note.instrument, int(note.data["qty"] or 0), float(note.data["px"] or 0.0))
    elif note.kind == ACCOUNT_MARK:
        account = manager.accounts[manager.instruments.index(note.instrument)]
        for name, value in note.data.items():
            account[name] = value


async def recover(
    ledger: Ledger, manager: OrderManager, access: MarketAccess, clock: Clock, *, answer_s: float = 10.0
) -> Recovery:
    """Make ledger, order manager and venue agree; nothing may trade before this returns.

    `manager` is fresh, `access` connected. Reports go to this recovery while it runs; the caller registers its
    own callback afterwards. Raises VenueError where the venue does not account for an order within `answer_s`,
    JournalError where the ledger fails.
    """
    rebuilt = rebuild(ledger, manager)
    return await _Recovery(ledger, manager, access, clock, rebuilt).run(answer_s)


class _Recovery:
    def __init__(
        self, ledger: Ledger, manager: OrderManager, access: MarketAccess, clock: Clock, rebuilt: Rebuilt
    ) -> None:
        self._ledger, self._manager, self._access, self._clock = ledger, manager, access, clock
        self._foreign = set(rebuilt.foreign)
        self._sequence = rebuilt.next_sequence
        self._withdrawing: dict[str, str] = {}  # a cancel of an order that is not open here -> that order
        self._heard = asyncio.Event()
        self._corrections: list[Correction] = []

    async def run(self, answer_s: float) -> Recovery:
        self._access.on_report(self._report)
        for order in self._manager.open_orders():
            self._query(order.command)
        listed = await self._access.open_orders()
        self._correct(reconcile_orders(self._manager, listed, self._clock.now_ns()))
        await self._settle(answer_s)
        self._adjust(await self._access.positions())
        self._note_start()
        return Recovery(self._sequence, tuple(self._corrections), tuple(self._manager.quarantined))

    def _report(self, update: OrderUpdate) -> None:
        if self._ledger.record_report(update) and update.clOrdID not in self._foreign:
            self._manager.apply(update)
        if update.status.terminal:
            ended = update.clOrdID
            self._withdrawing = {c: o for c, o in self._withdrawing.items() if ended not in (c, o)}
        self._heard.set()

    def _query(self, order: NewOrder) -> None:
        query = QueryOrder(cl_ord_id=order.cl_ord_id, instrument=order.instrument, ts=self._clock.now_ns())
        self._ledger.record_intent(query)
        self._manager.sent(query)
        self._access.send(query)

    def _cancel(self, orig: str, instrument: str) -> None:
        command = CancelOrder(
            cl_ord_id=cl_ord_id(self._ledger.meta("run"), self._sequence),
            orig=orig,
            instrument=instrument,
            ts=self._clock.now_ns(),
            reason=Reason.STALE,
        )
        self._sequence += 1
        self._ledger.record_intent(command)
        order = self._manager.order(orig)
        if order is None or order.status.terminal:
            self._withdrawing[command.cl_ord_id] = orig
        if order is None:
            self._foreign |= {orig, command.cl_ord_id}
        else:
            self._manager.sent(command)
        self._access.send(command)

    def _correct(self, corrections: Sequence[Correction]) -> None:
        """Apply what the venue's list of working orders says; every open order is asked for already."""
        for correction in corrections:
            self._corrections.append(correction)
            if correction.kind is CorrectionKind.FOREIGN:
                self._cancel(correction.cl_ord_id, correction.instrument)
            elif correction.update is not None:
                self._report(correction.update)

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

    def _adjust(self, positions: Sequence[VenuePosition]) -> None:
        """Book what the venue holds and our fills do not explain."""
        for correction in reconcile_positions(self._manager, positions):
            self._corrections.append(correction)
            data: dict[str, Scalar] = {
                "qty": correction.qty,
                "px": correction.px,
                "reason": correction.reason,
            }
            ts = self._clock.now_ns()
            self._ledger.record_note(
                Note(kind=ADJUSTMENT, ts=ts, instrument=correction.instrument, data=data)
            )
            self._manager.adjust(correction.instrument, correction.qty, correction.px)

    def _note_start(self) -> None:
        counts = Counter(c.kind.value for c in self._corrections)
        self._ledger.record_note(Note(kind="start", ts=self._clock.now_ns(), data={**counts}))
