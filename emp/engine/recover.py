"""The only start there is: ledger -> orders and positions -> agreement with the venue -> ready.

A first start is the recovery of an empty ledger. What was under way when the last process ended is in doubt, so
every order that is still open here is asked for; nothing is sent again. Orders that turn out to be working are
withdrawn, since nobody judged them while nothing ran. Once no order can fill any more, the venue's position is
the truth, and a difference is booked with its reason; what it is worth the market says first (`engine.valuation`).
"""

import asyncio
from collections import Counter
from collections.abc import Sequence

import msgspec

from emp.access.port import MarketAccess
from emp.core.clock import Clock
from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import CancelOrder, Control, NewOrder, OrderUpdate, QueryOrder, Replace, VenuePosition
from emp.core.errors import VenueError
from emp.core.records import Array
from emp.decision.financing import new_financing
from emp.engine.carry import CARRIED, take_over
from emp.engine.driver import Driver
from emp.engine.engine import Engine
from emp.engine.financing import FINANCING_ACTIONS, take_financing
from emp.engine.portfolio import BREACHES
from emp.engine.valuation import ADJUSTMENT, VALUED
from emp.execution.flatten import is_flat
from emp.execution.orders import OrderManager, Quarantined
from emp.execution.reconcile import Correction, CorrectionKind, reconcile_orders, reconcile_positions
from emp.journal.decisions import DECISION_NOTE, layout_note
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader
from emp.journal.records import Note, Scalar

ACCOUNT_MARK = "account_mark"

UNRECORDED = 1_000.0
"""Ids that every start but a run's first leaves out behind the last one that the ledger knows: a process whose ledger
had failed has closed with ids that it could not record, and the venue knows them.
"""

_WORKING = frozenset({OrderStatus.NEW, OrderStatus.PARTIALLY_FILLED})
_HALTS = {"halt": Reason.HALTED, "flatten": Reason.KILL_SWITCH, "kill": Reason.KILL_SWITCH}
_BREACHES = {reason.name.lower(): reason for reason in (Reason.DAILY_LOSS, Reason.DRAWDOWN, *BREACHES)}


class Rebuilt(msgspec.Struct, frozen=True):
    """What a ledger said, beside the state it left in the order manager."""

    next_sequence: int  # of the run's next command id
    foreign: frozenset[str]  # ids of orders that were not ours, and of our cancels of them
    halted: dict[str, Reason]  # instruments that nobody has let trade again, and why they were halted
    unvalued: dict[str, int]  # signed lots that came without a report and have no price yet
    barred: dict[str, dict[Reason, None]]  # instruments in which nothing may be opened, and why, in order
    financing: Array  # FINANCING[n]: the next rolls, and what the venue has stated of them


class Recovered(msgspec.Struct, frozen=True):
    """How a start went."""

    corrections: tuple[Correction, ...]
    quarantined: tuple[Quarantined, ...]  # messages that cannot be true: somebody must look at them


def rebuild(ledger: LedgerReader, manager: OrderManager, until_seq: int | None = None) -> Rebuilt:
    """Bring a fresh order manager to where the ledger ends, or to its event `until_seq`: the same state as then.

    A replay that resumes from a checkpoint needs only this: its venue is restored with it.
    """
    with manager.unshown():
        return _rebuild(ledger, manager, until_seq)


