"""A gate passes on evidence that is there, of this model, of enough blocks, inside the limit at its bound."""

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emp.app.governed import markdown_of
from emp.core.code_version import code_version
from emp.core.errors import GovernanceError
from emp.governance.bounds import bounds, t_cdf, t_quantile
from emp.governance.collect import of_league, of_steps
from emp.governance.complete import complete
from emp.governance.evidence import Data, Evidence
from emp.governance.gates import Gates, Rule, read_gates, rules
from emp.governance.judge import NO_EVIDENCE, Case, Judgement, Verdict, judge, judge_gate
from emp.governance.registry import Registry
from emp.model.artifact import Artifact
from tests.governance.conftest import (
    GOOD,
    LINEAR,
    REFERENCE,
    TRAINED,
    all_green,
    blocks,
    evaluation,
    green_registry,
    league,
    records,
)


def judged(gates: Gates, artifact: Artifact, evidence: list[Evidence], **more: str) -> Judgement:
    named = {f"{k:064x}": one for k, one in enumerate(evidence)}
    values = {"reference": REFERENCE, "code": code_version()} | more
    return judge(gates, Case(artifact.manifest, named, **values))


def failing(said: Judgement) -> set[str]:
    return {one.name for one in said.gates if one.verdict == "fail"}


def test_the_shipped_gates_are_the_roadmaps(gates: Gates) -> None:
    g = gates.gates
    drop, gain, alpha, latency = (
        g.retention_f1_drop_pct,
        g.fx_gain_f1_min_pct,
        g.alpha_after_fees_bps_min,
        g.latency_p99_ms,
    )
    assert (drop.ev1, drop.ev5, drop.ev20) == (3.0, 4.0, 5.0)
    assert (gain.ev1, gain.ev5, gain.ev20) == (3.0, 3.0, 3.0)
    assert (alpha.ev1, alpha.ev5, alpha.ev20) == (0.2, 0.5, 0.7)
    assert (latency.adapter, latency.model, latency.total) == (0.5, 0.35, 0.85)
    assert (g.ece_max, g.brier_max, g.psi_max, g.turnover_match_pct) == (0.08, 0.19, 0.25, 10)
    assert (g.session_var_spread_pct_max, g.planner_edge_realization_corr_min) == (35.0, 0.2)
    assert g.exploitability_gap_wow_delta_max == 0.0
    assert gates.actions_on_fail == ("reject", "fallback_previous_model")


def test_everything_green_passes_and_nothing_at_all_fails_every_gate(
    gates: Gates, artifact: Artifact
) -> None:
    assert judged(gates, artifact, all_green(artifact.hash)).verdict == "pass"
    said = judged(gates, artifact, [])
    assert {one.verdict for one in said.gates} == {"fail"}
    assert {one.why for one in said.gates} == {NO_EVIDENCE}
    assert len(said.gates) == len(rules(gates)) == 30


@pytest.mark.parametrize(
    ("measure", "value", "gate"),
    [
        ("f1_gain_pct", -3.5, "retention_f1_drop_pct.ev1"),
        ("f1_gain_pct", 2.9, "fx_gain_f1_min_pct.ev20"),
        ("ece", 0.081, "ece_max"),
        ("brier", 0.2, "brier_max"),
        ("alpha_after_fees_bps", 0.6, "alpha_after_fees_bps_min.ev20"),
        ("session_range_pct", 36.0, "session_var_spread_pct_max"),
        ("turnover_difference_pct", 10.5, "turnover_match_pct"),
        ("turnover_difference_pct", -10.5, "turnover_match_pct"),
        ("planner_corr", 0.1, "planner_edge_realization_corr_min"),
        ("gain_bps_lots", -0.01, "deflated_sharpe_min"),
        ("value_missed_bps", 0.25, "value_missed_bps_max"),
    ],
)
def test_each_limit_is_kept_by_the_gate_of_its_name(
    measure: str, value: float, gate: str, gates: Gates, artifact: Artifact
) -> None:
    made = records(lambda name: value if name == measure else GOOD[name])
    said = judged(gates, artifact, [evaluation(artifact.hash, made), *all_green(artifact.hash)[1:]])
    assert gate in failing(said)
    assert {one.split(".")[0] for one in failing(said)} <= {
        "retention_f1_drop_pct",
        "fx_gain_f1_min_pct",
        gate.split(".")[0],
        "backtest_overfitting_max" if measure == "gain_bps_lots" else "",
    }


