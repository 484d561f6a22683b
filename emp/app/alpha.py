"""What a model would have earned on the test part of a series: through the engine, against the paper venue.

The whole recording runs, so that perception and the estimates are what they would be; until the test part
begins the engine stands in degraded mode, in which nothing may be traded.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from emp.access.port import ReadCounts
from emp.access.recordings import Recording, open_recording
from emp.core.contracts import OrderUpdate
from emp.core.instrument import Instrument
from emp.core.records import HORIZON_EVENTS, HORIZON_NAMES, HORIZON_NS, Array
from emp.engine.engine import Engine, EngineLimits
from emp.engine.load import LoadedModel
from emp.sim.backtest import Backtest, Progress
from emp.sim.paper import PaperVenue
from emp.train.data import Dataset, Series

FILL = np.dtype([("ts", "i8"), ("side", "i8"), ("px", "i8"), ("qty", "i8"), ("fee", "f8"), ("maker", "?")])
"""One fill: ticks, lots, fee in ticks times lots."""

BPS = 1e4


class FillTape(PaperVenue):
    """A paper venue that keeps every fill it reports."""

    def __init__(self, instrument: Instrument) -> None:
        super().__init__(instrument)
        self._filled: dict[str, int] = {}
        self._fills: list[tuple[int, int, int, int, float, bool]] = []

    def updates(self, n: int) -> list[OrderUpdate]:
        """The reports that are due; their fills are kept."""
        due = super().updates(n)
        for update in due:
            qty = update.filled - self._filled.get(update.clOrdID, 0)
            if qty > 0:
                self._filled[update.clOrdID] = update.filled
                self._fills.append((update.ts, update.side, update.price, qty, update.fee, update.maker))
        return due

    @property
    def fills(self) -> Array:
        """All fills so far: FILL[n]."""
        return np.array(self._fills, FILL)


class TestPart:
    """A recording whose events before the test part are seen but not traded: a Source for `Backtest`."""

    __test__ = False

    def __init__(self, recording: Recording, engine: Engine, test_ns: int) -> None:
        self.instrument = recording.instrument
        self._recording = recording
        self._engine = engine
        self._test_ns = test_ns

    @property
    def counts(self) -> ReadCounts:
        """Of the whole recording."""
        return self._recording.counts

    def batches(self) -> Iterator[Array]:
        """Yield the recording's batches, cut where the test part begins."""
        self._engine.set_degraded(0, True)
        waiting = True
        for events in self._recording.batches():
            if waiting:
                cut = int(np.searchsorted(events["ts"], self._test_ns))
                if cut:
                    yield events[:cut]
                if cut == len(events):
                    continue
                waiting = False
                self._engine.set_degraded(0, False)
                yield events[cut:]
            else:
                yield events


def trade_test_part(
    model: LoadedModel, series: Series, data: Dataset, limits: EngineLimits, progress: Progress
) -> dict[str, Any]:
    """Trade the test part of a series on paper.

    Returns:
        Summary of the run: position, fills, profit and fees in ticks times lots, and `alpha`: by horizon, then
        by kind of fill (all, passive, crossing), bps after fees and lots traded.
    """
    engine = Engine([data.instrument], model, limits, "EVALUATE")
    venue = FillTape(data.instrument)
    source = TestPart(open_recording(list(series.paths), data.instrument), engine, data.split.test_ns)
    summary = Backtest(source, engine, venue).run(progress)
    kept = ("actions", "fills", "traded_lots", "final_position", "pnl_ticks", "fees", "halted")
    return {
        "series": data.series,
        **{name: summary[name] for name in kept},
        "alpha": alpha(venue.fills, data),
    }


def alpha(fills: Array, data: Dataset) -> dict[str, dict[str, dict[str, float | None]]]:
    """Mark of fills to the mid a horizon later, after fees, in bps of the price, per lot traded.

    What an order paid for crossing, or earned by resting, is in the fill's price. Fills whose horizon reaches
    beyond the recording count at its last mid.
    """
    mid = 0.5 * (data.seen.rows["bid"] + data.seen.rows["ask"])
    ts = data.ts
    at = np.maximum(np.searchsorted(ts, fills["ts"], side="right") - 1, 0)
    found = {}
    for h, name in enumerate(HORIZON_NAMES):
        if h < len(HORIZON_EVENTS):
            later = at + HORIZON_EVENTS[h]
        else:
            later = np.searchsorted(ts, fills["ts"] + HORIZON_NS[h - len(HORIZON_EVENTS)], side="right") - 1
        mark = mid[np.clip(later, 0, len(mid) - 1)]
        gain = fills["side"] * (mark - fills["px"]) * fills["qty"] - fills["fee"]
        kinds = {"all": np.ones(len(fills), bool), "passive": fills["maker"], "crossing": ~fills["maker"]}
        found[name] = {kind: _per_lot(gain[mine], fills[mine]) for kind, mine in kinds.items()}
    return found


def _per_lot(gain: Array, fills: Array) -> dict[str, float | None]:
    lots = int(fills["qty"].sum())
    value = float((fills["px"] * fills["qty"]).sum())
    return {"bps": round(BPS * float(gain.sum()) / value, 4) if lots else None, "lots": lots}
