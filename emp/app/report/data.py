"""What a page needs of a run, read from its folder."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emp.core.codes import Action, Reason
from emp.core.contracts import CancelOrder, NewOrder, Replace
from emp.core.errors import DataError
from emp.core.ids import generator
from emp.core.platform import exists
from emp.core.records import Array
from emp.engine.journal_tap import journalled_rows
from emp.engine.spans import UNSEEN
from emp.journal.decisions import recorded_decisions, with_recorded
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder
from emp.observe.markout import alphas_bps, summarise


class RunData(msgspec.Struct):
    """One instrument's run: its decisions, fills and figures."""

    folder: Path
    manifest: dict[str, Any]
    summary: dict[str, Any]
    rows: Array  # DECISION
    fills: dict[str, Array]  # ts, side, px, qty, fee, maker: one entry per fill
    orders: dict[str, int]  # reason -> how many orders and cancels were sent for it
    breaches: list[str]

    @property
    def instrument(self) -> str:
        """Name of the instrument."""
        return str(self.manifest["instruments"][0])

    @property
    def seen(self) -> list[tuple[str, int, int]]:
        """Stretches of the run on which its model was trained or calibrated: name, first and last ns."""
        spans = self.summary.get("spans", {})
        return [
            (name, int(first), int(last))
            for name, sums in spans.items()
            if name != UNSEEN
            for first, last in sums.get("stretches", [])
        ]

    @property
    def mid(self) -> Array:
        """Mid of every decision, ticks."""
        return (self.rows["bid"] + self.rows["ask"]) / 2.0


def read_run(path: Path) -> RunData:
    """Read a run folder; raise DataError in one line where it is not one or holds no decisions."""
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
        sent: dict[str, int] = {}
        for event in reader.events():
            body = event.body
            if isinstance(body, NewOrder | CancelOrder | Replace):
                reason = Reason(body.reason).name.lower()
                sent[reason] = sent.get(reason, 0) + 1
        fills = reader.fills()
        breaches = [
            ", ".join(f"{k} {v}" for k, v in note.data.items()) for note in reader.notes("risk_breach")
        ]
    finally:
        reader.close()
    columns = {
        name: np.array([getattr(f, name) for f in fills], dtype)
        for name, dtype in (
            ("ts", "i8"),
            ("side", "i8"),
            ("px", "i8"),
            ("qty", "i8"),
            ("fee", "f8"),
            ("maker", "?"),
        )
    }
    return RunData(path, folder.manifest, summary, rows, columns, sent, breaches)


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