def test_a_limit_holds_at_the_bound_and_not_at_the_mean(gates: Gates, artifact: Artifact) -> None:
    wide = (0.0, 0.15, 0.0, 0.15, 0.0, 0.15)  # mean 0.075, below 0.08
    made = [msgspec.structs.replace(r, blocks=wide) if r.measure == "ece" else r for r in records()]
    said = judged(gates, artifact, [evaluation(artifact.hash, made), *all_green(artifact.hash)[1:]])
    assert failing(said) == {"ece_max"}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"model": "e" * 64}, "another model"),
        ({"code": "0.0+old"}, "other code"),
        ({"reference": "e" * 64}, "another reference"),
        ({"kind": "facts"}, NO_EVIDENCE),
    ],
)
def test_foreign_evidence_never_passes(
    change: dict[str, str], why: str, gates: Gates, artifact: Artifact
) -> None:
    foreign = msgspec.structs.replace(evaluation(artifact.hash), **change)
    said = judged(gates, artifact, [foreign, *all_green(artifact.hash)[1:]])
    assert said.verdict == "fail"
    assert any(why in one.why for one in said.gates if one.name == "turnover_match_pct")


def test_an_instrument_of_the_training_without_a_record_fails(gates: Gates, artifact: Artifact) -> None:
    made = [r for r in records() if r.instrument != "EURUSD"]
    said = judged(gates, artifact, [evaluation(artifact.hash, made), *all_green(artifact.hash)[1:]])
    assert {"ece_max", "fx_gain_f1_min_pct.ev1"} <= failing(said)
    assert next(one for one in said.gates if one.name == "ece_max").why.endswith("on EURUSD")


@pytest.mark.parametrize("measure", ["f1_gain_pct", "ece", "brier", "gain_bps_lots"])
def test_a_series_on_which_a_measure_was_no_number_fails_beside_a_good_one(
    measure: str, gates: Gates, artifact: Artifact
) -> None:
    """What is not finite has no record; that of the instrument's other recording does not stand for it."""
    green = all_green(artifact.hash)
    second = [msgspec.structs.replace(r, series="goog2") for r in records() if r.series == "goog"]
    data = [*green[0].data, Data("goog2", "GOOG", "equity", 9, "c" * 64, (300, 400))]
    seen = msgspec.structs.replace(evaluation(artifact.hash, records() + second), data=tuple(data))
    others = [msgspec.structs.replace(r, series="goog2") for r in green[1].records if r.series == "goog"]
    beside = msgspec.structs.replace(evaluation(REFERENCE, [*green[1].records, *others]), data=tuple(data))
    assert failing(judged(gates, artifact, [seen, beside, *green[2:]])) == set()
    kept = [r for r in second if (r.measure, r.horizon) != (measure, "5ev")]
    silent = msgspec.structs.replace(evaluation(artifact.hash, records() + kept), data=tuple(data))
    said = judged(gates, artifact, [silent, beside, *green[2:]])
    assert {one.partition(".")[0] for one in failing(said)} == {
        "f1_gain_pct": {"retention_f1_drop_pct"},
        "ece": {"ece_max"},
        "brier": {"brier_max"},
        "gain_bps_lots": {"deflated_sharpe_min", "backtest_overfitting_max"},
    }[measure]
    assert all("goog2 5ev" in one.why for one in said.gates if one.verdict == "fail")


