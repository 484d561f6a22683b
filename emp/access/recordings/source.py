"""Recordings as a Source: open files, find what belongs together, read them in order of time."""

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from emp.access.port import ReadCounts, Source
from emp.access.recordings.binance import BinanceReader
from emp.access.recordings.container import Item, items
from emp.access.recordings.databento import MboReader
from emp.access.recordings.dbn import DbnFile
from emp.access.recordings.detect import Format, Found, detect
from emp.access.recordings.exchange import ExchangeEventsReader
from emp.access.recordings.folder import Folder
from emp.access.recordings.journalled import JournalRecording, journalled_parts, refuse_twice
from emp.access.recordings.lobster import MESSAGE_COLUMNS, LobsterReader
from emp.access.recordings.lobster_rebuild import LobsterRebuildReader
from emp.access.recordings.mapping import Mapping
from emp.access.recordings.merged import MergedReader, settled
from emp.access.recordings.order import Reorder
from emp.access.recordings.packed import HftbacktestReader, MbpReader, ParquetReader
from emp.access.recordings.reader import Reader
from emp.access.recordings.sgx import SgxReader
from emp.access.recordings.table import TableReader
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import Array

Progress = Callable[[int, int], None]
"""Called with stored bytes read and stored bytes in all."""


def open_recording(
    paths: Sequence[Path] | Path,
    instrument: Instrument,
    *,
    progress: Progress | None = None,
    mappings: Sequence[Mapping] = (),
    accept_losses: bool = False,
) -> Source:
    """Open recorded files of one instrument as a Source of events.

    The format of each file is found from its content, packed or not; the second file of a pair is found beside
    the first; several recordings (days) are read in order of time. `mappings` are the user's own formats, which come
    before those that are shipped.

    Raises:
        DataError: a file is missing, named twice, empty, damaged, cut off, of another instrument or not a recording;
            while it is read, also where more of it is quarantined than `losses.LIMITS` allow, unless `accept_losses`.
            One line says which and why.
    """
    journalled = journalled_parts(paths)
    if journalled:
        return JournalRecording(journalled, instrument, progress)
    groups = _groups(_detected(paths, mappings))
    readers = [reader_of(group, instrument, mappings) for group in groups]
    readers.sort(key=lambda reader: (reader.first_ts_ns, reader.label))
    for before, after in pairwise(readers):
        if isinstance(before, BinanceReader) and isinstance(after, BinanceReader):
            after.previous = before
    return Recording(readers, instrument, progress, accept_losses=accept_losses)


def files_of(paths: Sequence[Path] | Path, mappings: Sequence[Mapping] = ()) -> list[Item]:
    """All files that `open_recording` would read, those found beside the named ones included."""
    journalled = journalled_parts(paths)
    if journalled:
        return [Item(path) for path in journalled]
    groups = _groups(_detected(paths, mappings))
    return [item for group in groups for item in (group.lead, group.other) if item is not None]


def _detected(paths: Sequence[Path] | Path, mappings: Sequence[Mapping] = ()) -> dict[Item, Found]:
    named = [paths] if isinstance(paths, Path) else list(paths)
    if not named:
        raise DataError("no recording was named")
    refuse_twice(named)
    found: dict[Item, Found] = {}
    for path in named:
        inside = items(path)
        refused: list[DataError] = []
        for item in inside:
            try:
                found[item] = detect(item, mappings)
            except DataError as error:
                if len(inside) == 1:
                    raise
                refused.append(error)
        if refused and len(refused) == len(inside):
            raise DataError(f"{path}: the archive holds no recording; {refused[0]}")
    return found


class Recording:
    """Recorded files as a Source; each call of `batches` reads them anew and restarts `counts`."""

    def __init__(
        self,
        readers: Sequence[Reader],
        instrument: Instrument,
        progress: Progress | None,
        *,
        accept_losses: bool = False,
    ) -> None:
        self.instrument = instrument
        self.counts = ReadCounts()
        self.sub_lot_levels = 0  # levels left out of books because they held less than one lot
        self._readers = readers
        self._progress = progress
        self._accept_losses = accept_losses

    def batches(self) -> Iterator[Array]:
        """Yield arrays of EVENT rows in order; raise DataError where a file turns out damaged."""
        self.counts = ReadCounts()
        folder = Folder(self.instrument, self.counts, accept_losses=self._accept_losses)
        total = sum(reader.stored_bytes for reader in self._readers)
        done = 0

        def advance(stored: int) -> None:
            nonlocal done
            done += stored
            if self._progress is not None:
                self._progress(min(done, total), total)

        explain = ""
        for reader in self._readers:
            folder.open_file(reader.label, reader.flags)
            self.counts.formats.append(f"{Path(reader.label).name}: {reader.describe()}")
            order = Reorder(reader.sortable)
            for raw in reader.batches(advance):
                for part in order.pass_on(raw):
                    events = folder.push(*part)
                    if len(events):
                        yield events
            for part in order.flush():
                events = folder.push(*part)
                if len(events):
                    yield events
            self.counts.gaps += reader.gaps
            explain = reader.explain() if isinstance(reader, BinanceReader) else ""
            folder.close_file(explain)
        self.sub_lot_levels = folder.sub_lot_levels
        yield folder.finish(explain)


PAIRS = {
    Format.LOBSTER_MESSAGE: (Format.LOBSTER_BOOK, "message", "orderbook"),
    Format.TSLA_EVENTS: (Format.TSLA_BBO, "exchange_events", "bbo"),
}
"""Formats that lead a pair: the other's format, and the words by which the names of the two differ."""

