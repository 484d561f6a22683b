"""What each part of the decision rule is worth on recordings, before their test parts begin.

The first parts of a series are traded once by the whole rule and once for each part without it (`decision.rule.Part`),
by the engine, at the paper venue; of the test part nothing is read. Ours trades as much as has been earned, on a
recording often a lot or two; the shadow trades every gain, one lot at a time, and its closed lots tell parts apart
sooner. A block (a day, or five minutes) with and without a part is one paired outcome; intervals of all parts and
series hold together (Bonferroni over Student's t). The recordings' orders do not react to ours: what a part gains from
the reaction of others shows in `emp sim ablate` alone.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emp.access.paper.venue import PaperVenue
from emp.access.port import ReadCounts, Source
from emp.access.recordings import open_recording
from emp.core.numba.jit import closure_hash
from emp.core.records import Array
from emp.decision.rule import Part
from emp.decision.student import student_quantile
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.replay import Backtest
from emp.engine.reversion import bind_perception
from emp.train.data.cached import cached, content_key
from emp.train.data.data import Dataset, Series
from emp.train.judge.blocks import BLOCK_NS, ENOUGH_DAYS
from emp.train.judge.outcomes import ERROR

MEASURES = ("pnl", "lots", "shadow_brought", "shadow_lots")
"""Columns of what came of a block: ticks times lots and closed lots, of ours (marked to the mid) and of the shadow."""

LEAST_BLOCKS = 5
"""Blocks below which there is no interval."""


class BeforeTest:
    """A recording up to where its test part begins, and what has come of it when each block begins: a Source."""

    def __init__(self, recording: Source, engine: Engine, test_ns: int, starts: Array) -> None:
        """`starts` are the times at which blocks begin, the first of them at the beginning: int64[blocks], ns."""
        self.instrument = recording.instrument
        self.counts = ReadCounts()
        self._recording = recording
        self._engine = engine
        self._edges = [*starts[1:].tolist(), test_ns]
        self._came: list[tuple[float, ...]] = [self._so_far()]

    def batches(self) -> Iterator[Array]:
        """Yield the recording's batches, cut where blocks begin, and nothing of the test part."""
        for events in self._recording.batches():
            self.counts = self._recording.counts
            while len(self._came) <= len(self._edges):
                at = int(np.searchsorted(events["ts"], self._edges[len(self._came) - 1]))
                if at:
                    yield events[:at]
                if at == len(events):
                    break
                events = events[at:]
                self._came.append(self._so_far())
            else:
                return

    def came(self) -> Array:
        """What came of each block, once the recording has been read: float64[blocks, MEASURES]."""
        missing = len(self._edges) + 1 - len(self._came)
        return np.diff(np.array([*self._came, *[self._so_far()] * missing]), axis=0)

    def _so_far(self) -> tuple[float, ...]:
        desk = self._engine.desk
        ours, shadow = desk.lots[0], desk.shadow_lots[0]
        return (
            float(desk.account["pnl"][0]),
            float(ours["lots"]),
            float(shadow["brought"]),
            float(shadow["lots"]),
        )


def starts_before_test(data: Dataset) -> Array:
    """Times at which blocks begin before the test part: whole days where there are enough, else five minutes."""
    first, end = int(data.ts[0]), data.split.test_ns
    days = data.seen.rows["day"][data.ts < end]
    if len(np.unique(days)) >= ENOUGH_DAYS:
        found: Array = data.ts[np.unique(days, return_index=True)[1]]
        return found
    return np.arange(first, end, BLOCK_NS)


def trade_before_test(
    model: LoadedModel,
    series: Series,
    data: Dataset,
    limits: EngineLimits,
    without: Part,
    progress: Callable[[int, int], None],
) -> Array:
    """Trade what comes before the test part by the rule without some parts: float64[blocks, MEASURES].

    The result of the same run is taken from the cache.
    """
    source = closure_hash(Path(__file__).resolve())
    facts, rules = msgspec.to_builtins(data.instrument), msgspec.to_builtins(limits)
    files = [file["sha256"] for file in data.files]
    key = content_key(source, model.artifact.hash, files, facts, data.split.test_ns, rules, int(without))

    def make() -> dict[str, Array]:
        engine = Engine([data.instrument], model, limits, "ABLATE")
        bind_perception(engine)
        engine.desk.costs["without"] = int(without)
        recording = open_recording(list(series.paths), data.instrument, progress=progress)
        past = BeforeTest(recording, engine, data.split.test_ns, starts_before_test(data))
        Backtest(past, engine, PaperVenue(data.instrument)).run()
        return {"came": past.came()}

    return cached("parts", key, make)["came"]


def rows_of_parts(traded: Sequence[tuple[str, dict[Part, Array]]]) -> list[dict[str, Any]]:
    """What each part of the rule brings on each series, from the blocks of the whole rule, `Part(0)`, and of each.

    A row has `series`, `part`, the blocks, and for ours and for the shadow: ticks that the part brings in all
    (`brings`, `shadow_brings`) with the half width of their interval, None where there are few blocks or nothing
    differs; closed lots with and without it, and the verdict.
    """
    compared = sum(len(came) - 1 for _, came in traded) * 2
    return [
        _part_row(series, part, came[Part(0)], without, ERROR / max(1, compared))
        for series, came in traded
        for part, without in came.items()
        if part
    ]


def _part_row(series: str, part: Part, whole: Array, without: Array, error: float) -> dict[str, Any]:
    row: dict[str, Any] = {"series": series, "part": str(part.name).lower(), "blocks": len(whole)}
    for prefix, money in (("", 0), ("shadow_", 2)):
        brings = whole[:, money] - without[:, money]
        half = _half(brings, error)
        row[f"{prefix}brings"], row[f"{prefix}half"] = float(brings.sum()), half
        row[f"{prefix}lots"] = float(whole[:, money + 1].sum())
        row[f"{prefix}lots_without"] = float(without[:, money + 1].sum())
        row[f"{prefix}verdict"] = verdict(float(brings.sum()), half)
    return row


def _half(brings: Array, error: float) -> float | None:
    """Half width of the interval of a sum over blocks; None where none can be had."""
    n = len(brings)
    if n < LEAST_BLOCKS or not brings.any():
        return None
    return float(student_quantile(0.5 * error, n - 1) * brings.std(ddof=1) * np.sqrt(n))


def verdict(brings: float, half: float | None) -> str:
    """Whether a part is worth something, costs something, or cannot be told from nothing."""
    if half is None:
        return "same" if brings == 0.0 else "too few"
    if brings - half > 0.0:
        return "earns"
    return "costs" if brings + half < 0.0 else "not told apart"
