"""A model that looks at the future, or that does not serve what was trained and judged, does not pass: the command
finds it, signs it, and the gates are red.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import structlog
from typer.testing import CliRunner

from emp.app.cli import app
from emp.app.integrity import too_few
from emp.core.code_version import code_version
from emp.core.errors import DataError, GovernanceError, JournalError
from emp.core.records import DECISION, EVENT, HORIZONS, Array, empty_events
from emp.engine.load import LoadedModel
from emp.governance.evidence import Evidence
from emp.governance.gates import Gates, read_gates, rules
from emp.governance.judge import NO_EVIDENCE, Case, Verdict, judge_gate
from emp.governance.registry import Registry
from emp.model.artifact import Artifact
from emp.train.data.table import FeatureTable, extract_features
from emp.train.judge import masking, stretch
from tests.governance.conftest import LINEAR, REFERENCE, TRAINED, integrity
from tests.kit.datasets import GOOG, market, write_quotes
from tests.kit.events import random_events
from tests.kit.models import LOOSE, eager_model

MASKING, STEP, PATH = "future_masking_max", "step_parity_max", "path_parity_max"


def said(artifact: Artifact, name: str, *evidence: Evidence) -> Verdict:
    rule = next(one for one in rules(read_gates()) if one.name == name)
    named = {f"{k:064x}": one for k, one in enumerate(evidence)}
    return judge_gate(rule, Case(artifact.manifest, named, REFERENCE, code_version()), 0.95)


# --- what the gates read


@pytest.mark.parametrize("name", [MASKING, STEP, PATH])
def test_what_is_missing_stale_foreign_or_cut_fails(name: str, artifact: Artifact) -> None:
    good = integrity(artifact.hash)
    assert said(artifact, name, *good).verdict == "pass"
    assert said(artifact, name).why == NO_EVIDENCE
    for change, why in (
        ({"code": "0.0+old"}, "other code"),
        ({"model": "e" * 64}, "another model"),
        ({"kind": "evaluation"}, NO_EVIDENCE),
    ):
        changed = [msgspec.structs.replace(one, **change) for one in good]
        told = said(artifact, name, *changed)
        assert (told.verdict, why in told.why) == ("fail", True)
    cut = [msgspec.structs.replace(one, records=one.records[::-1]) for one in good]
    assert "were cut" in said(artifact, name, *cut).why


@pytest.mark.parametrize("name", [MASKING, STEP, PATH])
@pytest.mark.parametrize(
    ("change", "why"),
    [({"blocks": (0.0,) * 4}, "too few independent blocks: 4"), ({"n": 999}, "too few rows: 999")],
)
def test_what_is_too_small_fails(name: str, change: dict[str, Any], why: str, artifact: Artifact) -> None:
    assert why in said(artifact, name, *_again(integrity(artifact.hash), change)).why


def _again(made: list[Evidence], change: dict[str, Any]) -> list[Evidence]:
    """The same evidence, measured with other records."""
    from emp.governance.evidence import new_evidence

    return [
        new_evidence(
            one.kind,
            one.model,
            [msgspec.structs.replace(r, **change) for r in one.records],
            one.config,
            one.seed,
            one.data,
        )
        for one in made
    ]


@pytest.mark.parametrize("name", [MASKING, STEP, PATH])
def test_a_market_of_the_training_that_was_not_looked_at_fails(name: str, artifact: Artifact) -> None:
    from emp.governance.evidence import new_evidence

    made = [
        new_evidence(one.kind, one.model, [r for r in one.records if r.instrument == "GOOG"], {}, 0, one.data)
        for one in integrity(artifact.hash)
    ]
    assert said(artifact, name, *made).why == f"{NO_EVIDENCE} on EURUSD"


@pytest.mark.parametrize(
    ("name", "fault"), [(MASKING, {"changed": 1.0}), (STEP, {"step": 2e-4}), (PATH, {"path": 1.0})]
)
def test_one_block_over_the_limit_is_one_too_many(
    name: str, fault: dict[str, float], artifact: Artifact
) -> None:
    """The mean of eight blocks keeps the limit of step parity, and so does its bound."""
    told = said(artifact, name, *integrity(artifact.hash, **fault))
    assert (told.verdict, told.value) == ("fail", *fault.values())
    others = {MASKING, STEP, PATH} - {name}
    assert {said(artifact, one, *integrity(artifact.hash, **fault)).verdict for one in others} == {"pass"}


def test_a_machine_that_trades_signs_neither(registry: Registry, artifact: Artifact) -> None:
    for one in integrity(artifact.hash):
        with pytest.raises(GovernanceError, match="a box key may not sign"):
            registry.store.keys.seal_as("box", one.kind, one)


# --- the command, with what is planted


@pytest.fixture(scope="module")
def quotes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quotes") / "GOOG_quotes.csv"
    write_quotes(market(18_000, 3, 0.6), str(path))
    return path


Found = tuple[int, dict[str, Any], dict[str, str]]


def looked(quotes: Path, tmp_path: Path, gates: Gates) -> Found:
    """Exit code, what the command says, and the verdicts of the three gates under the shipped limits."""
    artifact = eager_model(tmp_path / "model").artifact
    home = tmp_path / "registry"
    call = ["evaluate", "--integrity", "--artifact", str(tmp_path / "model"), "--data", f"GOOG={quotes}"]
    done = CliRunner().invoke(app, [*call, "--evidence", str(home), "--json"])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.output
    told = json.loads(done.stdout.strip().splitlines()[-1])
    here = Registry(home, _Clock())
    assert set(told["evidence"]) == set(here.store.all())
    trained = msgspec.structs.replace(artifact.manifest, provenance={"series": [TRAINED]})
    judged = here.check(Artifact(trained, artifact.tensors), gates, LINEAR)
    return (
        done.exit_code,
        told,
        {one.name: one.verdict for one in judged.gates if one.name in (MASKING, STEP, PATH)},
    )


class _Clock:
    def now_ns(self) -> int:
        return 2**62  # after all evidence

    def monotonic_ns(self) -> int:
        return 1


def test_an_artifact_that_is_sound_passes(quotes: Path, tmp_path: Path, gates: Gates) -> None:
    before = structlog.get_config(), list(logging.getLogger().handlers)
    code, told, verdicts = looked(quotes, tmp_path, gates)
    row = told["table"][0]
    assert (code, told["passed"], set(verdicts.values())) == (0, True, {"pass"})
    assert (structlog.get_config(), logging.getLogger().handlers) == before, "the run has kept the logs"
    assert row["cuts"] == masking.CUTS
    assert row["rows"] > 10_000
    assert row["actions"] > 0, "nothing was decided: the test shows nothing"
    assert row["step_rows"] > 5_000
    assert row["path_rows"] > 1_000


def test_a_feature_that_peeks_one_event_ahead_turns_the_gate_red(
    quotes: Path, tmp_path: Path, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def peeking(batches: list[Array], *arguments: Any) -> FeatureTable:
        seen = extract_features(batches, *arguments)
        return seen._replace(x=np.concatenate([seen.x[1:], seen.x[-1:]]))

    monkeypatch.setattr(masking, "extract_features", peeking)
    code, told, verdicts = looked(quotes, tmp_path, gates)
    assert (code, verdicts) == (1, {MASKING: "fail", STEP: "pass", PATH: "pass"})
    assert told["table"][0]["changed"]["features"] > 0
    assert told["table"][0]["changed"]["forecasts"] > 0


def test_a_step_that_computes_something_else_turns_the_gate_red(
    quotes: Path, tmp_path: Path, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    from emp.engine import load

    packed = load.linear_params
    monkeypatch.setattr(load, "linear_params", lambda w, b, c: packed(w * np.float32(1.01), b, c))
    code, told, verdicts = looked(quotes, tmp_path, gates)
    assert (code, verdicts) == (1, {MASKING: "pass", STEP: "fail", PATH: "pass"})
    assert told["table"][0]["step_difference"] > 1e-4


@pytest.mark.parametrize("fault", ["replay", "failure", "evaluation"])
def test_a_live_run_that_is_not_found_again_turns_the_gate_red(
    fault: str, quotes: Path, tmp_path: Path, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay warms up for longer, or fails behind its last row; evaluation judges forecasts that are none of those
    that served.
    """
    from emp.app.wiring import played, rerun

    if fault == "replay":
        limits = rerun.engine_limits
        longer = {"warmup_events": 4_000}
        monkeypatch.setattr(
            rerun, "engine_limits", lambda config: msgspec.structs.replace(limits(config), **longer)
        )
    elif fault == "failure":
        replayed = rerun.Rerun.rows

        def failing(self: rerun.Rerun, know: Any) -> Iterator[Array]:
            yield from replayed(self, know)
            raise JournalError("the run ends otherwise")

        monkeypatch.setattr(rerun.Rerun, "rows", failing)
    else:
        said_of = played.forecast_table

        def later(*arguments: Any) -> Array:
            return np.roll(said_of(*arguments), 1)

        monkeypatch.setattr(played, "forecast_table", later)
    code, told, verdicts = looked(quotes, tmp_path, gates)
    assert (code, verdicts) == (1, {MASKING: "pass", STEP: "pass", PATH: "fail"})
    differing = told["table"][0]["path_differing"]
    assert differing == 1 if fault == "failure" else differing > 100


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """A recording that can be split, but of whose test part little can be looked at."""
    path = tmp_path / "GOOG_few.csv"
    write_quotes(market(60, 3, 0.6), str(path))
    return path


