"""`emp league`: from seeds, resumable, one page, one clear line on a mistake."""

import json
from pathlib import Path

import msgspec
import pytest

from emp.app.cli import main
from emp.engine.choose import load_model
from emp.governance.evidence import Store
from emp.league.exploit import Gap
from emp.league.model_gap import Job, Measured, deltas
from emp.league.rule_gap import RuleResult
from emp.league.table import Row

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


SHORT = ["--rounds", "2", "--pairs", "2", "--episodes", "4", "--held-out", "20", "--market", "large-tick"]


def test_the_gap_of_a_model_beside_itself_is_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    assert ends("gap", "linear", *SHORT, "--seeds", "2", "--jobs", "1", "--json") == 0
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(said["seeds"]) == 2
    assert said["model"] == said["reference"] == said["seeds"][0]["model"]["model"]
    for one in said["seeds"]:
        edge = one["model"]["edge"]
        assert one["delta"] == (None if edge is None else 0.0)
        assert one["model"]["gap"] == (None if edge is None else max(0.0, edge))
    assert said["deltas"] == {"large-tick": [one["delta"] for one in said["seeds"]]}


def measured(market: str, seed: int, edge: float | None, model: str = "m") -> Measured:
    none = Gap(0.0, 0.0, 0.0, None, 2)
    row = Row(
        player="x, beside a copy of itself",
        pnl=0.0,
        sharpe=0.0,
        lots=1.0,
        maker_fills=0.0,
        against=0.0,
        against_sharpe=0.0,
        queue_ahead=None,
    )

    def of(edge: float | None, model: str) -> RuleResult:
        return RuleResult([row], none, none, edge, None if edge is None else max(0.0, edge), none, 1, model)

    return Measured(market, seed, of(edge, model), of(0.25, "r"))


def test_deltas_are_of_edges_in_the_order_of_seeds() -> None:
    found = [measured("b", 2, 0.5), measured("b", 1, -0.25), measured("a", 1, 0.25), measured("a", 2, None)]
    assert deltas(found) == {"a": [0.0, None], "b": [-0.5, 0.25]}


def test_evidence_of_the_gap_is_of_everything_or_of_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = tmp_path / "registry"
    told = ["--jobs", "1", "--json", "--evidence", str(registry)]
    for chosen in (SHORT[-2:], SHORT[:2], ["--seeds", "9"], ["--from", "2"]):
        assert ends("gap", "linear", *chosen, *told) == 2
        assert "leave the others out" in capsys.readouterr().err
    assert not registry.exists()
    mine = load_model("linear").artifact.hash
    edges: dict[tuple[str, int], float | None] = {}

    def played(jobs: list[Job], _: int) -> list[Measured]:
        return [
            measured(j.setting.name, j.seed, edges.get((j.setting.name, j.seed), 0.125), mine) for j in jobs
        ]

    def by_itself(jobs: list[Job], _: int) -> list[Measured]:
        return [msgspec.structs.replace(one, reference=one.model) for one in played(jobs, 1)]

    monkeypatch.setattr("emp.league.model_gap.measure_all", by_itself)
    edges["small-tick", 3] = None  # one seed without a figure: the market has none, and there is no evidence
    assert ends("gap", "linear", *told) == 0
    said = capsys.readouterr()
    assert "small-tick: no figure" in said.err
    assert "evidence" not in json.loads(said.out.splitlines()[-1])
    edges.clear()
    assert ends("gap", "linear", *told) == 0
    capsys.readouterr()
    (found,) = Store(registry).all().values()
    assert (found.kind, found.model, found.reference) == ("league", mine, mine)
    assert [(r.series, r.blocks) for r in found.records] == [
        ("large-tick", (0.0,) * 8),
        ("small-tick", (0.0,) * 8),
    ]
    monkeypatch.setattr("emp.league.model_gap.measure_all", played)  # of another model than was named
    assert ends("gap", "linear", *told) == 2
    assert "was changed while it was measured" in capsys.readouterr().err


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
