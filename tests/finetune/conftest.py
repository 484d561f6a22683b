"""A model of one synthetic equity, trained once, and a synthetic spot market to adapt it to."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from emp.core.instrument import find
from emp.core.records import Array
from emp.engine.load import LoadedModel, load_folder
from emp.observe import drift
from emp.train.data.data import Dataset, label
from emp.train.fit import encoder, linear
from emp.train.judge.pretrain import STATE_SPACE, Effort, pretrain
from tests.kit.datasets import dataset, market, seen

torch.set_num_threads(1)


class World(NamedTuple):
    folder: Path
    base: LoadedModel
    equity: Dataset
    spot: Dataset


def spot(n: int = 5_000, seed: int = 5) -> Dataset:
    """As the equity, but that the next move is away from the thin side: what was learned there misleads."""
    events = market(n, seed, 0.5)
    events["bid_sz"], events["ask_sz"] = events["ask_sz"].copy(), events["bid_sz"].copy()
    return label("EURUSD", find("EURUSD"), ({"name": "e.csv", "sha256": f"e{seed}{n}"},), seen(events), 0.5)


def write_spot(events: Array, path: Path) -> None:
    """The best level as a quote-tick file in EURUSD's ticks."""
    ts = events["ts"].astype("datetime64[ns]")
    with path.open("w", encoding="utf-8") as file:
        file.write("ts_utc,bid,ask,bid_vol_m,ask_vol_m\n")
        for k, event in enumerate(events):
            bid, ask = event["bid_px"][0] / 1e5, event["ask_px"][0] / 1e5
            file.write(f"{ts[k]}Z,{bid:.5f},{ask:.5f},{event['bid_sz'][0]},{event['ask_sz'][0]}\n")


@contextmanager
def small() -> Iterator[None]:
    """Trainings of seconds; what other tests rest on is as it was afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "PENALTIES", (1e-2,))
        patch.setattr(linear, "ITERATIONS", 10)
        patch.setattr(encoder, "EPOCHS", 1)
        patch.setattr(drift, "LEAST_ROWS", 1_000)
        yield


@pytest.fixture(autouse=True)
def _small() -> Iterator[None]:
    with small():
        yield


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("base")
    equity = dataset(6_000, 1, name="GOOG")
    with small():
        pretrain([equity], 0.5, Effort(rows=3_000, epochs=1, features_epochs=2), 0, folder, lambda *_: None)
    return World(folder, load_folder(folder / STATE_SPACE), equity, spot())