_ROLE = re.compile(
    r"orderbook|message|exchange_events|bbo|trades?|transactions?|aggtrades?|quotes?|bookticker|book\d*|snap\d*|depth\d*",
    re.IGNORECASE,
)
_TRADES = re.compile(r"(agg)?trades?|transactions?", re.IGNORECASE)


class Group(NamedTuple):
    """The files of one recording."""

    lead: Item
    kind: Found
    other: Item | None = None
    other_kind: Found | None = None


def _groups(found: dict[Item, Found]) -> list[Group]:
    """Put files that belong together in one group each, finding what was not named beside what was."""
    groups: dict[Item, Group] = {}
    for item, kind in found.items():
        group = Group(item, kind)
        if kind.format is Format.TABLE:
            group = _table_group(item, kind, found)
        for first, (second, name, other_name) in PAIRS.items():
            if kind.format in (first, second):
                group = _paired(item, kind, first, second, (name, other_name), found)
        groups[group.lead] = group
    return list(groups.values())


def _table_group(item: Item, kind: Found, found: dict[Item, Found]) -> Group:
    """A table of books with its table of trades, where there is one; trades alone are refused."""
    partner = _table_partner(item, kind, found)
    if kind.role == "book":
        if partner is None:
            if (
                _role(item.name) in ("trade", "trades")
                and kind.mapping is not None
                and kind.mapping.level is None
            ):
                _refuse_swapped(item, kind, found)
            return Group(item, kind)
        return Group(item, kind, partner, found.get(partner) or detect(partner))
    if partner is None:
        raise DataError(
            f"{item.label}: holds trades alone ({kind.named}), which tell of no book; name the file of quotes or books "
            "of the same time too, or put it beside it"
        )
    return Group(partner, found.get(partner) or detect(partner), item, kind)


def _refuse_swapped(item: Item, kind: Found, found: dict[Item, Found]) -> None:
    for other in [*found, *item.siblings()]:
        if other == item or _ROLE.sub("*", other.name) != _ROLE.sub("*", item.name):
            continue
        other_kind = found.get(other) or _detected_or_none(other)
        if other_kind is not None and other_kind.role == "trades":
            raise DataError(
                f"{item.label} holds {kind.named} and {other.name} holds {other_kind.named}: the names are swapped"
            )


def _table_partner(item: Item, kind: Found, found: dict[Item, Found]) -> Item | None:
    """The table of the other role: named alike but for the word that says what it is, or the only other named."""
    wanted = "trades" if kind.role == "book" else "book"
    named = [
        o
        for o, k in found.items()
        if o != item and k.format in (Format.TABLE, Format.DATABENTO) and k.role == wanted
    ]
    alike = [o for o in named if _ROLE.sub("*", o.name) == _ROLE.sub("*", item.name)]
    if alike:
        return alike[0]
    if len(named) == 1 and len([k for k in found.values() if k.role == kind.role]) == 1:
        return named[0]
    for other in item.siblings():
        if _ROLE.sub("*", other.name) != _ROLE.sub("*", item.name) or other in found:
            continue
        other_kind = _detected_or_none(other)
        if other_kind is not None and other_kind.format is Format.TABLE:
            if other_kind.role == wanted:
                return other
            if bool(_TRADES.fullmatch(_role(other.name))) != (other_kind.role == "trades"):
                raise DataError(
                    f"{other.label}: holds {other_kind.named}, and so does {item.name}: mislabelled"
                )
    return None


def _detected_or_none(item: Item) -> Found | None:
    try:
        return detect(item)
    except DataError:
        return None


def _paired(
    item: Item, kind: Found, first: Format, second: Format, words: tuple[str, str], found: dict[Item, Found]
) -> Group:
    partner = _partner(item, kind, first, second, found)
    if partner is None:
        if kind.format is second:
            raise DataError(f"{item.label}: holds {second}; the file of {first} must lie beside it")
        return Group(item, kind)
    partner_kind = found.get(partner) or detect(partner)
    if {kind.format, partner_kind.format} != {first, second}:
        raise DataError(f"{partner.label}: holds {partner_kind.format}, and so does {item.name}: mislabelled")
    group = Group(item, kind, partner, partner_kind)
    if kind.format is second:
        group = Group(partner, partner_kind, item, kind)
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


def reader_of(group: Group, instrument: Instrument, mappings: Sequence[Mapping] = ()) -> Reader:
    """The reader of a recording's files."""
    lead, kind, other, other_kind = group
    if kind.format is Format.LOBSTER_MESSAGE:
        extra = kind.width - len(MESSAGE_COLUMNS)
        if other is None or other_kind is None:
            return LobsterRebuildReader(lead, kind, extra, instrument)
        return LobsterReader(lead, kind, other, other_kind, extra, instrument)
    if kind.format is Format.TSLA_EVENTS:
        return ExchangeEventsReader(lead, kind, instrument)
    if kind.format is Format.SGX_CSV:
        return SgxReader(lead, kind, instrument)
    if kind.format is Format.DATABENTO:
        file = DbnFile(lead, instrument)
        return MboReader(file, instrument) if file.mbo else MbpReader(file, instrument)
    if kind.format is Format.HFTBACKTEST:
        return HftbacktestReader(lead, instrument)
    if kind.format is Format.PARQUET:
        return ParquetReader(lead, instrument, tuple(mappings))
    if kind.format is Format.BINANCE:
        return BinanceReader(lead, kind, instrument)
    books = TableReader(lead, kind, instrument)
    if other is None or other_kind is None:
        return settled(books)
    return MergedReader(books, TableReader(other, other_kind, instrument))
