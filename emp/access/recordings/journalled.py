"""Market data that a run has journalled, as a recording: the events as its engine saw them, nothing folded again.

A folder with `part-NNNNN.parquet` files (`RUN/market`), one with such folders by day (`RUN/market` of what was
observed), a run's folder, or single parts; see `emp.core.market_file`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emp.access.port import ReadCounts
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.market_file import MARKET_KEY, header_facts, market_events
from emp.core.records import Array

_MAGIC = b"PAR1"


def journalled_parts(paths: Sequence[Path] | Path) -> list[Path]:
    """The parts of market journals that the paths name, in order, whatever order those are named in; empty where they
    name no journal.

    Raises:
        DataError: they name a journal and other recordings together, or a part twice; or one is missing.
    """
    named = [paths] if isinstance(paths, Path) else list(paths)
    found: list[list[Path]] = []
    for path in named:
        folder = path / "market" if (path / "market").is_dir() else path
        if found and not path.exists():
            raise DataError(f"{path}: no such file")
        parts = _parts_of(folder) if folder.is_dir() else [path]
        if not parts or not all(_is_part(part) for part in parts):
            if found:
                raise DataError(
                    f"{path}: is no market journal, as {found[0][0]} is: name one kind of recording"
                )
            return []
        found.append(parts)
    return [part for parts in (_in_order(found) if len(found) > 1 else found) for part in parts]


def _in_order(found: list[list[Path]]) -> list[list[Path]]:
    """Journals in order of time; one that no venue stamped stays at the place where it was named."""
    refuse_twice([part for parts in found for part in parts])
    first = [next((ts for ts in map(_first_ns, parts) if ts), 0) for parts in found]
    timed = iter(sorted((k for k, ts in enumerate(first) if ts), key=lambda k: (first[k], found[k])))
    return [found[next(timed)] if ts else parts for ts, parts in zip(first, found, strict=True)]


def refuse_twice(paths: Iterable[Path]) -> None:
    """DataError where a file is named twice, in whatever words."""
    known = set[Path]()
    for path in paths:
        if path.resolve() in known:
            raise DataError(f"{path}: is named twice")
        known.add(path.resolve())


def _first_ns(part: Path) -> int:
    """The first time that a venue stamped on an event of a part, 0 where there is none."""
    try:
        with part.open("rb") as raw, pq.ParquetFile(raw) as file:
            for k in range(file.num_row_groups):
                ts = file.read_row_group(k, ["ts"])["ts"].cast("int64").to_numpy()
                if (ts > 0).any():
                    return int(ts[(ts > 0).argmax()])
    except (OSError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{part}: cannot be read: {str(error).splitlines()[0]}") from error
    return 0


def _parts_of(folder: Path) -> list[Path]:
    """The parts of a folder, or of its days in order."""
    return sorted(folder.glob("part-*.parquet")) or sorted(folder.glob("????-??-??/part-*.parquet"))


def _is_part(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                return False
        with path.open("rb") as file:
            return MARKET_KEY in (pq.read_schema(file).metadata or {})
    except (OSError, pa.ArrowException):
        return False


class JournalRecording:
    """Parts of market journals as a Source of one instrument's events; `batches` may be read again."""

    def __init__(
        self, parts: Sequence[Path], instrument: Instrument, progress: Callable[[int, int], None] | None
    ) -> None:
        self.instrument = instrument
        self.counts = ReadCounts()
        self._parts = list(parts)
        self._progress = progress

    def batches(self) -> Iterator[Array]:
        """Yield the instrument's EVENT rows in order; DataError where a part is damaged or speaks of another."""
        self.counts = ReadCounts()
        total = sum(path.stat().st_size for path in self._parts)
        done = 0
        for path in self._parts:
            events = self._events(path)
            done += path.stat().st_size
            if self._progress is not None:
                self._progress(done, total)
            self.counts.rows += len(events)
            self.counts.events += len(events)
            if len(events):
                yield events

    def _events(self, path: Path) -> Array:
        try:
            with path.open("rb") as raw, pq.ParquetFile(raw) as file:
                table = file.read()
            index = self._index(path, (table.schema.metadata or {})[MARKET_KEY])
            events = market_events(table)
        except (OSError, KeyError, pa.ArrowException) as error:
            raise DataError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from error
        events = events[events["instrument"] == index]
        events["instrument"] = 0
        return events

    def _index(self, path: Path, head: bytes) -> int:
        """Which of the file's instruments is ours."""
        facts = header_facts(head)
        names = [str(one["name"]) for one in facts]
        if self.instrument.name not in names:
            raise DataError(f"{path}: holds {', '.join(names)}, not {self.instrument.name}")
        found = facts[names.index(self.instrument.name)]
        ours = {"tick": self.instrument.tick, "lot": self.instrument.lot}
        for name, value in ours.items():
            if not np.isclose(float(found[name]), value, rtol=1e-12, atol=0.0):
                raise DataError(
                    f"{path}: was journalled with a {name} of {found[name]:g}, the catalogue says {value:g}"
                )
        return names.index(self.instrument.name)