def test_what_compared_too_little_does_not_pass(few: Path, tmp_path: Path, gates: Gates) -> None:
    code, told, verdicts = looked(few, tmp_path, gates)
    row = told["table"][0]
    assert (code, told["passed"], set(verdicts.values())) == (1, False, {"fail"})
    assert row["too_few"] == ["rows", "step_rows", "path_rows"]
    assert not any(row["changed"].values())


@pytest.mark.parametrize("short", ["cuts", "rows", "step_rows", "path_rows"])
def test_each_count_must_be_large_enough(short: str) -> None:
    enough = {"cuts": 5, "rows": 10_000, "step_rows": 5_000, "path_rows": 1_000}
    assert too_few(enough) == []
    assert too_few({**enough, short: enough[short] - 1}) == [short]


def test_a_test_part_without_a_believable_book_is_refused_in_one_line(
    few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unseen = empty_events(20)
    unseen["ts"] = unseen["ts_recv"] = 1_340_285_400_000_000_000 + np.arange(20)
    unseen["seq"] = np.arange(1, 21)
    monkeypatch.setattr(stretch, "read_stretch", lambda *_: unseen)
    eager_model(tmp_path / "model")
    call = ["evaluate", "--integrity", "--artifact", str(tmp_path / "model"), "--data", f"GOOG={few}"]
    done = CliRunner().invoke(app, call)
    assert isinstance(done.exception, DataError), done.output
    assert str(done.exception) == "GOOG_few: no believable book among the first 20 events of the test part"


# --- what masking compares


def peeks(part: str) -> masking.Looking:
    """A look in which one part of what is seen depends on the event that follows."""

    def looking(model: LoadedModel, *arguments: Any) -> masking.Look:
        found = masking.look(model, *arguments)
        if part == "decisions":
            ahead = found.decisions.copy()
            ahead["inventory"] += np.r_[ahead["bid"][1:], 0]
            return found._replace(decisions=ahead)
        if part == "labels":
            return found._replace(known=np.maximum(found.known - 3, 0))  # called known too early
        columns = found.columns[part]
        ahead = {name: np.concatenate([one[1:], one[-1:]]) for name, one in columns.items()}
        return found._replace(columns={**found.columns, part: ahead})

    return looking


@pytest.mark.parametrize("part", masking.PARTS)
def test_whatever_part_peeks_is_found_and_no_other(part: str, tmp_path: Path) -> None:
    model, events = eager_model(tmp_path / "model"), random_events(1_500, 4)
    assert not any(masking.total(masking.masked(model, GOOG, events, LOOSE, 0)).values())
    found = masking.total(masking.masked(model, GOOG, events, LOOSE, 0, peeks(part)))
    assert {name for name, n in found.items() if n} == {part}


NOISED = sorted({*(EVENT.names or ())} - {"seq", "instrument"})
"""All fields but those that say whose event it is, and in which place."""


def test_every_field_of_an_event_behind_a_cut_is_noise() -> None:
    events = random_events(1_200, 2, trades=1.0)
    noised = masking.noise_after(events, 600, np.random.default_rng(0))
    for name in NOISED:
        true, drawn = (one[name][600:].reshape(600, -1) for one in (events, noised))
        assert (true != drawn).any(axis=1).mean() > 0.5, name


@pytest.mark.parametrize("name", NOISED)
def test_a_feature_that_peeks_at_any_field_of_the_next_event_is_found(name: str, tmp_path: Path) -> None:
    def looking(model: LoadedModel, instrument: Any, events: Array, limits: Any) -> masking.Look:
        seen = extract_features([events], instrument, model.encoder)
        at = np.searchsorted(events["seq"], seen.states["seq"])
        ahead = events[name][np.minimum(at + 1, len(events) - 1)]
        never = np.full((len(at), HORIZONS), len(at))
        return masking.Look({"features": {name: ahead}}, never, np.zeros(0, DECISION))

    model, events = eager_model(tmp_path / "model"), random_events(1_500, 4, trades=1.0)
    found = masking.masked(model, GOOG, events, LOOSE, 0, looking)
    assert masking.total(found)["features"] > 0


def test_cuts_lie_where_time_goes_on_and_noise_begins_behind_them() -> None:
    events = random_events(1_200, 2)
    events["ts"][600:700] = events["ts"][600]
    rng = np.random.default_rng(0)
    for cut in masking.places(events, rng):
        assert events["ts"][cut] > events["ts"][cut - 1]
        noised = masking.noise_after(events, cut, rng)
        assert noised[:cut].tobytes() == events[:cut].tobytes()
        assert (noised["ts"][cut:] > events["ts"][cut - 1]).all()
        assert (noised["bid_px"][cut:] != events["bid_px"][cut:]).any(axis=1).all()
