"""What holds of every gate, every kind of evidence, the days of paper trading and the ledgers: what is better by the
same in every block never fails for it, and what is left out, cut or moved never passes for it.
"""

import shutil
from collections.abc import Mapping, Sequence
from math import copysign, inf
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from emp.core.code_version import code_version
from emp.core.errors import GovernanceError
from emp.core.records import Array
from emp.governance.evidence import Data, Evidence, Record, new_evidence
from emp.governance.gates import Gates, Rule, read_gates, rules
from emp.governance.high_water import mark_path
from emp.governance.judge import Case, judge_gate
from emp.governance.paper import judge_day, paper_lacks
from emp.governance.registry import Registry
from emp.governance.sound import COUNTS, DAY_MEANS, MEANS, VALUES, impossible, pseudo_range
from emp.model.artifact import Artifact
from emp.train.judge.blocks import pseudo_values
from tests.governance.conftest import (
    LINEAR,
    REFERENCE,
    Ticking,
    all_green,
    ask,
    green_registry,
    make_artifact,
    paper,
    run_of,
)
from tests.governance.test_paper import MODEL, TRADED

RULES = {rule.name: rule for rule in rules(read_gates())}
HOWS = ("leave out", "cut", "cut to nothing", "reorder", "swap", "twice")

DRAWN = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def sealed(one: Evidence, made: Sequence[Record]) -> Evidence:
    """The same evidence, measured otherwise."""
    again = new_evidence(one.kind, one.model, list(made), one.config, one.seed, one.data, one.reference)
    return msgspec.structs.replace(again, code=one.code)


def limit_of(record: Record) -> float:
    """One limit that some gate sets to a measure."""
    return next((rule.limit for rule in RULES.values() if rule.measure == record.measure), 0.0)


def world(model: str, seed: int) -> list[Evidence]:
    """All that a model can be judged by, some of it on either side of its limit, and not far from it."""
    rng = np.random.default_rng(seed)
    found = []
    for one in all_green(model):
        made = []
        for record in one.records:
            limit = limit_of(record)
            around = limit + (0.1 + abs(limit)) * rng.normal(0.0, 0.6)
            values = around + (0.01 + 0.1 * abs(limit)) * rng.normal(0.0, 1.0, len(record.blocks))
            drawn = rng.random() < 0.3
            made.append(msgspec.structs.replace(record, blocks=tuple(values.tolist())) if drawn else record)
        found.append(sealed(one, made))
    return found


def better(rule: Rule, record: Record, by: float) -> Record:
    """A record of the gate's measure that is better by the same in every block."""
    if rule.side == "within":
        mean = float(np.mean(record.blocks))
        step = -np.sign(mean) * min(by, abs(mean)) if by >= 0.0 else by
    elif rule.among is not None:
        step = by  # gains, of which the gate takes a figure among those of others
    else:
        step = rule.sign * (by if rule.side == "min" else -by)
    step = possible(record, float(step))
    return msgspec.structs.replace(record, blocks=tuple(x + step for x in record.blocks))


def possible(
    record: Record, step: float, ranges: Mapping[str, tuple[float, float]] = {**VALUES, **MEANS}
) -> float:
    """As much of a step as leaves every value of a record where its measure can lie."""
    low, high = ranges.get(record.measure, (-inf, inf))
    room = max(min(record.blocks) - low, 0.0) if step < 0.0 else max(high - max(record.blocks), 0.0)
    trimmed = copysign(min(abs(step), room), step)
    return float(int(trimmed)) if record.measure in (*COUNTS, "looks", "hours") else trimmed


