"""`emp plan`: what a user gets wrong is one line; the gate fails with its exit code and says why."""

import json
from pathlib import Path

import pytest

from emp.app.cli import main
from emp.engine.choose import load_model
from tests.kit.datasets import market, write_quotes
from tests.kit.planners import random_planner

pytestmark = pytest.mark.usefixtures("compiled_engine")


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["plan", *arguments])
    out, err = capsys.readouterr()
    return int(ended.value.code or 0), out, " ".join(err.split())


def test_mistakes_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random_planner(tmp_path / "other", "0" * 64)
    for arguments, said in (
        (("gate", str(tmp_path / "none")), "not a planner"),
        (("gate", str(tmp_path / "other")), "trained on the forecasts of 000000000000"),
        (("gate", str(tmp_path / "other"), "--part", "train"), "neither test nor calibrate"),
        (("worth", str(tmp_path / "other")), "trained on the forecasts of 000000000000"),
        (("train", "--flow", "goog"), "FLOW:INSTRUMENT"),
        (("train", "--flow", "nowhere:GOOG"), "no flow model file"),
        (("train", "--data", "GOOG=nothing.csv", "--flow", "none"), "no such recording"),
        (("train", "--outcomes", "9"), "outcomes"),
    ):
        code, _, err = call(capsys, *arguments)
        assert code != 0
        assert said in err, (arguments, err)


def test_training_gate_and_worth_of_a_small_market(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_quotes(market(9_000, 3, 0.5), str(tmp_path / "IBM_quotes.csv"))
    data = f"IBM={tmp_path}/IBM_quotes.csv"
    small = ("--rounds", "2", "--passes", "2", "--epochs", "1", "--hidden", "8", "--step", "5")
    out = str(tmp_path / "planner")
    code, text, err = call(capsys, "train", "--data", data, "--flow", "none", "--out", out, *small, "--json")
    assert code == 0, err
    first = json.loads(text.splitlines()[-1])
    assert first["choices"]
    again = str(tmp_path / "again")
    _, text, _ = call(capsys, "train", "--data", data, "--flow", "none", "--out", again, *small, "--json")
    assert json.loads(text.splitlines()[-1])["planner"] == first["planner"]

    registry = tmp_path / "registry"
    gate = ("gate", out, "--data", data, "--passes", "2", "--json")
    code, text, err = call(capsys, *gate, "--evidence", str(registry))
    assert code == 1, err
    found = json.loads(text.splitlines()[-1])
    assert found["verdict"] == "fail"
    assert found["why"]
    assert {"corr", "ci", "slope", "table"} <= found.keys()
    assert json.loads((tmp_path / "planner" / "planner.json").read_text())["gate"]["verdict"] == "fail"
    (evidence,) = (registry / "evidence").glob("*.json")
    body = json.loads(evidence.read_text())["body"]
    assert body["model"] == load_model("linear").artifact.hash
    assert body["config"]["planner"] == first["planner"]
    assert [r["measure"] for r in body["records"]] in ([], ["planner_corr"])

    code, text, err = call(capsys, "worth", out, "--data", data, "--flow", "none", "--depth", "1", "--json")
    assert code == 0, err
    (one,) = json.loads(text.splitlines()[-1])["table"]
    assert one["depth"] == 1
    assert one["verdict"] in ("earns", "costs", "not told apart", "too few pairs")


def test_what_the_planner_was_trained_on_is_not_judged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_quotes(market(6_000, 3, 0.5), str(tmp_path / "GOOG_quotes.csv"))
    data = f"GOOG={tmp_path}/GOOG_quotes.csv"
    from emp.train.data.data import load_dataset, parse_series

    seen = load_dataset(parse_series(data), 0.5)
    artifact = random_planner(tmp_path / "planner", load_model("linear").artifact.hash)
    import msgspec

    from emp.plan.artifact import save_planner

    told = {"files": list(seen.files), "train_ns": [0, seen.split.test_ns + 1]}
    elsewhere = {
        "files": [],
        "instrument": "GOOG",
        "train_ns": [0, seen.split.test_ns + 1],
    }  # a cut of it, or a copy
    for one in (told, elsewhere):
        manifest = msgspec.structs.replace(artifact.manifest, provenance={"series": [one]})
        save_planner(tmp_path / "planner", manifest, artifact.tensors)
        code, _, err = call(capsys, "gate", str(tmp_path / "planner"), "--data", data)
        assert code != 0
        assert "was trained on some of its test part" in err


def test_a_recording_that_is_too_short_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    random_planner(tmp_path / "planner", load_model("linear").artifact.hash)
    write_quotes(market(400, 3, 0.5), str(tmp_path / "IBM_quotes.csv"))
    data = ("--data", f"IBM={tmp_path}/IBM_quotes.csv")
    small = (
        "--flow",
        "none",
        "--rounds",
        "1",
        "--passes",
        "1",
        "--epochs",
        "1",
        "--out",
        str(tmp_path / "out"),
    )
    for words in (
        ("gate", str(tmp_path / "planner"), *data),
        ("worth", str(tmp_path / "planner"), *data, "--flow", "none"),
        ("train", *data, *small),
    ):
        code, _, err = call(capsys, *words)
        assert code != 0, words
        assert "too short" in err or "too few" in err, (words, err)
