"""The fleet in virtual time: every event served once, waits as theory says, and the same from the same seed."""

import json

import numpy as np
import pytest

from emp.app.bench.scale import Found, Options, fleet_of, show
from emp.app.bench.scaling.engine import Measured
from emp.app.bench.scaling.fleet import (
    Load,
    Span,
    bearable,
    drawn_rates,
    engine_events,
    lose,
    placed,
    run_fleet,
)
from emp.app.bench.scaling.measured import WARM, series_of, shape_of_cost
from emp.app.bench.scaling.plan import Resource, Unit, cost_of, first_full
from emp.app.bench.scaling.queue import pollaczek_khinchine, waits
from emp.core.errors import UsageError
from emp.core.records import EVENT

STEADY = np.ones(60)
BURSTS = np.array([0.2, 0.1, 3.0, 0.5, 1.2, 1.0])
UNIT = Unit(400e-6, 300e6, 2e6, 500.0, 300.0, 2.4, 0.8, 2e9, 0.004)


def load(rates: list[float], bursts: np.ndarray = STEADY, mean_s: float = 0.0004) -> Load:
    services = np.random.default_rng(1).gamma(0.7, mean_s / 0.7, 4_000)
    return Load(np.array(rates), bursts, services)


def test_waits_are_those_of_one_after_the_other() -> None:
    rng = np.random.default_rng(3)
    arrivals, services = np.sort(rng.random(500)), rng.random(500) * 0.004
    free, expected = 0.0, []
    for came, takes in zip(arrivals, services, strict=True):
        expected.append(max(0.0, free - came))
        free = max(free, came) + takes
    np.testing.assert_allclose(waits(arrivals, services), expected, atol=1e-12)
    assert len(waits(arrivals[:0], services[:0])) == 0


@pytest.mark.parametrize("utilisation", [0.3, 0.6, 0.8])
def test_the_mean_wait_agrees_with_pollaczek_and_khinchine(utilisation: float) -> None:
    """Over forty spans: theory lies within the interval of their mean at 99 %."""
    one = load([utilisation / 0.0004])
    rate = utilisation / float(one.services.mean())
    one = one._replace(rates=np.array([rate]))
    means, loads = [], []
    for seed in range(40):
        span = Span(60, seed)
        times, _ = engine_events(one, [0], span)
        services = np.random.default_rng([seed, 9]).choice(one.services, len(times))
        means.append(float(waits(times, services).mean()))
        loads.append(run_fleet(one, np.array([0]), span)[0].utilisation)
    for found, expected in ((means, pollaczek_khinchine(rate, one.services)), (loads, utilisation)):
        half = 2.71 * np.std(found, ddof=1) / np.sqrt(len(found))
        assert abs(np.mean(found) - expected) < half, (np.mean(found), expected, half)


def test_every_event_is_served_once_whoever_is_lost() -> None:
    rates = drawn_rates([3.0, 40.0, 9.0], 60, 4)
    fleet, span = load(list(rates), BURSTS), Span(30, 4)
    where = placed(rates, 6)
    everything = len(engine_events(fleet, range(60), span)[0])
    assert sum(one.events for one in run_fleet(fleet, where, span)) == everything
    lost = lose(fleet, where, span, 5.0)
    gone = int(np.argmax(np.bincount(where, rates)))
    assert lost.instruments == int((where == gone).sum())
    assert lost.served == lost.asked
    assert 5.0 <= lost.longest_s < 6.0, "the first event after the loss waits for the whole term"
    assert lost.takers > 1
    moved = engine_events(fleet, np.flatnonzero(where == gone).tolist(), span)[0]
    assert lost.delayed == pytest.approx(int(((moved > 15.0) & (moved < 20.0)).sum()), abs=20)


def test_who_takes_over_is_calm_when_it_has_done_what_had_come() -> None:
    """200 events a second of 1 ms come to the lost engine; after 5 s the other has 1,000 of them, a second of work,
    while what comes then is served behind them: 1 s / (1 - 0.21)."""
    one = Load(np.array([200.0, 10.0]), STEADY, np.full(10, 0.001))
    found = [lose(one, np.array([0, 1]), Span(60, seed), 5.0).calm_after_s for seed in range(5)]
    assert np.mean(found) == pytest.approx(1.0 / 0.79, rel=0.1)
    calm = one._replace(rates=np.array([1e-9, 1e-9]))
    assert lose(calm, np.array([0, 1]), Span(60, 1), 5.0).calm_after_s == 0.0, "nothing had come"


def test_what_an_event_costs_is_not_what_the_first_one_did(monkeypatch: pytest.MonkeyPatch) -> None:
    class Engine:
        spent_ns, seen = 0, 0

        def process(self, rows: np.ndarray) -> None:
            self.spent_ns += 1_000 if self.seen else 300_000
            self.seen += len(rows)

    engine = Engine()
    monkeypatch.setattr("emp.app.bench.path.fresh_engine", lambda *_: engine)
    monkeypatch.setattr("emp.engine.choose.load_model", lambda _: None)
    monkeypatch.setattr("time.thread_time_ns", lambda: engine.spent_ns)
    shape = shape_of_cost(np.zeros(WARM + 20, EVENT))
    assert shape.tolist() == [1.0] * 20
    assert engine.seen == WARM + 20


