"""Where one model took over from another: kept in the ledger, so that a replay does it at the same event."""

from collections.abc import Iterator
from typing import Self

import msgspec

from emp.core.errors import JournalError
from emp.journal.reader import LedgerReader
from emp.journal.records import Note

MODEL_SWAP = "model_swap"

FALLBACKS = ("latency", "failed")
"""Reasons for which what stands by takes over; a model that was left for one does not come back by itself."""


class Swap(msgspec.Struct, frozen=True, kw_only=True):
    """After event `seq` of an instrument another model serves it."""

    instrument: str
    seq: int
    ts: int  # market time of that event
    before: str  # hashes of the two models
    after: str
    reason: str  # "latency", "failed" beside others, "reload", or "release": this one cannot load it
    p99_ms: float = 0.0  # of the model that served, over the guard's window
    total_p99_ms: float = 0.0

    @property
    def note(self) -> Note:
        """What the ledger keeps."""
        data = msgspec.structs.asdict(self)
        ts, instrument = data.pop("ts"), data.pop("instrument")
        return Note(kind=MODEL_SWAP, ts=ts, instrument=instrument, data=data)

    @classmethod
    def of(cls, note: Note) -> Self:
        """The swap that a note of the ledger keeps."""
        try:
            return msgspec.convert({**note.data, "ts": note.ts, "instrument": note.instrument}, cls)
        except msgspec.ValidationError as error:
            raise JournalError(f"a note of a model swap cannot be read: {error}") from error


def read_swaps(ledger: LedgerReader, instrument: str = "") -> Iterator[Swap]:
    """Yield the swaps of an instrument, or of all, oldest first."""
    for note in ledger.notes(MODEL_SWAP):
        if instrument in ("", note.instrument):
            yield Swap.of(note)
