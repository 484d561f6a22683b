"""How exploitable the engine's rule is: what somebody who is trained against it alone gains over a copy of it.

The gap is that of `emp.league.exploit`: the Sharpe ratio of a challenger opposite the rule, less that of a copy of the
rule in the same seat, over the same episodes with the same random numbers, where turnovers are within 10 %. Challengers
are the champion, which never saw the rule, and an exploiter: a policy of the league, trained from the champion against
the rule alone and held to the copy's turnover. Both are brought to that turnover on the very episodes that are
measured, where nothing but turnover is looked at: by their readiness to stand, or by how often they decide. It is a
lower bound: a stronger exploiter may find more. The rule goes on learning within an episode only: every episode begins
with what it knew before anybody else sat down.
"""

import msgspec
import numpy as np

from emp.core.ids import generator
from emp.core.records import Array
from emp.engine.choose import load_model
from emp.league.constraint import PidMultiplier
from emp.league.evolve import Budget, Judge, evolve
from emp.league.exploit import Gap, gap
from emp.league.match import OUTCOME, SEATS
from emp.league.rule import PLACE, SeatedRule
from emp.league.seats import IDLE, MAKER, TIMED
from emp.league.table import BISECTIONS, CLOSE, Row, matched, row_of
from emp.league.training import Field, turnover, utility, variance

RULE = "the engine's rule"
BESIDE_BEST = 2
"""Which of its rows is the one of the table of opponents, where everybody sits opposite Best."""
SELDOM = 0.002
"""Least share of its decisions that a player is let make to bring it to a turnover."""
HELD_OUT = 2_000_003
"""Added to a seed for the sessions of the rule's held-out states."""


class RuleResult(msgspec.Struct):
    """What the engine's rule came to, per episode."""

    beside: list[Row]  # it, beside nobody, a naive maker, the champion, its exploiter, and a copy of itself
    exploit: Gap  # its exploiter over the copy, opposite the rule
    best: Gap  # the champion, brought to the copy's turnover, over the copy, opposite the rule
    edge: float | None  # the larger matched one; none where no challenger matches the turnover
    gap: float | None  # the same, at least 0
    lost: Gap  # the rule opposite its exploiter over the rule opposite its copy
    candidates: int  # judged for the exploiter: its budget
    model: str  # hash of the artifact that forecast


class _Against:
    """Players in the main agent's seat, opposite the rule."""

    def __init__(self, field: Field, rule: SeatedRule) -> None:
        self.field, self.rule = field, rule

    def play(self, k: int, first: Array | None, *key: str | int) -> Array:
        """One episode from the rule's `k`-th state; `key` names its luck. OUTCOME[SEATS]. None seats a copy."""
        rng = generator(self.field.seed, "contest", *key)
        side = 1 if rng.random() < 0.5 else -1
        seats = np.concatenate([self.field.fixed(MAKER), self.field.fixed(TIMED, side)])
        luck = int(rng.integers(2**62))
        if first is None:
            return self.rule.play_copy(k, seats, luck)
        return self.rule.play(k, np.concatenate([first, seats]), luck)

    def all(self, first: Array | None) -> Array:
        """An episode from each state; OUTCOME[episodes, SEATS]."""
        return np.stack([self.play(k, first, "all", k) for k in range(len(self.rule.states))])

    def lots(self, first: Array | None) -> float:
        """Lots an episode in that seat."""
        return float(turnover(self.all(first)[:, 0]))

    def at_turnover(self, weights: Array, want: float) -> Array:
        """The SEAT of a policy at a turnover; of what comes nearest where none will do.

        Who quotes always or never cannot be moved there by its readiness to stand, but decides less often.
        """
        me = self.field.learned(matched(lambda w: self.lots(self.field.learned(w)), weights, want))
        low, heard, high = SELDOM, 1.0, 1.0
        for _ in range(BISECTIONS):
            found = self.lots(me)
            if abs(found / max(1e-6, want) - 1.0) <= CLOSE or (found < want and heard == 1.0):
                break
            low, high = (low, heard) if found > want else (heard, high)
            heard = float(np.sqrt(low * high))
            me["deaf"] = 1.0 - heard
        return me

    def judge(self, episodes: int) -> Judge:
        """Judge candidates by Sharpe ratio, lots an episode and variance of inventory."""

        def judged(candidates: Array, round_: int) -> tuple[Array, Array]:
            n = len(self.rule.states)
            picks = generator(self.field.seed, "rule states", round_).integers(0, n, episodes)
            out = np.zeros((len(candidates), episodes, SEATS), OUTCOME)
            for k, pick in enumerate(picks):
                for j, weights in enumerate(candidates):
                    out[j, k] = self.play(int(pick), self.field.learned(weights), "exploit", round_, k)
            mine = out[:, :, 0]
            return utility(mine), np.stack([turnover(mine), variance(mine)], axis=1)

        return judged


def play_rule(
    field: Field,
    best: Array,
    *,
    instrument: str,
    policy: str,
    budget: Budget,
    episodes: int,
    states: int,
    held_out: int,
    variance_limit: float,
) -> RuleResult:
    """Seat the rule, train its exploiter from the champion `best`, and measure both on states no training saw.

    Args:
        instrument: a name of the catalogue, which the rule takes the flow for.
        policy: the artifact that forecasts for the rule.
        states, held_out: of the training, and of the measurement.
    """
    model, players = load_model(policy), field.players

    def seated(seed: int, n: int) -> _Against:
        rule = SeatedRule(
            field.table, instrument, model, size=players.size, limit=players.limit, states=n, seed=seed
        )
        return _Against(field, rule)

    training = seated(
        field.seed, max(states, held_out)
    )  # a turnover is as hard to tell there as when it is measured
    own = training.lots(None)
    bounds = [PidMultiplier(max(1e-6, own), equality=True), PidMultiplier(variance_limit)]
    found = evolve(training.judge(episodes), best, budget, field.seed, bounds)
    measured = seated(field.seed + HELD_OUT, held_out)
    copied = measured.all(None)
    own = float(turnover(copied[:, 0]))  # there: what a session has taught the rule is how much it trades
    exploiter, champion = (measured.at_turnover(weights, own) for weights in (found.weights, best))
    beside = {
        "nobody": field.fixed(IDLE),
        "a naive maker": field.fixed(MAKER),
        "Best": field.learned(best),
        "its exploiter": exploiter,
    }
    out = {name: measured.all(first) for name, first in beside.items()} | {"a copy of itself": copied}

    def over_copy(outcomes: Array, place: int) -> Gap:
        one = outcomes[:, place]
        lots = float(turnover(one)), float(turnover(copied[:, place]))
        return gap(one["pnl"], copied["pnl"][:, place], lots)

    exploit, usual = over_copy(out["its exploiter"], 0), over_copy(measured.all(champion), 0)
    edge = max((one.value for one in (exploit, usual) if one.matched), default=None)
    return RuleResult(
        beside=[row_of(f"{RULE}, beside {n}", one[:, PLACE], one[:, 0]) for n, one in out.items()],
        exploit=exploit,
        best=usual,
        edge=edge,
        gap=None if edge is None else max(0.0, edge),
        lost=over_copy(out["its exploiter"], PLACE),
        candidates=found.evaluations,
        model=model.artifact.hash,
    )
