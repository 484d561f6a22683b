"""`emp finetune` from end to end: what is accepted, what is refused, the table of ways, what cannot be asked for."""

import json
import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from emp.app.cli import app
from emp.app.finetune import ablation
from emp.core.spread import Workers
from emp.governance.evidence import Store
from emp.model.artifact import load
from emp.perception.schema import schema_hash
from emp.train.data.markets import Market
from emp.train.fit.arms import ARMS
from emp.train.judge.adaptation_table import (
    Spread,
    builtin_versus,
    gain_pct,
    lines_of,
    table_of,
    versus_lines,
    versus_of,
)
from emp.train.judge.adaptations import NAMES
from emp.train.judge.adapted import EVENT_HORIZONS, forecasts_of, kept_classes, match_turnover, turned
from tests.finetune.conftest import World, spot
from tests.kit.datasets import dataset

CAPS = dict.fromkeys(EVENT_HORIZONS, 3.0)


def run(*words: str) -> Any:
    return CliRunner().invoke(app, ["finetune", *words])


@pytest.fixture
def asked(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Words that adapt the equity's model to the spot market, little; the series come from memory."""
    known = {"GOOG": world.equity, "EURUSD": world.spot}
    monkeypatch.setattr(
        "emp.app.finetune.adaptation.load_dataset", lambda series, *_: known[series.instrument]
    )
    monkeypatch.setattr("emp.app.finetune.adaptation.refuse_overlap", lambda *_: None)
    monkeypatch.setattr("emp.train.judge.blocks.BLOCK_NS", 2_000_000_000)  # the series are a minute long
    for name in ("GOOG.csv", "EURUSD.csv"):
        (tmp_path / name).touch()
    settings = tmp_path / "how.yaml"
    settings.write_text("{epochs: 1, head_epochs: 1, length: 1024}")
    words = ["--artifact", str(world.folder / "mamba3"), "--settings", str(settings), "--no-trade", "--json"]
    series = ["--data", f"EURUSD={tmp_path / 'EURUSD.csv'}", "--keep", f"GOOG={tmp_path / 'GOOG.csv'}"]
    return [*words, *series, "--out", str(tmp_path / "out")]


def test_what_keeps_within_the_caps_is_written_and_evidence_names_both_models(
    world: World, asked: list[str], tmp_path: Path
) -> None:
    done = run(*asked, "--arm", "head", "--evidence", str(tmp_path / "registry"))
    assert done.exit_code == 0, done.output
    told = json.loads(done.output.splitlines()[-1])
    assert told["accepted"]
    assert [(one["horizon"], one["verdict"], one["drop_pct"]) for one in told["retention"]] == [
        (h, "kept", 0.0) for h in EVENT_HORIZONS
    ], "a head of its own changed the old market"
    made = load(tmp_path / "out", schema_hash())
    assert made.hash == told["model_hash"]
    assert made.manifest.config["adaptation"]["base"] == world.base.artifact.hash == told["base"]
    (name,) = told["evidence"]
    found = Store(tmp_path / "registry").all()[name]
    assert (found.model, found.reference) == (made.hash, world.base.artifact.hash)
    measures = {record.measure for record in found.records}
    assert {"f1_gain_pct", "f1_gain_matched_pct"} <= measures
    assert (tmp_path / "out.run" / "verdict.json").exists()


def test_what_loses_more_than_a_cap_is_refused(
    world: World, asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emp.train.judge import adapted

    forecasts = adapted.forecast_series

    def worse(model: Any, data: Any, **given: Any) -> Any:
        """The adapted model mistakes up for down on the old market."""
        said = forecasts(model, data, **given)
        if data.instrument.name == "GOOG" and model.artifact.hash != world.base.artifact.hash:
            said["p"] = np.roll(said["p"], 1, axis=-1)
        return said

    monkeypatch.setattr(adapted, "forecast_series", worse)
    done = run(*asked, "--arm", "head")
    assert done.exit_code == 1
    told = json.loads(done.output.splitlines()[-1])
    assert not told["accepted"]
    assert {one["verdict"] for one in told["retention"]} == {"lost"}
    assert "refused: 3 of 3 caps" in done.output
    assert not (tmp_path / "out").exists()
    assert load(Path(told["out"]), schema_hash()).hash == told["model_hash"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--arm", "lora", "--arm", "full"], "one at a time"),
        (["--arm", "magic"], "must be one of head"),
        (["--artifact", "linear"], "a linear model has nothing to adapt"),
    ],
)
def test_what_cannot_be_asked_for_ends_in_one_line(asked: list[str], words: list[str], says: str) -> None:
    kept = [*asked]
    if words[0] == "--artifact":
        kept[1] = words[1]
        words = []
    done = run(*kept, *words)
    assert done.exit_code != 0
    assert says in str(done.exception or done.output)


def test_settings_that_are_none_end_in_one_line(asked: list[str], tmp_path: Path) -> None:
    (tmp_path / "how.yaml").write_text("{rehearsal: 1.5}")
    done = run(*asked)
    assert "how.yaml: rehearsal must lie between 0 and 1" in str(done.exception)
    (tmp_path / "how.yaml").write_text("{speed: 3}")
    assert "how.yaml" in str(run(*asked).exception)


# --- the ablation


@pytest.fixture
def markets(monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Market("GOOG", "equity", dataset(6_000, 1, name="GOOG")), Market("EURUSD", "fx", spot())
    monkeypatch.setattr(ablation, "_markets", lambda *_: ([old], [new], []))
    monkeypatch.setattr("emp.train.judge.adaptations.LEAST_JUDGED", 200)


def test_the_table_of_the_ways_is_the_same_again_from_what_lies_in_the_folder_and_over_processes(
    world: World, markets: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = tmp_path / "how.yaml"
    settings.write_text("{epochs: 1, head_epochs: 1, length: 1024, fisher_rows: 512}")
    words = [
        "--ablate",
        "--out",
        str(tmp_path / "bench"),
        "--seeds",
        "2",
        "--events",
        "4000",
        "--judged",
        "1000",
    ]
    words += ["--settings", str(settings), "--arm", "lora", "--arm", "head", "--json"]
    first = run(*words, "--jobs", "1")
    assert first.exit_code == 0, first.output
    table = json.loads(first.output.splitlines()[-1])["table"]
    assert [row["arm"] for row in table] == ["none", "head", "lora"]
    assert table[0]["gain"]["mean"] == 0.0
    (versus,) = json.loads(first.output.splitlines()[-1])["versus"]
    assert (versus["arm"], versus["other"]) == ("lora", "head")
    assert "| lora | head |" in first.output
    assert table[0]["within"] == 1.0
    assert table[1]["dropped"] == dict.fromkeys(EVENT_HORIZONS, 0.0), (
        "a head of its own changed the old market"
    )
    files = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "bench/results").iterdir()}
    assert len(files) == 6
    (tmp_path / "bench/results/EURUSD.1.lora.json").unlink()
    again = run(*words, "--jobs", "1")
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "bench/results").iterdir()}
    assert {name for name in files if files[name] != after[name]} == {"EURUSD.1.lora.json"}

    def without_time(text: str) -> Any:
        return [{**row, "cpu_s": 0} for row in json.loads(text.splitlines()[-1])["table"]]

    assert without_time(again.output) == without_time(first.output)

    asked: list[str] = []

    def here(make: Any, parts: Any, workers: Workers, *, prepare: Any, given: Any) -> Any:
        """In place of workers, which do not see the markets of a test. What is handed over must go as bytes."""
        assert workers in (Workers(2), Workers(5, "auto")), "a market and seed for each process"
        for part in parts:
            prepare(*pickle.loads(pickle.dumps(given)))  # for each: what one knows another need not
            asked.append(part.name)
            yield part, pickle.loads(pickle.dumps(make))(pickle.loads(pickle.dumps(part)))

    monkeypatch.setattr(ablation, "spread", here)
    monkeypatch.setattr(ablation, "_prepared", [])
    for folder, more in (("beside", ()), ("away", ("--ray", "auto"))):
        asked.clear()
        words[2] = str(tmp_path / folder)
        beside = run(*words, "--jobs", "5", *more)
        assert without_time(beside.output) == without_time(first.output)
        assert asked == [*(f"base of seed {k}" for k in (0, 1)), *(f"EURUSD, seed {k}" for k in (0, 1))]
        assert {path.name for path in (tmp_path / folder / "results").iterdir()} == set(files)


