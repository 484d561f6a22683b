"""How exploitable the rule is on one model's forecasts, beside another model's: what the gate of the gap reads.

Both models meet the same sessions, the same episodes, the untrained maker of the league, and an exploiter that was
trained from it in the same way with the same random numbers. So a model beside itself differs by exactly 0.
"""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from emp.core.spread import Workers, spread
from emp.league.evolve import Budget
from emp.league.generations import Setting
from emp.league.match import Table
from emp.league.rule_gap import RuleResult, play_rule
from emp.league.seats import first_weights
from emp.league.training import Field, Players
from emp.sim.flow.shipped import named_flow


class Measured(msgspec.Struct):
    """One seed of one market."""

    market: str
    seed: int
    model: RuleResult
    reference: RuleResult

    @property
    def delta(self) -> float | None:
        """The best challenger's edge over the model less that over the reference; none where no turnover was matched.

        Edges and not gaps: where nobody beats either copy both gaps are 0, which says nothing of the difference.
        """
        if self.model.edge is None or self.reference.edge is None:
            return None
        return self.model.edge - self.reference.edge


class Job(NamedTuple):
    """A setting, a seed, and two artifacts by folder or kind."""

    setting: Setting
    seed: int
    model: str
    reference: str


def measure(job: Job) -> Measured:
    """Both models from one seed in one market."""
    s = job.setting
    field = Field(Table(named_flow(s.model), s.fees), Players(s.size, s.limit, s.parent), job.seed)

    def gap_of(policy: str) -> RuleResult:
        return play_rule(
            field,
            first_weights(),
            instrument=s.instrument,
            policy=policy,
            budget=Budget(rounds=s.rounds, pairs=s.pairs),
            episodes=s.episodes,
            states=s.states,
            held_out=s.held_out,
            variance_limit=s.variance,
        )

    model = gap_of(job.model)
    same = job.model == job.reference
    return Measured(s.name, job.seed, model, model if same else gap_of(job.reference))


def measure_all(jobs: list[Job], workers: Workers) -> Iterator[Measured]:
    """Measure; what is done comes as it ends."""
    for _, found in spread(measure, jobs, workers):
        yield found


def deltas(found: list[Measured]) -> dict[str, list[float | None]]:
    """The deltas of each market in the order of seeds."""
    markets: dict[str, list[float | None]] = {}
    for one in sorted(found, key=lambda m: (m.market, m.seed)):
        markets.setdefault(one.market, []).append(one.delta)
    return markets
