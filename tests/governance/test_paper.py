"""Two green weeks on paper: of that model, that code, that market, lately, long enough, and every limit kept."""

import math

import msgspec
import numpy as np
import pytest

from emp.core.errors import GovernanceError
from emp.core.instrument import find
from emp.engine.choose import load_model
from emp.engine.inputs import reference_of
from emp.engine.monitor import head_of
from emp.governance.evidence import Evidence, Record, new_evidence
from emp.governance.gates import Gates
from emp.governance.paper import (
    FRESH_DAYS,
    Asked,
    already,
    days_of,
    judge_day,
    paper_lacks,
)
from emp.governance.paper_source import Source
from emp.governance.pooled import pooled, pseudo_values
from emp.governance.registry import Registry
from emp.governance.runs import of_end
from emp.observe.psi import index_of
from emp.perception.state import CORE_INPUTS
from tests.governance.conftest import ask, paper, run_of, runs

MODEL = "a" * 64
TRADED = (1, 2, 3, 4, 5, 8, 9, 10, 11, 14)


def weeks(**changes: object) -> dict[str, Evidence]:
    return named(runs(MODEL, *TRADED, **changes))


def named(made: list[Evidence]) -> dict[str, Evidence]:
    """Evidence by kind and day, in order."""
    return {f"{one.kind} {one.config['run']}": one for one in made}


def test_two_green_weeks_are_enough(gates: Gates) -> None:
    assert paper_lacks(weeks(), ask(MODEL, 14), gates) == ""


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": "b" * 64}, "0 green days"),
        ({"code": "0.0+other"}, "0 green days"),
        ({"protocol": "ctrader"}, "0 green days"),
        ({"instruments": ("GOOG", "GC")}, "GC: 0 green days"),
        ({"instruments": ()}, "no instrument"),
        ({"today": 13}, "9 green days"),  # a day that has not come
        ({"today": 14 + FRESH_DAYS + 1}, "8 days old"),
    ],
)
def test_of_another_model_code_market_or_time_they_are_not(
    changes: dict[str, object], why: str, gates: Gates
) -> None:
    asked = ask(MODEL, 14)._replace(**changes)  # type: ignore[arg-type]
    assert why in paper_lacks(weeks(), asked, gates)


@pytest.mark.parametrize(
    ("figures", "colour", "why"),
    [
        ({"total_p99_ms": 0.9}, "red", "total_p99_ms above 0.85"),
        ({"model_p99_ms": math.nan}, "red", "model_p99_ms cannot be"),
        ({"ece": 0.09}, "red", "ece 1ev above 0.08"),
        ({"brier": 0.2}, "red", "brier 2s above 0.19"),
        ({"looks": 19.0}, "short", "19 looks of at least 20"),
        ({"hours": 5.0}, "short", "5 hours of at least 6"),
    ],
)
def test_a_day_is_green_by_its_figures(
    figures: dict[str, float], colour: str, why: str, gates: Gates
) -> None:
    judged = judge_day([paper(MODEL, 1, **figures)], gates, "GOOG")
    assert (judged.colour, why in judged.why) == (colour, True)
    spoiled = weeks() | {"paper RUN9": paper(MODEL, 9, **figures)}
    assert "green days" in paper_lacks(spoiled, ask(MODEL, 14), gates)


def test_alarms_make_a_day_red_and_parts_of_a_day_add_up(gates: Gates) -> None:
    assert judge_day([paper(MODEL, 1, "drift of sigma on GOOG")], gates, "GOOG").colour == "red"
    half = paper(MODEL, 1, looks=12.0, hours=3.0)
    assert judge_day([half], gates, "GOOG").colour == "short"
    other = msgspec.structs.replace(half, config={**half.config, "run": "OTHER"})
    assert judge_day([half, other], gates, "GOOG").colour == "green"
    assert judge_day([half, other, paper(MODEL, 1, "behind the dumb trader")], gates, "GOOG").colour == "red"


