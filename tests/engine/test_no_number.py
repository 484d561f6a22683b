"""A model that says no number: nothing is decided on it, nothing is learned from it, and it is over when it is over."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.core.codes import Action, Reason
from emp.core.numba.jit import kernel
from emp.core.records import FORECAST, HORIZONS, Array
from emp.engine.contender import SAID, Contender, recorded_forecasts
from emp.engine.engine import Engine
from emp.model import recalibrate as re
from emp.model.table import NO_NUMBER, Restart
from tests.kit.events import random_events
from tests.kit.models import LOOSE, engine

N = 400


@kernel
def carry(r: object, bid: Array, f: Array, said: Array) -> None:
    """Recalibrate every forecast of a stream with an event a second; whether each was a number."""
    for i in range(bid.size):
        said[i] = re.recalibrate(r, i * 1_000_000_000, bid[i], bid[i] + 1, 0.5, i == 0, f[i])


def forecasts(seed: int) -> tuple[Array, Array]:
    rng = np.random.default_rng(seed)
    f = np.zeros(N, FORECAST)
    f["p"] = rng.dirichlet([2.0, 3.0, 2.0], (N, HORIZONS))
    f["q"] = np.sort(rng.normal(0.0, 0.5, (N, HORIZONS, 3)), axis=2)
    f["mean"] = rng.normal(0.0, 0.3, (N, HORIZONS))
    return f, 1_000 + np.cumsum(rng.choice([-1, 0, 1], N)).astype(np.int64)


def corrected(f: Array, bid: Array) -> tuple[Array, Array, Array]:
    r = re.new_recalibration()
    re.begin(r, np.full((1, HORIZONS), 0.4), 0.5, np.array([True]))
    out, said = f.copy(), np.zeros(N, bool)
    carry(r[0], bid, out, said)
    return out, said, r


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.integers(0, N - 1), min_size=1, max_size=20, unique=True),
    st.sampled_from(["p", "q", "mean"]),
    st.sampled_from([np.nan, np.inf, -np.inf]),
    st.integers(0, HORIZONS - 1),
    st.integers(0, 5),
)
def test_nothing_is_learned_from_what_is_no_number(
    places: list[int], field: str, what: float, horizon: int, seed: int
) -> None:
    f, bid = forecasts(seed)
    if field == "mean":
        f[field][places, horizon] = what
    else:
        f[field][places, horizon, -1] = what
    out, said, r = corrected(f, bid)
    assert (np.flatnonzero(~said) == sorted(places)).all()
    for name in ("p", "q", "mean", "interval"):
        assert np.isfinite(out[name][said]).all(), name
    for name in ("weight", "ratio", "said", "realised", "slope", "margin"):
        assert np.isfinite(r[name]).all(), name
    before = corrected(forecasts(seed)[0], bid)[0]
    first = min(places)
    assert out[:first].tobytes() == before[:first].tobytes()


def spoiled(trader: Engine, events: Array, first: int, last: int) -> Array:
    """Rows of events, at [first, last) of which the model says no number."""
    bias = trader.model.params.bias  # type: ignore[attr-defined]
    parts = []
    for begin, end in ((0, first), (first, last), (last, len(events))):
        kept = bias.copy()
        bias[:] = np.nan if begin == first else kept
        at = begin
        while at < end:
            output = trader.process(events[at:end])
            at += output.consumed
            parts.append(output.rows)
        bias[:] = kept
    return np.concatenate(parts)


@pytest.fixture
def trader(tmp_path: Path) -> Engine:
    return engine(tmp_path, msgspec.structs.replace(LOOSE, warmup_events=32))


def test_an_engine_decides_nothing_on_it_and_trades_again_after_the_burn_in(trader: Engine) -> None:
    trader.desk.standing[
        "n"
    ] = -1e12  # learns nothing: by then it would know that nothing is to be earned here
    events = random_events(1_500, 7)
    rows = spoiled(trader, events, 600, 610)
    silent = rows["state_events"] == NO_NUMBER
    assert silent.any()
    assert np.isnan(rows["mean"][silent]).any()
    assert not np.isin(rows["action"][silent], (Action.CROSS, Action.POST, Action.REPLACE)).any()
    after = rows[rows["seq"] > events["seq"][610]]
    early = after["state_events"] <= 32
    assert set(after["reason_code"][early & (after["action"] == Action.HOLD)]) <= {Reason.WARMUP}
    assert np.isin(after["action"], (Action.CROSS, Action.POST)).any()
    assert np.isfinite(after["mean"]).all()
    assert trader.desk.stream["restarts"][0, Restart.NUMBER] == silent.sum()


def test_a_contender_that_says_none_has_said_nothing_that_counts(trader: Engine) -> None:
    events = random_events(600, 7)
    contender = Contender(trader.model, trader.instruments, LOOSE)
    bias = trader.model.params.bias  # type: ignore[attr-defined]
    kept = bias.copy()
    said = [contender.forecast(events[:300])]
    bias[:] = np.nan
    said.append(contender.forecast(events[300:310]))
    bias[:] = kept
    said.append(contender.forecast(events[310:]))
    middle = said[1][said[1]["made"]]
    assert len(middle)
    assert (middle["state_events"] == NO_NUMBER).all()
    after = said[2][said[2]["made"]]
    assert after["state_events"][0] == 1
    assert np.isfinite(after["f"]["mean"]).all()


def test_recorded_rows_say_it_too(trader: Engine) -> None:
    events = random_events(700, 7)
    rows = spoiled(trader, events, 600, 610)
    said = np.zeros(len(events), SAID)
    recorded_forecasts(events, rows, said)
    nothing = said["made"] & (said["state_events"] == NO_NUMBER)
    assert nothing.any()
    assert not nothing[:600].any()
    assert not nothing[611:].any()
