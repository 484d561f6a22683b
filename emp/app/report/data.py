"""What a page needs of a run, read from its folder."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emp.core.codes import Action, Reason
from emp.core.contracts import CancelOrder, NewOrder, Replace
from emp.core.errors import DataError
from emp.core.ids import generator
from emp.core.instrument import Instrument
from emp.core.platform import exists
from emp.core.records import Array
from emp.engine.carry import CARRIED
from emp.engine.journal_tap import journalled_rows
from emp.engine.reconciliation.valuation import ADJUSTMENT
from emp.engine.spans import NOT_KNOWN, UNSEEN
from emp.journal.decisions import recorded_decisions, with_recorded
from emp.journal.reader import LedgerReader
from emp.journal.records import Fill, Note
from emp.journal.run import RunFolder, instruments_of
from emp.observe.markout import alphas_bps, summarise


class RunData(msgspec.Struct):
    """What one instrument did in a run: its decisions, fills and figures."""

    folder: Path
    manifest: dict[str, Any]
    summary: dict[str, Any]  # of the whole run
    rows: Array  # DECISION
    fills: dict[str, Array]  # ts, side, px, qty, fee, maker: one entry per fill
    orders: dict[str, int]  # reason -> how many orders and cancels were sent for it
    breaches: list[str]
    place: int = 0  # of the instrument in the manifest
    brought: int = 0  # lots in its position that no fill brought: carried over, or adjusted

    @property
    def instrument(self) -> str:
        """Name of the instrument."""
        return str(self.manifest["instruments"][self.place])

    @property
    def facts(self) -> Instrument | None:
        """The instrument as it was when the run began; None where an older release wrote it otherwise."""
        known = instruments_of(self.manifest)
        return known[self.place] if known else None

    @property
    def told(self) -> dict[str, Any]:
        """What the summary says of this instrument."""
        own: dict[str, Any] = self.summary.get("instruments", {}).get(self.instrument, self.summary)
        return own

    @property
    def pnl_ticks(self) -> float:
        """PnL after fees at the end, marked to mid; of a run that has not ended, as its newest decision says."""
        return float(self.told.get("pnl_ticks", self.rows["pnl_ticks"][-1]))

    @property
    def position(self) -> int:
        """Lots that are held at the end, signed."""
        return self.brought + int((self.fills["side"] * self.fills["qty"]).sum())

    @property
    def to_close_ticks(self) -> float | None:
        """What it would cost to close that at the last book, ticks times lots; None where the fee is not known."""
        facts = self.facts
        if facts is None:
            return None
        last = self.rows[-1]
        half = (float(last["ask"]) - float(last["bid"])) / 2.0
        return abs(self.position) * (half + facts.taker_fee)

    @property
    def seen(self) -> list[tuple[str, int, int]]:
        """Stretches of the run on which its model was trained or calibrated: name, first and last ns."""
        spans = self.told.get("spans", {})
        return [
            (name, int(first), int(last))
            for name, sums in spans.items()
            if name not in (UNSEEN, NOT_KNOWN)
            for first, last in sums.get("stretches", [])
        ]

    @property
    def mid(self) -> Array:
        """Mid of every decision, ticks."""
        return (self.rows["bid"] + self.rows["ask"]) / 2.0


def read_run(path: Path) -> list[RunData]:
    """What each instrument of a run did, in the run's order, those that decided nothing left out.

    Raises DataError in one line where the path is no run folder or holds no decisions.
    """
    if not exists(path / "manifest.json"):
        raise DataError(f"{path}: not a run folder: it has no manifest.json")
    folder = RunFolder(path)
    summary = folder.summary() if folder.finished else {}
    rows = journalled_rows(folder)
    reader = LedgerReader(folder.ledger)
    try:
        rows = with_recorded(rows, recorded_decisions(reader.events()))
        rows = rows[rows["bid"] < rows["ask"]]
        if not len(rows):
            raise DataError(
                f"{path}: nothing to show: the run made no decision, or was killed before its first were written"
                " (at the latest every journal.flush_seconds)"
            )
        bodies = [event.body for event in reader.events()]
        notes = [*reader.notes(CARRIED), *reader.notes(ADJUSTMENT)]
        sent = [body for body in bodies if isinstance(body, NewOrder | CancelOrder | Replace)]
        fills, breaches = reader.fills(), reader.notes("risk_breach")
    finally:
        reader.close()
    return [
        RunData(
            path,
            folder.manifest,
            summary,
            rows[rows["instrument"] == place],
            _columns([one for one in fills if one.instrument == name]),
            dict(Counter(Reason(one.reason).name.lower() for one in sent if one.instrument == name)),
            [
                ", ".join(f"{k} {v}" for k, v in one.data.items())
                for one in breaches
                if one.instrument in ("", name)
            ],
            place,
            sum(_lots(one) for one in notes if one.instrument == name),
        )
        for place, name in enumerate(folder.manifest["instruments"])
        if (rows["instrument"] == place).any()
    ]


def _lots(note: Note) -> int:
    """Lots that a note brings into a position."""
    return int(note.data["position" if note.kind == CARRIED else "qty"] or 0)


def _columns(fills: Sequence[Fill]) -> dict[str, Array]:
    return {
        name: np.array([getattr(one, name) for one in fills], dtype)
        for name, dtype in (
            ("ts", "i8"),
            ("side", "i8"),
            ("px", "i8"),
            ("qty", "i8"),
            ("fee", "f8"),
            ("maker", "?"),
        )
    }


def reasons(rows: Array) -> dict[str, int]:
    """How often each reason was given, most frequent first."""
    values, counts = np.unique(rows["reason_code"], return_counts=True)
    named = {Reason(int(v)).name.lower(): int(c) for v, c in zip(values, counts, strict=True)}
    return dict(sorted(named.items(), key=lambda item: -item[1]))


def actions(rows: Array) -> dict[str, int]:
    """How often each action was decided."""
    values, counts = np.unique(rows["action"], return_counts=True)
    return {Action(int(v)).name.lower(): int(c) for v, c in zip(values, counts, strict=True)}


def alpha_table(run: RunData) -> list[dict[str, Any]]:
    """Alpha after fees per horizon, for resting and crossing fills apart."""
    table: list[dict[str, Any]] = []
    alphas = alphas_bps(run.rows["ts"], run.mid, run.fills)
    for kind, chosen in (("resting", run.fills["maker"]), ("crossing", ~run.fills["maker"])):
        rng = generator(0, "alpha", kind)
        for row in summarise(alphas[chosen], run.fills["qty"][chosen], rng):
            table.append({"fills_by": kind, **row})
    return table