def test_a_day_of_a_run_that_was_signed_twice_counts_once(gates: Gates) -> None:
    """Two that observed one run at once; of figures that differ the least counts, and one that is red is enough."""

    def told(*alarms: str, **figures: float) -> Evidence:
        one = paper(MODEL, 1, *alarms, **{"looks": 30.0, "hours": 4.0, **figures})
        return msgspec.structs.replace(one, config={**one.config, "over": True})

    def judged(*found: Evidence) -> str:
        (parts,) = days_of({str(k): one for k, one in enumerate(found)}, ask(MODEL, 14)).values()
        return " ".join(judge_day(parts, gates, "GOOG"))

    assert judged(told()) == judged(told(), told()) == "short 4 hours of at least 6"
    assert judged(told(hours=7.0)) == "green "
    assert judged(told(), told(hours=7.0)) == judged(told(hours=7.0), told()) == judged(told())
    assert judged(told(hours=7.0), told(hours=7.0, ece=0.09)).startswith("red ece")
    assert judged(told("failed", hours=7.0), told(hours=7.0)) == "red failed"


def test_value_of_a_day_that_was_signed_twice_counts_once(gates: Gates) -> None:
    def told(value: float) -> Evidence:
        one = paper(MODEL, 14, value=value)
        return msgspec.structs.replace(one, config={**one.config, "over": True})

    bad = {**weeks(value=-10.0), "x": told(-10.0), "y": told(1e4)}
    assert "less than the dumb trader's" in paper_lacks(bad, ask(MODEL, 14), gates)


def test_of_two_tellings_of_a_day_that_is_not_over_the_fuller_one_counts(gates: Gates) -> None:
    def told(run: str, looks: float, *alarms: str) -> Evidence:
        one = paper(MODEL, 1, *alarms, looks=looks, hours=3.0)
        return msgspec.structs.replace(one, config={**one.config, "run": run, "over": False})

    early, late, other = told("A", 12.0), told("A", 15.0), told("B", 12.0)
    for found in ([early, late], [late, early]):
        (parts,) = days_of({str(k): one for k, one in enumerate(found)}, ask(MODEL, 14)).values()
        assert parts == [late]
        assert judge_day(parts, gates, "GOOG").colour == "short"
    (parts,) = days_of({"a": early, "b": other, "c": late}, ask(MODEL, 14)).values()
    assert parts == [other, late]
    assert judge_day(parts, gates, "GOOG").colour == "green"
    alarmed = told("A", 15.0, "failed: calibration")
    (parts,) = days_of({"a": alarmed, "b": late}, ask(MODEL, 14)).values()
    assert parts == [alarmed]


def test_what_was_not_measured_makes_no_green_day(gates: Gates) -> None:
    whole = paper(MODEL, 1)
    assert judge_day([whole], gates, "GOOG").colour == "green"
    for gone in whole.records:
        made = new_evidence(
            "paper", MODEL, [r for r in whole.records if r is not gone], whole.config, data=whole.data
        )
        assert judge_day([made], gates, "GOOG").colour == "short", gone.measure


def test_days_on_which_the_dumb_trader_has_brought_more_are_not_enough(gates: Gates) -> None:
    assert "less than the dumb trader's" in paper_lacks(weeks(value=-10.0), ask(MODEL, 14), gates)
    mixed = named([e for day in TRADED for e in runs(MODEL, day, value=-10.0 if day < 3 else 5.0)])
    assert paper_lacks(mixed, ask(MODEL, 14), gates) == ""


def test_a_red_day_ends_what_came_before_it(gates: Gates) -> None:
    spoiled = weeks() | {"x": paper(MODEL, 9, "failed: calibration")}
    assert "GOOG: 3 green days of paper trading over 5 days" in paper_lacks(spoiled, ask(MODEL, 14), gates)


def test_a_clock_that_was_set_back_forgets_no_red_day(gates: Gates) -> None:
    spoiled = weeks() | {"x": paper(MODEL, 15, "failed: calibration")}
    for today, what in ((14, "day 15, which has not come, was"), (15, "day 15 was"), (16, "day 15 was")):
        assert f"{what} red: failed" in paper_lacks(spoiled, ask(MODEL, today), gates)