def _rebuild(ledger: LedgerReader, manager: OrderManager, until_seq: int | None) -> Rebuilt:
    foreign: set[str] = set()
    halted: dict[str, Reason] = {}
    unvalued: dict[str, int] = {}
    barred: dict[str, dict[Reason, None]] = {name: {} for name in manager.instruments}
    financing = new_financing(len(manager.instruments))
    sequence, begun = 0, False
    run = ledger.meta("run")
    for event in ledger.events():
        if until_seq is not None and event.seq > until_seq:
            break
        if event.is_note(DECISION_NOTE):
            continue
        body = event.body
        if isinstance(body, NewOrder | CancelOrder | Replace):
            sequence = max(sequence, _sequence(run, body.cl_ord_id) + 1)
        if isinstance(body, CancelOrder) and manager.order(body.orig) is None:
            foreign |= {body.orig, body.cl_ord_id}
        elif isinstance(body, OrderUpdate):
            if body.clOrdID not in foreign:
                manager.apply(body)
        elif isinstance(body, Note):
            _apply_note(manager, body, halted, unvalued)
        elif isinstance(body, Control):
            if body.action == "begin":
                sequence += int(body.value) * begun  # the value is 0 where an older release began
                begun = True
            _apply_control(manager, body, halted)
            if body.action == "differs":
                _apply_difference(manager, body, halted, unvalued)
            if body.action == "bar":
                _apply_bar(body, barred)
            if body.action in FINANCING_ACTIONS:
                i = manager.instruments.index(body.instrument)
                take_financing(financing[i : i + 1], manager.accounts[i : i + 1], body)
        else:
            manager.sent(body)
    return Rebuilt(sequence, frozenset(foreign), halted, unvalued, barred, financing)


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


def _apply_note(
    manager: OrderManager, note: Note, halted: dict[str, Reason], unvalued: dict[str, int]
) -> None:
    if note.kind == "risk_breach":
        reason = _BREACHES.get(str(note.data.get("reason", "")), Reason.KILL_SWITCH)
        # a loss limit is one instrument's, where it is not the account's, which names none
        alone = note.instrument and reason is not Reason.KILL_SWITCH
        halted.update(dict.fromkeys([note.instrument] if alone else manager.instruments, reason))
    if note.instrument not in manager.instruments:
        return
    if note.kind == ADJUSTMENT:
        qty = int(note.data["qty"] or 0)
        px = float(
            note.data.get("px") or 0.0
        )  # of an older release: the venue's average, 0 where it was flat
        manager.adjust(note.instrument, qty, float(note.data.get("fee") or 0.0))
        if px:
            manager.value(note.instrument, qty, px)
        else:
            unvalued[note.instrument] = unvalued.get(note.instrument, 0) + qty
    elif note.kind == CARRIED:
        take_over(manager, note, halted)
    elif note.kind == VALUED:
        manager.value(note.instrument, int(note.data["qty"] or 0), float(note.data["px"] or 0.0))
        unvalued.pop(note.instrument, None)
    elif note.kind == ACCOUNT_MARK:
        account = manager.accounts[manager.instruments.index(note.instrument)]
        for name, value in note.data.items():
            account[name] = value
        if account["position"] and note.instrument not in unvalued:
            value = float(account["pnl"] - account["cash"] + account["fees"] - account["financing"])
            manager.prices[manager.instruments.index(note.instrument)] = value / int(account["position"])


def _apply_control(manager: OrderManager, control: Control, halted: dict[str, Reason]) -> None:
    """Keep track of what is halted: it stays so until somebody lets it trade again, over any number of starts.

    As in the engine, what is still being closed is not let go on, and a mere halt changes nothing of a sterner one.
    """
    for name in [control.instrument] if control.instrument else manager.instruments:
        closing = halted.get(name, Reason.HALTED) is not Reason.HALTED and not is_flat(manager, name)
        if control.action == "resume" and not closing:
            halted.pop(name, None)
        elif control.action == "halt":
            halted.setdefault(name, Reason.HALTED)
        elif control.action in _HALTS:
            halted[name] = _HALTS[control.action]


def _apply_difference(
    manager: OrderManager, control: Control, halted: dict[str, Reason], unvalued: dict[str, int]
) -> None:
    """As the engine did: a difference that no order may explain was booked, and everything halted."""
    name, qty = control.instrument, int(control.value)
    if manager.open_orders(name):
        return
    manager.adjust(name, qty)
    unvalued[name] = unvalued.get(name, 0) + qty
    halted.update(dict.fromkeys(manager.instruments, Reason.KILL_SWITCH))