def test_more_work_waits_longer_and_costs_more() -> None:
    few, many = (run_fleet(load([rate]), np.array([0]), Span(60, 1))[0] for rate in (500.0, 2_000.0))
    assert few.utilisation < many.utilisation
    assert few.wait_p99_s < many.wait_p99_s
    bursty = run_fleet(load([1_000.0], BURSTS), np.array([0]), Span(60, 1))[0]
    steady = run_fleet(load([1_000.0]), np.array([0]), Span(60, 1))[0]
    assert bursty.wait_p99_s > steady.wait_p99_s
    costs = [cost_of(n, 10.0, UNIT) for n in (100, 1_000, 100_000)]
    assert sorted(costs, key=lambda one: one.per_month or 0.0) == costs
    assert costs[-1].engines == 500, "100,000 x 10 x 400 us, at 80 %"


def test_bursts_at_once_are_worse_than_each_in_its_own_time() -> None:
    fleet = load([20.0] * 40, BURSTS)
    where = placed(fleet.rates, 1)
    apart = run_fleet(fleet, where, Span(60, 1))[0]
    at_once = run_fleet(fleet._replace(together=True), where, Span(60, 1))[0]
    assert at_once.wait_p99_s > 2.0 * apart.wait_p99_s


def test_the_same_seed_is_the_same_fleet() -> None:
    rates = drawn_rates([3.0, 40.0], 40, 4)
    where = placed(rates, 4)
    again = [
        (
            run_fleet(load(list(rates), BURSTS), where, Span(20, seed)),
            lose(load(list(rates)), where, Span(20, seed), 3.0),
        )
        for seed in (1, 1, 2)
    ]
    assert again[0] == again[1]
    assert again[0] != again[2]


def test_an_engine_bears_less_where_less_delay_is_borne() -> None:
    one = load([1.0])
    strict, loose = (bearable(one, Span(120, 1), limit) for limit in (0.002, 0.02))
    assert 0.1 < strict < loose < 1.0
    loaded = one._replace(rates=np.array([loose / float(one.services.mean())]))
    assert run_fleet(loaded, np.array([0]), Span(120, 1))[0].wait_p99_s <= 0.02


def test_instruments_are_spread_evenly_and_the_busiest_is_alone() -> None:
    where = placed(np.array([10.0, 1.0, 1.0, 1.0, 1.0, 5.0]), 3)
    assert np.bincount(where, [10.0, 1.0, 1.0, 1.0, 1.0, 5.0]).tolist() == [10.0, 5.0, 4.0]


def test_what_is_used_most_is_full_first_and_memory_can_be_it() -> None:
    parts = [
        Resource("a", 1.0, 4.0, "", ""),
        Resource("b", 1.0, 2.0, "", ""),
        Resource("c", 9.0, None, "", ""),
    ]
    found = first_full(parts)
    assert found is not None
    assert found.name == "b"
    assert first_full(parts[2:]) is None
    assert cost_of(1_000, 0.01, UNIT).by == "memory"
    assert cost_of(1_000, 10.0, UNIT).by == "cpu"
    for unit in (UNIT._replace(core_bytes=1e8), UNIT._replace(bearable=0.0)):
        none = cost_of(1_000, 10.0, unit)
        assert (none.engines, none.per_month, none.per_instrument_month) == (None, None, None), "none fits"
    nothing = Resource("d", 0.1, 0.0, "", "")
    assert nothing.load == np.inf
    assert first_full([*parts, nothing]) == nothing


def test_rates_and_bursts_of_a_market_are_counted() -> None:
    ts = np.repeat(np.arange(20), [1, 3] * 10) * 1_000_000_000
    found = series_of("x", ts)
    assert (found.events, found.rate) == (37, 37 / 19)
    assert found.bursts[0] == pytest.approx(1 / (37 / 19))
    with pytest.raises(UsageError, match="ten seconds"):
        series_of("x", ts[:9])


def test_what_was_measured_becomes_tables_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    """Of engines that took what is written here: what is measured is another test's."""
    engines = [
        Measured(n, 1_000, 0, 0.4, int(3e8 + 2e6 * n), 500_000, 1.0) for n in (1, 5, 100)
    ]  # 400 us an event, 300 MB an engine and 2 MB an instrument
    options = Options(instruments=100, engines=20, seconds=20, internet=1_000)
    series = [series_of("a", np.arange(100) * 500_000_000), series_of("b", np.arange(400) * 100_000_000)]
    found = Found(engines, engines[1], series, np.ones(50), 250.0, 4_800.0, 5.0)
    result = json.loads(json.dumps(fleet_of(options, found)))
    assert result["unit"]["instrument_bytes"] == pytest.approx(2e6, rel=1e-3)
    assert result["unit"]["fixed_bytes"] == pytest.approx(3e8, rel=1e-3)
    assert result["engines"][0]["us_per_event"] == pytest.approx(400.0)
    shares = {one["name"]: one["load"] for one in result["resources"]}
    assert shares["Kafka, market data"] is None
    assert shares["Redis, renewals of leases"] == pytest.approx(20 * 3 / 5.0 / 4_800.0), "three in a term"
    assert result["first_full"] == "memory of an engine"
    assert result["lost"]["served"] == result["lost"]["asked"]
    first, internet = result["costs"]
    assert internet["instruments"] == 1_000
    assert first["per_instrument_month"] == pytest.approx(first["engines"] * 0.004 * 730.0 / 100)
    none = fleet_of(options._replace(core_gb=0.1), found)
    json.dumps(none, allow_nan=False)
    show(none)
    assert "none fits" in capsys.readouterr().err
    show(result)
    said = capsys.readouterr().err
    for word in (
        "one engine, one core",
        "full first: memory of an engine",
        "what it costs",
        "not known",
        "assumed:",
    ):
        assert word in said
