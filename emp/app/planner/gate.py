"""`emp plan gate`: whether what a planner imagines comes, on the test part of each series; evidence of it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.app.planner.origins import JUDGED, Market, load_markets
from emp.core.errors import UsageError
from emp.core.records import Array
from emp.engine.choose import load_model
from emp.engine.load import LoadedModel
from emp.governance.evaluated import of_comparison
from emp.governance.evidence import Store
from emp.model.artifact import seen_series
from emp.plan.artifact import PlannerArtifact, load_planner, write_manifest
from emp.train.data.choices import Choices, follow_up, join
from emp.train.data.data import Dataset, Progress
from emp.train.data.exploring import Manner, explore_recording
from emp.train.judge.blocks import LEAST_BLOCKS, BlockMeasure, blocks_of
from emp.train.judge.imagined import Judged, judge_series, verdict

EXPLORE = 0.3
"""Share of the choices on the held-out part that are drawn: a planner that only waits tells nothing."""

FIRST_SEED = 900_000
"""Of the passes: none that a training uses."""


class Gated(NamedTuple):
    """What the gate found."""

    planner: str
    model: str
    judged: list[Judged]
    verdict: str
    why: list[str]


def gate(
    folder: Path,
    model_name: str,
    series: Sequence[str] | None,
    passes: int,
    part: str,
    seed: int,
    evidence: Path | None,
    reading: Callable[[str], Progress],
    progress: Callable[[str, float], None],
) -> Gated:
    """Judge a planner, write the verdict beside it, and evidence where a registry is named.

    Args:
        folder: of the planner.
        model_name: of the artifact that forecasts; the one that the planner was trained on.
        series, reading, progress: as `train_planner` takes them.
        passes: over each series.
        part: test, or calibrate to look at before the test part is.
        seed: of what is drawn and of the bootstrap.
        evidence: a registry's folder.

    Raises:
        UsageError: the planner was trained on the forecasts of another model, or on what it is to be judged on.
    """
    artifact, model = load_planner(folder), load_model(model_name)
    if artifact.manifest.model != model.artifact.hash:
        raise UsageError(
            f"{folder}: was trained on the forecasts of {artifact.manifest.model[:12]}, not of"
            f" {model.artifact.hash[:12]}: name that model with --model"
        )
    markets = load_markets(series, model.artifact.manifest.k_sigma, reading, JUDGED)
    for one in markets:
        _refuse_trained(artifact, model, one.data, part)
    judged = []
    for n, market in enumerate(markets):
        progress(market.series.name, n / len(markets))
        judged.append(_judge(market, artifact, model, passes, part, seed))
    found, why = verdict(judged)
    done = Gated(artifact.hash, model.artifact.hash, judged, found, why)
    if part == "test":
        write_manifest(folder, msgspec.structs.replace(artifact.manifest, gate=kept(done)))
        if evidence is not None:
            _write_evidence(evidence, done, markets, artifact, seed)
    return done


def _refuse_trained(artifact: PlannerArtifact, model: LoadedModel, data: Dataset, part: str) -> None:
    """A held-out part must be after everything that planner, model or its depth encoder learned of the same files, and
    of that time of the same instrument in whatever files.
    """
    begin, end = data.span("test" if part == "test" else "calibrate")
    mine = {f["sha256"] for f in data.files}
    for who, told in (
        ("planner", artifact.manifest.provenance.get("series", [])),
        ("model", seen_series(model.artifact.manifest)),
    ):
        for one in told:
            same = mine & {f["sha256"] for f in one.get("files", [])}
            first, last = one["train_ns"]
            then = one.get("instrument") == data.instrument.name and first < end
            if (same or then) and last > begin:
                raise UsageError(f"{data.series}: the {who} was trained on some of its {part} part")


def held_out(
    market: Market, artifact: PlannerArtifact, model: LoadedModel, passes: int, part: str
) -> Choices:
    """Choices in a part of a series, by the planner but for a share that is drawn."""
    begin, end = market.data.span("test" if part == "test" else "calibrate")
    manner = Manner(artifact.manifest.step, EXPLORE, artifact, artifact.manifest.depth)
    found = []
    for k in range(passes):
        points = explore_recording(market.recorded, model, manner, FIRST_SEED + k)
        found.append(follow_up(points[(points["ts"] >= begin) & (points["ts"] < end)]))
    return join(found)


def _judge(
    market: Market, artifact: PlannerArtifact, model: LoadedModel, passes: int, part: str, seed: int
) -> Judged:
    choices = held_out(market, artifact, model, passes, part)
    return judge_series(
        market.series.name,
        artifact,
        choices,
        block_of(market.data, choices.points["ts"]),
        artifact.manifest.depth,
        seed,
    )


def block_of(data: Dataset, ts: Array) -> Array:
    """Number of the block of time that each instant lies in."""
    at = np.searchsorted(data.ts, ts, side="right") - 1
    return np.asarray(blocks_of(data).number[np.maximum(at, 0)])


def kept(done: Gated) -> dict[str, Any]:
    """What the planner's manifest says of its gate."""
    return {
        "verdict": done.verdict,
        "why": done.why,
        "series": {
            one.series: None if one.gate is None else {"corr": one.gate.less_cost, "ci": one.gate.ci}
            for one in done.judged
        },
    }


def _write_evidence(
    registry: Path, done: Gated, markets: Sequence[Market], artifact: PlannerArtifact, seed: int
) -> None:
    """The pseudo-values of each series, for `planner_edge_realization_corr_min`."""
    measured = []
    for market, one in zip(markets, done.judged, strict=True):
        if len(one.blocks) >= LEAST_BLOCKS:
            kind = blocks_of(market.data).kind
            measured.append((market.data, kind, [BlockMeasure("planner_corr", "", one.blocks, one.n)]))
    config = {"planner": done.planner, "step": artifact.manifest.step, "depth": artifact.manifest.depth}
    Store(registry).add(of_comparison(done.model, "", measured, config, seed))
