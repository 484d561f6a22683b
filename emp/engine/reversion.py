"""Put the dumb mean-reversion trader (`emp.model.reversion`) where a model stands."""

from collections.abc import Sequence

import numpy as np

from emp.core.instrument import Instrument
from emp.core.records import HORIZONS
from emp.engine.engine import Engine
from emp.engine.load import LoadedModel
from emp.model.artifact import Artifact, Manifest, content_hash
from emp.model.reversion import ReversionParams
from emp.perception.depth import ENCODER
from emp.perception.schema import schema_hash
from emp.perception.state import new_perception

NAME = "mean_reversion"


def reversion_model(instruments: Sequence[Instrument], k_sigma: float, warmup_events: int) -> LoadedModel:
    """The trader as a model of some instruments; `bind_perception` joins it to the engine it runs in."""
    manifest = Manifest(
        kind="linear",
        schema=schema_hash(),
        domains=[f"{i.asset_class.name.lower()}/{i.venue.name.lower()}/{i.name}" for i in instruments],
        k_sigma=k_sigma,
        thresholds=[[0.0] * HORIZONS for _ in instruments],
        warmup_events=warmup_events,
        config={"trader": NAME},
    )
    manifest.hash = content_hash(manifest, {})
    params = ReversionParams(new_perception(len(instruments)), k_sigma)
    return LoadedModel(Artifact(manifest, {}), params, np.zeros(1, ENCODER)[0], 0)


def bind_perception(engine: Engine) -> None:
    """Let the trader see through the eyes of the engine it runs in."""
    params = engine.model.params
    if isinstance(params, ReversionParams):
        engine.attach_params(params._replace(perception=engine.desk.perception))
