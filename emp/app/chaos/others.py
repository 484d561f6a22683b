"""Fills of orders by hand that reports have told: each is booked by its name once the venue has said what it holds."""

from typing import NamedTuple

from emp.app.chaos.life import Life
from emp.app.chaos.scene import Judge
from emp.core.contracts import Control, OrderUpdate
from emp.journal.reader import LedgerReader
from emp.sim.chaos.exchange import BY_HAND

BOOKED_NS = 10_000_000_000  # longer than any process is stopped for


class _Told(NamedTuple):
    """Who was told of a fill of which instrument, when, and behind which row of the ledger."""

    life: Life
    ns: int
    row: int
    instrument: str


class Others:
    """Watches what becomes of fills by hand in one engine after another."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self._told: dict[str, _Told] = {}  # by the order's name
        self._waits: set[str] = set()  # of these, what is still to be looked at

    def on_report(self, life: Life, update: OrderUpdate, now_ns: int) -> None:
        """A report reaches the engine."""
        name = update.clOrdID
        if not (name.startswith(BY_HAND) and update.filled and life.trading):
            return
        if name not in self._told or self._told[name].life is not life:
            self._told[name] = _Told(life, now_ns, life.running.live._ledger._seq, update.instrument)
            self._waits.add(name)

    def look(self, now_ns: int) -> None:
        """What was told is in the ledger by its name, whatever asking has found since; or the venue has said that it
        holds less of that instrument than was told, or says nothing yet.
        """
        for name in sorted(self._waits):
            life, told_ns, *_ = told = self._told[name]
            ledger = life.running.live._ledger if life.trading else None
            if ledger is None or ledger._dead:
                self._waits.discard(name)
            elif now_ns - told_ns > BOOKED_NS and not life.running.engine.positions.claims:
                self._waits.discard(name)
                notes = [str(note.data.get("reason", "")) for note in ledger.notes("adjustment")]
                booked = any(f" {name}," in reason for reason in notes)
                if not booked and not self._holds_less(ledger, told):
                    self._judge.violated("others_booked", name)
        if not self._waits:  # until then the venue's word on one may be its word on those before it too
            self._told.clear()

    def _holds_less(self, ledger: LedgerReader, one: _Told) -> bool:
        """Whether the venue has said since that it holds less of an instrument than reports had told by then."""
        told = {
            name: each
            for name, each in self._told.items()
            if each.instrument == one.instrument and each.life is one.life
        }
        lots, filled = 0, dict.fromkeys(told, 0)  # lots, signed, that the venue has not spoken of yet
        for event in [*ledger.events(min(each.row for each in told.values()))]:
            body = event.body
            if isinstance(body, OrderUpdate) and body.clOrdID in told:
                lots += body.side * (body.filled - filled[body.clOrdID])
                filled[body.clOrdID] = body.filled
            elif (
                isinstance(body, Control) and body.action == "confirmed" and body.instrument == one.instrument
            ):
                if event.seq > one.row and abs(body.value) < abs(lots):
                    return True
                lots = 0
        return False
