"""A registry of small artifacts, and evidence that meets every gate that can be met."""

import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.core.code_version import code_version
from emp.core.records import HORIZON_NAMES
from emp.engine.watched_days import DAY_NS
from emp.governance.collect import of_league
from emp.governance.evidence import Data, Evidence, Record, new_evidence
from emp.governance.foreign import CATALOGUE_SHA256
from emp.governance.gates import Gates, read_gates
from emp.governance.paper import Asked
from emp.governance.paper_source import Source
from emp.governance.registry import Registry
from emp.governance.runs import of_end, of_start
from emp.model.artifact import Artifact, Manifest, save
from emp.perception.schema import schema_hash

REFERENCE = "f" * 64
TRAINED = {
    "series": "goog",
    "instrument": "GOOG",
    "asset_class": "equity",
    "files": [],
    "train_ns": [0, 100],
    "calibrate_ns": [100, 200],
    "rows_sha256": "1" * 64,
}
EURUSD = {
    **TRAINED,
    "series": "eurusd",
    "instrument": "EURUSD",
    "asset_class": "fx_spot",
    "rows_sha256": "2" * 64,
}
LINEAR = Manifest(
    kind="linear",
    schema="",
    domains=[],
    k_sigma=0.5,
    thresholds=[],
    warmup_events=1,
    provenance={"series": [TRAINED, EURUSD]},
    hash=REFERENCE,
)
"""The reference: a linear model that was trained on the same rows."""

GOOD = {
    "f1_gain_pct": 6.0,
    "ece": 0.02,
    "brier": 0.15,
    "alpha_after_fees_bps": 1.5,
    "session_range_pct": 10.0,
    "turnover_difference_pct": 0.0,
    "planner_corr": 0.4,
    "gain_bps_lots": 2.0,
    "value_missed_bps": 0.0,
}


WHOLE = {"turnover_difference_pct", "planner_corr", "value_missed_bps"}
"""What is measured of a whole series, not by horizon."""


class Ticking:
    """A clock that advances by one at every look."""

    def __init__(self) -> None:
        self.ns = 1_000

    def now_ns(self) -> int:
        self.ns += 1
        return self.ns

    def monotonic_ns(self) -> int:
        return self.now_ns()


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path, 0)


def make_artifact(folder: Path, seed: int) -> Artifact:
    manifest = Manifest(
        kind="linear",
        schema=schema_hash(),
        domains=["shared"],
        k_sigma=0.5,
        thresholds=[[0.1] * len(HORIZON_NAMES)],
        warmup_events=1,
        provenance={"seed": seed, "series": [TRAINED, EURUSD]},
    )
    return save(folder / f"artifact-{seed}", manifest, {"weight": np.full(3, seed, np.float32)})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry", Ticking())


@pytest.fixture
def gates() -> Gates:
    return read_gates()


@cache
def champions() -> tuple[str, ...]:
    """Whom a model that is all green has beaten: the reference, and every small artifact that tests promote."""
    with tempfile.TemporaryDirectory() as folder:
        return (REFERENCE, *(make_artifact(Path(folder), seed).hash for seed in range(3)))


def blocks(value: float, n: int = 8) -> tuple[float, ...]:
    return tuple(value + 0.01 * (k - (n - 1) / 2) for k in range(n))


def records(value_of: Callable[[str], float] = lambda name: GOOD[name]) -> list[Record]:
    return [
        Record(
            name,
            one["series"],
            one["instrument"],
            one["asset_class"],
            horizon,
            blocks(value_of(name), 16 if name == "gain_bps_lots" else 8),
            "day",
            99,
        )
        for one in (TRAINED, EURUSD)
        for name in GOOD
        for horizon in ([""] if name in WHOLE else HORIZON_NAMES)
    ]


def evaluation(model: str, made: list[Record] | None = None, seed: int = 0) -> Evidence:
    data = [Data("goog", "GOOG", "equity", 99, "a" * 64, (200, 300))]
    made = records() if made is None else made
    data += [Data("eurusd", "EURUSD", "fx_spot", 99, "b" * 64, (200, 300))]
    return new_evidence("evaluation", model, made, {}, seed, data, REFERENCE)


def outside(model: str, value: float = 2.0, groups: int = 6, instruments: str = "ABCDEF") -> Evidence:
    """Skill on instruments that the model was not trained on, a block for each group."""
    made = [
        Record("skill_outside_training_pct", "", "", "", horizon, blocks(value, groups), "group", 999)
        for horizon in HORIZON_NAMES
    ]
    data = [Data(name, name, "equity", 99, name * 64, (200, 300)) for name in instruments]
    config = {"leave_out": "artifact", "catalogue_sha256": CATALOGUE_SHA256, "chosen": [], "skipped": []}
    return new_evidence("evaluation", model, made, {**config, "passed_over": []}, 0, data, REFERENCE)