@pytest.mark.parametrize("measure", ["ece", "brier"])
def test_a_horizon_without_a_record_fails(measure: str, gates: Gates, artifact: Artifact) -> None:
    made = [r for r in records() if (r.measure, r.instrument, r.horizon) != (measure, "GOOG", "2s")]
    said = judged(gates, artifact, [evaluation(artifact.hash, made), *all_green(artifact.hash)[1:]])
    assert failing(said) == {f"{measure}_max"}
    assert next(one for one in said.gates if one.name == f"{measure}_max").why.endswith("on GOOG 2s")


GAP = "exploitability_gap_wow_delta_max"


@pytest.mark.parametrize(
    ("delta", "seeds", "reference", "fails"),
    [
        (-0.1, 8, REFERENCE, False),
        (0.1, 8, REFERENCE, True),
        (-0.001, 8, REFERENCE, True),  # smaller on the mean of the seeds, and not with confidence
        (-1.0, 4, REFERENCE, True),  # too few seeds for an interval
        (-1.0, 8, "9" * 64, True),  # held to another model
    ],
)
def test_no_model_is_easier_to_exploit_than_the_one_before(
    delta: float, seeds: int, reference: str, fails: bool, gates: Gates, artifact: Artifact
) -> None:
    others = [one for one in all_green(artifact.hash) if one.kind != "league"]
    made = [league(artifact.hash, delta, seeds, reference)]
    assert failing(judged(gates, artifact, [*others, *made])) == ({GAP} if fails else set())
    assert failing(judged(gates, artifact, others)) == {GAP}


def test_a_model_as_easy_to_exploit_as_the_one_before_passes(gates: Gates, artifact: Artifact) -> None:
    others = [one for one in all_green(artifact.hash) if one.kind != "league"]
    same = of_league(artifact.hash, REFERENCE, {"small-tick": [0.0] * 8, "large-tick": [0.0] * 8})
    assert failing(judged(gates, artifact, [*others, same])) == set()


def test_nobody_chooses_markets_seeds_or_how_hard_somebody_tries_to_exploit(
    gates: Gates, artifact: Artifact
) -> None:
    others = [one for one in all_green(artifact.hash) if one.kind != "league"]
    good = league(artifact.hash)
    one_market = of_league(artifact.hash, REFERENCE, {"small-tick": blocks(-1.0)})
    chosen = [{"first": 917}, {"rounds": 2}, {"held_out": 20}, {"markets": ["small-tick"]}, {"seeds": 9}]
    told = [msgspec.structs.replace(good, config=good.config | one) for one in chosen]
    for made in (one_market, *told):
        assert failing(judged(gates, artifact, [*others, made])) == {GAP}, made.config
    assert failing(judged(gates, artifact, [*others, good])) == set()


JUDGED = list(range(len(records())))


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    left_out=st.sampled_from(JUDGED), worse=st.sampled_from(JUDGED), value=st.sampled_from([-500.0, 500.0])
)
def test_leaving_out_a_record_never_turns_fail_into_pass(
    left_out: int, worse: int, value: float, gates: Gates, artifact: Artifact
) -> None:
    made = records()
    made[worse] = msgspec.structs.replace(made[worse], blocks=blocks(value))
    others = all_green(artifact.hash)[1:]
    before = failing(judged(gates, artifact, [evaluation(artifact.hash, made), *others]))
    for gone in {left_out, worse}:
        kept = [record for k, record in enumerate(made) if k != gone]
        assert before <= failing(judged(gates, artifact, [evaluation(artifact.hash, kept), *others]))


@pytest.mark.parametrize("provenance", [{}, {"series": []}])
def test_a_model_that_does_not_say_what_it_was_trained_on_fails_every_gate(
    provenance: dict[str, object], gates: Gates, artifact: Artifact
) -> None:
    """Nothing would be asked of any instrument, and whatever it was judged on could be its training."""
    untold = Artifact(msgspec.structs.replace(artifact.manifest, provenance=provenance), artifact.tensors)
    said = judged(gates, untold, all_green(artifact.hash))
    assert len(failing(said)) == 30
    assert {one.why for one in said.gates} == {"the model does not say what it was trained on"}


