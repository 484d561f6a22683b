"""`emp plan train`: from recordings and flows to a planner in a folder."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from emp.app.planner.origins import FLOWS, Market, load_markets, recorded_origin, simulated_origin
from emp.engine.choose import load_model
from emp.plan.artifact import PlannerArtifact, save_planner
from emp.train.data.data import Progress
from emp.train.fit.rounds import Settings, Trained, train_rounds


def train_planner(
    model_name: str,
    series: Sequence[str] | None,
    flows: Sequence[str] | None,
    settings: Settings,
    out: Path,
    reading: Callable[[str], Progress],
    progress: Callable[[str, float], None],
) -> tuple[PlannerArtifact, Trained]:
    """Train a planner and write it.

    Args:
        model_name: of the artifact that forecasts: a folder or a shipped kind.
        series: as `emp train` takes them; None: those of `origins.RECORDED`.
        flows: `FLOW:INSTRUMENT`; None: those of `origins.FLOWS`; ["none"]: no simulated market.
        settings: of the training.
        out: the folder.
        reading: given a series' name, what is told of its bytes.
        progress: told what is done, and the share of all that is.
    """
    model = load_model(model_name)
    chosen = [] if flows is not None and list(flows) == ["none"] else list(flows or FLOWS)
    simulated = [simulated_origin(text, model) for text in chosen]  # a wrong name ends it before the reading
    markets = load_markets(series, model.artifact.manifest.k_sigma, reading)
    origins = [recorded_origin(one, model) for one in markets] + simulated
    provenance = {"series": [_told(one) for one in markets], "flows": chosen}
    trained = train_rounds(origins, model.artifact.hash, settings, provenance, progress)
    artifact = save_planner(out, trained.artifact.manifest, trained.artifact.tensors)
    return artifact, trained


def _told(market: Market) -> dict[str, Any]:
    """What is kept of a series: its files, and the span that was learned from."""
    begin, end = market.data.span("train")
    return {
        "series": market.data.series,
        "instrument": market.data.instrument.name,
        "files": list(market.data.files),
        "train_ns": [begin, end],
    }