def test_a_red_day_that_has_not_come_bars_no_longer_than_any_other(gates: Gates) -> None:
    """The clock was ten years ahead on the day after the first; it was set right, and two weeks went by."""
    ahead = paper(MODEL, 4_000, "failed: calibration")
    first, rest = runs(MODEL, 1), runs(MODEL, *range(2, 16))
    found = {**named(first), "x": ahead, **named(rest)}
    assert paper_lacks(found, ask(MODEL, 15), gates) == ""
    late = {**named(first), **named(rest), "x": ahead}
    assert "day 4000, which has not come, was red" in paper_lacks(late, ask(MODEL, 15), gates)
    good = {**named(first), **named(rest[:-3]), "x": paper(MODEL, 4_000)}
    assert "13 days" in paper_lacks(named(runs(MODEL, *range(1, 14))), ask(MODEL, 15), gates)
    assert paper_lacks(good, ask(MODEL, 15), gates) == "", "a green one that has not come changes nothing"


def test_a_red_day_that_has_not_come_counts_within_its_own_ledger(gates: Gates) -> None:
    """Evidence of two boxes lies one after the other, by their keys: what the other did before says nothing."""
    ahead = paper(MODEL, 4_000, "failed: calibration")
    one, other = weeks(), {"begun other": runs(MODEL, 2)[0], "told other": runs(MODEL, 2)[2]}
    bad, last = {"x": ahead}, {"last": runs(MODEL, 14)[0]}

    def said(*ledgers: dict[str, Evidence]) -> str:
        found = {name: e for ledger in ledgers for name, e in ledger.items()}
        signers = {name: str(k) for k, ledger in enumerate(ledgers) for name in ledger}
        return paper_lacks(found, ask(MODEL, 14), gates, signers=signers)

    late = {**other, **last, **bad}
    assert "day 4000, which has not come, was red" in said(late, one)
    assert "day 4000, which has not come, was red" in said(one, late)
    early = {**other, **bad, **last}
    for first, second in ((early, one), (one, early)):
        assert "GOOG: 8 green days of paper trading over 12 days" in said(first, second)
    for first, second in ((bad | last, one), (one, bad | last)):
        assert "GOOG: 1 green days" in said(first, second), "it was before day 14 that it came"
    assert "GOOG: 0 green days" in said(one, bad), "nothing says when it came"


# --- runs that are gone, or were not on record before


def test_a_run_that_began_and_is_gone_is_a_red_day(gates: Gates) -> None:
    begun = run_of(
        msgspec.structs.replace(paper(MODEL, 9), config={**paper(MODEL, 9).config, "run": "GONE"})
    )[0]
    gone = weeks() | {"gone": begun}
    said = paper_lacks(gone, ask(MODEL, 14), gates)
    assert "GOOG: 3 green days of paper trading over 5 days" in said
    assert "day 9 was red: paper run GONE began and is not told to its end: `emp gates observe GONE`" in said
    assert "GONE" not in paper_lacks(gone, ask(MODEL, 14)._replace(protocol="ctrader"), gates)
    assert "GONE" not in paper_lacks(gone, ask(MODEL, 14)._replace(instruments=("GC",)), gates)
    assert paper_lacks(gone, ask(MODEL, 14), gates, going=lambda run: run == "GONE") == "", "it goes on"
    other = msgspec.structs.replace(begun, model="b" * 64)
    assert "GONE" in paper_lacks(weeks() | {"gone": other}, ask(MODEL, 14), gates), (
        "it could have served any model"
    )


def test_what_tells_of_a_run_that_trades_on_is_no_end_of_it(gates: Gates) -> None:
    """It was signed as ended, before it traded or after some days, and traded on: its newer days are not told."""
    day = paper(MODEL, 9)
    day = msgspec.structs.replace(day, config={**day.config, "run": "ON", "over": True})
    for days, whole in (([], False), ([8], False), ([9], True), ([9, 10], True)):
        told = of_end(MODEL, Source("ON", "fix", day.code), days)
        found = weeks() | {"on": run_of(day)[0], "day": day, "told": told}
        said = paper_lacks(found, ask(MODEL, 14), gates)
        assert (said == "") == whole, days
        assert ("paper run ON began and is not told to its end" in said) == (not whole)
        never = {name: one for name, one in found.items() if name != "day"}
        assert paper_lacks(never, ask(MODEL, 14), gates) == "", "no day of it is on record"