def _apply_bar(control: Control, barred: dict[str, dict[Reason, None]]) -> None:
    """Keep track of what bars opening, in the order in which it came."""
    reason = Reason[control.reason.upper()]
    for name in [control.instrument] if control.instrument else barred:
        if control.value != 0.0:
            barred[name].setdefault(reason)
        else:
            barred[name].pop(reason, None)


def begin(ledger: LedgerReader, engine: Engine, until_seq: int | None = None) -> Rebuilt:
    """Bring a fresh engine to where the ledger ends, or to its event `until_seq`: orders, money, ids, halts."""
    rebuilt = rebuild(ledger, engine.orders, until_seq)
    engine.sequence = max(engine.sequence, rebuilt.next_sequence - 1)
    for name, reason in rebuilt.halted.items():
        engine.restore_halt(engine.orders.instruments.index(name), reason)
    for name, reasons in rebuilt.barred.items():
        for bar in reasons:
            engine.bar(engine.orders.instruments.index(name), bar, active=True)
    engine.desk.financing[:] = rebuilt.financing
    engine.unvalued.restore(
        {engine.orders.instruments.index(name): qty for name, qty in rebuilt.unvalued.items()}
    )
    return rebuilt


class Recovery:
    """Makes ledger, engine and venue agree; nothing may trade before `run` returns.

    The engine is fresh. Whoever is the sink of the market hands every report to `report` while this runs.
    """

    def __init__(self, driver: Driver, ledger: Ledger, access: MarketAccess, clock: Clock) -> None:
        self._driver, self._ledger, self._access, self._clock = driver, ledger, access, clock
        self._engine, self._manager = driver.engine, driver.engine.orders
        self._foreign: set[str] = set()
        self._withdrawing: dict[str, str] = {}  # a cancel of an order that is not open here -> that order
        self._heard = asyncio.Event()
        self._corrections: list[Correction] = []

    def rebuild(self) -> None:
        """Take in what the ledger says; to be called before the venue can report anything."""
        with self._ledger.batch():
            begins = Control(action="begin", ts=self._clock.now_ns(), value=UNRECORDED)
            self._ledger.record_control(begins)
            self._ledger.record_note(layout_note(self._clock.now_ns()))
        self._foreign |= begin(self._ledger, self._engine).foreign

    async def run(self, answer_s: float = 10.0) -> Recovered:
        """Ask the venue and settle every difference.

        Raises VenueError where the venue does not account for an order within `answer_s`, JournalError where the
        ledger fails.
        """
        for order in self._manager.open_orders():
            for name in dict.fromkeys((order.asked_as, order.command.cl_ord_id)):
                self._query(name, order.command.instrument)
        listed = await self._access.open_orders()
        self._correct(reconcile_orders(self._manager, listed, self._clock.now_ns()))
        await self._settle(answer_s)
        self._adjust(await self._access.positions())
        self._note_start()
        return Recovered(tuple(self._corrections), tuple(self._manager.quarantined))

    def report(self, update: OrderUpdate) -> None:
        """Take a report of the venue."""
        if self._ledger.record_report(update) and update.clOrdID not in self._foreign:
            self._manager.apply(update)
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

    def _adjust(self, positions: Sequence[VenuePosition]) -> None:
        """Book what the venue holds and our fills do not explain."""
        for correction in reconcile_positions(self._manager, positions):
            self._corrections.append(correction)
            data: dict[str, Scalar] = {
                "qty": correction.qty,
                "average": correction.px,  # the venue's, of its whole position: what the lots are worth is valued later
                "reason": correction.reason,
            }
            ts = self._clock.now_ns()
            self._ledger.record_note(
                Note(kind=ADJUSTMENT, ts=ts, instrument=correction.instrument, data=data)
            )
            self._manager.adjust(correction.instrument, correction.qty)
            self._engine.unvalued.add(self._manager.instruments.index(correction.instrument), correction.qty)

    def _note_start(self) -> None:
        counts = Counter(c.kind.value for c in self._corrections)
        now = self._clock.now_ns()
        self._ledger.record_note(Note(kind="start", ts=now, data={**counts}))
        self._ledger.record_control(Control(action="start", ts=now))
