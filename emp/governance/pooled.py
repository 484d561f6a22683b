"""What the paper days of a model say together of latency, drift and value, from five days on; a day is a block."""

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from emp.core.instrument import catalogue
from emp.core.records import Array
from emp.engine.inputs import reference_of
from emp.engine.monitor import head_of
from emp.governance.bounds import LEAST_BLOCKS
from emp.governance.evidence import Evidence, Record, new_evidence
from emp.governance.paper import Asked, counted, days_of, record_of
from emp.journal.latency_log import PARTS
from emp.model.artifact import Artifact
from emp.observe.drift import Reference
from emp.observe.psi import index_of
from emp.perception.state import CORE_INPUTS
from emp.train.judge.blocks import pseudo_values as ratio_values


def pooled(evidence: Mapping[str, Evidence], asked: Asked, artifact: Artifact) -> list[Evidence]:
    """Evidence of latency, of drift and of what closed lots missed of what was expected of them, over all paper days of
    a model; none below LEAST_BLOCKS days.
    """
    days = days_of(evidence, asked)
    if len(days) < LEAST_BLOCKS:
        return []
    parts = [counted(days[day]) for day in sorted(days)]
    config = {"days": sorted(days), "protocol": asked.protocol, "of": "paper"}
    made = [
        ("latency", _pooled_latency(parts)),
        ("drift", _pooled_drift(parts, artifact)),
        ("value", _pooled_value(parts)),
    ]
    found = []
    for kind, records in made:
        if records:
            one = new_evidence(kind, asked.model, records, config)  # type: ignore[arg-type]
            found.append(msgspec.structs.replace(one, code=asked.code))
    return found


def _pooled_latency(days: Sequence[Sequence[Evidence]]) -> list[Record]:
    found = []
    for part in PARTS:
        of_days = [
            [r for one in parts for r in one.records if r.measure == f"{part}_p99_ms"] for parts in days
        ]
        worst = [max(x for r in records for x in r.blocks) for records in of_days if records]
        n = sum(r.n for records in of_days for r in records)
        found.append(record_of(f"{part}_p99_ms", None, "", worst, n))
    return [one for one in found if one.blocks]


def _pooled_value(days: Sequence[Sequence[Evidence]]) -> list[Record]:
    """Of every instrument what a lot missed, bps, over days on which lots were closed: pseudo-values of the ratio."""
    sums: dict[str, dict[int, Array]] = {}
    like: dict[str, Record] = {}
    for k, parts in enumerate(days):
        for r in (r for one in parts for r in one.records if r.measure == "missed_bps_lots"):
            by_day = sums.setdefault(r.instrument, {})
            by_day[k] = by_day.get(k, 0) + np.array([math.fsum(r.blocks), r.n])
            like[r.instrument] = r
    found = []
    for instrument, by_day in sorted(sums.items()):
        missed, lots = np.array(list(by_day.values())).T
        if len(lots) >= LEAST_BLOCKS:
            values = ratio_values((missed, lots), lambda a, b: a / b)
            of = {"measure": "value_missed_bps", "blocks": tuple(values.tolist()), "n": int(lots.sum())}
            found.append(msgspec.structs.replace(like[instrument], **of))
    return found


def _pooled_drift(days: Sequence[Sequence[Evidence]], artifact: Artifact) -> list[Record]:
    """The index of every input over all days, and its jackknife pseudo-values over days."""
    counts: dict[tuple[str, str], dict[int, Array]] = {}
    like: dict[str, Record] = {}
    for k, parts in enumerate(days):
        for r in (r for one in parts for r in one.records if r.measure.startswith("rows.")):
            by_day = counts.setdefault((r.instrument, r.measure.removeprefix("rows.")), {})
            by_day[k] = by_day.get(k, 0) + np.array(r.blocks)
            like[r.instrument] = r
    found = []
    for (instrument, name), by_day in sorted(counts.items()):
        reference = _reference(artifact, instrument)
        if reference is None:
            continue
        blocks = pseudo_values(reference.shares[CORE_INPUTS.index(name)], np.array(list(by_day.values())))
        n = int(sum(one.sum() for one in by_day.values()))
        record = record_of("psi", None, "", blocks, n)
        of = {"series": name, "instrument": instrument, "asset_class": like[instrument].asset_class}
        found.append(msgspec.structs.replace(record, **of))
    return found


def _reference(artifact: Artifact, instrument: str) -> Reference | None:
    one = catalogue().get(instrument)
    return None if one is None else reference_of(artifact, head_of(artifact, one))


def pseudo_values(reference: Array, counts: Array) -> list[float]:
    """Jackknife pseudo-values of the index of float64[days, bins] counts against shares float64[bins]: n I - (n - 1)
    I without the day (Tukey 1958); the index itself where there is one day.
    """
    whole = counts.sum(axis=0)
    n = len(counts)
    index = index_of(reference, whole / whole.sum())
    if n == 1:
        return [index]
    left = [whole - one for one in counts]
    return [n * index - (n - 1) * index_of(reference, one / max(one.sum(), 1.0)) for one in left]
