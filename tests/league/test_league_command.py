"""`emp league`: from seeds, resumable, one page, one clear line on a mistake."""

import json
from pathlib import Path

import pytest

from emp.app.cli import main
from emp.governance.evidence import Store
from emp.league.exploit import Gap
from emp.league.model_gap import Measured, deltas
from emp.league.rule_gap import RuleResult

SMALL = ["--generations", "2", "--rounds", "2", "--pairs", "2", "--episodes", "4", "--held-out", "20"]


def ends(*argv: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["league", *argv])
    return int(stop.value.code or 0)


def test_a_league_repeats_itself_goes_on_and_has_a_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    run = ["run", "--market", "large-tick", *SMALL, "--jobs", "1", "--json"]
    assert ends(*run, "--seeds", "2", "--out", str(a)) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["markets"][0]
    assert (said["market"], said["seeds"], said["again"]) == ("large-tick", 2, 0)
    assert len(said["gaps"]) == 2
    ahead = {row["player"]: row["queue_ahead"] for row in said["table"]}
    assert ahead["naive maker"] > 0
    assert ahead["immediate"] is None
    assert ahead["the engine's rule"] > 0
    rule = said["rule"]
    assert [row["player"].rpartition("beside ")[2] for row in rule["beside"]][2:] == [
        "Best",
        "its exploiter",
        "a copy of itself",
    ]
    assert rule["beside"][2]["pnl"] == next(
        r["pnl"] for r in said["table"] if r["player"] == "the engine's rule"
    )
    assert rule["candidates"] == 2 * 5
    assert rule["unmatched"] == 2 or rule["gap"] >= 0.0
    assert ends(*run, "--seeds", "1", "--out", str(b)) == 0
    assert ends(*run, "--seeds", "2", "--out", str(b)) == 0  # the second seed only
    assert (a / "large-tick.json").read_bytes() == (b / "large-tick.json").read_bytes()
    one = json.loads((a / "large-tick.json").read_bytes())["seeds"][0]
    for g in one["generations"]:
        assert g["promoted"] is (g["gap"] is not None and (g["delta"] is None or g["delta"] <= 0))
    capsys.readouterr()
    assert ends("report", str(a), "--json") == 0
    page = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["page"]).read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "immediate" in page
    assert "its exploiter" in page
    assert ends(*run, "--rounds", "3", "--seeds", "1", "--out", str(a)) == 2
    assert "other options" in capsys.readouterr().err


def test_the_gap_of_a_model_over_another_is_evidence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = tmp_path / "registry"
    small = ["--rounds", "2", "--pairs", "2", "--episodes", "4", "--held-out", "20", "--market", "large-tick"]
    told = ["--jobs", "1", "--json", "--evidence", str(registry)]
    assert ends("gap", "linear", *small, "--seeds", "2", *told) == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(said["seeds"]) == 2
    assert said["model"] == said["reference"]
    for one in said["seeds"]:
        assert one["delta"] == (None if one["model"]["gap"] is None else 0.0)  # a model beside itself
    complete = all(one["delta"] is not None for one in said["seeds"])
    assert said["deltas"] == ({"large-tick": [0.0] * 2} if complete else {})
    assert ("evidence" in said) is complete
    if complete:
        (found,) = Store(registry).all().values()
        assert (found.kind, found.model, found.reference) == ("league", said["model"], said["reference"])
        assert [(r.series, r.blocks) for r in found.records] == [("large-tick", (0.0,) * 2)]


def test_a_market_of_which_a_seed_has_no_gap_has_no_figure() -> None:
    def measured(market: str, seed: int, gap: float | None) -> Measured:
        none = Gap(0.0, 0.0, 0.0, None, 2)
        one = RuleResult([], none, none, gap, none, 1)
        return Measured(market, seed, one, RuleResult([], none, none, 0.25, none, 1))

    found = [measured("b", 2, 0.5), measured("b", 1, 0.25), measured("a", 1, 0.1), measured("a", 2, None)]
    assert deltas(found) == {"b": [0.0, 0.25]}


def test_mistakes_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("run", "--market", "moon", "--out", str(tmp_path)) == 2
    assert "small-tick, large-tick" in capsys.readouterr().err
    assert ends("gap", "linear", "--market", "moon") == 2
    assert "small-tick, large-tick" in capsys.readouterr().err
    assert ends("run", "--policy", str(tmp_path / "none"), "--out", str(tmp_path)) == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert ends("gap", str(tmp_path / "none")) == 4
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert ends("report", str(tmp_path)) != 0
    assert "no results" in capsys.readouterr().err
    (tmp_path / "x.json").write_text("{}")
    assert ends("report", str(tmp_path)) != 0
    err = capsys.readouterr().err
    assert "x.json" in err
    assert len(err.strip().splitlines()) == 1
