"""From a ledger's rows to orders, money, ids and halts: the newest checkpoint, and what was recorded after it."""

import msgspec
import numpy as np

from emp.core.codes import Reason
from emp.core.contracts import CancelOrder, Control, NewOrder, OrderUpdate, Replace
from emp.core.errors import JournalError
from emp.core.ids import sequence_of, token_of
from emp.core.records import Array
from emp.decision.financing import new_financing
from emp.engine.breaches import BREACHES
from emp.engine.carry import CARRIED, claims_of, take_over
from emp.engine.checkpoint import ACCOUNT_MARK, apply_mark, read_checkpoint
from emp.engine.earned import EARNED, restore_earned
from emp.engine.engine import Engine
from emp.engine.financing import FINANCING_ACTIONS, take_financing
from emp.engine.reconciliation.claims import Claims
from emp.engine.reconciliation.earlier import Withdrawn
from emp.engine.reconciliation.valuation import ADJUSTMENT, VALUED
from emp.engine.verdict import MODEL_FAILED
from emp.execution.flatten import is_flat
from emp.execution.orders import Fill, OrderManager
from emp.journal.decisions import DECISION_NOTE
from emp.journal.reader import LedgerReader
from emp.journal.records import LedgerEvent, Note, Scalar
from emp.journal.swaps import MODEL_SWAP

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
    earned: dict[str, dict[str, Scalar]]  # what outcomes allow, as last recorded (`earned.earned_of`)
    claims: dict[int, list[Fill]]  # by the index of their instrument, what the venue has not borne out yet


def rebuild(
    ledger: LedgerReader, manager: OrderManager, until_seq: int | None = None, *, whole: bool = False
) -> Rebuilt:
    """Bring a fresh order manager to where the ledger ends, or to its event `until_seq`: the same state as then.

    With `whole`, or up to an event, every row is told again; else those since the newest checkpoint, to the same state.
    A replay that resumes from a checkpoint needs only this: its venue is restored with it.
    """
    fold = _Fold(ledger, manager)
    with manager.unshown():
        first = 0 if whole or until_seq is not None else fold.from_checkpoint()
        for event in ledger.events(first):
            if until_seq is not None and event.seq > until_seq:
                break
            fold.take(event)
    return fold.rebuilt()


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
    for name, data in rebuilt.earned.items():
        i = engine.orders.instruments.index(name)
        standing = engine.desk.standing[i : i + 1]
        restore_earned(standing, data, engine.model.artifact.hash)
        np.minimum(standing["lots"], engine.limits.max_order_lots, out=standing["lots"])
    engine.positions.unvalued.restore(
        {engine.orders.instruments.index(name): qty for name, qty in rebuilt.unvalued.items()}
    )
    engine.positions.claims.restore(rebuilt.claims)
    for i, lots in enumerate(engine.desk.lots):
        _resume_lots(lots, engine.desk.account[i], engine.orders.prices[i], engine.positions.unvalued.lots(i))
    return rebuilt


def _resume_lots(lots: Array, account: Array, price: float, unvalued: int) -> None:
    """Let a LOTS record count from here on: what was won and paid before is no outcome of what is held, which enters
    at its last mark, with nothing believed of it. `unvalued` lots of it have no price yet, and are not in the cash.
    """
    lots["cash"] = account["cash"] + (account["position"] - unvalued) * price
    lots["fees"], lots["financing"] = account["fees"], account["financing"]


