"""Skill outside of training, contests on live events, expected against realised value: what each gate reads."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.app.wiring.examples import examples
from emp.core.code_version import code_version
from emp.core.instrument import find
from emp.engine.watched_days import InstrumentDay, WatchedDay
from emp.governance.evidence import Evidence, Kind, Record, new_evidence
from emp.governance.foreign import CATALOGUE_SHA256
from emp.governance.gates import read_gates, rules
from emp.governance.judge import Case, Verdict, judge_gate
from emp.governance.paper import evidence_of, of_contest
from emp.governance.paper_source import Source
from emp.governance.registry import Registry
from emp.journal.files import file_sha256
from emp.model.artifact import Artifact
from emp.train.judge.blocks import trade_measures
from tests.governance.conftest import (
    LINEAR,
    REFERENCE,
    TRAINED,
    all_green,
    contest,
    evaluation,
    green_registry,
    make_artifact,
    outside,
    plain,
)

PSI, LATENCY = "psi_max", "latency_p99_ms.model"
VALUE, SKILL, CONTEST = "value_missed_bps_max", "skill_outside_training_pct_min.ev5", "contest_evidence_min"


def said(artifact: Artifact, name: str, *evidence: Evidence, champion: str = "") -> Verdict:
    rule = next(one for one in rules(read_gates()) if one.name == name)
    named = {f"{k:064x}": one for k, one in enumerate(evidence)}
    case = Case(artifact.manifest, named, REFERENCE, code_version(), champion)
    return judge_gate(rule, case, 0.95)


# --- skill on instruments outside of training


def test_skill_is_asked_over_groups_that_the_model_never_saw(artifact: Artifact) -> None:
    assert said(artifact, SKILL, outside(artifact.hash)).verdict == "pass"
    assert said(artifact, SKILL, outside(artifact.hash, -0.5)).verdict == "fail"
    few = said(artifact, SKILL, outside(artifact.hash, groups=4))
    assert (few.verdict, "too few independent blocks: 4" in few.why) == ("fail", True)


def test_skill_where_it_was_trained_or_of_another_model_or_cut_is_none(artifact: Artifact) -> None:
    one = outside(artifact.hash)
    seen = msgspec.structs.replace(one.data[0], instrument=str(TRAINED["instrument"]))
    told = said(artifact, SKILL, msgspec.structs.replace(one, data=(seen, *one.data[1:])))
    assert (told.verdict, "an instrument of the training" in told.why) == ("fail", True)
    assert "another model" in said(artifact, SKILL, outside("e" * 64)).why
    assert "other code" in said(artifact, SKILL, msgspec.structs.replace(one, code="0.0+old")).why
    cut = msgspec.structs.replace(one, records=one.records[1:])
    assert "were cut" in said(artifact, SKILL, cut).why


def test_a_worse_look_outside_counts_beside_a_better_one(artifact: Artifact) -> None:
    told = said(artifact, SKILL, outside(artifact.hash), outside(artifact.hash, -1.0, instruments="GHIJKL"))
    assert told.verdict == "fail"


def test_skill_on_markets_that_were_chosen_is_none(artifact: Artifact) -> None:
    one = outside(artifact.hash)
    for field, value, why in (
        ("catalogue_sha256", "0" * 64, "another catalogue"),
        ("skipped", ["BAC"], "were not all read"),
        ("chosen", ["GOOG"], "were named"),
        ("passed_over", ["BAC"], "another model beside it"),
    ):
        for config in (
            {**one.config, field: value},
            {name: x for name, x in one.config.items() if name != field},
        ):
            told = said(artifact, SKILL, msgspec.structs.replace(one, config=config))
            assert (told.verdict, why in told.why) == ("fail", True), (field, config)


def test_the_catalogue_that_counts_is_the_shipped_one() -> None:
    assert file_sha256(examples()["markets"]) == CATALOGUE_SHA256


# --- contests


def test_a_contest_is_won_against_the_champion_on_a_live_market(artifact: Artifact) -> None:
    won = contest(artifact.hash)
    assert said(artifact, CONTEST, won, champion=REFERENCE).verdict == "pass"
    assert said(artifact, CONTEST, won).verdict == "pass"
    assert said(artifact, CONTEST, contest(artifact.hash, 199.0)).verdict == "fail"
    assert said(artifact, CONTEST).verdict == "fail"
    told = said(artifact, CONTEST, won, champion="c" * 64)
    assert (told.verdict, "another champion" in told.why) == ("fail", True)
    itself = contest(artifact.hash, champion=artifact.hash)
    assert said(artifact, CONTEST, itself).verdict == "fail"


@pytest.mark.parametrize("protocol", ["recording", "mock", None])
def test_a_market_that_can_be_played_again_is_no_contest(protocol: str | None, artifact: Artifact) -> None:
    won = contest(artifact.hash)
    again = msgspec.structs.replace(won, config={**won.config, "protocol": protocol})
    assert said(artifact, CONTEST, again).verdict == "fail"


def test_every_contest_costs_the_best_its_share(artifact: Artifact) -> None:
    lost = [contest(artifact.hash, 0.5, run=f"RUN{k}") for k in range(2, 6)]
    told = said(artifact, CONTEST, contest(artifact.hash, 1000.0), *lost)
    assert (told.verdict, told.value) == ("pass", 200.0)
    more = contest(artifact.hash, 0.5, run="RUN9")
    assert said(artifact, CONTEST, contest(artifact.hash, 1000.0), *lost, more).verdict == "fail"
    again = contest(artifact.hash, 3.0, run="RUN2")  # the same contest, looked at later
    assert said(artifact, CONTEST, contest(artifact.hash, 1000.0), *lost, again).verdict == "pass"


def test_each_beginning_of_a_run_s_monitor_is_a_contest(artifact: Artifact) -> None:
    best = contest(artifact.hash, 1000.0, contests=2)
    assert said(artifact, CONTEST, best, contest(artifact.hash, 0.5, run="RUN2", contests=3)).value == 200.0
    later = contest(artifact.hash, 0.5, contests=6)
    told = said(artifact, CONTEST, best, later, contest(artifact.hash, 0.5, run="RUN2", contests=3))
    assert (told.verdict, told.value) == ("fail", pytest.approx(1000.0 / 9))
    for contests in (None, 0, -1, True, "1", 1.0):
        one = msgspec.structs.replace(best, config={**best.config, "contests": contests})
        told = said(artifact, CONTEST, one)
        assert (told.verdict, "how many contests" in told.why) == ("fail", True)
    endless = contest(artifact.hash, 0.5, run="RUN2", contests=10**400)
    told = said(artifact, CONTEST, best, endless)
    assert told.verdict == "fail"
    assert told.value is not None
    assert told.value < 1e-6


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.0, 1e5), min_size=1, max_size=5),
    st.integers(0, 4),
    st.floats(0.0, 1e4),
    st.sampled_from(["empty", "nan", "twice"]),
)
def test_better_wins_and_cut_never_does(values: list[float], which: int, better: float, how: str) -> None:
    artifact = _artifact()
    k = which % len(values)
    found = [contest(artifact.hash, x, run=f"RUN{n}") for n, x in enumerate(values)]
    before = said(artifact, CONTEST, *found).verdict
    risen = [contest(artifact.hash, x + better * (n == k), run=f"RUN{n}") for n, x in enumerate(values)]
    assert not (before == "pass" and said(artifact, CONTEST, *risen).verdict == "fail")
    blocks = {"empty": (), "nan": (math.nan,), "twice": (values[k], 1e9)}[how]
    made = msgspec.structs.replace(found[k].records[0], blocks=blocks)
    sealed = new_evidence(
        "contest", artifact.hash, [] if how == "empty" else [made], found[k].config, reference=REFERENCE
    )
    cut = [sealed if n == k else one for n, one in enumerate(found)]
    assert not (before == "fail" and said(artifact, CONTEST, *cut).verdict == "pass")


def _artifact() -> Artifact:
    from emp.model.artifact import Manifest

    manifest = Manifest(
        kind="linear", schema="", domains=[], k_sigma=0.5, thresholds=[], warmup_events=0, hash="a" * 64
    )
    return Artifact(manifest, {})


def test_a_registry_asks_for_the_default_to_be_beaten(registry: Registry, artifact: Artifact) -> None:
    gates = read_gates()
    green_registry(registry, artifact)
    assert registry.promote(artifact, gates, LINEAR)[0].verdict == "pass"
    assert registry.check(artifact, gates, LINEAR).verdict == "pass", "the default is not held against itself"
    other = make_artifact(registry.home.parent, 1)
    for one in all_green(other.hash):
        if one.kind != "contest":
            registry.store.add(one)
    registry.store.add(contest(other.hash, run="RUN1"))
    found = {one.name: one for one in registry.check(other, gates, LINEAR).gates}
    assert found[CONTEST].verdict == "fail"
    registry.store.add(contest(other.hash, 2e4, run="RUN2", champion=artifact.hash))
    found = {one.name: one for one in registry.check(other, gates, LINEAR).gates}
    assert found[CONTEST].verdict == "pass"


def test_the_evidence_of_a_contest_is_its_weakest_comparison_over_all_instruments() -> None:
    goog, gold = find("GOOG"), find("GC")
    day = WatchedDay(1, "mine", lineup={"challenger": "other"})
    for one, loss, value in ((goog, 8.0, 2.0), (gold, None, 6.0)):
        told = {"earned.log_loss.challenger": loss, "earned.value.challenger": value, "value.linear": 99.0}
        day.instruments[one.name] = InstrumentDay(one, True, log_evidence=told)
    expected = min(math.exp(8.0) / 2, (math.exp(2.0) + math.exp(6.0)) / 2)
    assert evidence_of(day, {}) == pytest.approx(expected)
    assert evidence_of(day, {"log_evidence": math.log(250.0)}) == pytest.approx(250.0)
    made = of_contest([day], Source("R", "fix", code_version()))
    assert made is not None
    (record,) = [r for r in made.records if r.measure == "evidence"]
    assert record.blocks == (pytest.approx(expected),)


def test_a_challenger_that_was_compared_in_value_alone_has_shown_nothing() -> None:
    day = WatchedDay(1, "mine", lineup={"challenger": "other"})
    day.instruments["GOOG"] = InstrumentDay(
        find("GOOG"), True, log_evidence={"earned.value.challenger": 9.0, "value.linear": 1.0}
    )
    assert evidence_of(day, {}) == 0.0
    assert evidence_of(day, {"log_evidence": 9.0}) == 0.0


# --- expected against realised value


def test_paper_days_that_missed_more_count_beside_an_evaluation_that_did_not(artifact: Artifact) -> None:
    def paper_days(blocks: tuple[float, ...]) -> Evidence:
        made = Record("value_missed_bps", "GOOG", "GOOG", "equity", "", blocks, "day", 50)
        return new_evidence("value", artifact.hash, [made], {"of": "paper", "protocol": "fix"})

    good = evaluation(artifact.hash)
    assert said(artifact, VALUE, good).verdict == "pass"
    assert said(artifact, VALUE, good, paper_days((0.1, 0.0, 0.05, -0.1, 0.1))).verdict == "pass"
    assert said(artifact, VALUE, good, paper_days((0.5, 0.4, 0.6, 0.5, 0.4))).verdict == "fail"
    alone = said(artifact, VALUE, paper_days((0.1, 0.0, 0.05, -0.1, 0.1)))
    assert (alone.verdict, alone.why.endswith("on EURUSD")) == ("fail", True)


@pytest.mark.parametrize(
    ("kind", "measure", "gate"),
    [("value", "value_missed_bps", VALUE), ("drift", "psi", PSI), ("latency", "model_p99_ms", LATENCY)],
)
def test_what_a_paper_run_on_a_recording_says_is_read_by_no_gate(
    kind: Kind, measure: str, gate: str, artifact: Artifact
) -> None:
    day = msgspec.structs.replace(plain(measure, 0.1), kind_of_block="day")
    made = [
        msgspec.structs.replace(day, instrument=name, asset_class=asset_class)
        for name, asset_class in (("GOOG", "equity"), ("EURUSD", "fx_spot"))
    ]
    for protocol in ("fix", "ctrader"):
        live = new_evidence(kind, artifact.hash, made, {"of": "paper", "protocol": protocol})
        assert said(artifact, gate, live).verdict == "pass"
    for config in ({"protocol": "recording"}, {"protocol": "mock"}, {"protocol": None}, {}):
        told = said(artifact, gate, new_evidence(kind, artifact.hash, made, {"of": "paper", **config}))
        assert (told.verdict, "a market played again" in told.why) == ("fail", True)
    of_bench = new_evidence(kind, artifact.hash, made, {})
    assert said(artifact, gate, of_bench).verdict == ("fail" if kind == "value" else "pass")


def traded(lots: list[float], missed: list[float]) -> dict[str, object]:
    n = len(lots)
    nothing = [[0.0] * 6 for _ in range(n)]
    rest = {"fills": 4, "lots": [0.0] * n, "alpha_lots": nothing, "known_lots": nothing}
    return {**rest, "closed_lots": lots, "missed_bps_lots": missed}


def test_what_lots_missed_is_a_ratio_over_blocks_that_closed_any() -> None:
    found = {one.measure: one for one in trade_measures(traded([1, 0, 3, 2], [0.1, 0.0, 0.9, 0.2]), None)}
    one = found["value_missed_bps"]
    assert (one.horizon, one.n, len(one.blocks)) == ("", 6, 3)
    assert float(one.blocks.mean()) == pytest.approx(1.2 / 6, rel=0.2)
    assert len([m for m in trade_measures(traded([0, 0], [0, 0]), None) if m.measure == "gain_bps_lots"]) == 6
    assert "value_missed_bps" not in {m.measure for m in trade_measures(traded([0, 4], [0, 1]), None)}