@pytest.mark.parametrize("name", RULES)
@DRAWN
@given(seed=st.integers(0, 10_000), by=st.floats(0.0, 50.0), every=st.booleans())
def test_better_by_the_same_in_every_block_never_fails_for_it(
    name: str, seed: int, by: float, every: bool, gates: Gates, artifact: Artifact
) -> None:
    rule, found = RULES[name], world(artifact.hash, seed)
    mine = [
        (e, r)
        for e, one in enumerate(found)
        for r, record in enumerate(one.records)
        if record.measure == rule.measure and one.kind in (rule.kind, *rule.also)
        if one.model in (artifact.hash, "")
    ]
    chosen = set(mine) if every else {mine[seed % len(mine)]}
    risen = [
        sealed(one, [better(rule, x, by) if (e, r) in chosen else x for r, x in enumerate(one.records)])
        for e, one in enumerate(found)
    ]
    assert fails(rule, found, gates, artifact) or not fails(rule, risen, gates, artifact)


def fails(
    rule: Rule, found: Sequence[Evidence], gates: Gates, artifact: Artifact, now_ns: int | None = None
) -> bool:
    """Whether one gate fails."""
    named = {f"{k:064x}": one for k, one in enumerate(found)}
    case = Case(artifact.manifest, named, REFERENCE, code_version(), now_ns=now_ns)
    return judge_gate(rule, case, gates.confidence).verdict == "fail"


def moved(records: Sequence[Record], which: int, how: str) -> list[Record]:
    """Records of which one was left out, cut or moved."""
    made, k = list(records), which % len(records)
    one = made[k]
    if how == "leave out":
        del made[k]
    elif how == "cut":
        made[k] = msgspec.structs.replace(one, blocks=one.blocks[: len(one.blocks) // 2])
    elif how == "cut to nothing":
        made[k] = msgspec.structs.replace(one, blocks=())
    elif how == "reorder":
        made[k] = msgspec.structs.replace(one, blocks=one.blocks[::-1])
    elif how == "swap":
        made[k], made[k - 1] = made[k - 1], made[k]
    else:
        made.insert(k, one)
    return made


@DRAWN
@given(
    seed=st.integers(0, 10_000),
    which=st.integers(0, 10_000),
    r=st.integers(0, 200),
    how=st.sampled_from(HOWS),
)
def test_nothing_of_any_evidence_left_out_cut_or_moved_passes_for_it(
    seed: int, which: int, r: int, how: str, gates: Gates, artifact: Artifact
) -> None:
    found = world(artifact.hash, seed)
    k = which % len(found)
    made = moved(found[k].records, r, how)
    cut = [*found[:k], msgspec.structs.replace(found[k], records=tuple(made)), *found[k + 1 :]]
    for rule in RULES.values():
        if found[k].kind in (rule.kind, *rule.also):
            assert not fails(rule, found, gates, artifact) or fails(rule, cut, gates, artifact), rule.name


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.among is None])
def test_a_record_by_which_a_gate_fails_makes_it_fail_however_it_was_cut(
    name: str, gates: Gates, artifact: Artifact
) -> None:
    rule, green = RULES[name], all_green(artifact.hash)
    places = [
        (k, r)
        for k, one in enumerate(green)
        for r, record in enumerate(one.records)
        if record.measure == rule.measure and one.kind == rule.kind and one.model in (artifact.hash, "")
        if rule.horizon in (None, record.horizon) and (rule.of is None or rule.of(record.asset_class))
    ]
    assert places
    for k, r in places[:4]:
        record, way = green[k].records[r], rule.sign * (-1.0 if rule.side == "min" else 1.0)
        step = possible(record, way * 1e6)
        bad = msgspec.structs.replace(record, blocks=tuple(x + step for x in record.blocks))
        made = [*green[k].records[:r], bad, *green[k].records[r + 1 :]]
        spoiled = sealed(green[k], made)
        one_contest = rule.kind == "contest"  # of which the best counts
        if not one_contest:
            assert fails(rule, [*green[:k], spoiled, *green[k + 1 :]], gates, artifact)
        for how in HOWS:
            cut = msgspec.structs.replace(spoiled, records=tuple(moved(made, r, how)))
            found = [cut] if one_contest else [*green[:k], cut, *green[k + 1 :]]
            assert cut.records == spoiled.records or fails(rule, found, gates, artifact), how


