"""The trials that a model's gains are held against: every model that was ever judged on the same rows, or on others of
the same instrument and time.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from emp.core.records import Array
from emp.governance.evidence import Evidence, Record


class Trials(NamedTuple):
    """Gains of others on the same rows, and how many models were judged there at all."""

    others: list[Array]  # float[blocks] of every look on the same rows that traded
    models: int
    why: str = ""  # they cannot be held against anything


def trials_of(evidence: Mapping[str, Evidence], name: str, record: Record) -> Trials:
    """The trials beside a record of gains in the evidence of a name.

    A look that did not trade, was made by other code, or saw other rows of the same time, counts among the models and
    has no gains. One that traded and
    has none, or not those of the same blocks, was cut: nobody chooses which trials a model is held against.
    """
    mine = evidence[name]
    seen = next((data for data in mine.data if data.series == record.series), None)
    if seen is None:
        return Trials([], 0, "of rows that are not named")
    rows = seen.rows_sha256
    if not np.isfinite(record.blocks).all():
        return Trials([], 0, "not a number")
    others: dict[tuple[float, ...], Array] = {}
    models = set()
    for _, one in sorted(evidence.items()):
        if one.kind != "evaluation" or not any(data.overlaps(seen) for data in one.data):
            continue
        models.add(one.model)
        if rows not in {data.rows_sha256 for data in one.data}:
            continue  # on a copy that was cut: its blocks are others
        if one.model == mine.model or one.code != mine.code or not (one.config.get("trade") or _gained(one)):
            continue
        names = {data.series for data in one.data if data.rows_sha256 == rows}  # a file may have another name
        alike = [other for other in one.records if other.series in names and _alike(other, record)]
        whole = all(len(r.blocks) == len(record.blocks) and np.isfinite(r.blocks).all() for r in alike)
        if not one.whole or not alike or not whole:
            return Trials([], 0, f"the gains of trial {one.model[:8]} are not whole")
        others |= {other.blocks: np.array(other.blocks) for other in alike}
    if not others:
        return Trials([], 0, "no other trial on the same rows")
    return Trials(list(others.values()), len(models))


def _gained(one: Evidence) -> bool:
    return any(record.measure == GAINS for record in one.records)


def _alike(other: Record, record: Record) -> bool:
    return (other.measure, other.horizon) == (record.measure, record.horizon)


GAINS = "gain_bps_lots"
"""What every look that traded has of each series and horizon, though it earned nothing."""
