"""What a model forecasts over a series, carried as the engine carries it."""

from pathlib import Path
from typing import Any

import numpy as np

from emp.core.numba.jit import closure_hash, kernel
from emp.core.records import FORECAST, Array
from emp.engine.load import LoadedModel
from emp.model import port
from emp.model.port import forecast
from emp.train.data.cached import cached, content_key
from emp.train.data.data import Dataset


@kernel
def forecast_rows(params: Any, memory: Array, domain: int, x: Array, since_reset: Array, out: Array) -> None:
    """Carry a model over the rows of a series as the engine does: its state starts anew after every reset.

    Args:
        memory: float32[state_size], scratch.
        x: float32[n, INPUTS].
        since_reset: int64[n].
        out: FORECAST[n].
    """
    for i in range(x.shape[0]):
        if since_reset[i] == 1:
            memory[:] = 0.0
        forecast(params, memory, domain, x[i], out[i])


def head_of(model: LoadedModel, data: Dataset) -> int:
    """Index of the head that serves a series."""
    asset_class, venue = data.domain.split("/")
    return model.artifact.domain(asset_class, venue, data.instrument.name)


def forecast_series(model: LoadedModel, data: Dataset) -> Array:
    """Forecasts of every row of a series that was encoded with the model's depth encoder: FORECAST[n]."""
    out = np.zeros(len(data.ts), FORECAST)
    domain = head_of(model, data)
    memory = np.zeros(model.state_size, np.float32)
    since_reset = np.ascontiguousarray(data.seen.rows["since_reset"])
    forecast_rows(model.params, memory, domain, np.ascontiguousarray(data.x), since_reset, out)
    return out


def forecast_test(model: LoadedModel, data: Dataset) -> Array:
    """Forecasts of the rows of the test part: FORECAST[m]. Those of a model with a state, which take long, are kept."""
    test = data.part("test")
    seen = data.encoded(model.encoder)

    def make() -> dict[str, Array]:
        out = forecast_series(model, seen)[test]
        return {name: out[name] for name in FORECAST.names or ()}

    if model.state_size == 0:
        said = make()
    else:
        source = closure_hash(Path(port.__file__).resolve())
        since_reset = np.ascontiguousarray(seen.seen.rows["since_reset"])
        key = content_key(model.artifact.hash, source, head_of(model, data), test, since_reset, seen.x)
        said = cached("forecasts", key, make)
    found = np.zeros(len(test), FORECAST)
    for name, values in said.items():
        found[name] = values
    return found
