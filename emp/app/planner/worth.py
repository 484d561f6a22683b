"""`emp plan worth`: what a planner is worth beside the rule alone, in simulated markets and on recordings."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from emp.app.planner.origins import FLOWS, flow_of, load_markets
from emp.app.wiring.assembly import engine_limits
from emp.core.errors import UsageError
from emp.engine.choose import load_model
from emp.plan.artifact import load_planner
from emp.sim.measure.planner_worth import Worth, compare, in_recording, in_sessions
from emp.train.data.data import Progress
from emp.train.judge.blocks import blocks_of

FIRST_SEED = 500_000
"""Of the sessions: none that a training uses."""


def worth(
    folder: Path,
    model_name: str,
    series: Sequence[str] | None,
    flows: Sequence[str] | None,
    depths: Sequence[int],
    sessions: int,
    events: int,
    seed: int,
    reading: Callable[[str], Progress],
    progress: Callable[[str, float], None],
) -> list[Worth]:
    """Trade with and without a planner.

    Args:
        folder: of the planner.
        model_name: of the artifact that forecasts.
        series: as `emp train` takes them; None: those of `origins.RECORDED`; ["none"]: no recording.
        flows: `FLOW:INSTRUMENT`; None: those of `origins.FLOWS`; ["none"]: no simulated market.
        depths: of the search.
        sessions, events, seed: of the simulated markets.
        reading, progress: told of what is done.

    Raises:
        UsageError: the planner was trained on the forecasts of another model.
    """
    artifact, model, limits = load_planner(folder), load_model(model_name), engine_limits()
    if artifact.manifest.model != model.artifact.hash:
        raise UsageError(f"{folder}: was trained on the forecasts of {artifact.manifest.model[:12]}: --model")
    chosen = [] if flows is not None and list(flows) == ["none"] else list(flows or FLOWS)
    named = [flow_of(text) for text in chosen]
    nothing = series is not None and list(series) == ["none"]
    markets = [] if nothing else load_markets(series, model.artifact.manifest.k_sigma, reading)
    found: list[Worth] = []
    for name, params, instrument in named:
        arms = [
            in_sessions(
                params,
                instrument,
                model,
                limits,
                artifact,
                depth,
                sessions=sessions,
                events=events,
                seed=FIRST_SEED + seed,
                progress=partial(_tell, progress, f"flow {name}, depth {depth}"),
            )
            for depth in (0, *depths)
        ]
        found += compare(f"flow {name}", arms[0], arms[1:], "session")
    for market in markets:
        progress(market.series.name, 0.0)
        arms = [in_recording(market.recorded, market.data, model, limits, artifact, d) for d in (0, *depths)]
        found += compare(market.series.name, arms[0], arms[1:], blocks_of(market.data).kind)
    return found


def _tell(progress: Callable[[str, float], None], what: str, share: float) -> None:
    progress(what, share)