@pytest.mark.parametrize("name", RULES)
def test_every_gate_reads_some_of_it(name: str, gates: Gates, artifact: Artifact) -> None:
    """Else the properties above would say nothing of that gate: it passes on all, and fails without its kinds."""
    green = all_green(artifact.hash)
    rule = RULES[name]
    assert not fails(rule, green, gates, artifact)
    assert fails(rule, [one for one in green if one.kind not in (rule.kind, *rule.also)], gates, artifact)


# --- evidence that is rightly signed and says what cannot be


def correlation(moments: Array) -> Array:
    return np.asarray(moments[:, 1] / np.sqrt(moments[:, 0] * moments[:, 2]))


def test_no_measure_of_real_data_is_impossible() -> None:
    """Of blocks that differ much: a mean of pseudo-values beyond a correlation of 1, or below the least of a ratio."""
    found: dict[str, list[Array]] = {"planner_corr": [], "turnover_difference_pct": []}
    for seed in range(200):
        rng = np.random.default_rng(seed)
        scale = np.where(np.arange(8) == 0, 40.0, 1.0)[:, None]
        x = scale * rng.normal(size=(8, 200))
        y = 0.4 * x + rng.normal(size=(8, 200)) * np.where(scale > 1, 2.0, 1.0)
        moments = np.stack([(x * x).sum(1), (x * y).sum(1), (y * y).sum(1)], axis=1)
        found["planner_corr"].append(pseudo_values((moments,), correlation))
        lots = rng.integers(9, 13, size=(2, 6)).astype(float)
        lots[1, -1] = 400.0
        values = pseudo_values((lots[0], lots[1]), lambda a, b: 100.0 * (a / b - 1.0))
        found["turnover_difference_pct"].append(values)
    assert max(values.mean() for values in found["planner_corr"]) > 1.0
    assert min(values.mean() for values in found["turnover_difference_pct"]) < -100.0
    data = Data("s", "EURUSD", "fx", 1_000, "x", (0, 10))
    for measure, drawn in found.items():
        for values in drawn:
            record = Record(measure, "s", "EURUSD", "fx", "", tuple(values.tolist()), "5min", 1_000)
            one = new_evidence("evaluation", "m" * 64, [record], {}, 0, [data], "r")
            assert impossible(record, one) == ""


@given(st.lists(st.integers(0, 1), min_size=2, max_size=12), st.floats(0.01, 100.0))
def test_pseudo_values_reach_their_range_and_no_further(held: list[int], wide: float) -> None:
    """Of a measure that is at one end of its range with all blocks, and at the other without one."""
    low, high = pseudo_range(-wide, wide, len(held))
    values = pseudo_values((np.array(held, float),), lambda a: np.where(a == sum(held), wide, -wide))
    assert low - 1e-6 <= values.min() <= values.max() <= high + 1e-6
    assert not any(held) or np.isclose(values.max(), high)


def test_means_beyond_what_pseudo_values_can_be_are_impossible() -> None:
    data = Data("s", "EURUSD", "fx", 1_000, "x", (0, 10))
    for measure, inside, outside in (
        ("planner_corr", 15.0, 15.1),
        ("ece", -7.0, -7.1),
        ("brier", 16.0, 16.1),
    ):
        for value, words in ((inside, ""), (outside, f"a mean that cannot be: {measure} of s")):
            record = Record(measure, "s", "EURUSD", "fx", "", (value,) * 8, "5min", 1_000)
            one = new_evidence("evaluation", "m" * 64, [record], {}, 0, [data], "r")
            assert impossible(record, one) == words
    one_block = Record("turnover_difference_pct", "s", "EURUSD", "fx", "", (-101.0,), "5min", 1_000)
    assert impossible(one_block, new_evidence("evaluation", "m" * 64, [one_block], {}, 0, [data], "r"))


