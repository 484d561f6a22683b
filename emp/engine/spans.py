"""Which part of a market's time a model was trained on, calibrated on, or never saw: results there mean other things.

What a model earns on events that it was trained on says nothing of what it will earn. The spans are those of its
manifest, by instrument and time: another vendor's recording of the same hours is the same market.
"""

from collections.abc import Iterable
from typing import Any

from emp.model.artifact import Manifest, seen_series, tells_training

TRAINED, CALIBRATED, UNSEEN = "trained", "calibrated", "unseen"
NOT_KNOWN = "not known"
"""Of a model of the user's own that does not say what it was trained on: all of a market may have been."""

FOREVER_NS = 2**63 - 1

Span = tuple[str, int, int]
"""What a model did there, from (inclusive) and to (exclusive), ns UTC."""


def seen_spans(manifest: Manifest, instrument: str) -> list[Span]:
    """Spans of an instrument that went into a model or its depth encoder, or may have; where two overlap, `span_at`
    takes training before calibration.
    """
    if not tells_training(manifest):
        return [(NOT_KNOWN, -FOREVER_NS, FOREVER_NS)]
    series = [one for one in seen_series(manifest) if one.get("instrument") == instrument]
    return [
        (name, int(one[key][0]), int(one[key][1]))
        for name, key in ((TRAINED, "train_ns"), (CALIBRATED, "calibrate_ns"))
        for one in series
        if one.get(key)
    ]


def span_at(spans: Iterable[Span], ts_ns: int) -> tuple[str, int]:
    """What the model did at a time, and the next time at which that may change."""
    now, until = UNSEEN, FOREVER_NS
    for name, begin, end in spans:
        if begin <= ts_ns < end and now == UNSEEN:
            now = name
        until = min([until, *(edge for edge in (begin, end) if edge > ts_ns)])
    return now, until


def new_sums() -> dict[str, dict[str, Any]]:
    """Nothing so far, in any of three: sums, and the stretches [first, last] of event times in ns."""
    return {name: new_sum() for name in (TRAINED, CALIBRATED, UNSEEN)}


def new_sum() -> dict[str, Any]:
    """Nothing so far of one span."""
    return {"events": 0, "pnl_ticks": 0.0, "fills": 0, "stretches": []}


def add_stretch(sums: dict[str, dict[str, Any]], name: str, first_ns: int, last_ns: int) -> None:
    """Note that the next events were of a span: they go on with its last stretch where no other came between."""
    own = sums.setdefault(name, new_sum())["stretches"]
    newest = max((one["stretches"][-1][1] for one in sums.values() if one["stretches"]), default=None)
    if own and own[-1][1] == newest:
        own[-1][1] = last_ns
    else:
        own.append([first_ns, last_ns])
