"""What the seeds of a league say together: medians, the spread, and how often the rules held."""

import msgspec
import numpy as np

from emp.core.errors import UsageError
from emp.league.exploit import Gap
from emp.league.generations import SeedResult
from emp.league.table import Row


class RuleSummary(msgspec.Struct):
    """The engine's rule over the seeds; differences of Sharpe ratios per episode."""

    beside: list[Row]  # means over seeds
    gap: float | None  # median; none where no seed has one
    gap_high: float | None  # largest
    unmatched: int  # seeds without a gap
    exploit: float  # its exploiter over a copy of it in the same seat, mean over seeds
    exploit_sd: float | None  # over seeds; none of one
    exploit_told: int  # seeds whose own interval excludes 0
    lost: float  # by the rule opposite its exploiter, over the rule opposite its copy, mean
    lost_sd: float | None
    lost_told: int
    candidates: int


class Summary(msgspec.Struct):
    """One market over its seeds."""

    seeds: int
    gaps: list[float | None]  # median gap by generation; none where no seed has one
    turnover: list[float]  # held-out lots over the limit by generation, median
    judged: int  # trainings of the main agent
    refused: int  # generations that were not promoted
    constrained: int  # trainings that ended within the tolerance of both limits
    headline: float  # champion over the untrained policy, Sharpe ratio per episode, mean over seeds
    headline_sd: float | None  # over seeds; none of one
    headline_width: float  # median width of a seed's own interval
    headline_turnover: (
        float | None
    )  # the champion's lots over those of the untrained policy, median over seeds
    again: float  # the largest difference of a model from itself
    candidates: int
    table: list[Row]  # means over seeds
    rule: RuleSummary


def summarise(seeds: list[SeedResult]) -> Summary:
    """Bring the seeds of one market together.

    Raises:
        UsageError: there are none.
    """
    if not seeds:
        raise UsageError("a league without seeds has nothing to say")
    by_number = list(zip(*(one.generations for one in seeds), strict=True))
    every = [g for one in seeds for g in one.generations]
    headline = np.array([one.headline.value for one in seeds])
    return Summary(
        seeds=len(seeds),
        gaps=[_median([g.gap for g in row]) for row in by_number],
        turnover=[float(np.median([1.0 + g.held_out[0] for g in row])) for row in by_number],
        judged=len(every),
        refused=sum(not g.promoted for g in every),
        constrained=sum(g.constrained for g in every),
        headline=float(headline.mean()),
        headline_sd=float(headline.std(ddof=1)) if len(seeds) > 1 else None,
        headline_width=float(np.median([one.headline.high - one.headline.low for one in seeds])),
        headline_turnover=_median(
            [None if one.headline.turnover is None else 1.0 + one.headline.turnover for one in seeds]
        ),
        again=max(abs(one.again) for one in seeds),
        candidates=every[0].candidates,
        table=_means([one.table for one in seeds]),
        rule=_rule(seeds),
    )


def _rule(seeds: list[SeedResult]) -> RuleSummary:
    rules = [one.rule for one in seeds]
    exploit, lost = [one.exploit for one in rules], [one.lost for one in rules]
    known = [one.gap for one in rules if one.gap is not None]
    return RuleSummary(
        beside=_means([one.beside for one in rules]),
        gap=_median([one.gap for one in rules]),
        gap_high=max(known) if known else None,
        unmatched=len(rules) - len(known),
        exploit=float(np.mean([g.value for g in exploit])),
        exploit_sd=_spread(exploit),
        exploit_told=sum(map(_told, exploit)),
        lost=float(np.mean([g.value for g in lost])),
        lost_sd=_spread(lost),
        lost_told=sum(map(_told, lost)),
        candidates=rules[0].candidates,
    )


def _spread(gaps: list[Gap]) -> float | None:
    return float(np.std([g.value for g in gaps], ddof=1)) if len(gaps) > 1 else None


def _told(one: Gap) -> bool:
    """Whether the interval excludes 0."""
    return one.low > 0.0 or one.high < 0.0


def _means(tables: list[list[Row]]) -> list[Row]:
    return [_mean(list(rows)) for rows in zip(*tables, strict=True)]


def _median(values: list[float | None]) -> float | None:
    known = [x for x in values if x is not None]
    return float(np.median(known)) if known else None


def _mean(rows: list[Row]) -> Row:
    known = [r.queue_ahead for r in rows if r.queue_ahead is not None]
    mean = {
        name: float(np.mean([getattr(r, name) for r in rows]))
        for name in ("pnl", "sharpe", "lots", "maker_fills", "against", "against_sharpe")
    }
    return Row(player=rows[0].player, queue_ahead=float(np.mean(known)) if known else None, **mean)