def test_of_a_run_that_is_gone_the_days_after_those_told_are_red(gates: Gates) -> None:
    """It was told day by day while it went on; what came after the fifth was deleted with it."""
    long = [
        msgspec.structs.replace(one, config={**one.config, "run": "LONG", "over": True})
        for one in runs(MODEL, *TRADED[:5])
        if one.kind == "paper" or one.config.get("day") == 1
    ]
    later = named(runs(MODEL, *TRADED[5:]))
    found = {str(k): one for k, one in enumerate(long)} | later
    assert "day 6 was red: paper run LONG" in paper_lacks(found, ask(MODEL, 14), gates)
    assert "5 green days" in paper_lacks(found, ask(MODEL, 14), gates)


def test_a_day_of_a_run_that_was_not_on_record_before_is_not_green(gates: Gates) -> None:
    """Else whoever trades without a registry could have the good runs alone observed."""
    chosen = {key: one for key, one in weeks().items() if key != "begun RUN9"}
    assert "9 green days" in paper_lacks(chosen, ask(MODEL, 14), gates)
    late = weeks()
    late["begun RUN9"] = msgspec.structs.replace(
        late["begun RUN9"], config={**late["begun RUN9"].config, "day": 10}
    )
    assert "9 green days" in paper_lacks(late, ask(MODEL, 14), gates)
    red = {"x": paper(MODEL, 15, "failed: calibration")}
    assert "day 15 was red: failed" in paper_lacks(weeks() | red, ask(MODEL, 15), gates), "a red one is red"


@pytest.mark.parametrize(("pause", "why"), [(FRESH_DAYS, ""), (FRESH_DAYS + 1, "GOOG: 5 green days")])
def test_a_longer_pause_ends_what_came_before_it(pause: int, why: str, gates: Gates) -> None:
    """Ten good days of a year are no two weeks."""
    days = [*range(1, 6), *range(5 + pause, 10 + pause)]
    found = named(runs(MODEL, *days))
    said = paper_lacks(found, ask(MODEL, days[-1]), gates)
    assert said.startswith(why) if why else said == why


def test_only_the_key_of_the_server_signs_days_and_signs_nothing_else(registry: Registry) -> None:
    registry.store.add(paper(MODEL, 1))
    assert not (registry.home / "keys" / "training.key").exists()
    for kind in ("evaluation", "chaos", "facts", "verdict", "audit"):
        with pytest.raises(GovernanceError, match="a box key may not sign"):
            registry.store.keys.seal_as("box", kind, {})


def test_a_day_that_is_taken_away_is_missed(registry: Registry, gates: Gates) -> None:
    for one in weeks().values():
        registry.store.add(one)
    red = registry.store.add(paper(MODEL, 12, "failed: value.standby"))
    assert "day 12 was red" in paper_lacks(registry.store.all(), ask(MODEL, 14), gates)
    (registry.store.folder / f"{red}.json").unlink()
    with pytest.raises(GovernanceError):
        registry.store.all()


def test_what_was_said_before_is_known(registry: Registry) -> None:
    one = paper(MODEL, 1)
    registry.store.add(one)
    assert already(registry.store.all(), one)
    assert not already(registry.store.all(), paper(MODEL, 1, looks=99.0))


# --- what the days say together


def with_rows(day: int, shares: np.ndarray, n: int = 10_000) -> Evidence:  # type: ignore[type-arg]
    one = paper(load_model("linear").artifact.hash, day)
    counts = tuple(float(x) for x in np.round(shares * n))
    row = Record("rows.ofi_norm", "GOOG", "GOOG", "equity", "", counts, "decile", n)
    return msgspec.structs.replace(one, records=(*one.records, row))


