"""What a model would have earned on the test part of a series: through the engine, against the paper venue.

The whole recording runs, so that perception and the estimates are what they would be; until the test part
begins the engine stands in degraded mode, in which nothing may be traded.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emp.access.paper.venue import PaperVenue
from emp.access.port import ReadCounts, Source
from emp.access.recordings import open_recording
from emp.core.contracts import Control, OrderUpdate
from emp.core.ids import generator
from emp.core.numba.jit import closure_hash
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.replay import Backtest
from emp.engine.reversion import bind_perception
from emp.engine.value import value_summary
from emp.observe.markout import alphas_bps, summarise
from emp.train.data.cached import cached, content_key
from emp.train.data.data import Dataset, Series
from emp.train.judge.blocks import blocks_of
from emp.train.judge.outcomes import trip_sums

HOUR_NS = 3_600_000_000_000

FILL = np.dtype([("ts", "i8"), ("side", "i8"), ("px", "i8"), ("qty", "i8"), ("fee", "f8"), ("maker", "?")])
"""One fill: ticks, lots, fee in ticks times lots."""


class FillTape:
    """Keeps every fill that a venue reports."""

    def __init__(self) -> None:
        self._filled: dict[str, int] = {}
        self._fills: list[tuple[int, int, int, int, float, bool]] = []

    def keep(self, update: OrderUpdate) -> None:
        """Keep the fill of a report, where it has one."""
        qty = update.filled - self._filled.get(update.clOrdID, 0)
        if qty > 0:
            self._filled[update.clOrdID] = update.filled
            self._fills.append((update.ts, update.side, update.price, qty, update.fee, update.maker))

    @property
    def fills(self) -> Array:
        """All fills so far: FILL[n]."""
        return np.array(self._fills, FILL)


class TestPart:
    """A recording whose events before the test part are seen but not traded: a Source for `Backtest`."""

    __test__ = False

    def __init__(self, recording: Source, engine: Engine, test_ns: int, starts: Array) -> None:
        """`starts` are the times at which blocks of the test part begin: int64[blocks], ns."""
        self.instrument = recording.instrument
        self.counts = ReadCounts()
        self._recording = recording
        self._engine = engine
        self._test_ns = test_ns
        self._starts = starts
        self._closed: list[tuple[int, float, float]] = []

    def closed(self) -> Array:
        """Of every block the lots that were closed in it, ticks times lots that were expected of them, and that they
        brought: float64[blocks, 3]; once the recording has ended.
        """
        missing = len(self._starts) + 1 - len(self._closed)
        return np.diff(np.array([*self._closed, *[self._so_far()] * missing], float), axis=0)

    def _so_far(self) -> tuple[int, float, float]:
        lots = self._engine.desk.lots[0]
        return int(lots["lots"]), float(lots["believed"]), float(lots["brought"])

    def batches(self) -> Iterator[Array]:
        """Yield the recording's batches, cut where the test part begins."""
        self._engine.control(_size_zero(active=True))
        waiting = True
        for events in self._recording.batches():
            self.counts = self._recording.counts
            if waiting:
                cut = int(np.searchsorted(events["ts"], self._test_ns))
                if cut:
                    yield events[:cut]
                if cut == len(events):
                    continue
                waiting = False
                self._engine.control(_size_zero(active=False))
                events = events[cut:]
            yield from self._by_block(events)

    def _by_block(self, events: Array) -> Iterator[Array]:
        """Cut EVENT[n] where blocks begin, and look at what was closed so far before each."""
        while len(self._closed) < len(self._starts):
            at = int(np.searchsorted(events["ts"], self._starts[len(self._closed)]))
            if at == len(events):
                break
            if at:
                yield events[:at]
                events = events[at:]
            self._closed.append(self._so_far())
        yield events


def _size_zero(*, active: bool) -> Control:
    """While active nothing is traded."""
    return Control(action="degraded", ts=0, reason="not the test part", value=float(active))


