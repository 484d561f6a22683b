"""Models and features of one's own: alike in Python and compiled, held to what a forecast is, loud where they fail."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import emp
from emp.app.report.page import by_span
from emp.core.records import FORECAST, HORIZONS
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.loaded import LoadedModel
from emp.model.own import forecast_own
from emp.model.table import Restart

EVENTS = 20_000
AT = emp.INPUT_NAMES.index("qimbalance")


@pytest.fixture(scope="module")
def market() -> emp.MarketData:
    return emp.simulate("zi", "GC", events=EVENTS, seed=5)


def leaning(x: Any, forecast: Any, mine: Any) -> None:
    """Expect the mid to follow the imbalance of late."""
    mine[0] = 0.9 * mine[0] + 0.1 * x[AT]
    for h in range(6):
        emp.believe(forecast, h, 0.3 * mine[0], 1.0 + 0.1 * abs(x[0]))


def lean(seen: Any, own: Any, mine: Any) -> None:
    mine[0] = 0.8 * mine[0] + 0.2 * seen.qimbalance
    own[0] = mine[0]
    own[1] = math.sqrt(seen.sigma_ticks) / seen.spread_ticks


def by_own_inputs(x: Any, forecast: Any) -> None:
    for h in range(6):
        forecast.mean[h] = 0.2 * x[-2] - 0.01 * x[-1]


def said_by(loaded: LoadedModel, x: Any = None) -> Any:
    """What a loaded model says of one input, before outcomes correct it."""
    out, memory = np.zeros(1, FORECAST), np.zeros(loaded.state_size, np.float32)
    row = np.zeros(loaded.width, np.float32) if x is None else x
    forecast_own(loaded.params, memory, 0, row, out[0])
    return out[0]


def test_python_and_compiled_say_alike_to_the_bit(market: emp.MarketData) -> None:
    both = [
        emp.backtest(market, model=emp.Model(model, memory=1), latency_ms=10)
        for model in (leaning, numba.njit(leaning))
    ]
    assert both[0].summary["action_log_sha256"] == both[1].summary["action_log_sha256"]
    assert np.abs(both[0].rows["mean"]).max() > 0.01


def test_python_and_compiled_features_are_alike_to_the_bit(market: emp.MarketData) -> None:
    seen = [emp.Features(one, ["lean", "width"], memory=1) for one in (lean, numba.njit(lean))]
    both = [
        emp.backtest(market, model=emp.Model(model, features=one), latency_ms=10)
        for model, one in zip((by_own_inputs, numba.njit(by_own_inputs)), seen, strict=True)
    ]
    assert both[0].summary["action_log_sha256"] == both[1].summary["action_log_sha256"]
    tables = [emp.inputs(market, features=one) for one in seen]
    assert tables[0].equals(tables[1])
    assert tables[0].column_names == [*emp.INPUT_NAMES, "lean", "width"]
    assert emp.features(market, features=seen[0]).column_names[-2:] == ["lean", "width"]


def test_what_it_is_shown_is_what_inputs_gives(market: emp.MarketData) -> None:
    shown: list[Any] = []
    features = emp.Features(lean, ["lean", "width"], memory=1)

    def watching(x: Any, forecast: Any) -> None:
        shown.append(x.copy())
        x[:] = 1e9  # a copy: what is done to it changes nothing
        forecast.mean[:] = 0.0

    part = market[:5_000]
    emp.backtest(part, model=emp.Model(watching, features=features))
    table = emp.inputs(part, features=features)
    told = np.stack([column.to_numpy() for column in table.columns], axis=1)
    assert np.array(shown).astype(np.float32).tobytes() == told.tobytes()


def test_a_mean_is_enough() -> None:
    def mean_alone(x: Any, forecast: Any) -> None:
        forecast.mean[:] = [0.0, 0.5, -0.5, 0.0, 0.5, -0.5]

    x = np.zeros(len(emp.INPUT_NAMES), np.float32)
    x[emp.INPUT_NAMES.index("pace")] = 1.0  # so many events that 100 ms see several
    said = said_by(emp.Model(mean_alone).load(), x)
    assert said["mean"].tolist() == [0.0, 0.5, -0.5, 0.0, 0.5, -0.5]
    assert (np.diff(said["q"], axis=1) > 0).all()
    assert said["q"][:, 1].tolist() == said["mean"].tolist()
    wide = said["q"][:, 2] - said["q"][:, 0]
    assert wide[0] < wide[1] < wide[2]  # further ahead, less is known
    assert wide[3] < wide[4] < wide[5]
    assert said["p"].sum(axis=1) == pytest.approx(np.ones(HORIZONS), abs=1e-6)
    assert said["p"][0, 0] == pytest.approx(said["p"][0, 2])
    assert said["p"][1, 2] > said["p"][1, 0]
    assert said["p"][2, 2] < said["p"][2, 0]


def test_what_is_said_is_kept_and_the_rest_follows_from_it() -> None:
    def sure(x: Any, forecast: Any) -> None:
        forecast.p[1] = [0.1, 0.2, 0.7]
        forecast.q[2] = [-1.0, 0.25, 1.5]

    said = said_by(emp.Model(sure).load())
    assert said["p"][1] == pytest.approx([0.1, 0.2, 0.7])
    assert said["mean"][2] == 0.25
    assert said["p"][2, 2] > said["p"][2, 0]
    nothing = said_by(emp.Model(lambda x, forecast: None, name="silent").load())
    assert nothing["mean"].tolist() == [0.0] * HORIZONS


def test_an_own_model_forecasts_what_a_shipped_one_says_with_its_weights(market: emp.MarketData) -> None:
    shipped = load_model("linear")
    tensors, head = shipped.artifact.tensors, shipped.artifact.domain("fx_fut", "globex", "GC")
    weight, bias = (tensors[name][head].astype(float) for name in ("weight", "bias"))

    @numba.njit
    def linear(x: Any, forecast: Any) -> None:
        raw = bias + x @ weight
        for h in range(6):
            odds = np.exp(raw[3 * h : 3 * h + 3] - raw[3 * h : 3 * h + 3].max())
            forecast.p[h] = odds / odds.sum()
            forecast.q[h] = np.sort(raw[18 + 3 * h : 21 + 3 * h])
            forecast.mean[h] = raw[36 + h]

    rows = [
        forecasts(market, model)
        for model in (shipped, emp.Model(linear, base="linear", trained_on=market[:10]).load())
    ]
    assert len(rows[0]) > 10_000
    for name in ("mean", "p", "q", "interval"):
        assert rows[1][name] == pytest.approx(rows[0][name], rel=1e-3, abs=1e-3), name


def forecasts(market: emp.MarketData, model: LoadedModel) -> Any:
    """DECISION rows of a market of which nothing is traded."""
    engine = Engine([market.instrument], model, EngineLimits(), "FORECAST")
    at, rows = 0, []
    while at < len(market):
        done = engine.process(market.events[at:])
        at += done.consumed
        rows.append(done.rows.copy())
    engine.check_model()
    return np.concatenate(rows)


def raising(x: Any, forecast: Any) -> None:
    if x[AT] > 0:
        raise ValueError("no idea")


def no_number(x: Any, forecast: Any) -> None:
    forecast.mean[2] = math.inf if x[AT] > 0 else 0.0


def no_distribution(x: Any, forecast: Any) -> None:
    for k in range(3):
        forecast.p[1, k] = 0.5


def crossing(x: Any, forecast: Any) -> None:
    for k in range(3):
        forecast.q[4, k] = -float(k)


def partly(x: Any, forecast: Any) -> None:
    forecast.q[0, 1] = 0.1


def beyond(x: Any, forecast: Any) -> None:
    forecast.mean[int(abs(x[0])) + 6] = 1.0


WRONG = [
    (raising, r"at event \d+: ValueError: no idea \(test_models.py, line \d+\)"),
    (no_number, r"at event \d+: what it says of 20ev is not finite \(test_models.py, line \d+\)"),
    (no_distribution, r"at event 1: the probabilities of 5ev are below 0, or do not add up to 1 \("),
    (crossing, r"at event 1: the quartiles of 500ms do not rise \("),
    (partly, r"at event 1: of 1ev it says some of three quartiles, or of three classes: all, or none \("),
    (beyond, r"at event 1: IndexError: .*\(test_models.py, line \d+\)"),
]


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # compiled code prints its errors
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("wrong", "why"), WRONG, ids=lambda one: getattr(one, "__name__", ""))
def test_what_is_no_forecast_ends_in_one_line(
    market: emp.MarketData, wrong: Any, why: str, compiled: bool
) -> None:
    if compiled and "Error" in why:
        why = r"at event \d+: it raised an error; without numba.njit the error can be seen"
    with pytest.raises(emp.UsageError, match=f"model {wrong.__name__}, {why}") as caught:
        emp.backtest(market[:3_000], model=numba.njit(wrong) if compiled else wrong)
    assert "\n" not in str(caught.value)


def no_input(seen: Any, own: Any) -> None:
    own[0] = math.nan


def too_many(seen: Any, own: Any) -> None:
    own[int(seen.spread_ticks) + 1] = 1.0


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("wrong", [no_input, too_many])
def test_features_that_fail_end_in_one_line(market: emp.MarketData, wrong: Any, compiled: bool) -> None:
    why = (
        r"the input odd is not finite \(test_models.py, line \d+\)"
        if wrong is no_input
        else "it raised an error"
        if compiled
        else "IndexError"
    )
    features = emp.Features(numba.njit(wrong) if compiled else wrong, ["odd"])
    said = f"features {wrong.__name__}, at event 1: {why}"
    with pytest.raises(emp.UsageError, match=said):
        emp.backtest(market[:2_000], model=emp.Model(numba.njit(by_mean), features=features))
    with pytest.raises(emp.UsageError, match=said):
        emp.inputs(market[:2_000], features=features)


def by_mean(x: Any, forecast: Any) -> None:
    forecast.mean[0] = 0.0


def test_one_that_has_failed_says_what_is_no_number_and_is_asked_no_more(market: emp.MarketData) -> None:
    asked = []

    def once(x: Any, forecast: Any) -> None:
        asked.append(1)
        if len(asked) == 1_500:
            raise RuntimeError("that is all")

    loaded = emp.Model(once).load()
    engine = Engine([market.instrument], loaded, EngineLimits(), "FAILS")
    rows = [engine.process(market.events[k : k + 100]).rows.copy() for k in range(0, 3_000, 100)]
    said = np.concatenate(rows)
    assert len(asked) == 1_500
    assert np.isfinite(said["mean"][:1_499]).all()
    assert np.isnan(said["mean"][1_499:]).all()
    assert (said["action"][1_499:] == emp.HOLD).all()
    with pytest.raises(emp.UsageError, match=r"model once, at event .*RuntimeError: that is all"):
        engine.check_model()


def test_a_model_cannot_get_past_risk(market: emp.MarketData) -> None:
    @numba.njit
    def sure(x: Any, forecast: Any) -> None:
        for h in range(6):
            emp.believe(forecast, h, 50.0, 0.01)

    @numba.njit
    def believing(seen: Any, request: Any) -> None:
        emp.cross(request, 1 if seen.expected_ticks[5] >= 0.0 else -1, 1000)

    limits = {"max_position_lots": 2, "max_order_lots": 1}
    model = emp.Model(sure, trained_on=market, warmup_events=5_000)
    traded = emp.backtest(market, model=model, rule=believing, limits=limits)
    assert traded.summary["fills"] >= 2
    assert np.abs(traded.rows["inventory"]).max() == 2
    assert traded.rows["qty"].max() == 1
    assert (traded.rows["action"][traded.rows["state_events"] <= 5_000] == emp.HOLD).all()
    assert {"warmup", "position_limit"} <= set(traded.reasons())


def counting(x: Any, forecast: Any, mine: Any) -> None:
    mine[0] += 1.0
    forecast.mean[0] = mine[0]


def test_memory_is_zero_after_every_reset_and_is_part_of_a_checkpoint(market: emp.MarketData) -> None:
    def since(seen: Any, own: Any, mine: Any) -> None:
        mine[0] += 1.0
        own[0] = mine[0] - seen.since_reset

    events = market.events[:2_000].copy()
    events["ts"][1_000:] += 3_600 * 10**9  # a pause breaks the stream
    features = emp.Features(numba.njit(since), ["off"], memory=1)
    loaded = emp.Model(counting, memory=1, features=features).load()
    engine = Engine([market.instrument], loaded, EngineLimits(), "RESETS")
    rows = engine.process(events).rows
    assert (rows["since_reset"] == 1).sum() == 2
    assert rows["state_events"].max() < 1_100
    assert int(engine.desk.stream["restarts"][0][Restart.MARKET]) == 1
    held = engine.checkpoint()
    remembered = held["memory"][0].view(np.float64)
    assert remembered[0] == rows["state_events"][-1]
    assert held["inputs"][0, len(emp.INPUT_NAMES)] == 0.0  # as many events as perception has seen since
    assert held["inputs"][0, -2:].view(np.float64)[0] == rows["since_reset"][-1]


def test_what_outcomes_teach_corrects_it(market: emp.MarketData) -> None:
    def wild(x: Any, forecast: Any) -> None:
        for h in range(6):
            emp.believe(forecast, h, 100.0 * x[AT], 500.0)

    rows = emp.backtest(market, model=wild).rows
    assert np.abs(rows["mean"][-1_000:]).max() < 10.0
    wide = rows["interval"][-1_000:, 1, 1] - rows["interval"][-1_000:, 1, 0]
    assert wide.max() < 50.0


def refuse(made: Callable[[], object], why: str) -> None:
    with pytest.raises(emp.UsageError, match=why) as caught:
        made()
    assert "\n" not in str(caught.value)


def test_what_can_be_no_model_is_refused_in_one_line() -> None:
    def one(x: Any) -> None: ...

    def yields(x: Any, forecast: Any) -> Any:
        yield x

    def three(x: Any, forecast: Any, mine: Any) -> None: ...

    def sees(seen: Any, own: Any) -> None: ...

    refuse(lambda: emp.Model(one), r"model one: takes 1 arguments, not \(x, forecast\) or")
    refuse(lambda: emp.Model(yields), "model yields: is a generator or async")
    refuse(lambda: emp.Model(3), "is no function")  # type: ignore[arg-type]
    refuse(lambda: emp.Model(three), "takes memory of its own, and none is given")
    refuse(lambda: emp.Model(by_mean, memory=3), r"memory is given, and it takes \(x, forecast\) only")
    refuse(lambda: emp.Model(three, memory=10**9), "memory is how many numbers it remembers, 0 to")
    refuse(lambda: emp.Model(three, memory=-1), "memory is how many numbers")
    refuse(lambda: emp.Model(three, memory=1.5), "memory is how many numbers")  # type: ignore[arg-type]
    refuse(
        lambda: emp.Model(by_mean, warmup_events=0),
        "warmup_events is a whole number from 1 to 2147483648, not 0",
    )
    refuse(lambda: emp.Model(by_mean, features=sees), "features are an emp.Features")  # type: ignore[arg-type]
    refuse(lambda: emp.Model(by_mean, trained_on="GOOG"), "trained_on is market data")
    refuse(lambda: emp.Features(sees, []), "names are those of its inputs")
    refuse(lambda: emp.Features(sees, "lean"), "names are those of its inputs")
    refuse(lambda: emp.Features(sees, ["ofi"] * 2), "there is an input ofi already")
    refuse(lambda: emp.Features(sees, ["depth_0"]), "there is an input depth_0 already")


def test_a_compiled_model_that_cannot_be_compiled_says_where() -> None:
    @numba.njit
    def misspelt(x: Any, forecast: Any) -> None:
        forecast.means[0] = 1.0

    refuse(
        lambda: emp.Model(misspelt).load(),
        r"model misspelt: forecast has no field 'means': did you mean 'mean'\?.*test_models.py, line",
    )


def test_its_hash_is_of_its_source_and_of_the_numbers_that_it_refers_to() -> None:
    def made(weight: float, table: Any) -> Any:
        def model(x: Any, forecast: Any) -> None:
            forecast.mean[0] = weight * table["first"][0]

        return emp.Model(model).load().artifact.hash

    same = {made(1.0, {"first": np.ones(3)}) for _ in range(3)}
    others = {
        made(2.0, {"first": np.ones(3)}),
        made(1.0, {"first": np.zeros(3)}),
        emp.Model(by_mean).load().artifact.hash,
        emp.Model(by_mean, warmup_events=3).load().artifact.hash,
        emp.Model(by_mean, features=emp.Features(no_input, ["odd"])).load().artifact.hash,
    }
    assert len(same) == 1
    assert len(others | same) == 6


def test_what_it_was_trained_on_is_told_apart(market: emp.MarketData) -> None:
    first, rest = market[:8_000], market[8_000:]
    result = emp.backtest(market, model=emp.Model(numba.njit(by_mean), trained_on=first))
    spans = result.summary["spans"]
    assert spans["trained"]["events"] == 8_000
    assert spans["unseen"]["events"] == len(rest)
    assert "not known" not in spans
    ts = first.events["ts"]
    span = ("GC", int(ts[0]), int(ts[-1]) + 1)
    for said in (span, [span]):
        again = emp.Model(numba.njit(by_mean), trained_on=said).load().artifact
        assert again.hash == result.summary["model_hash"]
    of_none = emp.backtest(rest, model=emp.Model(numba.njit(by_mean), trained_on=())).summary["spans"]
    assert of_none["unseen"]["events"] == len(rest)


@pytest.mark.parametrize("sigma", [math.nan, -5.0])
@pytest.mark.parametrize("compiled", [False, True])
def test_a_sigma_that_is_none_is_refused(market: emp.MarketData, sigma: float, compiled: bool) -> None:
    def unsure(x: Any, forecast: Any) -> None:
        emp.believe(forecast, 0, 0.1, sigma)

    with pytest.raises(emp.UsageError, match=r"model unsure, at event 1: ") as caught:
        emp.backtest(market[:1_000], model=numba.njit(unsure) if compiled else unsure)
    assert compiled or "believe: sigma is below 0, or no number" in str(caught.value)


def test_a_mean_may_lie_beyond_its_quartiles() -> None:
    """Where most moves are none and a few are large, it does."""

    def rarely(x: Any, forecast: Any) -> None:
        forecast.q[0] = [0.0, 0.0, 0.0]
        forecast.mean[0] = 0.5

    for model in (rarely, numba.njit(rarely)):
        said = said_by(emp.Model(model).load())
        assert (said["mean"][0], said["q"][0].tolist()) == (0.5, [0.0, 0.0, 0.0])


def test_of_one_that_does_not_say_what_it_was_trained_on_nothing_is_called_unseen(
    market: emp.MarketData,
) -> None:
    part = market[:4_000]
    result = emp.backtest(part, model=emp.Model(numba.njit(by_mean)))
    spans = result.summary["spans"]
    assert spans["not known"]["events"] == len(part)
    assert spans["unseen"]["events"] == 0
    assert spans["unseen"]["stretches"] == []
    page = by_span(spans)
    assert f"<td>not known</td><td>{len(part):,}</td>" in page
    assert "does not say what it was trained on" in page


NOW_NS = 1_700_000_000_000_000_000
SLIPS = {
    "reversed": (("GC", NOW_NS + 9, NOW_NS), "trained_on: GC from 1700000000000000009 to"),
    "empty": (("GC", NOW_NS, NOW_NS), "ns UTC, the first of it and one beyond the last"),
    "seconds": (("GC", 1_700_000_000, 1_700_000_009), "ns UTC"),
    "beyond": (("GC", NOW_NS, 2**70), "ns UTC"),
    "of several": ([("GC", NOW_NS, NOW_NS + 1), ("GC", 5, 9)], "trained_on: GC from 5 to 9: ns UTC"),
    "spelling": (("gc", NOW_NS, NOW_NS + 1), "trained_on: there is no instrument gc: GC"),
    "microseconds": (("GC", 1_700_000_000_000_000, 1_700_000_000_000_009), "ns UTC"),
    "unknown": (
        ("GOOOG", NOW_NS, NOW_NS + 1),
        "trained_on: there is no instrument GOOOG: catalogue= names a",
    ),
}


@pytest.mark.parametrize(("span", "why"), SLIPS.values(), ids=SLIPS)
def test_a_slip_in_what_it_was_trained_on_is_one_line(span: Any, why: str) -> None:
    """It would be called unseen there."""
    refuse(lambda: emp.Model(by_mean, trained_on=span), why)


def test_spans_of_an_early_year_and_of_a_catalogue_of_ones_own_are_taken(tmp_path: Path) -> None:
    own = tmp_path / "mine.yaml"
    own.write_text(
        "instruments: {MYCOIN: {tick: 0.01, lot: 1, venue: crypto_clob, asset_class: crypto,"
        " calendar: always_open, taker_fee: 2.0, maker_fee: 1.0, fee_source: a test, currencies: [USD]}}\n"
    )
    span = ("MYCOIN", 50_000_000_000_000_000, 50_000_000_000_000_001)  # in 1971
    made = emp.Model(by_mean, trained_on=span, catalogue=own).load().artifact
    assert made.manifest.provenance["series"][0]["train_ns"] == list(span[1:])


def test_numbers_beyond_what_is_counted_are_one_line(market: emp.MarketData) -> None:
    refuse(
        lambda: emp.Model(by_mean, warmup_events=2**63),
        "warmup_events is a whole number from 1 to 2147483648",
    )
    model = emp.Model(
        by_mean, warmup_events=1 << 31, trained_on=(np.str_("GC"), NOW_NS, np.int64(NOW_NS + 1))
    )
    assert emp.backtest(market, model=model).summary["fills"] == 0
    assert model.load().artifact.manifest.provenance["series"][0]["instrument"] == "GC"
