"""Choices of a planner in a recording: the engine that trades live, against the paper venue, one lot at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from emp.access.paper.venue import PaperVenue
from emp.access.port import ReadCounts
from emp.access.recordings import open_recording
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.replay import Backtest
from emp.plan import rule as _rule  # noqa: F401  the decision port must know it
from emp.plan.artifact import PlannerArtifact
from emp.plan.essentials import WIDTH
from emp.plan.planner import Planner, no_model, planner
from emp.train.data.data import WARMUP_EVENTS, Progress, Series

ONE_LOT = EngineLimits(
    max_position_lots=1,
    max_order_lots=1,
    max_daily_loss=1e15,
    max_drawdown=1e15,
    orders_per_minute=1e9,
    turnover_per_minute=1e9,
    turnover_per_hour=1e9,
)
"""Limits of whoever explores: what is learned from is one lot, whatever it loses."""


class Manner(NamedTuple):
    """How choices are made."""

    step: int  # visible events between two
    explore: float  # share that is drawn
    artifact: PlannerArtifact | None = None  # who chooses the rest; None: all are drawn
    depth: int = 0  # of its search


ROOM = 400_000
"""Choices that are kept of a pass."""


class Recorded:
    """A recording in memory: a Source for `Backtest`, as often as one likes."""

    def __init__(self, series: Series, instrument: Instrument, progress: Progress | None = None) -> None:
        self.instrument = instrument
        self.counts = ReadCounts()
        source = open_recording(list(series.paths), instrument, progress=progress)
        self._parts = [batch.copy() for batch in source.batches()]

    def batches(self) -> Iterator[Array]:
        """Yield the events, batch by batch."""
        yield from self._parts

    @property
    def rows(self) -> int:
        """Events in all."""
        return sum(map(len, self._parts))


def seat(engine: Engine, manner: Manner, seed: int, room: int = ROOM) -> Planner:
    """Let a planner decide for an engine; its choices are kept in `points`."""
    artifact, n = manner.artifact, WIDTH
    made = planner(
        engine.desk.costs,
        engine.desk.state,
        no_model() if artifact is None else artifact.transition(),
        np.zeros(n, np.float32) if artifact is None else artifact.centre,
        np.ones(n, np.float32) if artifact is None else artifact.spread,
        depth=0 if artifact is None else manner.depth,
        step=manner.step,
        warmup=max(WARMUP_EVENTS, int(engine.desk.limits["warmup_events"][0])),
        explore=manner.explore,
        seed=seed,
        keep=room,
    )
    made.seat["wait"] = seed % manner.step
    engine.attach_rule(made)
    return made


def kept(made: Planner) -> Array:
    """POINT rows of a pass that is over."""
    return made.points[: min(int(made.seat["points"][0]), len(made.points))].copy()


def explore_recording(recorded: Recorded, model: LoadedModel, manner: Manner, seed: int) -> Array:
    """Choose through a whole recording, from other moments for each seed: POINT[n]."""
    engine = Engine([recorded.instrument], model, ONE_LOT, "EXPLORE")
    room = min(ROOM, recorded.rows // manner.step + 16)
    made = seat(engine, manner, seed, room)
    Backtest(recorded, engine, PaperVenue(recorded.instrument)).run()
    return kept(made)
