"""The market data of a run, as its engine saw it: one EVENT row per event, in the order of processing.

Parquet parts of `emp.core.market_file`, so that what was journalled is a recording like any other. Events of all the
run's instruments stand in one sequence: with the ledger, whose entries say after how many events they came, it is
everything that the engine was told.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from emp.core.errors import JournalError
from emp.core.instrument import Instrument
from emp.core.market_file import (
    MARKET_KEY,
    is_market_data,
    market_events,
    market_header,
    market_table,
    same_grid,
)
from emp.core.records import EVENT, Array
from emp.journal.parts import PartWriter, list_parts, read_parts

PART_EVENTS = 1 << 15
_WHAT = "market journal"


class MarketJournal:
    """Writes the market data of one run. A folder that holds parts is continued where it ends."""

    def __init__(self, folder: Path, instruments: Sequence[Instrument]) -> None:
        self.folder = folder
        self._head = market_header(instruments)
        self._writer = PartWriter(folder, EVENT, PART_EVENTS, _WHAT)
        self.events = sum(table.num_rows for _, table in self._tables())
        """Events appended so far, those of earlier processes included."""
        self._closed = False

    def _tables(self) -> Iterator[tuple[Path, pa.Table]]:
        for path, table in read_parts(self._writer.parts, _WHAT):
            if not is_market_data(table.schema):
                raise JournalError(f"{path} is not a part of a market journal of this release")
            if not same_grid(table.schema.metadata[MARKET_KEY], self._head):
                raise JournalError(f"{path} was written for other instruments than this run's")
            yield path, table

    def append(self, events: Array) -> None:
        """Take EVENT rows [n]; they are on disk after `flush`, or soon after a part is full."""
        if self._closed:
            raise JournalError(f"{_WHAT} {self.folder} is closed")
        self._writer.append(events, self._to_table)
        self.events += len(events)

    def _to_table(self, events: Array) -> pa.Table:
        return market_table(events, self._head)

    def flush(self) -> None:
        """Make everything appended so far durable."""
        self._writer.flush(self._to_table)

    def checkpoint(self) -> None:
        """Begin to make everything appended so far durable; the part that holds it goes on growing."""
        self._writer.checkpoint(self._to_table)

    def truncate_to(self, n_events: int) -> None:
        """Keep the first `n_events` events."""
        self._writer.forget_buffered()
        kept, parts = 0, 0
        for path, table in self._tables():
            left = n_events - kept
            if left <= 0:
                break
            parts += 1
            kept += min(left, table.num_rows)
            if table.num_rows > left:
                self._writer.drop_after(parts)
                self._writer.write_part(path, table.slice(0, left))
                break
        if kept < n_events:
            raise JournalError(f"{_WHAT} {self.folder} has {kept} events, not the {n_events} wanted")
        self._writer.drop_after(parts)
        self.events = kept

    def close(self) -> None:
        """Write what is left."""
        self._closed = True
        self._writer.close(self._to_table)


def read_market(folder: Path) -> Iterator[Array]:
    """Yield the EVENT rows of a market journal in order, a part at a time."""
    for path, table in read_parts(list_parts(folder, _WHAT), _WHAT):
        if not is_market_data(table.schema):
            raise JournalError(f"{path} is not a part of a market journal of this release")
        yield market_events(table)