def asked_of_linear() -> Asked:
    return ask(load_model("linear").artifact.hash, 20)


def test_five_days_are_evidence_of_latency_and_drift_and_four_are_none() -> None:
    artifact = load_model("linear").artifact
    reference = reference_of(artifact, head_of(artifact, find("GOOG")))
    assert reference is not None
    shares = reference.shares[CORE_INPUTS.index("ofi_norm")]
    days = {str(day): with_rows(day, shares) for day in range(1, 6)}
    latency, drift = pooled(days, asked_of_linear(), artifact)
    assert [r.measure for r in latency.records] == ["adapter_p99_ms", "model_p99_ms", "total_p99_ms"]
    assert all(r.blocks == (0.1,) * 5 for r in latency.records)
    (psi,) = drift.records
    assert (psi.series, psi.instrument, len(psi.blocks), psi.n) == ("ofi_norm", "GOOG", 5, 50_000)
    assert max(map(abs, psi.blocks)) < 1e-4
    del days["5"]
    assert pooled(days, asked_of_linear(), artifact) == []


def test_a_day_that_was_signed_twice_is_pooled_once() -> None:
    artifact = load_model("linear").artifact
    lots = Record("missed_bps_lots", "GOOG", "GOOG", "equity", "", (1.0,), "day", 4)
    days = {}
    for day in range(1, 6):
        one = with_rows(day, np.full(10, 0.02 * day))
        config = {**one.config, "over": True}
        days[str(day)] = msgspec.structs.replace(one, config=config, records=(*one.records, lots))
    twice = {**days, "x": msgspec.structs.replace(days["1"], machine="another")}
    once, pool = pooled(days, asked_of_linear(), artifact), pooled(twice, asked_of_linear(), artifact)
    assert len(once) == 3
    assert [one.records for one in pool] == [one.records for one in once]


def test_what_lots_missed_is_pooled_over_days_that_closed_any() -> None:
    artifact = load_model("linear").artifact
    lots, missed = (4, 2, 0, 6, 8, 10), (1.0, -0.5, 0.0, 3.0, 2.0, 0.1)
    days = {}
    for day, (n, x) in enumerate(zip(lots, missed, strict=True), 1):
        one = paper(artifact.hash, day)
        made = [Record("missed_bps_lots", "GOOG", "GOOG", "equity", "", (x,), "day", n)] if n else []
        days[str(day)] = msgspec.structs.replace(one, records=(*one.records, *made))
    (value,) = (one for one in pooled(days, asked_of_linear(), artifact) if one.kind == "value")
    (record,) = value.records
    assert (record.measure, record.instrument, record.horizon, record.n) == (
        "value_missed_bps",
        "GOOG",
        "",
        30,
    )
    assert len(record.blocks) == 5
    whole = sum(missed) / sum(lots)
    for k, (n, x) in enumerate((n, x) for n, x in zip(lots, missed, strict=True) if n):
        without = (sum(missed) - x) / (sum(lots) - n)
        assert record.blocks[k] == pytest.approx(5 * whole - 4 * without)
    del days["6"]
    assert not [one for one in pooled(days, asked_of_linear(), artifact) if one.kind == "value"]


def test_pseudo_values_are_those_of_the_jackknife() -> None:
    rng = np.random.default_rng(1)
    reference = np.full(10, 0.1)
    counts = rng.poisson(rng.dirichlet(np.full(10, 30.0), 7) * 5_000).astype(float)
    blocks = pseudo_values(reference, counts)
    for k in range(7):
        rest = np.delete(counts, k, axis=0).sum(axis=0)
        whole = counts.sum(axis=0)
        leave = index_of(reference, rest / rest.sum())
        assert blocks[k] == pytest.approx(7 * index_of(reference, whole / whole.sum()) - 6 * leave)


def test_days_of_a_type_that_is_wrong_do_not_count() -> None:
    one = paper(MODEL, 1)
    for day in ("1", 1.0, True, None):
        wrong = msgspec.structs.replace(one, config={**one.config, "day": day})
        assert days_of({"x": wrong}, ask(MODEL, 14)) == {}
