"""What ledgers of runs say of the same days: fills, fees and financing, in ticks and in money."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import msgspec

from emp.core.contracts import Control, OrderUpdate, Replace
from emp.core.errors import JournalError
from emp.core.instrument import Instrument, find
from emp.engine.financing import FINANCING_NOTE
from emp.engine.reconciliation.valuation import ADJUSTMENT, VALUED
from emp.journal.reader import LedgerReader
from emp.journal.records import LedgerEvent, Note
from emp.journal.run import RunFolder


class OurFill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill in a ledger."""

    run: str
    seq: int
    ts: int
    instrument: str
    side: int
    qty: int  # lots
    px: float  # ticks; 0: not known, as of an adjustment
    fee: float = 0.0  # ticks times lots, paid
    cl_ord_id: str = ""  # "": an adjustment
    exec_id: str = ""


class Financing(msgspec.Struct, frozen=True, kw_only=True):
    """What a roll has brought."""

    ts: int
    instrument: str
    ticks: float  # times lots, received


class Told(msgspec.Struct, frozen=True):
    """A rate that was told: the account's currency per unit of another."""

    ts: int
    currency: str
    value: float


class Ours(msgspec.Struct, kw_only=True):
    """What the ledgers of some runs hold."""

    runs: list[str] = []
    instruments: dict[str, Instrument] = {}
    fills: list[OurFill] = []
    financing: list[Financing] = []
    rates: list[Told] = []
    currency: str = ""  # of the account, where a run's limits name it


def read_ours(folders: Iterable[RunFolder], progress: Callable[[str], None] = lambda _: None) -> Ours:
    """Read the ledgers of runs; JournalError where one cannot be, or where two differ about an instrument."""
    ours = Ours()
    for folder in folders:
        progress(folder.path.name)
        for one in instruments_of(folder):
            known = ours.instruments.setdefault(one.name, one)
            if (known.tick, known.lot, known.point_value) != (one.tick, one.lot, one.point_value):
                raise JournalError(
                    f"{folder.path}: {one.name} has another tick or lot than in {ours.runs[-1]}"
                )
        ours.runs.append(folder.path.name)
        ours.currency = ours.currency or _currency(folder)
        ledger = LedgerReader(folder.ledger)
        try:
            run = _Run(ours, folder.path.name)
            for event in ledger.events():
                run.take(event)
            run.end(ledger)
        finally:
            ledger.close()
    ours.fills.sort(key=lambda one: (one.ts, one.seq))
    ours.rates.sort(key=lambda one: one.ts)
    return ours


def instruments_of(folder: RunFolder) -> list[Instrument]:
    """The instruments of a run as they were when it began; as the catalogue has them where it did not keep them."""
    config = folder.manifest.get("config")
    kept: Sequence[object] = folder.manifest.get("facts") or []
    if not kept and isinstance(config, dict) and isinstance(config.get("instrument"), dict):
        kept = [config["instrument"]]
    try:
        known = {one.name: one for one in (msgspec.convert(fact, Instrument, strict=False) for fact in kept)}
    except msgspec.ValidationError as error:
        raise JournalError(f"{folder.path}: its instruments cannot be read: {error}") from error
    return [known.get(name) or find(name) for name in folder.manifest["instruments"]]


def _currency(folder: RunFolder) -> str:
    account = (folder.manifest.get("config") or {}).get("account")
    return str(account.get("currency") or "") if isinstance(account, dict) else ""


class _Run:
    """Takes the events of one ledger."""

    def __init__(self, ours: Ours, run: str) -> None:
        self._ours, self._run = ours, run
        self._root: dict[str, str] = {}  # id of a replacement -> the order's first id
        self._corrected: dict[str, OrderUpdate] = {}  # by the order's first id
        self._unvalued: dict[str, list[OurFill]] = defaultdict(list)  # by instrument: wait for their price

    def take(self, event: LedgerEvent) -> None:
        """The next event."""
        if event.kind == "note" and not any(
            event.is_note(kind) for kind in (FINANCING_NOTE, ADJUSTMENT, VALUED)
        ):
            return
        body = event.body
        if isinstance(body, Replace):
            self._root[body.cl_ord_id] = self._first(body.orig)
        elif isinstance(body, OrderUpdate) and body.correction:
            self._corrected[self._first(body.clOrdID)] = body
        elif isinstance(body, Control) and body.action == "rate":
            self._ours.rates.append(Told(body.ts, body.reason, body.value))
        elif isinstance(body, Note):
            self._note(event.seq, body)

    def _first(self, name: str) -> str:
        return self._root.get(name, name)

    def _note(self, seq: int, note: Note) -> None:
        if note.kind == FINANCING_NOTE:
            ticks = float(note.data["received"] or 0.0)
            self._ours.financing.append(Financing(ts=note.ts, instrument=note.instrument, ticks=ticks))
            return
        qty, px = int(note.data.get("qty") or 0), float(note.data.get("px") or 0.0)
        fill = OurFill(
            run=self._run,
            seq=seq,
            ts=note.ts,
            instrument=note.instrument,
            side=1 if qty > 0 else -1,
            qty=abs(qty),
            px=px,
            fee=float(note.data.get("fee") or 0.0),
        )
        if note.kind == VALUED:  # of everything that waited, whatever told of it
            self._unvalued.pop(note.instrument, None)
        elif not px:
            self._unvalued[note.instrument].append(fill)
            return
        if qty:
            self._ours.fills.append(fill)

    def end(self, ledger: LedgerReader) -> None:
        """Take the fills of our orders, as the venue let them stand."""
        fills = [
            OurFill(run=self._run, px=float(one.px), **{name: getattr(one, name) for name in _KEPT})
            for one in ledger.fills()
        ]
        for name, update in self._corrected.items():
            mine = [one for one in fills if self._first(one.cl_ord_id) == name]
            fills = [one for one in fills if self._first(one.cl_ord_id) != name] + _standing(mine, update)
        self._ours.fills += [*fills, *chain.from_iterable(self._unvalued.values())]


def _standing(mine: list[OurFill], update: OrderUpdate) -> list[OurFill]:
    """The fills of an order of which the venue took back or changed some: what stands, as one, and what followed."""
    later = [one for one in mine if one.ts > update.ts]
    before = [one for one in mine if one not in later]
    if not before or not update.filled:
        return later
    fee = sum(one.fee for one in before)
    return [msgspec.structs.replace(before[0], qty=update.filled, px=update.average, fee=fee), *later]


_KEPT = ("seq", "ts", "instrument", "side", "qty", "fee", "cl_ord_id", "exec_id")
