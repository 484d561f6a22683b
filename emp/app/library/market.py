"""A market in memory: what recorded files, or a simulated flow, show."""

from collections.abc import Iterator, Sequence
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from emp.access.port import ReadCounts
from emp.access.recordings import open_recording
from emp.access.recordings.mapping import load_mappings
from emp.access.recordings.source import files_of
from emp.app.library.arguments import speaks_of_arguments
from emp.core.columns import arrow_fields, to_arrays
from emp.core.errors import UsageError
from emp.core.instrument import Instrument, find
from emp.core.market_file import market_header, market_table
from emp.core.records import Array, empty_events
from emp.sim.flow.shipped import named_flow
from emp.sim.world.market import Market

Paths = str | Path | Sequence[str | Path]

BATCH = 1 << 14
"""Events handed on at a time."""

OPEN_NS = 1_700_060_400_000_000_000
"""When a simulated market begins: Wednesday 2023-11-15, 15:00 UTC, inside the hours of most calendars."""


class MarketData:
    """The events of one instrument, in order; what was wrong with a recording stands in `counts`.

    Attributes:
        instrument: as the catalogue has it: tick, lot, fees, venue, calendar.
        events: EVENT[n] (`emp.core.records`): prices in ticks, sizes in lots, times in ns UTC.
        counts: rows read, merged and quarantined with their reasons: rows == events + merged + quarantined.
        files: what it was read from; empty where it was simulated.
    """

    def __init__(
        self, instrument: Instrument, events: Array, counts: ReadCounts, files: Sequence[Path] = ()
    ) -> None:
        self.instrument = instrument
        self.events = events
        self.counts = counts
        self.files = tuple(files)

    def __len__(self) -> int:
        """Events."""
        return len(self.events)

    def __repr__(self) -> str:
        kept_out = sum(self.counts.quarantined.values())
        first, last = (
            (np.datetime64(int(t), "ns") for t in self.events["ts"][[0, -1]]) if len(self) else ("", "")
        )
        return (
            f"<MarketData {self.instrument.name}: {len(self):,} events, {first} to {last},"
            f" {kept_out:,} rows kept out>"
        )

    def __getitem__(self, part: slice) -> "MarketData":
        """A stretch of it, by event; what was kept out of the recording is counted with the whole."""
        if not isinstance(part, slice):
            raise UsageError(
                "market data is cut by slices: market[1000:2000]; single events are in market.events"
            )
        if part.step not in (None, 1):
            raise UsageError(
                f"market[…:…:{part.step}] is no stretch of a market: events are seen in their order, and all of them"
            )
        events = self.events[part]
        return MarketData(
            self.instrument, events, ReadCounts(rows=len(events), events=len(events)), self.files
        )

    def between(self, begin: str, end: str) -> "MarketData":
        """The events from one time (inclusive) to another (exclusive), UTC: `between("2012-06-21T14:00", …)`."""
        try:
            edges = [int(np.datetime64(t, "ns").astype(np.int64)) for t in (begin, end)]
        except ValueError as error:
            raise UsageError(f"between: {error}") from None
        first, last = np.searchsorted(self.events["ts"], edges)
        return self[int(first) : int(last)]

    def batches(self) -> Iterator[Array]:
        """The events as a reader yields them: with it this is a source (`emp.access.port.Source`)."""
        for at in range(0, len(self.events), BATCH):
            yield self.events[at : at + BATCH]

    def to_arrow(self, *, levels: int = 10, prices: bool = False) -> pa.Table:
        """One row an event, with `bid_px_1`, `bid_sz_1`, … for so many levels a side.

        Args:
            levels: of the book; those that an event does not show are null.
            prices: in quote currency in place of ticks, and sizes in units in place of lots.
        """
        e = self.events
        columns: dict[str, Any] = {"ts": stamps(e["ts"])}
        columns |= {name: pa.array(np.ascontiguousarray(e[name])) for name in ("seq", "flags")}
        tick, lot = (self.instrument.tick, self.instrument.lot) if prices else (1, 1)
        if levels not in range(11):
            raise UsageError(f"to_arrow: levels are 0 to 10, not {levels!r}")
        for k in range(levels):
            for side in ("bid", "ask"):
                absent = e[f"n_{side}"] <= k
                columns[f"{side}_px_{k + 1}"] = pa.array(e[f"{side}_px"][:, k] * tick, mask=absent)
                columns[f"{side}_sz_{k + 1}"] = pa.array(e[f"{side}_sz"][:, k] * lot, mask=absent)
        untraded = e["trade_qty"] == 0
        columns["trade_px"] = pa.array(e["trade_px"] * tick, mask=untraded)
        columns["trade_qty"] = pa.array(e["trade_qty"] * lot)
        return pa.table(columns)

    def to_pandas(self, **options: Any) -> Any:
        """`to_arrow` as a pandas frame, indexed by time."""
        return self.to_arrow(**options).to_pandas().set_index("ts")

    @speaks_of_arguments()
    def save(self, path: str | Path) -> None:
        """Write it as a recording (Parquet, as runs keep their market), which `load` and `emp replay` read again."""
        place = Path(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(market_table(self.events, market_header([self.instrument])), place)


def stamps(ns: Array) -> pa.Array:
    """Nanoseconds as Arrow time stamps in UTC."""
    return pa.array(np.ascontiguousarray(ns)).cast(pa.timestamp("ns", "UTC"))


def records_table(rows: Array) -> pa.Table:
    """Structured rows as a table: a column a field, vectors as lists, `ts` as a time stamp."""
    table = pa.Table.from_arrays(to_arrays(rows), schema=pa.schema(arrow_fields(rows.dtype)))
    at = table.column_names.index("ts")
    return table.set_column(at, "ts", stamps(rows["ts"]))


def whole_numbers(function: str, **given: tuple[Any, int]) -> None:
    """Refuse what is no whole number from the least on: name=(value, least)."""
    for name, (value, least) in given.items():
        if not isinstance(value, Integral) or value < least:
            raise UsageError(f"{function}: {name} is a whole number from {least} on, not {value!r}")


def paths_of(paths: Paths) -> list[Path]:
    """File names, one or several, as paths."""
    if isinstance(paths, str | Path):
        paths = [paths]
    if not isinstance(paths, Sequence) or not all(isinstance(p, str | Path) for p in paths):
        kind = type(paths).__name__
        raise UsageError(f"a recording is named by its path, or by several in a list, not by a {kind}")
    for path in paths:
        if "\0" in str(path):
            raise UsageError(f"no path has a NUL in it: {str(path)!r}")
    return [Path(p) for p in paths]


@speaks_of_arguments()
def load(
    paths: Paths,
    instrument: str,
    *,
    catalogue: str | Path | None = None,
    mappings: Sequence[str | Path] = (),
    accept_losses: bool = False,
) -> MarketData:
    """Read recorded files of one instrument into memory (400 bytes an event); a format is found from its content.

    Args:
        paths: a file or several, in any order, packed or not; the second file of a pair is found beside the first.
        instrument: its name in the catalogue (`emp instruments`).
        catalogue: YAML that adds to the catalogue.
        mappings: files that say what the columns of other formats mean (`emp formats`).
        accept_losses: go on where much of a file cannot be used.

    Raises:
        EmpError: a file is missing, damaged or no recording, or the instrument is not known; one line says why.
    """
    if not isinstance(instrument, str):
        raise UsageError(f"load: an instrument is named as in `emp instruments`, 'GOOG', not {instrument!r}")
    facts = find(instrument, Path(catalogue) if catalogue is not None else None)
    own = load_mappings(paths_of(mappings))
    source = open_recording(paths_of(paths), facts, mappings=own, accept_losses=accept_losses)
    parts = [empty_events(0), *source.batches()]
    files = sorted({item.path for item in files_of(paths_of(paths), own)})
    return MarketData(facts, np.concatenate(parts), source.counts, files)


@speaks_of_arguments(model="flow")
def simulate(
    flow: str = "goog",
    instrument: str = "GOOG",
    *,
    events: int = 100_000,
    seed: int = 1,
    start_px: int = 50_000,
) -> MarketData:
    """Let a flow model make a market: the same seed gives the same events.

    In what it returns nobody reacts to orders, as in a recording; `emp.backtest(emp.Flow(…))` trades in one that does.

    Args:
        flow: zi, goog, tsla, or a file that `emp sim calibrate` wrote.
        start_px: ticks.
    """
    whole_numbers("simulate", events=(events, 1), seed=(seed, 0), start_px=(start_px, 1))
    market = Market(named_flow(flow), seed, start_px, OPEN_NS)
    rows = empty_events(events)
    done = 0
    while done < events:
        done += market.run(2**62, min(50_000, events - done), rows=rows[done : done + 50_000])
    return MarketData(find(instrument), rows, ReadCounts(rows=events, events=events))
