"""A planted signal is found, noise is called noise, and what was trained on is never judged."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from emp.app.cli import app, main
from emp.core.errors import UsageError
from emp.core.records import HORIZON_NAMES
from emp.decision.rule import Part
from emp.engine.choose import load_model
from emp.engine.load import LoadedModel
from emp.model.artifact import save
from emp.perception.targets import classes
from emp.train.fit import encoder, fit, linear
from emp.train.judge import baselines
from emp.train.judge.baselines import class_probabilities, grow, kept_trees
from emp.train.judge.evaluate import Contender, evaluate
from tests.kit.datasets import dataset, market, write_quotes


@pytest.fixture(scope="module")
def quick() -> object:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "PENALTIES", (1e-2,))
        patch.setattr(linear, "ITERATIONS", 15)
        patch.setattr(encoder, "EPOCHS", 1)
        yield


@pytest.fixture(scope="module")
def model(quick: object, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    folder = tmp_path_factory.mktemp("model") / "m"
    trained = fit.train_linear([dataset(5_000, 1)], 0.5, 0, lambda *_: None)
    save(folder, trained.manifest, trained.tensors)
    return load_model(folder)


def by_model(table: list[dict[str, object]], horizon: str) -> dict[str, dict[str, object]]:
    return {str(row["model"]): row for row in table if row["horizon"] == horizon}


def test_a_planted_signal_is_found_beyond_chance_and_noise_is_not(model: LoadedModel) -> None:
    signal, noise = dataset(5_000, 1), dataset(5_000, 9, 0.0, "noise")
    found = evaluate([Contender("mine", (model,))], [signal, noise], 0, False, lambda *_: None)
    rows = by_model([r for r in found.table if r["series"] == "synthetic"], "1ev")
    assert set(rows) == {"mine", "majority", "persistence", "imbalance"}
    assert rows["mine"]["ci"]["brier_skill"][0] > 0.02
    assert rows["imbalance"]["ci"]["brier_skill"][0] > 0.02
    assert rows["mine"]["f1_macro"] > rows["persistence"]["f1_macro"] > 0.25
    assert rows["majority"]["mcc"] == 0.0
    assert rows["majority"]["brier_skill"] == pytest.approx(0.0, abs=1e-9)
    quiet = by_model([r for r in found.table if r["series"] == "noise"], "1ev")
    assert quiet["imbalance"]["ci"]["brier_skill"][0] < 0.0
    assert quiet["persistence"]["mcc"] == pytest.approx(0.0, abs=0.06)
    assert {row["n"] for row in rows.values()} == {rows["mine"]["n"]}
    json.dumps(found.table)


def test_trees_find_the_signal_too_and_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    data = dataset(5_000, 1)
    train, test = data.part("train"), data.part("test")[:-1]
    label = classes(data.targets.delta_hat[:, 0], np.array(0.1))
    prior = np.bincount(label[train], minlength=3) / len(train)
    said, latency = kept_trees(data.x, label, train, test, prior, 0)
    hit = np.eye(3)[label[test]]
    assert np.square(said.p - hit).mean() < 0.95 * np.square(prior - hit).mean()
    assert np.isnan(said.q).all()
    assert 0.0 < latency["p50"] <= latency["p99"]
    grown = class_probabilities(grow(data.x[train], label[train], 0), data.x[test])
    np.testing.assert_array_equal(said.p, grown)
    monkeypatch.setattr(baselines, "grow", lambda *_: pytest.fail("grown again"))
    np.testing.assert_array_equal(kept_trees(data.x, label, train, test, prior, 0)[0].p, said.p)
    with pytest.raises(pytest.fail.Exception, match="grown again"):
        kept_trees(data.x, label, train, test, prior, 1)


def test_a_series_that_was_trained_on_is_judged_only_later(model: LoadedModel) -> None:
    from dataclasses import replace

    data = dataset(5_000, 1)
    early = replace(data, split=data.split._replace(test_ns=data.split.calibrate_ns - 1))
    with pytest.raises(UsageError, match="its test part begins before the model's training ended"):
        evaluate([Contender("mine", (model,))], [early], 0, False, lambda *_: None)


def test_train_then_evaluate_from_the_command_line(
    quick: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path / "cache"))
    path, out = tmp_path / "GOOG_day.csv", tmp_path / "artifact"
    write_quotes(market(4_000, 2, 0.5), str(path))
    runner = CliRunner()
    trained = runner.invoke(app, ["train", "--data", str(path), "--out", str(out), "--json"])
    assert trained.exit_code == 0, trained.output
    said = json.loads(trained.stdout.splitlines()[-1])
    assert said["model_hash"] == load_model(out).artifact.hash
    assert str(tmp_path) not in (out / "manifest.json").read_text()
    judged = runner.invoke(app, ["evaluate", "--artifact", str(out), "--data", str(path), "--json"])
    assert judged.exit_code == 0, judged.output
    result = json.loads(judged.stdout.splitlines()[-1])
    assert result.keys() >= {"model_hash", "train_span", "test_span", "table"}
    row = result["table"][0]
    assert row.keys() >= {
        "instrument",
        "model",
        "horizon",
        "n",
        "f1_macro",
        "mcc",
        "ece",
        "brier",
        "pinball",
        "coverage",
        "ci",
        "alpha_after_fees",
    }
    assert {r["horizon"] for r in result["table"]} == set(HORIZON_NAMES)
    assert result["train_span"]["GOOG_day"][1] < result["test_span"]["GOOG_day"][0]
    assert result["trading"][0].keys() >= {"pnl_ticks", "fees", "fills", "alpha"}
    said = [(one["model"], one["passive_lots"] + one["crossing_lots"]) for one in result["trading"]]
    assert [name for name, _ in said] == ["linear", "mean_reversion"]
    assert [lots for _, lots in said] == [one["traded_lots"] for one in result["trading"]]
    words = ["evaluate", "--trade", "--artifact", str(out), "--data", str(path), "--json"]
    told = runner.invoke(app, words)
    assert told.exit_code == 0, told.output
    mine = json.loads(told.stdout.splitlines()[-1])
    assert [one["pnl_ticks"] for one in mine["trading"]] == [result["trading"][0]["pnl_ticks"]]
    assert mine["trading"][0]["part"] == "last 30%"
    assert [one["part"] for one in mine["parts"]] == [str(part.name).lower() for part in Part]
    assert "expected and realised agree on" in told.stdout
    walked = runner.invoke(app, ["evaluate", "--artifact", str(out), "--data", str(path), "--walk"])
    assert isinstance(walked.exception, UsageError)
    assert "needs 4 trading days" in str(walked.exception)
    page = tmp_path / "page.html"
    arguments = ["evaluate", "--artifact", str(out), "--data", str(path), "--json", "--page", str(page)]
    again = json.loads(runner.invoke(app, arguments).stdout.splitlines()[-1])
    assert {**again, "latency_us": None} == {**result, "latency_us": None}
    text = page.read_text(encoding="utf-8")
    assert result["model_hash"] in text
    traded = sum(lots for _, lots in said) > 0
    assert (
        text.count("<svg") == 2 + 2 * traded
    )  # skill, reliability; of fills, where there are some, alpha by kind
    assert "src=" not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "nowhere.csv", "--out", "x"], "nowhere.csv: no such recording"),
        (["evaluate", "--artifact", "nowhere"], "no model nowhere; shipped are"),
        (["evaluate", "--trade", "--artifact", "linear", "--artifact", "mamba3"], "--trade trades one model"),
        (["evaluate", "--psi", "--data", "GOOG=pyproject.toml"], "pyproject.toml"),
    ],
)
def test_a_mistake_ends_in_one_line(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    data_root: Path,
) -> None:
    monkeypatch.chdir(data_root)
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    said = capsys.readouterr().err.strip()
    assert stopped.value.code not in (0, None)
    assert said.startswith("emp: ")
    assert "\n" not in said
    assert message in said


@pytest.fixture
def data_root() -> Path:
    return Path(__file__).resolve().parents[2]


def test_fills_are_marked_a_horizon_later_after_fees() -> None:
    from emp.train.judge.alpha import FILL, alpha

    data = dataset(900)
    mid = 0.5 * (data.seen.rows["bid"] + data.seen.rows["ask"])
    fills = np.zeros(2, FILL)
    fills["ts"] = data.ts[[100, 200]]
    fills["px"], fills["qty"] = [50_000, 50_002], [2, 1]
    fills["side"], fills["fee"], fills["maker"] = [1, -1], [0.5, 0.25], [True, False]
    marks = alpha(fills, data, 0)
    found = {kind: next(m for m in rows if m["horizon"] == "5ev") for kind, rows in marks.items()}
    passive = (mid[105] - 50_000 - 0.25) / 50_000 * 1e4
    crossing = (-(mid[205] - 50_002) - 0.25) / 50_002 * 1e4
    assert found["passive"]["alpha_bps"] == pytest.approx(passive)
    assert found["crossing"]["alpha_bps"] == pytest.approx(crossing)
    assert found["all"]["alpha_bps"] == pytest.approx((2 * passive + crossing) / 3)
    assert alpha(fills[:0], data, 0)["all"][0]["alpha_bps"] is None
