"""Recorded days of spot FX, where nobody shows depth."""

from pathlib import Path

import numpy as np
import pytest

from emp.access.recordings import open_recording
from emp.core.codes import Liquidity
from emp.core.instrument import find
from emp.perception.normalise import INPUT_NAMES
from emp.train.data.table import extract_features, random_encoder

DEPTH_INPUTS = [
    k for k, name in enumerate(INPUT_NAMES) if name.startswith(("depth_", "slope", "curve", "has_depth"))
]


@pytest.mark.real_data
@pytest.mark.parametrize("days", ["EURUSD_oanda_2014050[1-5].csv.zst", "EURUSD_dukascopy_20190204.csv.zst"])
def test_days_without_depth_have_exactly_zero_depth_everywhere(data_dir: Path, days: str) -> None:
    instrument = find("EURUSD")
    source = open_recording(sorted((data_dir / "fx_ticks").glob(days)), instrument)
    seen = extract_features(source.batches(), instrument, random_encoder(np.random.default_rng(1)))
    assert len(seen.states) > 90_000
    assert not seen.states["has_depth"].any()
    for name in ("depth_feat", "slope_bid", "slope_ask", "curve_bid", "curve_ask"):
        assert not seen.states[name].any(), name
    assert len(DEPTH_INPUTS) >= 13
    assert not seen.x[:, DEPTH_INPUTS].any()


@pytest.mark.real_data
def test_liquidity_is_told_by_the_days_before_only(data_dir: Path) -> None:
    instrument = find("EURUSD")
    source = open_recording(sorted((data_dir / "fx_ticks").glob("EURUSD_oanda_2014050*")), instrument)
    seen = extract_features(source.batches(), instrument, random_encoder(np.random.default_rng(1)))
    day = seen.rows["day"]
    first = day == day[0]
    assert set(seen.states["liquidity_id"][first]) == {Liquidity.MID}, "before the first day nothing is known"
    assert set(seen.states["liquidity_id"][~first]) == {Liquidity.LOW, Liquidity.MID, Liquidity.HIGH}
    assert len(set(day)) == 7, "Sunday evening belongs to Monday"