class _Fold:
    """Takes rows in, one after the other."""

    def __init__(self, ledger: LedgerReader, manager: OrderManager) -> None:
        self._ledger, self._manager = ledger, manager
        self._run = ledger.meta("run")
        self._sequence, self._begun = 0, False
        self._foreign: set[str] = set()
        self._withdrawn: Withdrawn | None = None  # while a start agrees with the venue
        self._token = 0  # of its lease
        self._halted: dict[str, Reason] = {}
        self._unvalued: dict[str, int] = {}
        self._barred: dict[str, dict[Reason, None]] = {name: {} for name in manager.instruments}
        self._financing = new_financing(len(manager.instruments))
        self._earned: dict[str, dict[str, Scalar]] = {}
        self._claims = Claims()
        self._borne_out: list[
            Fill
        ] = []  # what the venue has said that it holds, each until its booking is recorded
        self._asked: list[
            Control
        ] = []  # resumes during a start: trading begins as it was, and hears them then
        self._failing: set[str] = set()  # barred by a model's failure alone, what is done about it comes next

    def rebuilt(self) -> Rebuilt:
        """What they come to."""
        self._resume_as_asked()
        return Rebuilt(
            self._sequence,
            frozenset(self._foreign),
            self._halted,
            self._unvalued,
            self._barred,
            self._financing,
            self._earned,
            self._open_claims(),
        )

    def _open_claims(self) -> dict[int, list[Fill]]:
        """Claims, and what was borne out and died with its process before it was booked."""
        index, found = self._manager.instruments.index, dict[int, list[Fill]]()
        for i in range(len(self._manager.instruments)):
            found[i] = [one for one in self._borne_out if index(one.instrument) == i]
            found[i] += self._claims.told(i)
        return {i: fills for i, fills in found.items() if fills}

    def from_checkpoint(self) -> int:
        """Begin where the newest checkpoint is; its event number, 0 where there is none, or of other instruments."""
        event = self._ledger.checkpoint()
        if event is None:
            return 0
        note = event.body
        assert isinstance(note, Note)
        try:
            known = read_checkpoint(note)
        except JournalError:
            return 0
        if set(known.accounts) != set(self._manager.instruments):
            return 0
        for name in known.open:
            self._manager.recall(self._ledger.story(name, event.seq))
        known.restore(self._manager, self._financing)
        self._sequence, self._begun = known.next_sequence, True
        self._foreign = set(known.foreign)
        self._halted = {name: Reason[reason] for name, reason in known.halted.items()}
        self._unvalued = dict(known.unvalued)
        self._barred = {
            name: dict.fromkeys(Reason[one] for one in known.barred[name]) for name in self._barred
        }
        self._earned = dict(known.earned)
        return event.seq

    def take(self, event: LedgerEvent) -> None:
        """The next row."""
        if event.is_note(DECISION_NOTE):
            return
        body, manager = event.body, self._manager
        if isinstance(body, NewOrder | CancelOrder | Replace):
            self._sequence = max(self._sequence, sequence_of(self._run, body.cl_ord_id) + 1)
        if isinstance(body, CancelOrder) and manager.order(body.orig) is None:
            self._foreign |= {body.orig, body.cl_ord_id}
            if self._withdrawn is not None:
                self._withdrawn.cancel(body.cl_ord_id, body.orig)
        elif isinstance(body, OrderUpdate):
            if not self._of_others(body):
                recall(self._ledger, manager, body.clOrdID, event.seq - 1)
                applied = manager.apply(body)
                self._claim(applied.stranger)
                if applied.alarm is not None:  # a process may have died before it said so
                    self._halted.update(dict.fromkeys(manager.instruments, Reason.KILL_SWITCH))
                manager.forget_ended()
        elif isinstance(body, Note):
            self._note(body)
        elif isinstance(body, Control):
            self._control(body)
        else:
            manager.sent(body)

    def _of_others(self, update: OrderUpdate) -> bool:
        """Whether a report is of an order that a start has withdrawn, or found; what it has filled is noted."""
        name = update.clOrdID
        if self._withdrawn is None:
            if name in self._foreign:
                self._claim(self._manager.note_stranger(update))
            return name in self._foreign
        if 0 < token_of(name) < self._token and not name.startswith(f"{self._run}-"):
            self._foreign.add(name)
        if name in self._foreign:
            self._withdrawn.tell(update)
        return name in self._foreign

    def _claim(self, fill: Fill | None) -> None:
        """An order that is none of ours is said to have filled."""
        if fill is not None:
            self._claims.add(self._manager.instruments.index(fill.instrument), fill)

    def _booked(self, name: str) -> None:
        """An adjustment is recorded: of what was borne out, the first of that instrument."""
        for k, one in enumerate(self._borne_out):
            if one.instrument == name:
                del self._borne_out[k]
                return

    def _note(self, note: Note) -> None:
        manager = self._manager
        if note.kind == "risk_breach" and note.data.get("reason") == MODEL_FAILED:
            self._model_failed()
        elif note.kind == "risk_breach":
            reason = _BREACHES.get(str(note.data.get("reason", "")), Reason.KILL_SWITCH)
            # a loss limit is one instrument's, where it is not the account's, which names none
            alone = note.instrument and reason is not Reason.KILL_SWITCH
            self._halted.update(dict.fromkeys([note.instrument] if alone else manager.instruments, reason))
        if note.instrument not in manager.instruments:
            return
        if note.kind == ADJUSTMENT:
            qty = int(note.data["qty"] or 0)
            # of an older release: the venue's average, 0 where it was flat
            px = float(note.data.get("px") or 0.0)
            manager.adjust(note.instrument, qty, float(note.data.get("fee") or 0.0))
            self._booked(note.instrument)
            if px:
                manager.value(note.instrument, qty, px)
            else:
                self._wait(note.instrument, qty)
        elif note.kind == CARRIED:
            take_over(manager, note, self._halted)
            for claim in claims_of(note):
                self._claim(claim)
            if note.data.get("failed"):
                self._barred[note.instrument].setdefault(Reason.MODEL)
        elif note.kind == VALUED:
            manager.value(note.instrument, int(note.data["qty"] or 0), float(note.data["px"] or 0.0))
            self._unvalued.pop(note.instrument, None)
        elif note.kind == ACCOUNT_MARK:
            apply_mark(manager, note, self._unvalued)
        elif note.kind == EARNED:
            self._earned[note.instrument] = note.data
        elif note.kind == MODEL_SWAP and note.data.get("reason") == "failed":
            self._gave_way(note.instrument)

    def _model_failed(self) -> None:
        """A model has failed: nothing is opened, unless what follows says that another has taken over. A process that
        died between the two leaves it barred.
        """
        for name, reasons in self._barred.items():
            if Reason.MODEL not in reasons:
                reasons[Reason.MODEL] = None
                self._failing.add(name)

    def _gave_way(self, name: str) -> None:
        """Another model serves: what its failure alone has barred is free. A bar that stood before stays."""
        if name in self._failing:
            self._failing.remove(name)
            self._barred[name].pop(Reason.MODEL, None)

    def _wait(self, name: str, qty: int) -> None:
        """Lots that came without a report wait for their price."""
        self._unvalued[name] = self._unvalued.get(name, 0) + qty

    def _control(self, control: Control) -> None:
        if control.action == "begin":
            self._failing.clear()  # its engine began with these bars, and kept them
            self._sequence += int(control.value) * self._begun  # the value is 0 where an older release began
            self._begun = True
            self._withdrawn, self._token = Withdrawn(), int(control.reason or 0)
            self._claims.restore(
                self._open_claims()
            )  # as its engine began: nothing of it is borne out any more
            self._borne_out = []
            self._resume_as_asked()
        if control.action == "start" and self._withdrawn is not None:
            self._manager.count_from(self._withdrawn.filled())
            self._withdrawn = None
            self._claims, self._borne_out = Claims(), []  # the venue has said what it holds
            self._asked = []  # recorded again where they are applied
        if control.action == "resume" and self._withdrawn is not None:
            self._asked.append(control)
        else:
            self._halt(control)
        if control.action == "differs":
            self._differs(control)
        if control.action == "confirmed":
            i = self._manager.instruments.index(control.instrument)
            self._borne_out += self._claims.settle(i, int(control.value))
        if control.action == "bar":
            self._bar(control)
        if control.action in FINANCING_ACTIONS:
            i = self._manager.instruments.index(control.instrument)
            take_financing(self._financing[i : i + 1], self._manager.accounts[i : i + 1], control)

    def _resume_as_asked(self) -> None:
        """Let go on what the owner resumed during a start that never ended: it holds for the next."""
        for control in self._asked:
            self._halt(control)
        self._asked = []

    def _halt(self, control: Control) -> None:
        """Keep track of what is halted: it stays so until somebody lets it trade again, over any number of starts.

        As in the engine, what is still being closed is not let go on, and a mere halt changes nothing of a sterner one.
        """
        manager, halted = self._manager, self._halted
        for name in [control.instrument] if control.instrument else manager.instruments:
            closing = halted.get(name, Reason.HALTED) is not Reason.HALTED and not is_flat(manager, name)
            if control.action == "resume" and not closing:
                halted.pop(name, None)
            elif control.action == "halt":
                halted.setdefault(name, Reason.HALTED)
            elif control.action in _HALTS:
                halted[name] = _HALTS[control.action]

    def _differs(self, control: Control) -> None:
        """As the engine did: a difference that no order may explain was booked, and everything halted."""
        manager, name, qty = self._manager, control.instrument, int(control.value)
        if manager.open_orders(name):
            return
        self._claims.settle(manager.instruments.index(name), 0)
        manager.adjust(name, qty)
        self._wait(name, qty)
        self._halted.update(dict.fromkeys(manager.instruments, Reason.KILL_SWITCH))

    def _bar(self, control: Control) -> None:
        """Keep track of what bars opening, in the order in which it came."""
        reason = Reason[control.reason.upper()]
        if reason is Reason.MODEL:
            self._failing.clear()
        for name in [control.instrument] if control.instrument else self._barred:
            if control.value != 0.0:
                self._barred[name].setdefault(reason)
            else:
                self._barred[name].pop(reason, None)


def recall(ledger: LedgerReader, manager: OrderManager, name: str, until_seq: int | None = None) -> None:
    """Bring back an order of ours that ended so long ago that it was forgotten, where `name` is one's id: something
    is told of it now.
    """
    if manager.order(name) is None and name.startswith(ledger.meta("run")):
        manager.recall(ledger.story(name, until_seq))
