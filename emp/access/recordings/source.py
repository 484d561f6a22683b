"""Recordings as a Source: open files, find what belongs together, read them in order of time."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from emp.access.port import ReadCounts
from emp.access.recordings.container import Item, items
from emp.access.recordings.detect import Format, Found, detect
from emp.access.recordings.fold import Folder
from emp.access.recordings.lobster import LobsterReader
from emp.access.recordings.lobster_rebuild import LobsterRebuildReader
from emp.access.recordings.quotes import QuotesReader
from emp.access.recordings.reader import Reader
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import Array

Progress = Callable[[int, int], None]
"""Called with stored bytes read and stored bytes in all."""


def open_recording(
    paths: Sequence[Path] | Path, instrument: Instrument, *, progress: Progress | None = None
) -> "Recording":
    """Open recorded files of one instrument as a Source of events.

    The format of each file is found from its content, packed or not; the second file of a pair is found beside
    the first; several recordings (days) are read in order of time.

    Raises:
        DataError: a file is missing, empty, damaged, cut off or not a recording; one line says which and why.
    """
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
    readers = [
        _reader(item, kind, found, instrument) for item, kind in found.items() if _leads(item, kind, found)
    ]
    readers.sort(key=lambda reader: reader.first_ts_ns)
    return Recording(readers, instrument, progress)


class Recording:
    """Recorded files as a Source; each call of `batches` reads them anew and restarts `counts`."""

    def __init__(self, readers: Sequence[Reader], instrument: Instrument, progress: Progress | None) -> None:
        self.instrument = instrument
        self.counts = ReadCounts()
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
        yield folder.finish()


def _leads(item: Item, kind: Found, found: dict[Item, Found]) -> bool:
    """Whether this item stands for its recording: the second file of a pair does not where the first is named."""
    if kind.format is not Format.LOBSTER_BOOK:
        return True
    return _partner(item, kind, found) not in found


def _reader(item: Item, kind: Found, found: dict[Item, Found], instrument: Instrument) -> Reader:
    partner = _partner(item, kind, found)
    if kind.format is Format.LOBSTER_MESSAGE and partner is not None:
        book = found.get(partner) or detect(partner)
        return _lobster(item, kind, partner, book, instrument)
    if kind.format is Format.LOBSTER_MESSAGE:
        return LobsterRebuildReader(item, kind.columns - 6, instrument)
    if kind.format is Format.LOBSTER_BOOK and partner is not None:
        return _lobster(partner, detect(partner), item, kind, instrument)
    if kind.format is Format.QUOTES_CSV:
        return QuotesReader(item, kind, instrument)
    raise DataError(f"{item.label}: {kind.format} cannot be read")


def _lobster(message: Item, m: Found, book: Item, b: Found, instrument: Instrument) -> Reader:
    if m.format is not Format.LOBSTER_MESSAGE or b.format is not Format.LOBSTER_BOOK:
        raise DataError(
            f"{message.label} holds {m.format} and {book.name} holds {b.format}: the names are swapped"
        )
    return LobsterReader(message, book, b.columns // 4, m.columns - 6, instrument)


def _partner(item: Item, kind: Found, found: dict[Item, Found]) -> Item | None:
    """The second file of a pair, by its name, among the named files or beside the item."""
    mine, others = {
        Format.LOBSTER_MESSAGE: ("message", "orderbook"),
        Format.LOBSTER_BOOK: ("orderbook", "message"),
    }.get(kind.format, ("", ""))
    if not mine:
        return None
    wanted = item.name.replace(mine, others)
    candidates = [other for other in found if other != item] + item.siblings()
    return next((other for other in candidates if other.name == wanted and wanted != item.name), None)
