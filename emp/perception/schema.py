"""The input schema: what a model's weights mean. A model trained on another schema is refused."""

import hashlib
import json

from emp.core.records import DEPTH_FEATURES, HORIZON_NAMES, LEVELS
from emp.perception import state
from emp.perception.depth import CHANNELS, POOLS, TAPS
from emp.perception.normalise import CLIP, INPUT_NAMES

REVISION = 3
"""Raised by hand when the meaning of an input changes without its name or any constant changing."""


def schema_hash() -> str:
    """Hash of the names, order and defining constants of everything in the model's input vector."""
    parts = {
        "revision": REVISION,
        "inputs": INPUT_NAMES,
        "horizons": HORIZON_NAMES,
        "levels": LEVELS,
        "depth": (DEPTH_FEATURES, CHANNELS, POOLS, TAPS, state.CELLS),
        "spans": (state.SHORT_SPAN, state.FLOW_SPAN, state.TREND_SPAN, state.SCALE_SPAN, state.NORM_SPAN),
        "long_gap_ns": state.LONG_GAP_NS,
        "clip": CLIP,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
