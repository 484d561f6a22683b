"""Do the inputs mean the same on every market at hand? A smoke test on heads; whole days take `emp evaluate --psi`."""

from pathlib import Path

import numpy as np
import pytest

from emp.perception.state import CORE_INPUTS
from emp.train.data.data import WARMUP_EVENTS, Dataset, load_dataset, parse_series
from emp.train.judge.psi import compare
from tests.access.test_real_samples import MARKETS, head_of

pytestmark = pytest.mark.real_data

LEAST = 400
"""Warm events that a head must have to be compared."""

MOST = 1.5
"""Median index over pairs of heads. An input of another scale on half of the markets has one above 2; heads of a few
minutes, shorter than what the scale is taken over, have up to 0.8 by themselves."""


def heads(data_dir: Path, folder: Path) -> list[Dataset]:
    """Every market's first lines as the model sees them; samples of a few rows are left out."""
    found = []
    for i, (pattern, instrument) in enumerate(MARKETS.items()):
        if pattern.startswith(
            ("samples/", "us_taq/BAC", "us_taq/TAQ")
        ):  # a tape is long to unpack: one is enough
            continue
        place = folder / str(i)
        place.mkdir()
        files = [head_of(path, place) for path in sorted(data_dir.glob(pattern))]
        data = load_dataset(parse_series(f"{instrument}={','.join(map(str, files))}"), 0.5)
        if (data.seen.rows["since_reset"] >= WARMUP_EVENTS).sum() >= LEAST:
            found.append(data)
    return found


def test_the_inputs_of_every_market_have_one_scale(data_dir: Path, tmp_path: Path) -> None:
    datasets = heads(data_dir, tmp_path)
    assert len(datasets) >= 12
    for data in datasets:
        x = data.seen.x[data.seen.rows["since_reset"] >= WARMUP_EVENTS, : len(CORE_INPUTS)]
        assert np.isfinite(x).all(), data.series
        assert (np.abs(np.median(x, axis=0)) < 8.0).all(), data.series
        assert (np.quantile(np.abs(x), 0.9, axis=0) < 12.0).all(), data.series
    cells = [cell for cell in compare(datasets) if not cell.exception]
    for name in set(CORE_INPUTS) - {
        "spread",
        "impulse",
    }:  # lumps: what of them is not excused is the odd pair
        indices = [cell.psi for cell in cells if cell.input == name]
        assert np.median(indices or [0.0]) < MOST, name