NOW = 10_000
"""Nothing of a later time has come."""

LOOKED = [k for k, one in enumerate(all_green("m" * 64)) if one.data]


def told(one: Evidence, wrong: str, rng: np.random.Generator) -> Evidence:
    """The same evidence, sealed with something wrong in it."""
    data, records, made = list(one.data), list(one.records), one
    d = int(rng.integers(len(data))) if data else 0
    r = int(rng.integers(len(records)))
    if wrong in ("rows", "span", "future", "asset class of data"):
        change: dict[str, object] = {
            "rows": {"rows": int(rng.choice([0, -1, -99]))},
            "span": {"span": (data[d].span[1], data[d].span[0])},
            "future": {"span": (NOW, NOW + int(rng.integers(1, 10**9)))},
            "asset class of data": {"asset_class": "futures"},
        }[wrong]
        data[d] = msgspec.structs.replace(data[d], **change)
    elif wrong == "no data":
        data = []
    elif wrong == "data of another":
        data[d] = msgspec.structs.replace(data[d], series="other", instrument="GC", asset_class="future")
    elif wrong == "count":
        records = [msgspec.structs.replace(x, n=-x.n) for x in records]
    elif wrong == "no number":
        blocks = list(records[r].blocks)
        blocks[int(rng.integers(len(blocks)))] = float(rng.choice([np.nan, np.inf, -np.inf]))
        records = [
            msgspec.structs.replace(x, blocks=(*blocks, x.blocks[0])[: len(x.blocks)]) for x in records
        ]
    elif wrong == "range":
        records = [msgspec.structs.replace(x, blocks=tuple(-1e6 for _ in x.blocks)) for x in records]
    elif wrong == "kind of block":
        records = [msgspec.structs.replace(x, kind_of_block="event") for x in records]
    elif wrong == "artifact":
        made = msgspec.structs.replace(one, model="e" * 64)
    return sealed(msgspec.structs.replace(made, data=tuple(data)), records)


