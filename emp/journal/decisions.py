"""The action-log row of every order, in the ledger's own transaction: it is durable before the order leaves.

The action log is written by a thread, some milliseconds after a decision, and synced once in a while. What led to an
order must outlive the process and the machine all the same, so its row stands in the ledger too, right before the
intent. Rows are kept as bytes, with their layout once per process.
"""

import base64
import json
from collections.abc import Iterable

import numpy as np

from emp.core.errors import JournalError
from emp.core.layout import brought_to, describe, described
from emp.core.records import DECISION, Array
from emp.journal.records import LedgerEvent, Note

DECISION_NOTE = "decision"
LAYOUT_NOTE = "decision_layout"


def layout_note(ts: int) -> Note:
    """How the rows of this process are laid out; to be recorded before the first of them."""
    return Note(kind=LAYOUT_NOTE, ts=ts, data={"layout": json.dumps(describe(DECISION))})


def decision_note(instrument: str, row: Array) -> Note:
    """A DECISION row [1] as a note."""
    text = base64.b64encode(row.tobytes()).decode()
    return Note(kind=DECISION_NOTE, ts=int(row["ts"][0]), instrument=instrument, data={"row": text})


def recorded_decisions(events: Iterable[LedgerEvent]) -> Array:
    """DECISION rows that a ledger's events hold, in order; JournalError where one cannot be read."""
    layout, found = DECISION, [np.zeros(0, DECISION)]
    for event in events:
        if not event.is_note(DECISION_NOTE) and not event.is_note(LAYOUT_NOTE):
            continue
        note = event.body
        assert isinstance(note, Note)
        try:
            if note.kind == LAYOUT_NOTE:
                layout = described(json.loads(str(note.data["layout"])))
            else:
                raw = base64.b64decode(str(note.data["row"]))
                found.append(brought_to(np.frombuffer(raw, layout), DECISION))
        except ValueError as error:
            raise JournalError(f"event {event.seq} of the ledger holds no decision ({error})") from error
    return np.concatenate(found)


def with_recorded(rows: Array, recorded: Array) -> Array:
    """The rows of an action log, and those of the ledger that it lost, in the order of their time."""
    known = set(zip(rows["instrument"].tolist(), rows["seq"].tolist(), strict=True))
    pairs = zip(recorded["instrument"].tolist(), recorded["seq"].tolist(), strict=True)
    lost = recorded[[pair not in known for pair in pairs]] if len(recorded) else recorded
    if not len(lost):
        return rows
    merged = np.concatenate([rows, lost])
    return merged[np.argsort(merged["ts"], kind="stable")]
