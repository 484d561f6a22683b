"""From markets that a model was not trained on to evidence of its skill there.

Skill is the Brier skill above what the market's own past class shares say, in per cent. A block is a group of the
catalogue: its markets come from one vendor, or saw the same days of the same thing, and say little beyond each other.
So the interval is over groups that the model never saw, not over hours of one of them.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.governance.evaluated import data_of
from emp.governance.evidence import Evidence, Record, new_evidence
from emp.train.data.markets import Market
from emp.train.judge.apart import Cell
from emp.train.judge.blocks import pseudo_values
from emp.train.judge.metrics import Sums, scores, totals

SKILL = "skill_outside_training_pct"
"""Of all groups, a block each: what the gate reads."""

OF_MARKET = "skill_of_market_pct"
"""Of one market, by its own blocks of time."""


class Judged(NamedTuple):
    """What was judged, and in whose words."""

    name: str  # of the model in the cells
    model: str  # its hash
    reference: str  # hash of the linear model beside it


def of_outside(
    judged: Judged, markets: Sequence[Market], cells: Sequence[Cell], config: dict[str, Any], seed: int
) -> Evidence:
    """Evidence of one model on markets that it was not trained on.

    Args:
        judged: the model.
        markets: those that were judged.
        cells: of these markets, all horizons.
    """
    by_name = {market.name: market for market in markets}
    records = [_of_market(cell, by_name[cell.market], cell.sums[judged.name]) for cell in cells]
    horizons = dict.fromkeys(cell.horizon for cell in cells)
    records += [
        _of_groups([c for c in cells if c.horizon == horizon], judged.name, horizon) for horizon in horizons
    ]
    groups = {name: one.group for name, one in by_name.items()}
    config = {**config, "groups": groups}
    data = [data_of(by_name[name].data) for name in dict.fromkeys(cell.market for cell in cells)]
    return new_evidence("evaluation", judged.model, records, config, seed, data, judged.reference)


def skill_pct(sums: Sums) -> float:
    """Brier skill of all blocks together, in per cent."""
    return 100.0 * float(scores(totals(sums))["brier_skill"][0])


def _of_market(cell: Cell, market: Market, sums: Sums) -> Record:
    instrument = market.data.instrument
    values = pseudo_values(sums, lambda *s: 100.0 * scores(Sums(*s))["brier_skill"])
    return Record(
        measure=OF_MARKET,
        series=cell.market,
        instrument=instrument.name,
        asset_class=instrument.asset_class.name.lower(),
        horizon=cell.horizon,
        blocks=tuple(values.tolist()) if np.isfinite(values).all() else (skill_pct(sums),),
        kind_of_block=cell.kind_of_block,
        n=int(sums.n.sum()),
    )


def _of_groups(cells: Sequence[Cell], name: str, horizon: str) -> Record:
    groups = dict.fromkeys(cell.group for cell in cells)
    blocks = [
        float(np.mean([skill_pct(cell.sums[name]) for cell in cells if cell.group == g])) for g in groups
    ]
    n = int(sum(cell.sums[name].n.sum() for cell in cells))
    return Record(SKILL, "", "", "", horizon, tuple(blocks), "group", n)