def test_data_that_overlap_the_training_fail(gates: Gates, artifact: Artifact) -> None:
    one = evaluation(artifact.hash)
    early = msgspec.structs.replace(one.data[0], span=(199, 300))
    said = judged(
        gates, artifact, [msgspec.structs.replace(one, data=(early,)), *all_green(artifact.hash)[1:]]
    )
    assert "ece_max" in failing(said)
    assert TRAINED["calibrate_ns"][1] == 200


def test_a_worse_look_counts_beside_a_better_one(gates: Gates, artifact: Artifact) -> None:
    bad = evaluation(artifact.hash, records(lambda name: 0.5 if name == "ece" else GOOD[name]), seed=1)
    assert failing(judged(gates, artifact, [*all_green(artifact.hash), bad])) == {"ece_max"}


def test_four_blocks_are_no_interval(gates: Gates, artifact: Artifact) -> None:
    made = [msgspec.structs.replace(r, blocks=r.blocks[:4]) for r in records()]
    said = judged(gates, artifact, [evaluation(artifact.hash, made), *all_green(artifact.hash)[1:]])
    assert "too few independent blocks: 4" in next(o.why for o in said.gates if o.name == "brier_max")
    assert len(failing(said)) == 17


def only(said: Judgement, name: str) -> Verdict:
    return next(one for one in said.gates if one.name == name)


def test_every_model_that_was_judged_on_the_same_rows_is_a_trial(gates: Gates, artifact: Artifact) -> None:
    wide = [
        msgspec.structs.replace(r, blocks=tuple(100.0 * (x - 2.0) + 0.3 for x in r.blocks))
        if r.measure == "gain_bps_lots"
        else r
        for r in records()
    ]
    green = [evaluation(artifact.hash, wide), *all_green(artifact.hash)[1:]]
    few = only(judged(gates, artifact, green), "deflated_sharpe_min")
    assert few.why.endswith("of 2 trials")
    assert few.value is not None
    looked = [
        evaluation(f"{k:064x}", []) for k in range(300)
    ]  # at the same data, with nothing that was traded
    many = only(judged(gates, artifact, [*green, *looked, *looked]), "deflated_sharpe_min")
    assert many.why.endswith("of 302 trials")
    assert many.value is not None
    assert many.value < few.value
    elsewhere = [msgspec.structs.replace(one, data=()) for one in looked]
    assert only(judged(gates, artifact, [*green, *elsewhere]), "deflated_sharpe_min") == few


def test_a_model_alone_is_held_against_nothing_and_fails(gates: Gates, artifact: Artifact) -> None:
    green = [one for one in all_green(artifact.hash) if one.model != REFERENCE]
    said = judged(gates, artifact, green)
    assert failing(said) == {"deflated_sharpe_min", "backtest_overfitting_max"}
    assert "no other trial" in only(said, "backtest_overfitting_max").why


VALUES = st.lists(st.floats(-50, 50, allow_nan=False), min_size=1, max_size=12)


@settings(max_examples=200, deadline=None)
@given(VALUES, st.floats(0, 20), st.floats(-20, 20), st.sampled_from(["max", "min"]))
def test_better_by_the_same_in_every_block_never_turns_pass_into_fail(
    values: list[float], better: float, limit: float, side: str
) -> None:
    step = -better if side == "max" else better
    before = verdict(values, limit, side)
    after = verdict([x + step for x in values], limit + (1e-9 if side == "max" else -1e-9), side)
    assert not (before == "pass" and after == "fail")


@settings(max_examples=200, deadline=None)
@given(st.permutations(list(blocks(0.07, 7))), st.integers(0, 7))
def test_order_does_not_matter_and_fewer_than_five_never_pass(shuffled: list[float], cut: int) -> None:
    assert bounds(shuffled, 0.95) == bounds(list(blocks(0.07, 7)), 0.95)
    if cut < 5:
        assert verdict(shuffled[:cut], 100.0, "max") == "fail"