def integrity(model: str, changed: float = 0.0, step: float = 1e-6, path: float = 0.0) -> list[Evidence]:
    """Future masking and parity: nothing changed, nothing differs, but for what is named, in one block of each."""
    data = evaluation(model).data

    def made(measure: str, worst: float, others: float = 0.0) -> list[Record]:
        values, kind = (worst, *(others,) * 7), "cut" if measure == "future_changed" else "piece"
        return [
            Record(measure, d.series, d.instrument, d.asset_class, "", values, kind, 20_000) for d in data
        ]

    parity = [*made("step_difference", step), *made("path_differing", path)]
    return [
        new_evidence("masking", model, made("future_changed", changed), {}, 0, data),
        new_evidence("parity", model, parity, {}, 0, data),
    ]


def contest(
    model: str, evidence: float = 1e4, run: str = "RUN1", champion: str = REFERENCE, contests: int = 1
) -> Evidence:
    """A contest on live events that the model has had as a challenger, the last of so many of the run."""
    made = [plain("evidence", evidence, 1)]
    config = {"run": run, "protocol": "fix", "day": 1, "contests": contests}
    return new_evidence("contest", model, made, config, reference=champion)


def league(model: str, delta: float = -1.0, seeds: int = 8, reference: str = REFERENCE) -> Evidence:
    """How much easier a model's rule is to exploit than the reference's, in two markets."""
    deltas = {"large-tick": blocks(-1.0, seeds), "small-tick": blocks(delta, seeds)}
    return of_league(model, reference, deltas)


def plain(measure: str, value: float, n: int = 8, instrument: str = "", asset_class: str = "") -> Record:
    kind = "day" if measure == "psi" else "run"
    return Record(measure, "", instrument, asset_class, "", (value,) * n, kind, n)


def all_green(model: str) -> list[Evidence]:
    latency = [plain(f"{part}_p99_ms", 0.1) for part in ("adapter", "model", "total")]
    psi = [
        plain("psi", 0.1, instrument=o["instrument"], asset_class=o["asset_class"]) for o in (TRAINED, EURUSD)
    ]
    others = [r for r in records(lambda name: 0.01) if r.measure == "gain_bps_lots"]
    return [
        evaluation(model),
        evaluation(REFERENCE, others),
        new_evidence("latency", model, latency, {}),
        new_evidence("drift", model, psi, {}),
        new_evidence("chaos", "", [plain("violations", 0.0, 100)], {}),
        league(model),
        outside(model),
        *integrity(model),
        *(contest(model, run=f"RUN{k}", champion=one) for k, one in enumerate(champions()) if one != model),
    ]


def green_registry(registry: Registry, artifact: Artifact) -> Registry:
    registry.register(artifact)
    for one in all_green(artifact.hash):
        registry.store.add(one)
    return registry


def paper(
    model: str, day: int, *alarms: str, instrument: str = "GOOG", value: float = 10.0, **figures: float
) -> Evidence:
    """A day on paper: green, but for alarms and for figures of measures that are named."""

    def record(measure: str, x: float, horizon: str = "", of: str = instrument) -> Record:
        x = figures.get(measure, x)
        return Record(measure, of, of, "equity" if of else "", horizon, (x,), "day", 999)

    made = [record(f"{part}_p99_ms", 0.1, of="") for part in ("adapter", "model", "total")]
    made += [record("looks", 100.0), record("hours", 7.0), record("value_over_dumb_ticks", value)]
    made += [record(name, 0.05, horizon) for name in ("ece", "brier") for horizon in HORIZON_NAMES]
    config = {
        "run": f"RUN{day}",
        "protocol": "fix",
        "day": day,
        "alarms": list(alarms),
        "unsigned": [],
        "untimed": [],
    }
    return new_evidence("paper", model, made, config)


def run_of(one: Evidence) -> list[Evidence]:
    """A day on paper with what makes it count: that its run began that day, and is told to its end."""
    day = int(one.config["day"])
    source = Source(str(one.config["run"]), str(one.config["protocol"]), one.code)
    instruments = sorted({r.instrument for r in one.records if r.instrument})
    begun = of_start(one.model, source, instruments, day * DAY_NS)
    return [begun, one, of_end(one.model, source, [day])]


def runs(model: str, *days: int, **figures: Any) -> list[Evidence]:
    """Runs of a day each, on record from beginning to end."""
    return [made for day in days for made in run_of(paper(model, day, **figures))]


def ask(model: str, today: int) -> Asked:
    """What `refuse_live` asks of a model on GOOG behind FIX."""
    return Asked(model, code_version(), "fix", ("GOOG",), today)