def leave(*_: object) -> None:
    os._exit(3)


def test_a_process_that_dies_ends_in_one_line(
    markets: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real one: what it is told to do first kills it."""
    monkeypatch.setattr(ablation, "_prepare", leave)
    monkeypatch.setattr(ablation, "missing", lambda _, tasks: tasks)
    done = run("--ablate", "--out", str(tmp_path), "--seeds", "2", "--events", "4000", "--jobs", "2")
    assert "a process ended before its work was done: exit code 3" in str(done.exception)


def test_an_unknown_way_ends_in_one_line(tmp_path: Path) -> None:
    done = run("--ablate", "--out", str(tmp_path), "--arm", "magic")
    assert "--arm magic: must be one of none, head" in str(done.exception)


def judged(right: int, wrong: int, blocks: int) -> dict[str, Any]:
    """Confusions of blocks in which so many of each class were found, and so many were not."""
    one = np.full((3, 3), wrong / 2)
    np.fill_diagonal(one, right)
    block = [(one * (1 + 0.1 * k)).tolist() for k in range(blocks)]
    told = {"block": list(range(blocks)), "decided": block, "matched": block, "matched_base": block}
    return {h: dict(told) for h in EVENT_HORIZONS}


def result(arm: str, seed: int, new: int, old: int) -> dict[str, Any]:
    facts: dict[str, Any] = {"untrained_f1": dict.fromkeys(EVENT_HORIZONS, 0.2)} if arm == "none" else {}
    made: dict[str, Any] = {"market": "A", "seed": seed, "arm": arm, "facts": facts, "cpu_s": 3.0}
    made["new"] = {"by_horizon": judged(new, 100 - new, 6)}
    if arm != "scratch":
        made["old"] = {"S": judged(old, 100 - old, 6)}
    return made


def test_the_table_says_what_was_gained_and_what_was_lost() -> None:
    """Macro-F1 of such confusions is the share that was found."""
    results = [
        *(result("none", seed, 50, 60) for seed in (0, 1)),
        *(result("lora", seed, 55 + 10 * seed, 57 + 3 * seed) for seed in (0, 1)),
        *(result("scratch", seed, 40, 0) for seed in (0, 1)),
    ]
    none, lora, scratch = table_of(results, CAPS)
    assert none.gain == Spread(0.0, 0.0, 0.0)
    assert lora.gain.mean == pytest.approx(20.0)  # 10 % and 30 %
    assert lora.gain.seeds == pytest.approx(np.std([10.0, 30.0], ddof=1))
    assert lora.gain.half == pytest.approx(0.0, abs=1e-6), "all blocks are alike"
    assert lora.dropped == pytest.approx(dict.fromkeys(EVENT_HORIZONS, 2.5))  # 5 % and 0
    assert lora.within == 0.5
    assert lora.moved.acc == pytest.approx((0.60 + 0.585) / 2)
    assert lora.moved.backward == pytest.approx(-0.015)
    assert lora.moved.forward == pytest.approx(0.30)
    assert scratch.gain.mean == pytest.approx(-20.0)
    assert scratch.dropped == {}
    assert len(lines_of([none, lora, scratch])) == 5
    assert set(NAMES) == {"none", *ARMS, "scratch"}


def test_a_block_without_a_label_at_one_horizon_says_nothing_there() -> None:
    """The last of the blocks before a pause has none that is twenty events ahead."""
    results = [result("none", 0, 50, 60), result("lora", 0, 55, 60)]
    whole = table_of(results, CAPS)[1].gain
    for one in results:
        found = one["new"]["by_horizon"]["20ev"]
        for name in ("block", "decided", "matched", "matched_base"):
            found[name] = [row for k, row in enumerate(found[name]) if k != 2]
    (row,) = (row for row in table_of(results, CAPS) if row.arm == "lora")
    assert row.gain.mean == pytest.approx(whole.mean)
    assert row.gain.half == pytest.approx(whole.half, abs=1e-6)


def test_the_adapter_is_held_against_other_ways_of_the_same_seeds() -> None:
    results = [
        *(result("lora", seed, 55 + 10 * seed, 57) for seed in (0, 1)),
        *(result("full", seed, 50 + 8 * seed, 60) for seed in (0, 1)),
        *(result("scratch", seed, 40, 0) for seed in (1, 2)),
    ]
    full, scratch = versus_of(results)
    assert (full.arm, full.other, scratch.other) == ("lora", "full", "scratch")
    assert full.points.mean == pytest.approx(6.0)  # 5 and 7 points
    assert full.points.seeds == pytest.approx(np.std([5.0, 7.0], ddof=1))
    assert full.by_horizon["5ev"].mean == pytest.approx(6.0)
    assert scratch.points.mean == pytest.approx(25.0), "seed 1 alone was made of both"
    assert builtin_versus(scratch)["points"]["seeds"] is None
    assert len(versus_lines([full, scratch])) == 4
    assert versus_lines([]) == []


def test_too_few_blocks_have_no_interval() -> None:
    few = [result("none", 0, 50, 60), result("lora", 0, 55, 60)]
    for one in few:
        for found in one["new"]["by_horizon"].values():
            found["decided"] = found["matched"] = found["matched_base"] = found["decided"][:4]
            found["block"] = found["block"][:4]
    lora = table_of(few, CAPS)[1]
    assert np.isnan(lora.gain.half)
    assert np.isnan(lora.gain.seeds)
    assert "no interval" in lines_of([lora])[-1]


def test_who_turns_over_more_keeps_to_what_was_decided_until_both_turn_over_alike() -> None:
    draw = np.random.default_rng(3)
    calm = np.repeat(draw.dirichlet((1.0, 1.0, 1.0), 200), 20, axis=0)
    noisy = calm * draw.uniform(0.3, 1.0, (4_000, 3))
    assert (kept_classes(noisy, 0.0) == noisy.argmax(axis=1)).all()
    flips = [int((np.diff(kept_classes(noisy, by)) != 0).sum()) for by in (0.0, 0.5, 1.0, 2.0)]
    assert flips == sorted(flips, reverse=True)
    assert flips[-1] < 0.2 * flips[0]
    decided, now = [], int(noisy[0].argmax())  # in plain words
    for row in noisy:
        if row.max() > np.exp(0.7) * row[now]:
            now = int(row.argmax())
        decided.append(now)
    assert kept_classes(noisy, 0.7).tolist() == decided
    assert turned(np.array([0, 2, 1])).tolist() == [1.0, 2.0, 1.0], "short, turned to long, closed"


def test_matched_is_matched_on_the_part_before(world: World) -> None:
    """On the calibration part both turn over about alike, whichever of them turned over more."""
    data = world.spot
    edges = np.array(world.base.artifact.manifest.thresholds[0])
    calm = forecasts_of(world.base, data, edges)
    noisy = calm.copy()
    noisy["p"] *= np.random.default_rng(4).uniform(0.3, 1.0, noisy["p"].shape).astype(np.float32)
    earlier = data.part("calibrate")
    for base, mine, at in ((calm, noisy, 1), (noisy, calm, 0)):
        found = match_turnover(base, mine, data, edges, 0, earlier, np.zeros(len(earlier), np.int64))
        assert found.sticking[1 - at] == 0.0
        assert found.sticking[at] > 0.0
        assert found.lots[0, 0] == pytest.approx(found.lots[0, 1], rel=0.1, abs=4.0)
        assert found.base.sum() == found.decided.sum() == len(earlier)


def test_gain_is_in_per_cent_of_macro_f1() -> None:
    a, b = (np.array([np.full((3, 3), (100 - p) / 2) + np.eye(3) * (p - (100 - p) / 2)]) for p in (60, 50))
    assert gain_pct(a, b)[0] == pytest.approx(20.0)