def trade_test_part(
    model: LoadedModel,
    series: Series,
    data: Dataset,
    limits: EngineLimits,
    seed: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Trade the test part of a series on paper, or take the result of the same run from the cache.

    Returns:
        Summary of the run: position, fills, turnover, profit and fees in ticks times lots, `sums` over round trips
        (`outcomes.SUMS`), and `alpha`: by kind of fill (all, passive, crossing), then horizon by horizon, bps after
        fees per unit traded.
    """
    source = closure_hash(Path(__file__).resolve())
    facts = msgspec.to_builtins(data.instrument)
    files = [file["sha256"] for file in data.files]
    model_hash, rules = model.artifact.hash, msgspec.to_builtins(limits)
    key = content_key(source, model_hash, files, facts, data.split.test_ns, rules, seed)

    def make() -> dict[str, Array]:
        return {"summary": np.array(json.dumps(_trade(model, series, data, limits, seed, progress)))}

    # what a function of the user's own reads its hash may not know: it is played anew every time
    made = make() if model.owner is not None else cached("trades", key, make)
    found: dict[str, Any] = json.loads(str(made["summary"]))
    return {"series": data.series, **found}


def _trade(
    model: LoadedModel,
    series: Series,
    data: Dataset,
    limits: EngineLimits,
    seed: int,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    engine = Engine([data.instrument], model, limits, "EVALUATE")
    bind_perception(engine)
    tape = FillTape()
    recording = open_recording(list(series.paths), data.instrument, progress=progress)
    starts = block_starts(data)
    source, venue = (
        TestPart(recording, engine, data.split.test_ns, starts),
        PaperVenue(data.instrument),
    )
    summary = Backtest(source, engine, venue, heard=tape.keep).run()
    kinds = ("actions", "fills", "traded_lots", "final_position", "pnl_ticks", "fees", "halted")
    begin, end = data.span("test")
    fills = tape.fills
    return {
        **{name: summary[name] for name in kinds},
        "passive_lots": int(fills["qty"][fills["maker"]].sum()),
        "crossing_lots": int(fills["qty"][~fills["maker"]].sum()),
        **value_summary(engine.desk, 0),
        "sums": trip_sums(engine.desk.lots[0]),
        "lots_per_hour": round(summary["traded_lots"] / ((end - begin) / HOUR_NS), 3),
        "alpha": alpha(fills, data, seed),
        "by_block": {**by_block(fills, data), **closed_by_block(source.closed(), data)},
    }


def block_starts(data: Dataset) -> Array:
    """Times of the first rows of the test part's blocks: int64[blocks], ns."""
    test = data.part("test")
    first = np.unique(blocks_of(data).number[test], return_index=True)[1]
    found: Array = data.ts[test][first]
    return found


def closed_by_block(closed: Array, data: Dataset) -> dict[str, list[float]]:
    """Lots closed in every block of the test part, and lots times expected less realised value in bps of the part's
    mean mid, from float64[blocks, 3] of `TestPart.closed`.
    """
    test = data.part("test")
    mid = float(0.5 * (data.seen.rows["bid"][test] + data.seen.rows["ask"][test]).mean())
    lots, expected, brought = closed.T
    missed = (expected - brought) / abs(mid) * 1e4
    return {"closed_lots": lots.tolist(), "missed_bps_lots": [round(float(x), 9) for x in missed]}


def by_block(fills: Array, data: Dataset) -> dict[str, Any]:
    """Lots traded, and lots times alpha by horizon with the lots that have one, in every block of the test part."""
    starts = block_starts(data)
    block = np.maximum(np.searchsorted(starts, fills["ts"], side="right") - 1, 0)
    mid = 0.5 * (data.seen.rows["bid"] + data.seen.rows["ask"])
    alphas = alphas_bps(data.ts, mid, {name: fills[name] for name in fills.dtype.names or ()})
    known, qty = np.isfinite(alphas), fills["qty"].astype(float)[:, None]

    def total(values: Array) -> list[list[float]]:
        sums = [np.bincount(block, column, minlength=len(starts)) for column in values.T]
        return [[round(float(x), 9) for x in row] for row in np.stack(sums, axis=1)]

    return {
        "fills": len(fills),
        "lots": [row[0] for row in total(qty)],
        "alpha_lots": total(np.where(known, alphas, 0.0) * qty),
        "known_lots": total(known * qty),
    }


def alpha(fills: Array, data: Dataset, seed: int) -> dict[str, list[dict[str, float | int | str | None]]]:
    """Alpha after fees of all, passive and crossing fills, by horizon, with block-bootstrap intervals."""
    mid = 0.5 * (data.seen.rows["bid"] + data.seen.rows["ask"])
    kinds = {"all": np.ones(len(fills), bool), "passive": fills["maker"], "crossing": ~fills["maker"]}
    found = {}
    for kind, mine in kinds.items():
        alphas = alphas_bps(data.ts, mid, {name: fills[mine][name] for name in fills.dtype.names or ()})
        found[kind] = summarise(alphas, fills["qty"][mine], generator(seed, "alpha", kind))
    return found


def by_contender(traded: Iterable[Mapping[str, Any]], series: str, model: str) -> dict[str, Any] | None:
    """What a model traded on a series, block by block; None where it did not trade it."""
    for one in traded:
        if one["series"] == series and one["model_hash"] == model:
            found: dict[str, Any] = one["by_block"]
            return found
    return None


def mark_rows(rows: Iterable[dict[str, Any]], results: Sequence[dict[str, Any]]) -> None:
    """Write alpha after fees of all fills into the rows of one contender on one series.

    Over several seeds it is their mean; the interval then runs from the lowest end to the highest, because seeds
    trade the same market and their fills are no independent evidence.
    """
    for row in rows:
        marks = [m for r in results for m in r["alpha"]["all"] if m["horizon"] == row["horizon"]]
        values = [m["alpha_bps"] for m in marks if m["alpha_bps"] is not None]
        lows, highs = ([m[end] for m in marks if m[end] is not None] for end in ("low", "high"))
        row["ci"]["alpha_after_fees"] = [min(lows, default=None), max(highs, default=None)]
        if values:
            row["alpha_after_fees"] = float(np.mean(values))
        if len(values) > 1:
            row["spread"]["alpha_after_fees"] = float(np.std(values, ddof=1))
