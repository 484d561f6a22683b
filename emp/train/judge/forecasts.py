"""What a model forecasts over a series, carried as the engine carries it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from emp.access.recordings import open_recording
from emp.core.errors import UsageError
from emp.core.instrument import Instrument
from emp.core.numba.jit import closure_hash, kernel
from emp.core.records import FORECAST, Array
from emp.engine.load import LoadedModel
from emp.model import port
from emp.model.artifact import learns_from_outcomes, trained_on
from emp.model.port import forecast
from emp.model.recalibrate import begin, new_recalibration, recalibrate
from emp.model.table import NO_NUMBER, STREAM, advance_or_reset
from emp.train.data.cached import cached, content_key
from emp.train.data.data import Dataset, domain_name
from emp.train.data.own_table import own_columns
from emp.train.data.table import FeatureTable
from emp.train.fit.restarts import STATE_TTL_NS


@kernel
def forecast_rows(
    params: Any,
    memory: Array,
    stream: Any,
    ttl_ns: int,
    domain: int,
    r: Any,
    ts: Array,
    x: Array,
    rows: Array,
    out: Array,
) -> None:
    """Carry a model over the rows of a series as the engine does: its state starts anew after every reset, where it has
    seen no believable book for longer than it lives, and after what is no number.

    Args:
        memory: float32[state_size], scratch.
        stream: STREAM record, of zeros.
        ttl_ns: how long a state lives.
        r: RECALIBRATION record.
        ts: int64[n], ns.
        x: float32[n, INPUTS].
        rows: ROW[n].
        out: FORECAST[n].
    """
    for i in range(x.shape[0]):
        row = rows[i]
        broken = row.since_reset == 1
        advance_or_reset(stream, memory, row.since_reset, ts[i], ttl_ns)
        forecast(params, memory, domain, x[i], out[i])
        if not recalibrate(r, ts[i], row.bid, row.ask, row.sigma_ticks, broken, out[i]):
            stream.events = NO_NUMBER


def head_of(model: LoadedModel, data: Dataset) -> int:
    """Index of the head that serves a series."""
    return serving_head(model, data.instrument)


def serving_head(model: LoadedModel, instrument: Instrument) -> int:
    """Index of the head that serves an instrument."""
    asset_class, venue = domain_name(instrument).split("/")
    return model.artifact.domain(asset_class, venue, instrument.name)


def seen_by(model: LoadedModel, data: Dataset) -> FeatureTable:
    """What a model is shown of a series: through its depth encoder, and with the inputs of its own.

    Raises:
        UsageError: it has inputs of its own, and the recording is not at hand; or they fail.
    """
    seen = data.encoded(model.encoder).seen
    features = getattr(model.owner, "features", None)
    if features is None:
        return seen
    if not data.paths:
        raise UsageError(f"{data.series}: inputs of one's own need the recording itself")
    batches = open_recording(list(data.paths), data.instrument).batches()
    own = own_columns(batches, data.instrument, model.encoder, features)
    return seen._replace(x=np.hstack([seen.x, own]))


def forecast_series(
    model: LoadedModel, data: Dataset, learns: bool = True, edges: Array | None = None
) -> Array:
    """Forecasts of every row of a series that was encoded with the model's depth encoder: FORECAST[n].

    Args:
        learns: whether outcomes correct the forecasts that follow, as they do where it serves.
        edges: float[HORIZONS], class thresholds of the outcomes; those of the head where None.
    """
    return forecast_table(model, data.instrument.name, head_of(model, data), data.seen, learns, edges)


def forecast_table(
    model: LoadedModel,
    instrument: str,
    head: int,
    seen: FeatureTable,
    learns: bool = True,
    edges: Array | None = None,
) -> Array:
    """The same of whatever perception saw of an instrument through the model's depth encoder, by one of its heads."""
    out = np.zeros(len(seen.rows), FORECAST)
    memory = np.zeros(model.state_size, np.float32)
    learned = new_recalibration()
    manifest, known = model.artifact.manifest, trained_on(model.artifact.manifest)
    begin(
        learned,
        np.array(manifest.thresholds[head] if edges is None else edges)[None],
        manifest.k_sigma,
        np.array([instrument in known]),
        learns and learns_from_outcomes(manifest),
    )
    x, rows, ts = (np.ascontiguousarray(one) for one in (seen.x, seen.rows, seen.states["ts"]))
    stream = np.zeros(1, STREAM)
    forecast_rows(model.params, memory, stream[0], STATE_TTL_NS, head, learned[0], ts, x, rows, out)
    if model.owner is not None:
        model.owner.check()
    return out


def forecast_test(model: LoadedModel, data: Dataset, learns: bool = True) -> Array:
    """Forecasts of the rows of the test part: FORECAST[m]. Those of a model with a state, which take long, are kept.

    Args:
        learns: as for `forecast_series`.
    """
    test = data.part("test")
    seen = replace(data, seen=seen_by(model, data))

    def make() -> dict[str, Array]:
        out = forecast_series(model, seen, learns)[test]
        return {name: out[name] for name in FORECAST.names or ()}

    if model.state_size == 0 or model.owner is not None:  # what a function reads its hash may not know
        said = make()
    else:
        source = closure_hash(Path(__file__).resolve()), closure_hash(Path(port.__file__).resolve())
        name, rows = data.instrument.name, np.ascontiguousarray(seen.seen.rows)
        key = content_key(
            model.artifact.hash,
            source,
            learns,
            name,
            head_of(model, data),
            test,
            np.ascontiguousarray(seen.ts),
            rows,
            seen.x,
        )
        said = cached("forecasts", key, make)
    found = np.zeros(len(test), FORECAST)
    for name, values in said.items():
        found[name] = values
    return found
