"""What the worlds of a process have in common: a market of waves, and a model that knows them.

An engine that learns from its outcomes soon stops trading what it is wrong about, and an engine that does not trade
proves nothing. So the market swings, its sizes lean the way that it goes, and the model believes what they say; until a
plan turns the leaning round, and the model loses money until its limits stop it.
"""

from functools import cache

import numpy as np

from emp.core.codes import EventFlag
from emp.core.ids import generator
from emp.core.instrument import Instrument, find
from emp.core.records import EVENT, HORIZONS, Array
from emp.engine.load import LoadedModel
from emp.model.artifact import Artifact, Manifest, content_hash
from emp.model.calibration import pack_calibration
from emp.model.heads import MEANS_AT, OUTPUTS, QUANTILES_AT
from emp.model.linear import linear_params
from emp.perception.depth import ENCODER
from emp.perception.normalise import INPUT_NAMES, INPUTS
from emp.perception.schema import schema_hash

INSTRUMENTS = ("GOOG", "ES", "CL")
"""What may be traded, the first alone in most worlds: a tick is worth 0.01, 12.50 and 10 dollars."""

EVENTS = 6_000
"""Of the market that all worlds begin somewhere in."""

START_PX = 100_000
GAP_S = 0.2  # mean time between two rows
WAVE_S, WAVE_TICKS = 40.0, 80.0
LEVELS_SHOWN = 3


@cache
def traded(n: int) -> tuple[Instrument, ...]:
    """The instruments of a world with `n` of them."""
    return tuple(find(name, None) for name in INSTRUMENTS[:n])


@cache
def _waves() -> tuple[Array, Array]:
    """(EVENT rows [n], +1 or -1 [n]: which way the market goes)."""
    draw = generator(1, "chaos", "market")
    rows = np.zeros(EVENTS, EVENT)
    seconds = np.cumsum(draw.exponential(GAP_S, EVENTS) + 0.001)
    rows["ts"] = (seconds * 1e9).astype(np.int64)
    rows["flags"] = EventFlag.VISIBLE
    phase = seconds / WAVE_S % 1.0
    way = np.where(phase < 0.5, 1, -1)
    mid = START_PX + WAVE_TICKS * 2 * np.minimum(phase, 1 - phase) + draw.normal(0.0, 0.5, EVENTS)
    bid = np.round(mid).astype(np.int64)
    ask = bid + 1 + draw.integers(0, 2, EVENTS)
    rows["n_bid"] = rows["n_ask"] = LEVELS_SHOWN
    for level in range(LEVELS_SHOWN):
        rows["bid_px"][:, level], rows["ask_px"][:, level] = bid - level, ask + level
        for side in ("bid", "ask"):
            rows[f"{side}_sz"][:, level] = draw.integers(800, 1_200, EVENTS)
    trades = draw.random(EVENTS) < 0.3
    qty = draw.integers(1, 60, EVENTS)
    buys = draw.random(EVENTS) < 0.5
    rows["trade_qty"] = np.where(trades, np.where(buys, qty, -qty), 0)
    rows["trade_qty_last"] = np.where(trades, qty, 0)
    rows["trade_px"] = np.where(trades, np.where(buys, ask, bid), 0)
    rows["flags"] |= np.where(trades, int(EventFlag.TRADE), 0).astype(np.uint32)
    return rows, way


def market_rows(offset: int, wrong_from_s: float) -> Array:
    """EVENT rows [n] of the market from a row on; from `wrong_from_s` on the sizes lean the other way."""
    rows, way = _waves()
    rows, way = np.roll(rows, -offset), np.roll(way, -offset)
    gaps = np.maximum(np.diff(rows["ts"], prepend=rows["ts"][:1]), 0)
    rows["ts"] = np.cumsum(np.minimum(gaps, 2_000_000_000))
    lean = np.where(rows["ts"] < wrong_from_s * 1e9, way, -way)
    for side, sign in (("bid", 1), ("ask", -1)):
        rows[f"{side}_sz"] *= np.where(lean == sign, 4, 1)[:, None]
    return rows


@cache
def eager_model() -> LoadedModel:
    """A linear model that believes what the sizes at the touch say."""
    weight = np.zeros((1, INPUTS, OUTPUTS), np.float32)
    weight[0, INPUT_NAMES.index("qimbalance"), MEANS_AT:] = 3.0
    bias = np.zeros((1, OUTPUTS), np.float32)
    bias[0, QUANTILES_AT : QUANTILES_AT + 3 * HORIZONS] = np.tile([-0.4, 0.0, 0.4], HORIZONS)
    encoder = np.zeros(1, ENCODER)
    tensors: dict[str, Array] = {"weight": weight, "bias": bias}
    for name in ENCODER.names or ():
        tensors[f"encoder.{name}"] = np.ascontiguousarray(encoder[name][0])
    manifest = Manifest(
        kind="linear",
        schema=schema_hash(),
        domains=["any"],
        k_sigma=0.5,
        thresholds=[[0.0] * HORIZONS],
        warmup_events=4,
    )
    manifest.hash = content_hash(manifest, tensors)
    params = linear_params(weight, bias, pack_calibration({}, 1, "drill"))
    return LoadedModel(Artifact(manifest, tensors), params, encoder[0], 0)
