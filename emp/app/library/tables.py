"""What perception sees of a market, and where the mid went: as tables of one row a visible event.

Features use the past alone; labels are the future, and say when they became known.
"""

import math
from numbers import Real
from typing import Any

import numpy as np
import pyarrow as pa

from emp.app.library.arguments import speaks_of_arguments
from emp.app.library.market import MarketData, records_table, stamps
from emp.core.errors import UsageError
from emp.core.records import HORIZON_NAMES
from emp.engine.choose import load_model
from emp.engine.own_model import Features
from emp.perception.normalise import INPUT_NAMES
from emp.perception.targets import segments, targets, unit_ticks
from emp.train.data.own_table import own_columns
from emp.train.data.table import FeatureTable, extract_features

K_SIGMA = 0.5
"""The middle one of the roadmap's {0.3, 0.5, 0.7}."""


def _seen(market: MarketData, encoder: Any) -> FeatureTable:
    if not isinstance(market, MarketData):
        raise UsageError(f"a market is what emp.load or emp.simulate returns, not {type(market).__name__}")
    return extract_features(market.batches(), market.instrument, encoder)


def _with_own(table: pa.Table, market: MarketData, encoder: Any, own: Features | None) -> pa.Table:
    """The table with a column for each input of one's own."""
    if own is None:
        return table
    if not isinstance(own, Features):
        raise UsageError(f"features are an emp.Features with their names, not {own!r}")
    columns = own_columns(market.batches(), market.instrument, encoder, own)
    for name, column in zip(own.names, columns.T, strict=True):
        table = table.append_column(name, pa.array(np.ascontiguousarray(column)))
    return table


@speaks_of_arguments()
def features(market: MarketData, *, model: str | None = None, features: Features | None = None) -> pa.Table:
    """The MarketState after every visible event, beside the touch and sigma in ticks; by the kernel that trades.

    Args:
        model: a shipped model or the folder of one, for its depth encoder (`depth_feat`); else the one that serves.
        features: of one's own: their columns come last.

    Returns:
        a table of n rows: the columns of MARKET_STATE (`emp.core.records`), then bid, ask and sigma_ticks.
    """
    encoder = load_model(model).encoder
    seen = _seen(market, encoder)
    table = records_table(seen.states)
    for name in ("bid", "ask", "sigma_ticks"):
        table = table.append_column(name, pa.array(np.ascontiguousarray(seen.rows[name])))
    return _with_own(table, market, encoder, features)


@speaks_of_arguments()
def inputs(market: MarketData, *, model: str | None = None, features: Features | None = None) -> pa.Table:
    """What a model is shown at every visible event: `x`, to the bit, row for row with `labels`.

    Args:
        model: a shipped model or the folder of one, for its depth encoder; else the one that serves.
        features: of one's own, behind the built-in inputs.

    Returns:
        a table of n rows, float32: the columns of `emp.INPUT_NAMES`, then those of the features.
    """
    encoder = load_model(model).encoder
    seen = _seen(market, encoder)
    table = pa.table({name: np.ascontiguousarray(seen.x[:, k]) for k, name in enumerate(INPUT_NAMES)})
    return _with_own(table, market, encoder, features)


@speaks_of_arguments()
def labels(market: MarketData, *, k_sigma: float = K_SIGMA) -> pa.Table:
    """Where the mid went after every visible event, row for row with `features`.

    Returns:
        a table of n rows: ts and unit_ticks, and for each horizon of `emp.HORIZONS` `delta_hat_…` (the move of the mid
        in units of max(spread, k sigma)), `move_ticks_…`, and `known_…`, when it became known: who splits by time drops
        what is known later. Null where the stream broke before.
    """
    given: Any = k_sigma
    if not isinstance(given, Real) or not 0.0 <= float(given) < math.inf:
        raise UsageError(f"labels: k_sigma is a number from 0 on, not {k_sigma!r}")
    seen = _seen(market, load_model("linear").encoder)
    rows, states = seen.rows, seen.states
    unit = unit_ticks(states["spread_ticks"].astype(float), rows["sigma_ticks"], float(k_sigma))
    found = targets(rows["bid"] + rows["ask"], states["ts"], unit, segments(rows["since_reset"]))
    columns = {"ts": stamps(states["ts"]), "unit_ticks": pa.array(unit)}
    for h, name in enumerate(HORIZON_NAMES):
        delta, known = found.delta_hat[:, h], found.known_ns[:, h]
        absent = np.isnan(delta)
        columns[f"delta_hat_{name}"] = pa.array(delta, mask=absent)
        columns[f"move_ticks_{name}"] = pa.array(np.round(2 * delta * unit) / 2, mask=absent)
        columns[f"known_{name}"] = pa.array(known, mask=absent).cast(pa.timestamp("ns", "UTC"))
    return pa.table(columns)
