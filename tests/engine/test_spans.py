"""What a replay brought where its model was trained, where it was calibrated, and where it never looked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.replay import Backtest
from emp.engine.spans import (
    CALIBRATED,
    FOREVER_NS,
    NOT_KNOWN,
    TRAINED,
    UNSEEN,
    add_stretch,
    new_sums,
    seen_spans,
    span_at,
)
from emp.journal.actionlog import read_actions
from emp.model.artifact import saw_in_training, trained_on
from tests.kit.backtests import backtest, differences_after_a_kill
from tests.kit.events import random_events
from tests.kit.models import engine

EDGES = st.tuples(st.sampled_from([TRAINED, CALIBRATED]), st.integers(0, 30), st.integers(0, 30))


@given(st.lists(EDGES, max_size=4))
def test_what_holds_holds_until_the_next_edge(spans: list[tuple[str, int, int]]) -> None:
    said, ts = [], -1
    while ts < 31:
        name, until = span_at(spans, ts)
        said += [name] * (min(until, 31) - ts)
        ts = min(until, 31)
    for k, name in enumerate(said):
        inside = [span for span, begin, end in spans if begin <= k - 1 < end]
        assert name == (inside[0] if inside else UNSEEN)
    assert span_at(spans, 31) == (UNSEEN, FOREVER_NS)


def replayed(folder: Path, market: Array, run: str = "run", batch: int = 500) -> Backtest:
    running = backtest(folder, engine(folder), market, run, batch=batch)
    remember_training(running.engine, market)
    return running


def remember_training(of: Engine, market: Array) -> None:
    """Let the model have been trained up to event 1,200, calibrated up to event 1,900, and on other markets."""
    first, cut, end = (int(market["ts"][k]) for k in (0, 1_200, 1_900))
    of.model.artifact.manifest.provenance["series"] = [
        {"instrument": "AAPL", "train_ns": [first, int(market["ts"][-1]) + 1], "calibrate_ns": None},
        {"instrument": "GOOG", "train_ns": [first, cut], "calibrate_ns": [cut, end]},
    ]


@pytest.fixture(scope="module")
def market() -> Array:
    return random_events(3_000, 5)


@pytest.mark.usefixtures("compiled_engine")
class TestReplay:
    def test_each_part_has_what_it_brought_to_the_event(self, tmp_path: Path, market: Array) -> None:
        running = replayed(tmp_path, market)
        summary = running.run()
        spans = summary["spans"]
        ts = market["ts"]
        parts = {
            TRAINED: ts < ts[1_200],
            CALIBRATED: (ts >= ts[1_200]) & (ts < ts[1_900]),
            UNSEEN: ts >= ts[1_900],
        }
        rows = read_actions(tmp_path / "run" / "actions")
        before = 0.0
        assert summary["fills"] > 20  # or this says nothing
        for name, part in parts.items():
            assert spans[name]["events"] == part.sum()
            assert spans[name]["stretches"] == [[int(ts[part][0]), int(ts[part][-1])]]
            last = rows[rows["ts"] <= ts[part][-1]]["pnl_ticks"][-1]
            assert spans[name]["pnl_ticks"] == pytest.approx(last - before)
            before = last
        assert sum(one["fills"] for one in spans.values()) == summary["fills"]
        assert sum(one["events"] for one in spans.values()) == summary["events"]

    def test_batches_do_not_matter(self, tmp_path: Path, market: Array) -> None:
        one = replayed(tmp_path, market, "one", batch=3_000).run()["spans"]
        many = replayed(tmp_path, market, "many", batch=77).run()["spans"]
        assert {name: rounded(sums) for name, sums in one.items()} == {
            name: rounded(sums) for name, sums in many.items()
        }

    def test_a_run_that_was_killed_counts_on(self, tmp_path: Path, market: Array) -> None:
        assert not differences_after_a_kill(lambda run: replayed(tmp_path, market, run), after=3)

    def test_refused_events_belong_to_no_part(self, tmp_path: Path, market: Array) -> None:
        crossed = market.copy()
        crossed["bid_px"][1_500:1_510, 0] = crossed["ask_px"][1_500:1_510, 0] + 5
        summary = replayed(tmp_path, crossed).run()
        assert sum(summary["quarantined"].values()) == 10
        assert summary["spans"][CALIBRATED]["events"] == 690


def rounded(sums: dict[str, Any]) -> dict[str, Any]:
    return {name: value if name == "stretches" else float(np.round(value, 6)) for name, value in sums.items()}


def test_a_stretch_ends_where_another_span_comes_between() -> None:
    sums = new_sums()
    for name, first, last in (
        (TRAINED, 1, 2),
        (TRAINED, 3, 4),
        (UNSEEN, 5, 6),
        (TRAINED, 7, 8),
        (TRAINED, 9, 9),
    ):
        add_stretch(sums, name, first, last)
    assert {name: one["stretches"] for name, one in sums.items()} == {
        TRAINED: [[1, 4], [7, 9]],
        CALIBRATED: [],
        UNSEEN: [[5, 6]],
    }


def test_the_shipped_models_know_what_they_were_trained_on() -> None:
    from emp.engine.choose import load_model

    manifest = load_model("linear").artifact.manifest
    names = [name for name, _, _ in seen_spans(manifest, "GOOG")]
    assert names == [TRAINED, CALIBRATED]
    assert not seen_spans(manifest, "AAPL")


def test_what_the_depth_encoder_of_an_own_models_base_was_trained_on_is_no_unseen_market() -> None:
    from emp.engine.choose import load_model
    from emp.engine.own_model import Model

    def silent(x: Any, forecast: Any) -> None:
        pass

    own_span = ("GOOG", 10**18, 10**18 + 5)
    of_base = [one for one in seen_spans(load_model("linear").artifact.manifest, "GOOG") if one[0] == TRAINED]
    for told, own in (((), []), (own_span, [(TRAINED, *own_span[1:])])):
        manifest = Model(silent, base="linear", trained_on=told).load().artifact.manifest
        assert seen_spans(manifest, "GOOG") == [*own, *of_base]
        assert not seen_spans(manifest, "AAPL")
        assert saw_in_training(manifest) == trained_on(load_model("linear").artifact.manifest)
        assert trained_on(manifest) == {
            one[0] for one in (told,) if one
        }  # outcomes teach its heads as before
    untold = Model(silent, base="linear").load().artifact.manifest
    assert [name for name, _, _ in seen_spans(untold, "GOOG")] == [NOT_KNOWN]


def test_a_base_of_ones_own_says_what_its_depth_encoder_was_trained_on(tmp_path: Path) -> None:
    from emp.engine.choose import load_model
    from emp.engine.own_model import Model
    from emp.model.artifact import save

    def silent(x: Any, forecast: Any) -> None:
        pass

    for name, told in (("told", ()), ("untold", None)):
        base = Model(silent, base="linear", trained_on=told).load().artifact
        save(tmp_path / name, base.manifest, base.tensors)
    on_told, on_untold = (
        Model(silent, base=str(tmp_path / name), trained_on=()).load().artifact.manifest
        for name in ("told", "untold")
    )
    of_linear = load_model("linear").artifact.manifest
    assert saw_in_training(on_told) == trained_on(of_linear)
    assert seen_spans(on_told, "GOOG") == [one for one in seen_spans(of_linear, "GOOG") if one[0] == TRAINED]
    assert [name for name, _, _ in seen_spans(on_untold, "GOOG")] == [NOT_KNOWN]
