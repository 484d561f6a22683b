"""Judged on markets left out: nothing of them is trained on, shares are past-only, verdicts are corrected."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from emp.app.cli import app
from emp.app.wiring.examples import examples
from emp.core.errors import ConfigError
from emp.core.records import HORIZON_NAMES
from emp.engine.choose import load_model
from emp.perception.targets import CLASSES, NO_LABEL, classes
from emp.train.data.books import scaled
from emp.train.data.data import Dataset, Series
from emp.train.data.markets import Market, load_markets, read_catalogue
from emp.train.fit import encoder, linear
from emp.train.fit.fit import pooled_sample
from emp.train.judge import leave_out, peer
from emp.train.judge.apart import Cell, Networks, judge_market, past_shares
from emp.train.judge.leave_out import Budget, folds, models_of, recent, to_train_on
from emp.train.judge.leave_out_table import markdown_lines, summary_of, table_of
from emp.train.judge.metrics import Outcome, Prediction, Sums, block_sums
from emp.train.judge.paired import SHORT, Difference, difference, holm, verdicts
from tests.kit.datasets import dataset, market, write_quotes


@pytest.fixture(scope="module")
def quick() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "PENALTIES", (1e-2,))
        patch.setattr(linear, "ITERATIONS", 10)
        patch.setattr(encoder, "EPOCHS", 1)
        yield


def test_past_shares_are_those_of_labels_known_by_then() -> None:
    rng = np.random.default_rng(3)
    n = 300
    label = rng.integers(-1, CLASSES, n).astype(np.int8)
    known_row = np.where(np.arange(n) < n - 5, np.arange(n) + 5, -1)
    label[-5:] = NO_LABEL
    found = past_shares(label, known_row, np.arange(n))
    for t in range(n):
        told = [label[i] for i in range(n) if 0 <= known_row[i] <= t and label[i] != NO_LABEL]
        counts = np.bincount(told, minlength=CLASSES) + 1.0
        np.testing.assert_allclose(found[t], counts / counts.sum(), rtol=1e-12)
    later = label.copy()
    later[200:] = 2
    np.testing.assert_array_equal(past_shares(later, known_row, np.arange(205)), found[:205])


def test_recent_rows_end_where_the_test_part_begins() -> None:
    data = dataset(6_000, 1)
    short = recent(data, 2_000)
    assert len(short.ts) == 2_000
    assert short.ts[-1] < data.split.test_ns <= data.ts[np.searchsorted(data.ts, short.ts[-1]) + 1]
    first = int(np.searchsorted(data.ts, short.ts[0]))
    np.testing.assert_array_equal(short.x, data.x[first : first + 2_000])
    np.testing.assert_array_equal(short.targets.delta_hat, data.targets.delta_hat[first : first + 2_000])
    assert len(short.seen.cells) == short.seen.states["has_depth"].sum()
    assert len(short.part("test")) == 0
    assert len(short.part("train")) == pytest.approx(6 * len(short.part("calibrate")), rel=0.01)
    assert len(recent(data, 10**9).ts) == np.searchsorted(data.ts, data.split.test_ns)


def test_a_series_may_be_labelled_by_thresholds_of_its_own_past() -> None:
    data = dataset(5_000, 1)
    own = data.by_own_thresholds()
    assert own.own is not None
    moves = np.abs(data.delta_hat("train", data.part("train")))
    for h in range(len(HORIZON_NAMES)):
        known = np.sort(moves[~np.isnan(moves[:, h]), h])
        assert own.own[h] == known[int(np.ceil(len(known) / 3.0)) - 1]
    noise = data.targets.delta_hat.copy()
    noise[np.searchsorted(data.ts, data.split.calibrate_ns) :] = 99.0
    changed = replace(data, targets=data.targets._replace(delta_hat=noise)).by_own_thresholds()
    np.testing.assert_array_equal(changed.own, own.own)
    head = np.full(len(HORIZON_NAMES), 1e6)
    assert (pooled_sample([data], "train", head).labels <= 1).all()
    sample = pooled_sample([own], "train", head)
    np.testing.assert_array_equal(sample.labels, classes(sample.delta_hat, own.own))
    assert (sample.labels == 2).any()


def named(name: str, group: str, data: Dataset) -> Market:
    return Market(name, group, replace(data, series=name))


def test_what_is_left_out_is_in_no_fold_that_judges_it() -> None:
    data = dataset(1_000)
    markets = [named(name, name[0], data) for name in ("a1", "a2", "b1", "c1")]
    by_group = folds(markets, "group")
    assert [f.name for f in by_group] == ["a", "b", "c"]
    for fold in by_group:
        left, others = ({m.name for m in side} for side in (fold.left, fold.others))
        assert left | others == {"a1", "a2", "b1", "c1"}
        assert not {m.group for m in fold.left} & {m.group for m in fold.others}
        assert left.isdisjoint(others)
    assert [f.name for f in folds(markets, "class")] == ["equity"]
    (single,) = folds(markets, "group", ["a2"])
    assert [m.name for m in single.left] == ["a2"]
    assert [m.name for m in single.others] == ["a1", "b1", "c1"]


def test_a_market_too_short_is_not_trained_on() -> None:
    enough, few = named("a", "a", dataset(6_000, 1)), named("b", "b", dataset(700, 2))
    assert [data.series for data in to_train_on([enough, few], 4_000)] == ["a"]


def test_a_planted_signal_carries_over_to_a_market_left_out(
    quick: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    budget = Budget(events=4_000, rows=4_000, epochs=1, features_epochs=1, trees=2_000, judged=1_500)
    others = [named("one", "a", dataset(6_000, 1)), named("two", "b", dataset(6_000, 2))]
    datasets = to_train_on([m._replace(data=m.data.by_own_thresholds()) for m in others], budget.events)
    models = models_of(datasets, 0.5, budget, 0, lambda *_: None)
    assert set(models) == {"linear", "mamba3"}
    left = named("left", "c", dataset(5_000, 7))
    cells = judge_market(left, models, budget.trees, budget.judged, 0)
    assert [cell.horizon for cell in cells] == list(HORIZON_NAMES)
    rows = table_of(cells)
    first = {row["model"]: row for row in rows if row["horizon"] == "1ev"}
    assert set(first) == {"linear", "mamba3", "trees", "persistence", "shares"}
    assert first["shares"]["bss"] == pytest.approx(0.0, abs=1e-12)
    for name in ("linear", "mamba3", "trees"):
        assert first[name]["bss"] > 0.02
        assert first[name]["n"] <= budget.judged
    assert first["mamba3"]["against"].keys() == {"linear", "trees", "shares"}
    assert first["linear"]["against"].keys() == {"trees", "shares"}
    json.dumps(rows)
    monkeypatch.setattr(leave_out, "train_linear", lambda *_: pytest.fail("trained again"))
    assert models_of(datasets, 0.5, budget, 0, lambda *_: None)["mamba3"].artifact.hash


def test_a_horizon_at_which_a_market_hardly_moves_is_not_judged(
    quick: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    data = dataset(3_000, 4)
    still = data.targets.delta_hat.copy()
    still[:, 1] = np.where(np.isnan(still[:, 1]), np.nan, 0.0)
    still[data.part("train")[:90], 1] = 1.0
    still[data.part("train")[100:400], 1] = -1.0
    held = named("held", "g", replace(data, targets=data.targets._replace(delta_hat=still)))
    model = {"linear": load_model("linear")}
    assert [c.horizon for c in judge_market(held, model, 500, 500, 0)] == [
        name for name in HORIZON_NAMES if name != "5ev"
    ]
    still[data.part("train")[90:100], 1] = 1.0
    assert len(judge_market(held, model, 500, 500, 0)) == len(HORIZON_NAMES)
    assert judge_market(named("few", "g", dataset(650, 4)), model, 500, 500, 0) == []


def test_networks_trained_on_the_markets_own_first_part_stand_beside_the_models_on_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    monkeypatch.setattr(peer, "CHECKS", 2)
    events = market(3_000, 4, 0.5)
    books = scaled(
        *(
            np.stack([events[f"ask_{what}"][:, :2], events[f"bid_{what}"][:, :2]], axis=2)
            for what in ("px", "sz")
        )
    )
    monkeypatch.setattr("emp.train.judge.apart.read_books", lambda *_: books)
    held = named("held", "g", dataset(3_000, 4))._replace(series=Series("held", "GOOG", ()))
    told: list[str] = []
    model = {"linear": load_model("linear")}
    networks = Networks(("binlob", "deeplob"), 256)
    rows = table_of(judge_market(held, model, 500, 300, 0, networks, lambda text, share: told.append(text)))
    for horizon in HORIZON_NAMES:
        mine = {row["model"]: row for row in rows if row["horizon"] == horizon}
        assert set(mine) == {"linear", "trees", "persistence", "shares", "binlob", "deeplob"}
        assert len({row["n"] for row in mine.values()}) == 1
        assert mine["linear"]["n"] <= 300
        assert mine["linear"]["against"].keys() == {"trees", "binlob", "deeplob", "shares"}
        assert mine["binlob"]["against"] is None
    assert any(text.startswith("deeplob") for text in told)
    slow = replace(held.data, split=held.data.split._replace(test_ns=held.data.split.calibrate_ns))
    assert not len(slow.part("calibrate"))
    beside = table_of(
        [
            *judge_market(held, model, 500, 300, 0, networks),
            *judge_market(held._replace(name="slow", data=slow), model, 500, 300, 0, networks),
        ]
    )
    assert {row["model"] for row in beside if row["market"] == "slow"} == {
        "linear",
        "trees",
        "persistence",
        "shares",
    }
    (first, *_) = [line for line in markdown_lines(beside, "linear") if line.startswith("| slow")]
    assert "|  |" in first
    heading = markdown_lines(rows, "linear")[0]
    assert heading.endswith("against trees | against deeplob | against binlob | against shares |")


def sums_of(p_right: np.ndarray, blocks: int) -> Sums:
    """Forecasts that give the class that came a probability; rows spread over blocks in order."""
    n = len(p_right)
    p = np.column_stack([p_right, (1.0 - p_right) / 2.0, (1.0 - p_right) / 2.0])
    nothing = np.full((n, 3), np.nan)
    outcome = Outcome(np.zeros(n, np.int64), np.zeros(n), np.full(3, 1.0 / 3.0), np.zeros(3))
    return block_sums(
        Prediction(p, nothing, nothing[:, 0], p.argmax(axis=1)), outcome, np.arange(n) * blocks // n
    )


def test_a_difference_has_the_error_of_independent_blocks() -> None:
    """Of two forecasts that differ by chance alone one in twenty is called different, before any correction."""
    rng = np.random.default_rng(5)
    found = []
    for _ in range(400):
        mine, other = (sums_of(np.exp(-rng.uniform(0.5, 1.5, 200)), 10) for _ in range(2))
        one = difference(mine, other)
        assert one.low is not None
        assert one.high is not None
        assert (one.p < 0.05) == (one.low > 0.0 or one.high < 0.0)  # type: ignore[operator]
        found.append(one.p)
    assert 0.02 < np.mean(np.array(found) < 0.05) < 0.085
    better = difference(
        sums_of(np.exp(-rng.uniform(0.4, 1.4, 2_000)), 10), sums_of(np.exp(-rng.uniform(0.5, 1.5, 2_000)), 10)
    )
    assert better.value == pytest.approx(-0.1, abs=0.04)
    assert better.p is not None
    assert better.p < 0.01
    assert difference(sums_of(np.full(50, 0.5), 4), sums_of(np.full(50, 0.4), 4)).p is None


def test_holm_by_hand_and_its_rate_of_any_wrong_verdict() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == [True, False, False, True]
    assert holm([0.06]) == [False]
    assert holm([]) == []
    rng = np.random.default_rng(6)
    wrong = [any(holm(list(rng.uniform(size=30)))) for _ in range(2_000)]
    assert np.mean(wrong) < 0.065
    many = [
        Difference(-1.0, -1.1, -0.9, 1e-9),
        Difference(1.0, 0.9, 1.1, 1e-9),
        Difference(0.1, -1.0, 1.0, 0.8),
    ]
    assert verdicts([*many, Difference(-5.0, None, None, None)]) == ["better", "worse", "level", SHORT]


def test_rows_whose_next_event_has_the_same_stamp_stand_apart() -> None:
    half = sums_of(np.full(60, 0.5), 6)
    none = Sums(*(a[:0] for a in half))
    names = ("linear", "trees", "persistence", "shares")
    cell = Cell("m", "g", "GOOG", "1ev", "5min", *(dict.fromkeys(names, s) for s in (half, none, half)))
    rows = table_of([cell])
    assert all(row["same_stamp"] is None and row["later"]["n"] == 60 for row in rows)
    assert summary_of(rows)["linear"]["pairs"] == 1
    assert summary_of(rows)["linear"]["enough_rows"] == 0


def test_a_market_of_one_class_has_trees_that_name_it(tmp_path: Path) -> None:
    from emp.train.judge.baselines import class_probabilities, grow

    x = np.random.default_rng(0).normal(size=(50, 4))
    p = class_probabilities(grow(x, np.ones(50, np.int8), 0), x)
    np.testing.assert_array_equal(p, np.tile([0.0, 1.0, 0.0], (50, 1)))


def test_a_catalogue_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    for text, why in (
        ("markets: {}", "names no market"),
        ("[1, 2]", "not a catalogue"),
        ("markets: {A: {instrument: GOOG}}", "missing required field"),
        ("markets: {A: {instrument: GOOG, group: g, paths: [x], more: 1}}", "unknown field"),
        (": :", "not a catalogue"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=why) as error:
            read_catalogue(path)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_catalogue(tmp_path / "none.yaml")
    shipped = read_catalogue(examples()["markets"])
    assert len(shipped) >= 20
    assert len({entry.group for entry in shipped.values()}) >= 8


def test_leave_out_from_the_command_line(
    quick: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EMP_DATA", str(tmp_path))
    for k in range(2):
        write_quotes(market(4_000, k, 0.5), str(tmp_path / f"m{k}.csv"))
    entries = {f"m{k}": {"instrument": "GOOG", "group": f"g{k}", "paths": [f"m{k}.csv"]} for k in range(2)}
    entries["gone"] = {"instrument": "GOOG", "group": "g2", "paths": ["gone.csv"]}
    catalogue = tmp_path / "c.yaml"
    catalogue.write_text(yaml.safe_dump({"markets": entries}))
    call = ["evaluate", "--leave-out", "--catalogue", str(catalogue), "--events", "2500", "--epochs", "1"]
    done = CliRunner().invoke(app, [*call, "--market", "m0", "--json"])
    assert done.exit_code == 0, done.output
    assert "gone: left out of the table: no recording gone.csv" in done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["folds"][0]["left_out"] == ["m0"]
    assert told["folds"][0]["trained_on"] == ["m1"]
    assert told["skipped"][0]["market"] == "gone"
    assert told["budget"]["events"] == 2500
    row = next(row for row in told["table"] if row["model"] == "mamba3")
    assert row.keys() >= {
        "market", "model", "horizon", "n", "blocks", "f1_macro", "ece", "brier", "bss", "log_loss", "against"
    }  # fmt: skip
    shown = CliRunner().invoke(app, [*call, "--market", "m0", "--markdown"])
    assert "| m0 | 1ev |" in shown.stdout
    assert "corrected together (Holm)" in shown.stdout
    for wrong, why in ((["--market", "x"], "not in the catalogue"), (["--by", "x"], "must be one of")):
        refused = CliRunner().invoke(app, [*call, *wrong])
        assert refused.exit_code != 0
        assert why in str(refused.exception)


def test_markets_that_cannot_be_read_are_skipped_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("markets: {A: {instrument: NOPE, group: g, paths: ['*.yaml']}}")
    found, skipped = load_markets(read_catalogue(path), tmp_path, 0.5)
    assert not found
    assert skipped[0].market == "A"
    assert "\n" not in skipped[0].why