WRONG = {
    **dict.fromkeys(("rows", "span", "future", "asset class of data", "no data", "data of another"), LOOKED),
    **dict.fromkeys(
        ("count", "no number", "range", "kind of block", "artifact"), range(len(all_green("m" * 64)))
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
@DRAWN
@given(seed=st.integers(0, 10_000))
def test_signed_evidence_that_says_what_cannot_be_passes_no_gate_that_reads_it(
    wrong: str, seed: int, gates: Gates, artifact: Artifact
) -> None:
    rng = np.random.default_rng(seed)
    green = all_green(artifact.hash)
    k = int(rng.choice([k for k in WRONG[wrong] if k < len(green)]))
    if green[k].model not in (artifact.hash, ""):
        return  # a trial of another model: test_trials.py
    if wrong == "artifact" and green[k].kind == "chaos":
        return  # it is of the program
    made = told(green[k], wrong, rng)
    others = [one for j, one in enumerate(green) if j != k]
    if green[k].kind == "contest":
        others = [one for one in others if one.kind != "contest"]
    if wrong == "range" and green[k].kind == "drift":
        return  # an index of pseudo-values may be below nought
    if wrong == "asset class of data" and green[k].config.get("leave_out"):
        return  # markets that no catalogue of ours may know
    read = [
        rule
        for rule in RULES.values()
        if green[k].kind == rule.kind and any(r.measure == rule.measure for r in green[k].records)
    ]
    assert read
    for rule in read:
        free = wrong == "range" and (rule.among is not None or rule.measure == "exploitability_delta")
        assert free or fails(rule, [*others, made], gates, artifact, NOW), rule.name


def test_a_trial_that_is_no_number_makes_no_gate_pass(gates: Gates, artifact: Artifact) -> None:
    """What it is compared with is lost in it, and so was that the model is a bad choice beside it."""
    rule, green = RULES["backtest_overfitting_max"], all_green(artifact.hash)
    assert not fails(rule, green, gates, artifact)
    nan = [
        msgspec.structs.replace(r, blocks=(float("nan"), *r.blocks[1:])) if r.instrument == "EURUSD" else r
        for r in green[1].records
    ]
    assert fails(rule, [green[0], sealed(green[1], nan), *green[2:]], gates, artifact)


def test_blocks_of_more_days_than_there_were_are_none(gates: Gates, artifact: Artifact) -> None:
    for n, fail in ((8, False), (7, True)):
        config = {"of": "paper", "protocol": "fix", "days": list(range(n))}
        made = [
            msgspec.structs.replace(
                sealed(one, [msgspec.structs.replace(r, kind_of_block="day") for r in one.records]),
                config=config,
            )
            if one.kind == "latency"
            else one
            for one in all_green(artifact.hash)
        ]
        assert fails(RULES["latency_p99_ms.total"], made, gates, artifact) == fail


@pytest.mark.parametrize(
    ("measure", "value"),
    [
        ("hours", 25.0),
        ("hours", float("nan")),
        ("hours", 6.5),
        ("looks", float("nan")),
        ("looks", float("inf")),
        ("looks", -20.0),
        ("ece", -0.1),
        ("brier", float("-inf")),
        ("total_p99_ms", -1.0),
        ("value_over_dumb_ticks", float("nan")),
    ],
)
def test_a_day_whose_figures_cannot_be_is_red(measure: str, value: float, gates: Gates) -> None:
    judged = judge_day([paper(MODEL, 9, **{measure: value})], gates, "GOOG")
    assert judged.colour == "red"
    assert measure in judged.why


# --- days of paper trading


def day(number: int, seed: int) -> Evidence:
    """A day whose figures lie on either side of their limits."""
    rng = np.random.default_rng(seed)
    one = paper(MODEL, number, value=float(rng.normal(2.0, 6.0)))
    made = []
    for record in one.records:
        x = record.blocks[0]
        if rng.random() < 0.05:
            x *= float(rng.choice([0.1, 10.0]))
        if record.measure in ("looks", "hours"):
            x = float(min(int(x), 24 if record.measure == "hours" else 10**6))
        made.append(msgspec.structs.replace(record, blocks=(x,)))
    return sealed(one, made)


def weeks(seed: int) -> list[Evidence]:
    return [day(number, seed + k) for k, number in enumerate(TRADED)]


def lacks(days: Sequence[Evidence], gates: Gates) -> str:
    found: Mapping[str, Evidence] = {
        f"{one.kind} {one.config['run']}": one for each in days for one in run_of(each)
    }
    return paper_lacks(found, ask(MODEL, 14), gates)


UP = ("looks", "hours", "value_over_dumb_ticks")
DOWN = ("ece", "brier", "adapter_p99_ms", "model_p99_ms", "total_p99_ms")


@DRAWN
@given(seed=st.integers(0, 10_000), measure=st.sampled_from((*UP, *DOWN)), by=st.floats(0.0, 50.0))
def test_weeks_that_are_better_by_the_same_every_day_lack_nothing_for_it(
    seed: int, measure: str, by: float, gates: Gates
) -> None:
    days, step = weeks(seed), by if measure in UP else -by
    risen = [
        sealed(
            one,
            [
                msgspec.structs.replace(r, blocks=tuple(x + possible(r, step, DAY_MEANS) for x in r.blocks))
                if r.measure == measure
                else r
                for r in one.records
            ],
        )
        for one in days
    ]
    assert not (lacks(days, gates) == "" and lacks(risen, gates) != "")
    for before, after in zip(days, risen, strict=True):
        order = ("red", "short", "green")
        assert order.index(judge_day([after], gates, "GOOG").colour) >= order.index(
            judge_day([before], gates, "GOOG").colour
        )


@DRAWN
@given(seed=st.integers(0, 10_000), which=st.integers(0, 99), r=st.integers(0, 99), how=st.sampled_from(HOWS))
def test_nothing_of_a_day_left_out_cut_or_moved_opens_live_for_it(
    seed: int, which: int, r: int, how: str, gates: Gates
) -> None:
    days = weeks(seed)
    k = which % len(days)
    cut = msgspec.structs.replace(days[k], records=tuple(moved(days[k].records, r, how)))
    if cut.records != days[k].records:
        assert judge_day([cut], gates, "GOOG").colour == "red"
    after = lacks([*days[:k], cut, *days[k + 1 :]], gates)
    assert not (lacks(days, gates) != "" and after == "")


# --- the ledgers


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A registry in which a green model was judged."""
    folder = tmp_path_factory.mktemp("kept")
    artifact = make_artifact(folder, 0)
    registry = green_registry(Registry(folder / "registry", Ticking()), artifact)
    judgement, _ = registry.promote(artifact, read_gates(), LINEAR)
    assert judgement.verdict == "pass"
    return folder / "registry"


def ledgers(home: Path) -> list[Path]:
    return sorted((home / "ledgers").glob("*.jsonl"))


@pytest.mark.parametrize(
    "how", ["leave out", "cut", "swap", "twice", "gone", "evidence gone", "evidence of another"]
)
@pytest.mark.parametrize("key", [0, 1])
@pytest.mark.parametrize("place", [0, 1, -1])
def test_nothing_of_a_ledger_left_out_cut_or_moved_is_judged(
    kept: Path, tmp_path: Path, how: str, key: int, place: int
) -> None:
    """By a machine that has never seen it before, too: what was decided remembers how far every ledger had come."""
    home = tmp_path / "registry"
    shutil.copytree(kept, home)
    path = ledgers(home)[key]
    lines = path.read_bytes().splitlines(keepends=True)
    name = str(msgspec.json.decode(lines[place])["body"]["entry"]["evidence"])
    evidence = home / "evidence" / f"{name}.json"
    if how == "leave out":
        del lines[place]
    elif how == "cut":
        lines = lines[: len(lines) // 2]
    elif how == "swap":
        lines[place], lines[place - 1] = lines[place - 1], lines[place]
    elif how == "twice":
        lines.append(lines[place])
    path.write_bytes(b"".join(lines))
    if how == "gone":
        path.unlink()
    elif how == "evidence gone":
        evidence.unlink()
    elif how == "evidence of another":
        other = next(one for one in (home / "evidence").iterdir() if one != evidence)
        evidence.write_bytes(other.read_bytes())
    registry = Registry(home, Ticking())
    with pytest.raises(GovernanceError):
        registry.check(make_artifact(tmp_path, 0), read_gates(), LINEAR)


@pytest.mark.parametrize("place", [0, 3])
def test_a_ledger_that_its_own_key_has_written_anew_is_not_judged(
    kept: Path, tmp_path: Path, place: int
) -> None:
    """With as many lines as were decided on: one of them is another, and the rest is signed again, or is not."""
    for anew in (False, True):
        home = tmp_path / f"registry{anew}"
        shutil.copytree(kept, home)
        registry = Registry(home, Ticking())
        path = ledgers(home)[0]
        chain = registry.store.ledger(path.stem)
        entries = chain.entries()
        role = registry.store.keys.trusted()[path.stem].role
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(lines[:place]))
        mark_path(path).unlink(missing_ok=True)  # a machine that has never seen it
        chain.append(role, {**entries[place].body, "data": ["another"]})
        if anew:
            for entry in entries[place + 1 :]:
                chain.append(role, entry.body)
        else:
            path.write_bytes(path.read_bytes() + b"".join(lines[place + 1 :]))
        mark_path(path).unlink(missing_ok=True)
        why = "evidence that a decision rested on is gone" if anew else "does not follow the one before it"
        with pytest.raises(GovernanceError, match=why):
            Registry(home, Ticking()).check(make_artifact(tmp_path, 0), read_gates(), LINEAR)