def verdict(values: list[float], limit: float, side: str) -> str:
    from emp.governance.gates import every
    from emp.model.artifact import Manifest

    manifest = Manifest(
        kind="linear",
        schema="",
        domains=[],
        k_sigma=0.5,
        thresholds=[],
        warmup_events=0,
        provenance={"series": [TRAINED]},
    )
    record = msgspec.structs.replace(records()[0], measure="log_loss", blocks=tuple(values))
    evidence = {"a": msgspec.structs.replace(evaluation("", [record]))}
    rule = Rule("ece_max", limit, side, "evaluation", "log_loss", None, every)  # type: ignore[arg-type]
    return judge_gate(rule, Case(manifest, evidence, REFERENCE, code_version()), 0.95).verdict


@pytest.mark.parametrize(
    ("degrees", "t"), [(1, 6.3138), (4, 2.1318), (5, 2.0150), (9, 1.8331), (100, 1.6602)]
)
def test_quantiles_are_those_of_the_tables(degrees: int, t: float) -> None:
    assert t_quantile(0.95, degrees) == pytest.approx(t, abs=1e-4)
    assert t_cdf(0.0, degrees) == 0.5


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version: 2",
        "gates: {ece_max: none}",
        "[1, 2",
        "ece_max",
        "[" * 5000,
        '"\\ud800": 1',
    ],
)
def test_a_wrong_gates_file_ends_in_one_line(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gates.yaml"
    path.write_text(text)
    with pytest.raises(GovernanceError, match="not a gates file") as caught:
        read_gates(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  ece_max: 0.08\n", "  ece_max: 0.08\n  ece_max: 0.9\n"),  # the second would hold
        ("ece_max: 0.08", "ece_max: .nan"),
        ("ece_max: 0.08", "ece_max: .inf"),
        ("ece_max: 0.08", "ece_max: true"),
        ("ece_max: 0.08", 'ece_max: "0.08"'),
        ("confidence: 0.95", "confidence: .nan"),
        ("confidence: 0.95", "confidence: 0.5"),
        ("version: 1", "version: true"),
        ("version: 1", "version: 1\ngates: {}"),
        ("{ev1: 3.0, ev5: 4.0, ev20: 5.0}", "{ev1: 3.0, ev5: 4.0}"),
        ('["reject", "fallback_previous_model"]', "[]"),
        ('["reject", "fallback_previous_model"]', '["reject"]'),  # the engine does both
    ],
)
def test_a_limit_said_twice_or_of_a_wrong_type_is_refused(old: str, new: str, tmp_path: Path) -> None:
    import emp.governance.gates as module

    shipped = Path(str(module.__file__)).with_name("gates.yaml").read_text(encoding="utf-8")
    path = tmp_path / "gates.yaml"
    path.write_text(shipped.replace(old, new, 1))
    with pytest.raises(GovernanceError, match="not a gates file"):
        read_gates(path)


@pytest.mark.parametrize(
    "old", ["ece_max: 0.08", "version: 1", 'actions_on_fail: ["reject", "fallback_previous_model"]']
)
def test_every_name_is_asked_for_and_no_other_is_taken(old: str, tmp_path: Path) -> None:
    import emp.governance.gates as module

    shipped = Path(str(module.__file__)).with_name("gates.yaml").read_text(encoding="utf-8")
    path = tmp_path / "gates.yaml"
    for text in (shipped.replace(old, ""), shipped.replace(old, old.replace(":", "s:", 1))):
        path.write_text(text)
        with pytest.raises(GovernanceError):
            read_gates(path)


OLDER = ("future_masking_max", "step_parity_max", "path_parity_max")
"""Gates that a file of an older release does not know."""


