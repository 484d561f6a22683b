"""`import emp`: what it offers, and that what it says of a market is what the engine sees."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import emp
from emp.core.instrument import find
from emp.core.records import HORIZON_NAMES
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits

N = 3000


@pytest.fixture(scope="module")
def market() -> emp.MarketData:
    return emp.simulate("zi", "GC", events=N, seed=3)


def test_every_name_it_promises_is_there_and_no_other() -> None:
    for name in emp.__all__:
        assert getattr(emp, name) is not None
    assert dir(emp) == sorted(emp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = emp.nothing


def test_importing_it_loads_nothing_of_weight() -> None:
    said = subprocess.run(
        [sys.executable, "-c", "import emp, sys; print(sorted({m.split('.')[0] for m in sys.modules}))"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(emp.__file__).parents[1],
    ).stdout
    assert not {"numba", "numpy", "pyarrow", "matplotlib"} & set(eval(said))


def test_a_market_is_cut_by_event_and_by_time(market: emp.MarketData) -> None:
    assert len(market) == N
    part = market[100:200]
    assert part.events["seq"].tolist() == market.events["seq"][100:200].tolist()
    edges = [str(np.datetime64(int(market.events["ts"][k]), "ns")) for k in (100, 200)]
    assert market.between(*edges).events["ts"].tolist() == part.events["ts"].tolist()
    with pytest.raises(emp.UsageError, match="cut by slices"):
        _ = market[5]  # type: ignore[index]


def test_what_is_saved_is_a_recording_of_the_same_events(market: emp.MarketData, tmp_path: Path) -> None:
    market.save(tmp_path / "a" / "day.parquet")
    again = emp.load(tmp_path / "a" / "day.parquet", "GC")
    assert again.events.tobytes() == market.events.tobytes()
    with pytest.raises(emp.UsageError.__base__, match="holds GC, not GOOG"):
        emp.load(tmp_path / "a" / "day.parquet", "GOOG")


def test_events_as_a_table_show_the_book_and_nothing_where_it_has_nothing(market: emp.MarketData) -> None:
    table = market.to_arrow(levels=3)
    e = market.events
    assert table.num_rows == N
    assert table["bid_px_1"].to_numpy().tolist() == e["bid_px"][:, 0].tolist()
    assert table["ask_sz_3"].null_count == int((e["n_ask"] < 3).sum())
    assert table["trade_px"].null_count == int((e["trade_qty"] == 0).sum()) > 0
    assert table["ts"].cast("int64").to_pylist() == e["ts"].tolist()
    money = market.to_arrow(levels=1, prices=True)
    assert money["bid_px_1"].to_numpy() == pytest.approx(e["bid_px"][:, 0] * find("GC").tick)


def test_features_are_the_states_of_the_engine(market: emp.MarketData) -> None:
    table = emp.features(market, model="linear")
    engine = Engine([find("GC")], load_model("linear"), EngineLimits(), "FEATURES")
    engine.keep_states = True
    events, at, states = market.events.copy(), 0, []
    while at < N:
        done = engine.process(events[at:])
        states.append(done.states[: done.consumed])
        at += done.consumed
    seen = np.concatenate(states)
    seen = seen[np.unique(seen["seq"], return_index=True)[1]]
    seen = seen[seen["seq"] > 0]
    assert table["seq"].to_pylist() == seen["seq"].tolist()
    for name in ("spread_ticks", "ofi_norm", "microprice_off", "slope_bid"):
        assert table[name].to_numpy().tolist() == seen[name].tolist()
    assert table["depth_feat"].to_pylist() == seen["depth_feat"].tolist()


def test_features_know_nothing_of_what_comes(market: emp.MarketData) -> None:
    cut = 1000
    other = market.events.copy()
    other["bid_px"][cut:] += 7
    other["ask_px"][cut:] += 7
    changed = emp.MarketData(market.instrument, other, market.counts)
    before = emp.features(market)
    n = int((before["seq"].to_numpy() < market.events["seq"][cut]).sum())
    assert n > 300
    assert emp.features(changed).slice(0, n).equals(before.slice(0, n))
    assert not emp.features(changed).slice(0, n + 1).equals(before.slice(0, n + 1))


def test_labels_are_the_moves_of_the_mid_and_say_when_they_were_known(market: emp.MarketData) -> None:
    table, seen = emp.labels(market), emp.features(market)
    mid = 0.5 * (seen["bid"].to_numpy() + seen["ask"].to_numpy())
    assert table["ts"].equals(seen["ts"])
    moves = table["move_ticks_5ev"].to_pylist()
    assert moves[:-5] == (mid[5:] - mid[:-5]).tolist()
    assert moves[-5:] == [None] * 5
    assert table["known_5ev"].to_pylist()[:-5] == seen["ts"].to_pylist()[5:]
    assert [n for n in table.column_names if n.startswith("delta_hat_")] == [
        f"delta_hat_{h}" for h in HORIZON_NAMES
    ]


def test_the_same_seed_makes_the_same_market() -> None:
    one, two, other = (emp.simulate("zi", "GC", events=500, seed=s).events.tobytes() for s in (1, 1, 2))
    assert one == two != other


def test_a_recording_is_read_with_all_that_was_wrong_in_it(tmp_path: Path) -> None:
    lines = ["ts,bid,ask,bid_size,ask_size"]
    lines += [
        f"{1_700_060_400_000 + 100 * k},{100 + 0.1 * (k % 3):.1f},{100.3 + 0.1 * (k % 3):.1f},5,7"
        for k in range(200)
    ]
    lines[50] = "1700060405000,oops,100.3,5,7"
    path = tmp_path / "quotes.csv"
    path.write_text("\n".join(lines) + "\n")
    found = emp.load(path, "GC")
    counts = found.counts
    assert len(found) == counts.events > 100
    assert sum(counts.quarantined.values()) >= 1
    assert counts.rows == counts.events + counts.merged + sum(counts.quarantined.values())
    assert found.files == (path,)


def test_what_is_called_wrongly_is_one_line_that_says_how(market: emp.MarketData) -> None:
    nothing: Any = None
    for call, said in (
        (lambda: emp.load(nothing, "GC"), "named by its path"),
        (lambda: emp.backtest(market.to_arrow(), "GC"), "not by a Table"),
        (lambda: emp.backtest(market.to_pandas(), "GC"), "not by a DataFrame"),
        (lambda: emp.load("quotes.csv", nothing), "an instrument is named"),
        (lambda: emp.backtest("quotes.csv", nothing), "which instrument"),
        (lambda: emp.simulate(events="10"), "events is a whole number from 1 on, not '10'"),
        (lambda: emp.simulate(events=10, seed=-1), "seed is a whole number from 0 on, not -1"),
        (lambda: market.to_arrow(levels=11), "levels are 0 to 10, not 11"),
        (lambda: market.to_arrow(levels=-1), "levels are 0 to 10, not -1"),
        (lambda: emp.backtest(market[5:5]), "holds no event"),
        (lambda: market[::-1], "no stretch of a market"),
        (lambda: market[::2], "no stretch of a market"),
        (lambda: emp.features(market.events), "emp.load or emp.simulate returns, not ndarray"),
        (lambda: emp.labels("GOOG.csv"), "emp.load or emp.simulate returns, not str"),
        (lambda: emp.backtest(market, latency_ms=float("nan")), "latency_ms is a number"),
        (lambda: emp.backtest(market, latency_ms="10"), "latency_ms is a number"),
    ):
        with pytest.raises(emp.UsageError, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("limits", [{"max_daily_loss": math.nan}, {"account": {"max_gross": math.nan}}])
def test_a_limit_that_nothing_is_ever_beyond_is_refused(
    market: emp.MarketData, limits: dict[str, Any]
) -> None:
    with pytest.raises(emp.UsageError, match=r"limits: \S+ is not a number"):
        emp.backtest(market, limits=limits)
    with pytest.raises(emp.UsageError, match=r"limits: max_drawdown is not a number"):
        emp.backtest(market, limits=EngineLimits(max_drawdown=math.nan))
