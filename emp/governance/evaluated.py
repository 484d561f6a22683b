"""From an evaluation to evidence of every artifact in it."""

from collections.abc import Mapping, Sequence
from typing import Any

from emp.governance.evidence import Data, Evidence, Record, new_evidence
from emp.train.data.data import Dataset
from emp.train.judge.alpha import by_contender
from emp.train.judge.blocks import BlockMeasure, trade_measures
from emp.train.judge.evaluate import LINEAR, Contender, Evaluation

FINITE_LIMIT = 1e12
"""Pseudo-values beyond this are of a ratio whose denominator vanished: there is no measure."""


def of_evaluation(
    contenders: Sequence[Contender],
    datasets: Sequence[Dataset],
    found: Evaluation,
    traded: Sequence[Mapping[str, Any]],
    config: dict[str, Any],
    seed: int,
) -> list[Evidence]:
    """Evidence of every artifact that `emp evaluate` judged; differences are to the linear model beside it."""
    reference = next((c.seeds[0].artifact.hash for c in contenders if c.name == LINEAR), "")
    data = [data_of(one) for one in datasets]
    made = []
    for contender in contenders:
        for k, model in enumerate(contender.seeds):
            records: list[Record] = []
            for one in datasets:
                kind = found.parts[one.series]["block"]
                measured = found.blocks[one.series, contender.name][k]
                mine = by_contender(traded, one.series, model.artifact.hash)
                if mine is not None:
                    measured = measured + trade_measures(mine, by_contender(traded, one.series, reference))
                records += [_record(measure, one, kind) for measure in measured if _known(measure)]
            made.append(
                new_evidence("evaluation", model.artifact.hash, records, config, seed, data, reference)
            )
    return made


def of_comparison(
    model: str,
    reference: str,
    judged: Sequence[tuple[Dataset, str, Sequence[BlockMeasure]]],
    config: dict[str, Any],
    seed: int,
) -> Evidence:
    """Evidence of one model beside another on the test parts of some series.

    Args:
        model: its hash.
        reference: that of the model that differences are taken to.
        judged: each series with the kind of its blocks and what was measured of it.
    """
    records = [
        _record(measure, data, kind) for data, kind, found in judged for measure in found if _known(measure)
    ]
    data = [data_of(one) for one, _, _ in judged]
    return new_evidence("evaluation", model, records, config, seed, data, reference)


def data_of(data: Dataset) -> Data:
    """The test part of a series, by the content of its rows."""
    begin, end = data.span("test")
    return Data(
        series=data.series,
        instrument=data.instrument.name,
        asset_class=data.instrument.asset_class.name.lower(),
        rows=len(data.part("test")),
        rows_sha256=data.rows_sha256(begin, end),
        span=(begin, end),
    )


def _record(measure: BlockMeasure, data: Dataset, kind_of_block: str) -> Record:
    return Record(
        measure=measure.measure,
        series=data.series,
        instrument=data.instrument.name,
        asset_class=data.instrument.asset_class.name.lower(),
        horizon=measure.horizon,
        blocks=tuple(float(x) for x in measure.blocks),
        kind_of_block=kind_of_block,
        n=measure.n,
    )


def _known(measure: BlockMeasure) -> bool:
    return all(abs(float(x)) < FINITE_LIMIT for x in measure.blocks)