def older(*lacks: str, indent: str = "  ") -> str:
    """The gates of a test, without some lines."""
    text = Path("examples/gates_of_a_test.yaml").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip().partition(":")[0] not in lacks]
    return (
        "\n".join(line.replace("  ", indent, 1) if line.startswith("  ") else line for line in lines) + "\n"
    )


@pytest.mark.parametrize("lacks", [OLDER, ("ece_max", "psi_max"), ("ece_max", *OLDER)])
@pytest.mark.parametrize("indent", ["  ", "     "])
def test_a_file_of_an_older_release_is_told_what_it_lacks_and_completed(
    tmp_path: Path, gates: Gates, lacks: tuple[str, ...], indent: str
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(older(*lacks, indent=indent), encoding="utf-8")
    why = f"it lacks {', '.join(lacks)}: `emp gates complete {path}`"
    with pytest.raises(GovernanceError, match=re.escape(why)) as refused:
        read_gates(path)
    assert "\n" not in str(refused.value)
    assert complete(path) == lacks
    shipped = {rule.name: rule.limit for rule in rules(gates)}
    mine = {rule.name: rule.limit for rule in rules(read_gates(Path("examples/gates_of_a_test.yaml")))}
    found = {rule.name: rule.limit for rule in rules(read_gates(path))}
    assert found == {name: (shipped if name in lacks else mine)[name] for name in mine}
    assert [line for line in path.read_text().splitlines() if line.startswith("#")], "comments stay"
    before = path.read_bytes()
    assert complete(path) == ()
    assert path.read_bytes() == before


def test_a_section_that_is_missing_is_added(tmp_path: Path, gates: Gates) -> None:
    path = tmp_path / "mine.yaml"
    head, _, rest = older().partition("beyond:")
    path.write_text(f"{head}{rest[rest.index('actions_on_fail') :]}", encoding="utf-8")
    assert len(complete(path)) == len(gates.beyond.__struct_fields__)
    assert read_gates(path).beyond == gates.beyond


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (older("version", *OLDER), "required field `version`"),
        (older(*OLDER) + "  - no_gate\n", "left_out names no gate: no_gate"),
        (older(*OLDER).replace("ece_max: 0.08", "ece_max: high"), "Expected `float"),
        (older(*OLDER).replace("beyond:", "beyond: &x"), "no line can be added .* future_masking_max"),
        (older(*OLDER).replace("\n", "\r", 1), "no line can be added"),
        (older(*OLDER).replace("\n", "\r\n", 3), "no line can be added"),
        ("[1, 2", "not a gates file"),
    ],
)
def test_what_cannot_be_completed_stays_as_it_was(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(text.encode())
    with pytest.raises(GovernanceError, match=why) as refused:
        complete(path)
    assert "\n" not in str(refused.value)
    assert path.read_bytes() == text.encode()


@pytest.mark.parametrize("names", [("ev5",), ("ev1",), ("ev20",), ("ev1", "ev20"), ("ev1", "ev5", "ev20")])
@pytest.mark.parametrize("block", [False, True])
def test_a_part_of_a_gate_is_added(tmp_path: Path, gates: Gates, names: tuple[str, ...], block: bool) -> None:
    path, gate = tmp_path / "mine.yaml", "retention_f1_drop_pct"
    kept = {"ev1": 3.0, "ev5": 4.0, "ev20": 5.0}
    for name in names:
        del kept[name]
    lines = [f"{name}: {limit}" for name, limit in kept.items()]
    made = "".join(f"\n      {line}" for line in lines) if block and lines else f" {{{', '.join(lines)}}}"
    told = f"  {gate}: {{ev1: 3.0, ev5: 4.0, ev20: 5.0}}"
    text = older()
    assert told in text
    path.write_text(text.replace(told, f"  {gate}:{made}"), encoding="utf-8")
    assert complete(path) == tuple(f"{gate}.{name}" for name in ("ev1", "ev5", "ev20") if name in names)
    assert read_gates(path).gates.retention_f1_drop_pct == gates.gates.retention_f1_drop_pct
    assert complete(path) == ()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_stays_written_as_it_was(tmp_path: Path, encoding: str, end: str) -> None:
    path, mark = tmp_path / "mine.yaml", "\ufeff" if encoding.startswith("utf-16") else ""
    text = mark + older(*OLDER).replace("\n", end)
    path.write_bytes(text.encode(encoding))
    path.chmod(0o640)
    assert complete(path) == OLDER
    read_gates(path)
    found = path.read_bytes().decode(encoding)
    kept = [line for line in found.split(end) if not line.strip().startswith(OLDER)]
    assert kept == text.split(end)
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_link_to_a_gates_file_stays_one(tmp_path: Path) -> None:
    file, link = tmp_path / "there.yaml", tmp_path / "mine.yaml"
    file.write_text(older(*OLDER), encoding="utf-8")
    link.symlink_to(file.name)
    assert complete(link) == OLDER
    assert link.is_symlink()
    read_gates(file)


def test_a_gate_that_is_left_out_is_said_and_all_left_out_is_no_pass(
    registry: Registry, artifact: Artifact, gates: Gates, tmp_path: Path
) -> None:
    green_registry(registry, artifact)
    (tmp_path / "other.yaml").write_bytes(
        msgspec.yaml.encode(msgspec.structs.replace(gates, left_out=("psi_max", "ece_max")))
    )
    found = registry.check(artifact, read_gates(tmp_path / "other.yaml"), LINEAR)
    assert found.verdict == "pass"
    assert {one.name for one in found.gates if one.verdict == "left out"} == {"psi_max", "ece_max"}
    nothing = msgspec.structs.replace(gates, left_out=tuple(rule.name for rule in rules(gates)))
    assert registry.check(artifact, nothing, LINEAR).verdict == "fail"
    unknown = msgspec.structs.replace(gates, left_out=("ece",))
    (tmp_path / "other.yaml").write_bytes(msgspec.yaml.encode(unknown))
    with pytest.raises(GovernanceError, match="left_out names no gate: ece"):
        read_gates(tmp_path / "other.yaml")


def test_the_shipped_gates_leave_nothing_out(gates: Gates) -> None:
    assert gates.left_out == ()


def test_the_table_names_every_gate_with_its_evidence(gates: Gates, artifact: Artifact) -> None:
    said = judged(gates, artifact, all_green(artifact.hash)[:1])
    lines = markdown_of(said).splitlines()[2:]
    assert [line.split("`")[1] for line in lines] == [rule.name for rule in rules(gates)]
    assert all(line.count("|") == 6 for line in lines)
    table = dict(zip([one.name for one in said.gates], lines, strict=True))
    assert "| pass | `00000000` |" in table["ece_max"]
    assert "| no evidence: not promotable | fail |  |" in table["psi_max"]


def test_steps_of_random_networks_are_evidence_of_no_model(gates: Gates, artifact: Artifact) -> None:
    steps = of_steps({"mamba3": [9.0, 10.0]}, {"rounds": 2})
    assert [(r.measure, r.blocks) for r in steps.records] == [("step_p99_ms.mamba3", (0.009, 0.01))]
    assert judged(gates, artifact, [steps]).verdict == "fail"


@pytest.mark.parametrize("one", [1e160, 1e308, -1e308])
def test_figures_too_large_to_be_measured_fail_and_break_nothing(
    one: float, gates: Gates, artifact: Artifact
) -> None:
    assert bounds([one, -one, one, 0.0, one], 0.95) is None
    made = [
        msgspec.structs.replace(r, blocks=(one, -one) * 4) if r.measure == "alpha_after_fees_bps" else r
        for r in records()
    ]
    said = judged(gates, artifact, [evaluation(artifact.hash, made), *all_green(artifact.hash)[1:]])
    assert {name.partition(".")[0] for name in failing(said)} == {"alpha_after_fees_bps_min"}
