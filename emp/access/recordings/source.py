"""Recordings as a Source: open files, find what belongs together, read them in order of time."""

import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from emp.access.port import ReadCounts, Source
from emp.access.recordings.binance import BinanceReader
from emp.access.recordings.book_csv import BookCsvReader
from emp.access.recordings.container import Item, items
from emp.access.recordings.databento import DatabentoReader
from emp.access.recordings.detect import Format, Found, detect
from emp.access.recordings.exchange import ExchangeEventsReader
from emp.access.recordings.folder import Folder
from emp.access.recordings.journalled import JournalRecording, journalled_parts
from emp.access.recordings.lobster import MESSAGE_COLUMNS, LobsterReader
from emp.access.recordings.lobster_rebuild import LobsterRebuildReader
from emp.access.recordings.quotes import QuotesReader
from emp.access.recordings.reader import Reader
from emp.access.recordings.sgx import SgxReader
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import Array

Progress = Callable[[int, int], None]
"""Called with stored bytes read and stored bytes in all."""


def open_recording(
    paths: Sequence[Path] | Path, instrument: Instrument, *, progress: Progress | None = None
) -> Source:
    """Open recorded files of one instrument as a Source of events.

    The format of each file is found from its content, packed or not; the second file of a pair is found beside
    the first; several recordings (days) are read in order of time.

    Raises:
        DataError: a file is missing, empty, damaged, cut off or not a recording; one line says which and why.
    """
    journalled = journalled_parts(paths)
    if journalled:
        return JournalRecording(journalled, instrument, progress)
    readers = [_reader(group, instrument) for group in _groups(_detected(paths))]
    readers.sort(key=lambda reader: reader.first_ts_ns)
    return Recording(readers, instrument, progress)


def files_of(paths: Sequence[Path] | Path) -> list[Item]:
    """All files that `open_recording` would read, those found beside the named ones included."""
    journalled = journalled_parts(paths)
    if journalled:
        return [Item(path) for path in journalled]
    groups = _groups(_detected(paths))
    return [item for group in groups for item in (group.lead, group.other) if item is not None]


def _detected(paths: Sequence[Path] | Path) -> dict[Item, Found]:
    named = [paths] if isinstance(paths, Path) else list(paths)
    if not named:
        raise DataError("no recording was named")
    found: dict[Item, Found] = {}
    for path in named:
        inside = items(path)
        for item in inside:
            try:
                found[item] = detect(item)
            except DataError:
                if len(inside) == 1:
                    raise
    if not found:
        raise DataError(f"{named[0]}: the archive holds no recording")
    return found


class Recording:
    """Recorded files as a Source; each call of `batches` reads them anew and restarts `counts`."""

    def __init__(self, readers: Sequence[Reader], instrument: Instrument, progress: Progress | None) -> None:
        self.instrument = instrument
        self.counts = ReadCounts()
        self.sub_lot_levels = (
            0  # levels left out of books because they held less than one lot; final with `counts`
        )
        self._readers = readers
        self._progress = progress

    def batches(self) -> Iterator[Array]:
        """Yield arrays of EVENT rows in order; raise DataError where a file turns out damaged."""
        self.counts = ReadCounts()
        folder = Folder(self.instrument, self.counts)
        total = sum(reader.stored_bytes for reader in self._readers)
        done = 0

        def advance(stored: int) -> None:
            nonlocal done
            done += stored
            if self._progress is not None:
                self._progress(min(done, total), total)

        for reader in self._readers:
            folder.open_file(reader.label, reader.flags)
            for raw in reader.batches(advance):
                events = folder.push(*raw)
                if len(events):
                    yield events
            folder.close_file()
        self.sub_lot_levels = folder.sub_lot_levels
        yield folder.finish()


PAIRS = {
    Format.LOBSTER_MESSAGE: (Format.LOBSTER_BOOK, "message", "orderbook"),
    Format.BOOK_CSV: (Format.TRADES_CSV, "book", "trades"),
    Format.TSLA_EVENTS: (Format.TSLA_BBO, "exchange_events", "bbo"),
}
"""Formats that lead a pair: the other's format, and the words by which the names of the two differ."""

_ROLE = re.compile(r"orderbook|message|exchange_events|bbo|trades|book\d*", re.IGNORECASE)


class _Group(NamedTuple):
    """The files of one recording."""

    lead: Item
    kind: Found
    other: Item | None = None
    other_kind: Found | None = None


def _groups(found: dict[Item, Found]) -> list[_Group]:
    """Put files that belong together in one group each, finding what was not named beside what was."""
    groups: dict[Item, _Group] = {}
    for item, kind in found.items():
        group = _Group(item, kind)
        for first, (second, name, other_name) in PAIRS.items():
            if kind.format in (first, second):
                group = _paired(item, kind, first, second, (name, other_name), found)
        groups[group.lead] = group
    return list(groups.values())


def _paired(
    item: Item, kind: Found, first: Format, second: Format, words: tuple[str, str], found: dict[Item, Found]
) -> _Group:
    partner = _partner(item, kind, first, second, found)
    if partner is None:
        if kind.format is second:
            raise DataError(f"{item.label}: holds {second}; the file of {first} must lie beside it")
        return _Group(item, kind)
    partner_kind = found.get(partner) or detect(partner)
    if {kind.format, partner_kind.format} != {first, second}:
        raise DataError(f"{partner.label}: holds {partner_kind.format}, and so does {item.name}: mislabelled")
    group = _Group(item, kind, partner, partner_kind)
    if kind.format is second:
        group = _Group(partner, partner_kind, item, kind)
    if (_role(group.lead.name), _role((group.other or item).name)) == (words[1], words[0]):
        raise DataError(
            f"{group.lead.label} holds {first} and {(group.other or item).name} holds {second}: "
            "the names are swapped"
        )
    return group


def _partner(item: Item, kind: Found, first: Format, second: Format, found: dict[Item, Found]) -> Item | None:
    """The other file of a pair: named alike but for the word that says what it is, or the only other named."""
    others = [other for other in found if other != item]
    for other in others + item.siblings():
        alike = _ROLE.sub("*", other.name) == _ROLE.sub("*", item.name)
        if alike and _role(other.name) != _role(item.name):
            return other
    wanted = second if kind.format is first else first
    if len(others) == 1 and found[others[0]].format is wanted:
        return others[0]
    return None


def _role(name: str) -> str:
    """The last word of a name that says what the file is: message, orderbook, book, trades…"""
    words = _ROLE.findall(name)
    return str(words[-1]).lower().rstrip("0123456789") if words else ""


def _reader(group: _Group, instrument: Instrument) -> Reader:
    lead, kind, other, other_kind = group
    if kind.format is Format.LOBSTER_MESSAGE:
        extra = kind.columns - len(MESSAGE_COLUMNS)
        if other is None or other_kind is None:
            return LobsterRebuildReader(lead, extra, instrument)
        return LobsterReader(lead, other, other_kind.columns // 4, extra, instrument)
    if kind.format is Format.BOOK_CSV:
        return BookCsvReader(lead, kind, other, other_kind, instrument)
    if kind.format is Format.TSLA_EVENTS:
        return ExchangeEventsReader(lead, kind, instrument)
    if kind.format is Format.QUOTES_CSV:
        return QuotesReader(lead, kind, instrument)
    if kind.format is Format.SGX_CSV:
        return SgxReader(lead, instrument)
    if kind.format is Format.DATABENTO:
        return DatabentoReader(lead, instrument)
    return BinanceReader(lead, instrument)
