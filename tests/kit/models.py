"""Small models and markets for engine tests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from emp.access.port import ReadCounts
from emp.core.instrument import Instrument, find
from emp.core.records import HORIZONS, Array
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.model.artifact import Manifest, save
from emp.model.heads import MEANS_AT, OUTPUTS, QUANTILES_AT
from emp.perception.depth import ENCODER
from emp.perception.normalise import INPUT_NAMES, INPUTS
from emp.perception.schema import schema_hash

LOOSE = EngineLimits(
    max_position_lots=50,
    max_order_lots=10,
    max_daily_loss=1e9,
    max_drawdown=1e9,
    orders_per_minute=1e6,
    turnover_per_minute=1e6,
    turnover_per_hour=1e6,
    depth_share=0.5,
    warmup_events=32,
)


def eager_model(folder: Path, seed: int = 0, strength: float = 0.4) -> LoadedModel:
    """A linear model that believes in order flow strongly enough to trade often."""
    rng = np.random.default_rng(seed)
    weight = rng.normal(0.0, 0.01, (1, INPUTS, OUTPUTS)).astype(np.float32)
    weight[0, INPUT_NAMES.index("ofi_norm"), -HORIZONS:] = strength
    bias = np.zeros((1, OUTPUTS), np.float32)
    bias[0, QUANTILES_AT : QUANTILES_AT + 3 * HORIZONS] = np.tile([-0.4, 0.0, 0.4], HORIZONS)
    tensors: dict[str, Array] = {"weight": weight, "bias": bias}
    for name in ENCODER.names or ():
        tensors[f"encoder.{name}"] = rng.normal(0.0, 0.5, ENCODER[name].shape).astype(np.float32)
    manifest = Manifest(
        kind="linear",
        schema=schema_hash(),
        domains=["shared"],
        k_sigma=0.5,
        thresholds=[[0.0] * HORIZONS],
        warmup_events=16,
    )
    save(folder, manifest, tensors)
    return load_model(folder)


def buying_model(folder: Path) -> LoadedModel:
    """A linear model, kept in a folder, that always expects the price to rise by fifty units."""
    bias = np.zeros((1, OUTPUTS), np.float32)
    bias[:, MEANS_AT:] = 50.0
    tensors: dict[str, Array] = {"weight": np.zeros((1, INPUTS, OUTPUTS), np.float32), "bias": bias}
    for name in ENCODER.names or ():
        tensors[f"encoder.{name}"] = np.zeros(ENCODER[name].shape, np.float32)
    manifest = Manifest(
        kind="linear",
        schema=schema_hash(),
        domains=["shared"],
        k_sigma=0.5,
        thresholds=[[0.5] * HORIZONS],
        warmup_events=0,
    )
    save(folder, manifest, tensors)
    return load_model(folder)


def engine(folder: Path, limits: EngineLimits = LOOSE, name: str = "GOOG", seed: int = 0) -> Engine:
    """An engine of one instrument with the eager model."""
    return Engine([find(name)], eager_model(folder / f"model{seed}", seed), limits, "TESTRUN0")


class Events:
    """EVENT rows as a Source, in batches."""

    def __init__(self, events: Array, instrument: Instrument, batch: int = 500) -> None:
        self.instrument = instrument
        self.counts = ReadCounts()
        self._events = events
        self._batch = batch

    def batches(self) -> Iterator[Array]:
        self.counts = ReadCounts(rows=len(self._events), events=len(self._events))
        for at in range(0, len(self._events), self._batch):
            yield self._events[at : at + self._batch].copy()
