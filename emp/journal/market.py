"""The market data of a run, as its engine saw it: one EVENT row per event, in the order of processing.

Parquet parts of `emp.core.market_file`, so that what was journalled is a recording like any other. Events of all the
run's instruments stand in one sequence: with the ledger, whose entries say after how many events they came, it is
everything that the engine was told.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

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
from emp.journal.parts import (
    TOTAL_KEY,
    PartWriter,
    ToTable,
    list_parts,
    parts_for,
    read_footer,
    read_parts,
    total_rows,
    with_facts,
)

PART_EVENTS = 1 << 15
_WHAT = "market journal"


class MarketJournal:
    """Writes the market data of one run. A folder that holds parts is continued where it ends."""

    def __init__(self, folder: Path, instruments: Sequence[Instrument]) -> None:
        self.folder = folder
        self._head = market_header(instruments)
        self._writer = PartWriter(folder, EVENT, PART_EVENTS, _WHAT)
        self._check_last()
        self.events = total_rows(self._writer.parts, _WHAT)
        """Events appended so far, those of earlier processes included."""
        self._closed = False

    def _check_last(self) -> None:
        """Refuse a folder that another run wrote: its last part says so, and those before it are not looked at."""
        for path in self._writer.parts[-1:]:
            schema = read_footer(path, _WHAT).schema
            if not is_market_data(schema):
                raise JournalError(f"{path} is not a part of a market journal of this release")
            if not same_grid(schema.metadata[MARKET_KEY], self._head):
                raise JournalError(f"{path} was written for other instruments than this run's")

    def append(self, events: Array) -> None:
        """Take EVENT rows [n]; they are on disk after `flush`, or soon after a part is full."""
        if self._closed:
            raise JournalError(f"{_WHAT} {self.folder} is closed")
        while len(events):
            part = events[: self._writer.room]
            self.events += len(part)
            self._writer.append(part, self._to_table())
            events = events[len(part) :]

    def _to_table(self) -> ToTable:
        """What makes a part of the events up to here."""
        told = {TOTAL_KEY: str(self.events).encode()}
        return lambda events: with_facts(market_table(events, self._head), told)

    def flush(self) -> None:
        """Make everything appended so far durable."""
        self._writer.flush(self._to_table())

    def checkpoint(self) -> None:
        """Begin to make everything appended so far durable; the part that holds it goes on growing."""
        self._writer.checkpoint(self._to_table())

    def truncate_to(self, n_events: int) -> None:
        """Keep the first `n_events` events."""
        self._writer.forget_buffered()
        parts = self._writer.parts
        total = total_rows(parts, _WHAT)
        if total < n_events:
            raise JournalError(f"{_WHAT} {self.folder} has {total} events, not the {n_events} wanted")
        kept, before = parts_for(parts, total, n_events, _WHAT)
        self._writer.drop_after(kept)
        self.events = n_events
        for path, table in read_parts(parts[:kept][-1:] if total > n_events else [], _WHAT):
            if before + table.num_rows > n_events:
                cut = market_events(table.slice(0, n_events - before))
                self._writer.write_part(path, self._to_table()(cut))

    def close(self) -> None:
        """Write what is left."""
        self._closed = True
        self._writer.close(self._to_table())


def journalled_parts(folder: Path) -> int:
    """Events that the parts of a market journal hold."""
    return total_rows(list_parts(folder, _WHAT), _WHAT)


def parts_from(folder: Path, first: int) -> tuple[int, Iterator[Array]]:
    """The EVENT rows of a market journal in order, a part at a time, from the part on that holds event `first`; before
    them, how many come before that part.
    """
    parts = list_parts(folder, _WHAT)
    kept, before = parts_for(parts, total_rows(parts, _WHAT), first + 1, _WHAT)
    return before, _read(parts[max(kept - 1, 0) :])


def read_market(folder: Path) -> Iterator[Array]:
    """Yield the EVENT rows of a market journal in order, a part at a time."""
    return _read(list_parts(folder, _WHAT))


def _read(parts: Sequence[Path]) -> Iterator[Array]:
    for path, table in read_parts(parts, _WHAT):
        if not is_market_data(table.schema):
            raise JournalError(f"{path} is not a part of a market journal of this release")
        yield market_events(table)
