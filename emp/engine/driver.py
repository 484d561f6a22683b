"""The one driver: what reaches the engine, and what it asks for, in the only order that is safe.

    events  -> engine -> intents -> ledger -> sent -> venue
    report  -> ledger -> engine -> intents as above
    control -> ledger -> engine -> intents as above

Live trading and the replay of recordings use it; they differ in clock, source and venue. Each entry of the ledger
carries how many market events the engine had processed, so that a replay of the run puts it back in its place.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import structlog

from emp.core.approval import Approved, Cleared, command_of
from emp.core.codes import OrderStatus
from emp.core.contracts import (
    UNSENT,
    Command,
    Control,
    Message,
    NewOrder,
    OrderUpdate,
    QueryOrder,
    Replace,
    RiskBreach,
)
from emp.core.records import Array
from emp.engine.engine import Engine, Output
from emp.engine.financing import FINANCING_NOTE, Received
from emp.engine.rebuild import recall
from emp.engine.reconciliation.valuation import ADJUSTMENT, VALUED, Adjustment, Valuation
from emp.engine.rows import NO_ROWS
from emp.engine.serving import Ready
from emp.engine.tap import Taps
from emp.journal.decisions import decision_note
from emp.journal.ledger import Ledger
from emp.journal.records import Note, Scalar

_log = structlog.get_logger(__name__)

LATE = "not sent: the loop was blocked, and the data that it was decided on is old"
NOT_HELD = "the lease on the account is not valid now"

Send = Callable[[Cleared], None]


class Driver:
    """Drives one engine. Without a ledger (a run that leaves nothing behind) everything else is the same.

    Where somebody is told of failures (`attach`), a ledger that cannot be written does not raise: from then on
    commands leave unrecorded, because the engine, halted, asks only for what lowers the risk, and that outweighs the
    record.
    """

    def __init__(
        self,
        engine: Engine,
        send: Send,
        *,
        ledger: Ledger | None = None,
        taps: Taps | None = None,
    ) -> None:
        self.engine = engine
        self.ledger = ledger
        self.taps = taps
        self.commands = 0
        self.failed = False
        self._send = send
        self._say: Callable[[Message], None] | None = None
        self._on_failure: Callable[[Exception], None] | None = None
        self._blocked: Callable[[], bool] | None = None
        self._place: Callable[[], None] | None = None
        self._holds: Callable[[], bool] | None = None
        engine.keep_states = taps is not None

    def attach(
        self,
        say: Callable[[Message], None],
        on_failure: Callable[[Exception], None],
        blocked: Callable[[], bool] | None = None,
        place: Callable[[], None] | None = None,
        holds: Callable[[], bool] | None = None,
    ) -> None:
        """Who hears of breaches and of orders that did not leave, who is told of a ledger that fails, what says whether
        the loop was blocked for so long that what it has decided rests on old data, what raises where the run is not
        written any more to where it can be found, and what says whether this engine may trade the account now.
        """
        self._say, self._on_failure, self._blocked, self._place = say, on_failure, blocked, place
        self._holds = holds

    # --- inputs -------------------------------------------------------------------------------------------

    def events(self, events: Array, wait_ms: float = 0.0) -> Output:
        """Process EVENT rows [n] up to the first that needs a command, inclusive, and deliver that command.

        `wait_ms` is how long the oldest of them had waited.
        """
        output = self.engine.process(events)
        self.count(output.consumed)
        self.deliver(output, decided=self.taps is not None)
        if self.taps is not None:
            self.taps.batch(events[: output.consumed], output.states, output.rows, output.laps, wait_ms)
        return output

    def _note_value(self, one: Valuation) -> None:
        """Record what lots of an adjustment were worth: a restart books them at the same price."""
        name = self.engine.instruments[one.instrument].name
        _log.warning("adjustment valued", instrument=name, lots=one.qty, px=one.px)
        if self.ledger is not None:
            with self._surviving():
                self.ledger.record_note(
                    Note(kind=VALUED, ts=one.ts, instrument=name, data={"qty": one.qty, "px": one.px})
                )

    def count(self, events: int) -> None:
        """Note that the engine has processed so many more events: entries of the ledger come after them."""
        if self.ledger is not None:
            self.ledger.at += events

    def at(self, events: int) -> None:
        """Note how many events the engine has processed in all."""
        if self.ledger is not None:
            self.ledger.at = events

    def report(self, update: OrderUpdate) -> None:
        """Record a report, then apply it."""
        self.reports((update,))

    def reports(self, updates: Sequence[OrderUpdate]) -> None:
        """Record reports that wait together, waiting for the disk once, then apply one after the other. What cannot be
        recorded has happened all the same.
        """
        new = [True] * len(updates)
        with self._surviving():
            if self.ledger is not None:
                self._recall(self.ledger, updates)
                new = self._record_reports(self.ledger, updates)
        for update, is_new in zip(updates, new, strict=True):
            if is_new:
                self.deliver(self.engine.on_report(update))
                if self.taps is not None:
                    self.taps.report(update)

    def _recall(self, ledger: Ledger, updates: Sequence[OrderUpdate]) -> None:
        """Know again what is told of, and nothing of what has long ended: memory does not grow with a run."""
        self.engine.orders.forget_ended()
        for one in updates:
            recall(ledger, self.engine.orders, one.clOrdID)

    @staticmethod
    def _record_reports(ledger: Ledger, updates: Sequence[OrderUpdate]) -> list[bool]:
        """Make reports durable; whether each is new."""
        if len(updates) == 1:
            return [ledger.record_report(updates[0])]
        with ledger.batch():
            return [ledger.record_report(one) for one in updates]

    def control(self, control: Control) -> None:
        """Record a control input, then apply it."""
        self._record(control)
        self.deliver(self.engine.control(control))

    def tick(self, now_ns: int, instrument: str = "") -> None:
        """Let the engine do what time alone demands, in one instrument or in all; `now_ns` is the market's. Recorded
        only where it acts.
        """
        closing = len(self.engine.flattening)
        output = self.engine.on_timer(now_ns, instrument)
        if output.commands or len(self.engine.flattening) != closing:
            self._record(Control(action="timer", ts=now_ns, instrument=instrument))
            self.deliver(output)
        if self.taps is not None:
            self.taps.tick(now_ns)

    def swap(self, ready: Ready, notes: Sequence[Note]) -> None:
        """Let another model serve from the next event on; `notes` tell each instrument's last event before it."""
        if self.ledger is not None:
            with self.ledger.batch():
                for note in notes:
                    self.ledger.record_note(note)
        if self.taps is not None:
            self.taps.control(Control(action="swap", ts=notes[0].ts, reason=ready.model.artifact.hash))
        self.engine.install(ready)

    def compare(self, serving: str, ts: int) -> None:
        """Let other models be compared with the one that serves (its hash) from the next event on."""
        if self.taps is not None:
            self.taps.control(Control(action="compare", ts=ts, reason=serving))

    def _record(self, control: Control) -> None:
        with self._surviving():
            if self.ledger is not None:
                self.ledger.record_control(control)
        if self.taps is not None:
            self.taps.control(control)

    # --- outputs ------------------------------------------------------------------------------------------

    def deliver(self, output: Output, *, decided: bool = False) -> None:
        """Say what the engine has to say and send what it asks for.

        With `decided`, the row that decided it goes into the ledger with it: the action log is written later.
        """
        for valued in output.valuations:
            self._note_value(valued)
        for adjusted in output.adjustments:
            self._note_adjustment(adjusted)
        for one in output.received:
            self._note_received(one)
        for message in output.messages:
            self.tell(message)
        self._send_all(output.commands, output.rows[-1:] if decided else output.rows[:0])

    def _note_adjustment(self, one: Adjustment) -> None:
        """Record what somebody else's order has made of a position: a restart books it likewise."""
        name = self.engine.instruments[one.instrument].name
        _log.warning(
            "not our order: its fill is booked", instrument=name, lots=one.qty, px=one.px, order=one.order
        )
        if self.ledger is not None:
            with self._surviving():
                data: dict[str, Scalar] = {
                    "qty": one.qty,
                    "px": float(one.px),
                    "fee": one.fee,
                    "reason": f"a fill of {one.order}, which is not our order",
                }
                self.ledger.record_note(Note(kind=ADJUSTMENT, ts=one.ts, instrument=name, data=data))

    def _note_received(self, one: Received) -> None:
        """Record what a roll has brought or cost: the account's entry. A restart books it by the control input."""
        name = self.engine.instruments[one.instrument].name
        _log.info("financing", instrument=name, lots=one.lots, received_ticks=round(one.ticks, 6))
        if self.ledger is not None:
            with self._surviving():
                data: dict[str, Scalar] = {"lots": one.lots, "received": one.ticks}
                self.ledger.record_note(Note(kind=FINANCING_NOTE, ts=one.ts, instrument=name, data=data))

    def tell(self, message: Message) -> None:
        """Record a breach, and say it to whoever listens."""
        if not isinstance(message, RiskBreach):
            return  # a report that was applied: whoever watches has it from the taps
        if self.ledger is not None:
            with self._surviving():
                self.ledger.record_note(message)
        if self._say is not None:
            self._say(message)

    def send(self, commands: Sequence[Cleared], *, foreign: bool = False) -> None:
        """Send what is in the ledger, and nothing else; after a failure even what the ledger cannot take.

        What is sent together is synced together: twenty cancels wait for the disk once. `foreign` commands speak of
        orders that are none of the engine's.
        """
        self._send_all(commands, NO_ROWS, foreign=foreign)

    def _send_all(self, commands: Sequence[Cleared], row: Array, *, foreign: bool = False) -> None:
        if not commands:
            return
        failed_before = self.failed
        with self._surviving():
            if self._place is not None and not self.failed and any(_adds_risk(one) for one in commands):
                self._place()
            self._record_intents(commands, row)
        if self.failed and not failed_before:
            return
        for command in commands:
            if not foreign:
                self.engine.sent(command)
            self.commands += 1
            if not self._may_leave(command):
                self._forgo(command_of(command))
            elif self._is_too_late(command):
                self._refuse(command_of(command), LATE)
            else:
                self._send(command)

    def _is_too_late(self, command: Cleared) -> bool:
        """Whether a command that may add risk would leave on old data: the disk, too, may have blocked the loop."""
        return _adds_risk(command) and self._blocked is not None and self._blocked()

    def _may_leave(self, command: Cleared) -> bool:
        """Whether the account is ours to trade at this moment; a question changes nothing, whoever asks it."""
        return self._holds is None or isinstance(command, QueryOrder) or self._holds()

    def _forgo(self, command: Command) -> None:
        """Send nothing of what another engine may be dealing with by now: a cancel is asked for again, where this
        engine may go on.
        """
        _log.warning("not sent", order=command.cl_ord_id, reason=NOT_HELD)
        if isinstance(command, NewOrder | Replace):
            self._refuse(command, f"not sent: {NOT_HELD}")

    def _refuse(self, command: Command, why: str) -> None:
        """Say of an order that it did not leave: it is dead, as if the venue had refused it."""
        assert isinstance(command, NewOrder | Replace)
        update = OrderUpdate(
            clOrdID=command.cl_ord_id,
            execID=f"{UNSENT}{command.cl_ord_id}",
            status=OrderStatus.REJECTED,
            filled=0,
            price=command.px,
            ts=command.ts,
            instrument=command.instrument,
            side=command.side,
            text=why,
        )
        if self._say is not None:
            self._say(update)

    def _record_intents(self, commands: Sequence[Cleared], row: Array) -> None:
        """Make intents, and the DECISION row [1] or [0] that led to them, durable at once."""
        if self.ledger is None:
            return
        if len(commands) == 1 and not len(row):
            for command in commands:
                self.ledger.record_intent(command_of(command))
            return
        with self.ledger.batch():
            if len(row):
                name = self.engine.instruments[int(row["instrument"][0])].name
                self.ledger.record_note(decision_note(name, row))
            for command in commands:
                self.ledger.record_intent(command_of(command))

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """What a step that fails means (a lost journal): the failure is told, what is at hand is finished."""
        try:
            yield
        except Exception as error:
            if self._on_failure is None:
                raise
            self.failed = True
            self._on_failure(error)


def _adds_risk(command: Cleared) -> bool:
    """Whether a command may do more than withdraw or close."""
    return isinstance(command, Approved) and not command.closing
