"""Evidence that a model looks at no future, and that what serves is what was trained and judged."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.governance.evidence import Data, Evidence, Record, new_evidence
from emp.train.data.fingerprint import rows_sha256
from emp.train.data.table import FeatureTable
from emp.train.judge.masking import Masked, total

PIECES = 8
"""Parts of a run's rows, each a block."""


class Held(NamedTuple):
    """What one stretch of a recording was held against."""

    data: Data
    masked: Sequence[Masked]
    step: Sequence[float]  # largest difference in each piece of the rows
    step_rows: int
    differing: Sequence[bool]  # by row of a live run


def data_of_stretch(series: str, instrument: Instrument, seen: FeatureTable) -> Data:
    """A stretch by the content of its rows."""
    ts = seen.states["ts"]
    return Data(
        series=series,
        instrument=instrument.name,
        asset_class=instrument.asset_class.name.lower(),
        rows=len(ts),
        rows_sha256=rows_sha256(ts, seen.rows["bid"], seen.rows["ask"]),
        span=(int(ts.min()), int(ts.max()) + 1),
    )


def of_masking(model: str, held: Sequence[Held], seed: int) -> Evidence:
    """Evidence of future masking: a block is a cut, and holds how many values changed that were known before it."""
    records = [
        _record(
            "future_changed", one.data, [sum(cut.changed.values()) for cut in one.masked], "cut", _rows(one)
        )
        for one in held
    ]
    config = {one.data.series: _told(one.masked) for one in held}
    return new_evidence("masking", model, records, {"cuts": config}, seed, [one.data for one in held])


def of_parity(model: str, held: Sequence[Held], seed: int) -> Evidence:
    """Evidence of parity: of the step with its definition, and of a live run with its replay and with evaluation."""
    records = []
    for one in held:
        pieces = [int(part.sum()) for part in np.array_split(np.array(one.differing, bool), PIECES)]
        records.append(_record("step_difference", one.data, one.step, "piece", one.step_rows))
        records.append(_record("path_differing", one.data, pieces, "piece", len(one.differing)))
    return new_evidence("parity", model, records, {}, seed, [one.data for one in held])


def _rows(one: Held) -> int:
    return sum(cut.rows for cut in one.masked)


def _told(cuts: Sequence[Masked]) -> dict[str, Any]:
    return {
        "events": [cut.event for cut in cuts],
        "ts": [cut.ts for cut in cuts],
        "rows": [cut.rows for cut in cuts],
        "actions": [cut.actions for cut in cuts],
        "changed": total(cuts),
    }


def _record(measure: str, data: Data, blocks: Array | Sequence[float], kind_of_block: str, n: int) -> Record:
    return Record(
        measure=measure,
        series=data.series,
        instrument=data.instrument,
        asset_class=data.asset_class,
        horizon="",
        blocks=tuple(float(x) for x in blocks),
        kind_of_block=kind_of_block,
        n=n,
    )
