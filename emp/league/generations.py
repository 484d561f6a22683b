"""A league: generations of a main agent, its exploiter, and the champion that stays only if it is no easier to exploit.

Per generation: Current is trained from Best against a pool of itself, a naive maker and every exploiter so far, in
ordinary and in disturbed matches (Chaos), under the owner's limits; Exploit is trained from Current against Current
alone, at Current's turnover; the gap is measured on states of the market that no training saw. Current becomes Best
where the gap has not grown. Only the player that asked for a match learns from it.
"""

from collections.abc import Callable

import msgspec
import numpy as np

from emp.core.records import Array
from emp.league.buffer import Buffer, fill
from emp.league.constraint import TOLERANCE, PidMultiplier
from emp.league.evolve import Budget, evolve
from emp.league.exploit import Gap, gap
from emp.league.match import Table, states
from emp.league.rule_gap import BESIDE_BEST, RULE, RuleResult, play_rule
from emp.league.seats import IDLE, IMMEDIATE, KINDS, LEANING, MAKER, TIMED, first_weights
from emp.league.table import Row, matched, row_of
from emp.league.training import Field, Players, judge, turnover, utility, variance
from emp.sim.flow.shipped import named_flow
from emp.sim.world.market import Market

HELD_OUT = 1_000_003
"""Added to a seed for the markets of its held-out states."""
COSTS = ("turnover", "inventory_variance")


class Setting(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One market and what is allowed there; the same for all seeds."""

    name: str
    model: str  # of the flow
    size: int  # lots of one order
    limit: int  # position, lots
    parent: int  # lots that are executed in seat 3
    turnover: float  # the owner's limit, lots an episode
    variance: float  # the owner's limit, lots squared
    fees: tuple[float, float] = (0.0, 0.0)
    generations: int = 3
    rounds: int = 40
    pairs: int = 12
    episodes: int = 16  # of a candidate in a round
    held_out: int = 300
    states: int = 64
    made: int = 16
    chaos: float = 0.25  # share of the main agent's episodes
    instrument: str = "GOOG"  # that the engine's rule takes the flow for
    policy: str = "linear"  # artifact, or kind of a shipped one, that forecasts for the engine's rule


class Generation(msgspec.Struct):
    """What one generation came to. Curves: a row a round of utility, the two costs over their limits, multipliers."""

    number: int
    main_curve: list[list[float]]
    exploit_curve: list[list[float]]
    held: list[float]  # costs over limits less 1, mean of the last quarter of the main training
    held_out: list[float]  # the same on held-out states
    sharpe: float  # Current against itself, held out
    exploit: Gap
    best: Gap
    gap: float | None  # the largest matched one, at least 0; none where no challenger matches the turnover
    delta: float | None  # to the champion's
    promoted: bool
    weights: list[float]
    candidates: int  # judged for the exploiter: its budget

    @property
    def constrained(self) -> bool:
        """Whether both costs ended within TOLERANCE above their limits."""
        return max(self.held) <= TOLERANCE


class SeedResult(msgspec.Struct):
    """A league from one seed in one market."""

    market: str
    seed: int
    generations: list[Generation]
    champion: int  # number of the generation that is Best at the end
    headline: Gap  # Best over the untrained policy in the same seat, paired
    again: float  # Best over a copy of itself: 0
    table: list[Row]
    rule: RuleResult


def play_league(
    setting: Setting, seed: int, progress: Callable[[float], None] = lambda _: None
) -> SeedResult:
    """Play all generations of one seed; the same setting and seed give the same result."""
    table = Table(named_flow(setting.model), setting.fees)
    field = Field(table, Players(setting.size, setting.limit, setting.parent), seed)
    league = _League(setting, field, fill(table, seed, setting.states, setting.made), seed)
    for number in range(setting.generations):
        league.generation(number)
        progress((number + 1) / setting.generations)
    return league.result()


class _League:
    def __init__(self, setting: Setting, field: Field, buffer: Buffer, seed: int) -> None:
        self.setting, self.field, self.buffer, self.seed = setting, field, buffer, seed
        self.held_out: list[Market] = states(field.table, seed + HELD_OUT, setting.held_out)
        self.best, self.best_gap, self.champion = first_weights(), float("inf"), -1
        self.exploits: list[Array] = []
        self.done: list[Generation] = []
        self.budget = Budget(rounds=setting.rounds, pairs=setting.pairs)
        # of the main agent, over all generations: a new one does not begin without a price on what it costs
        self.bounds = [
            PidMultiplier(limit, ease=setting.rounds // 2) for limit in (setting.turnover, setting.variance)
        ]

    def generation(self, number: int) -> None:
        """Train Current and Exploit, measure, and promote."""
        s, limits = self.setting, np.array([self.setting.turnover, self.setting.variance])
        current, main_curve = self._main(number)
        exploit, exploit_curve = self._exploit(number, current)
        alone = self._play(current, current)
        gaps = [self._gap(current, rival, alone) for rival in (exploit, self.best)]
        counted = [max(0.0, one.value) for one in gaps if one.matched]
        found = max(counted) if counted else None
        first = not np.isfinite(self.best_gap)
        delta = None if found is None or first else found - self.best_gap
        promoted = found is not None and (first or found <= self.best_gap)
        tail = main_curve[-max(1, s.rounds // 4) :, 1:3].mean(axis=0)
        costs = np.array([turnover(alone[:, 0]), variance(alone[:, 0])])
        self.done.append(
            Generation(
                number=number,
                main_curve=main_curve.tolist(),
                exploit_curve=exploit_curve.tolist(),
                held=(tail - 1.0).tolist(),
                held_out=(costs / limits - 1.0).tolist(),
                sharpe=float(utility(alone[:, 0])),
                exploit=gaps[0],
                best=gaps[1],
                gap=found,
                delta=delta,
                promoted=promoted,
                weights=current.tolist(),
                candidates=s.rounds * (1 + 2 * s.pairs),
            )
        )
        self.exploits.append(exploit)
        if promoted and found is not None:
            self.best, self.best_gap, self.champion = current, found, number

    def _main(self, number: int) -> tuple[Array, Array]:
        s, field = self.setting, self.field
        pool = [field.learned(self.best), field.fixed(MAKER), *map(field.learned, self.exploits)]
        judged = judge(
            field,
            self.buffer,
            lambda k: pool[k % len(pool)],
            role=0,
            episodes=s.episodes,
            rounds=s.rounds,
            chaos=s.chaos,
            name=f"main {number}",
        )
        found = evolve(judged, self.best, self.budget, self.seed + 10 * number, self.bounds)
        return found.weights, _relative(found.curve, self.bounds)

    def _exploit(self, number: int, current: Array) -> tuple[Array, Array]:
        """The best found answer to Current, from Current itself, at its turnover."""
        s, field, me = self.setting, self.field, self.field.learned(current)
        own = self._lots(me, current)
        bounds = [PidMultiplier(max(1e-6, own), equality=True), PidMultiplier(s.variance)]
        judged = judge(
            field,
            self.buffer,
            lambda _: me,
            role=1,
            episodes=s.episodes,
            rounds=s.rounds,
            chaos=0.0,
            name=f"exploit {number}",
        )
        found = evolve(judged, current, self.budget, self.seed + 10 * number + 5, bounds)
        return matched(lambda w: self._lots(me, w), found.weights, own), _relative(found.curve, bounds)

    def _lots(self, current: Array, rival: Array) -> float:
        """Lots an episode of a policy in seat 1 against `current` (SEAT), on states of the training."""
        it, found = self.field.learned(rival), self.buffer.states[: self.setting.states]
        out = [self.field.play(one, current, it, ("lots", k), False)[1] for k, one in enumerate(found)]
        return float(turnover(np.stack(out)))

    def _play(self, first: Array, second: Array) -> Array:
        return self.field.held_out(self.held_out, self.field.learned(first), self.field.learned(second))

    def _gap(self, current: Array, rival: Array, alone: Array) -> Gap:
        out = self._play(current, rival)[:, 1]
        lots = float(turnover(out)), float(turnover(alone[:, 1]))
        return gap(out["pnl"], alone["pnl"][:, 1], lots)

    def result(self) -> SeedResult:
        """What the champion is worth, and the table of opponents."""
        naive = self.field.fixed(MAKER)
        ours, before, again = (
            self.field.held_out(self.held_out, self.field.learned(w), naive)[:, 0]
            for w in (self.best, first_weights(), self.best.copy())
        )
        lots = float(turnover(ours)), float(turnover(before))
        headline = gap(ours["pnl"], before["pnl"], lots)
        copy = float(utility(ours) - utility(again))
        rows = [self._row(KINDS[k], self.field.fixed(k)) for k in (IDLE, MAKER, LEANING, TIMED, IMMEDIATE)]
        rows.append(self._row("Best", self.field.learned(self.best)))
        rows.append(self._row("Exploit", self.field.learned(self.exploits[-1])))
        rows.append(self._row("Best, in Chaos", self.field.learned(self.best), chaos=True))
        s = self.setting
        rule = play_rule(
            self.field,
            self.best,
            instrument=s.instrument,
            policy=s.policy,
            budget=self.budget,
            episodes=s.episodes,
            states=s.states,
            held_out=s.held_out,
            variance_limit=s.variance,
        )
        rows.append(msgspec.structs.replace(rule.beside[BESIDE_BEST], player=RULE))
        return SeedResult(s.name, self.seed, self.done, self.champion, headline, copy, rows, rule)

    def _row(self, player: str, second: Array, chaos: bool = False) -> Row:
        out = self.field.held_out(self.held_out, self.field.learned(self.best), second, chaos)
        return row_of(player, out[:, 1], out[:, 0])


def _relative(curve: Array, bounds: list[PidMultiplier]) -> Array:
    """A training's curve with costs as multiples of their limits."""
    out = curve.copy()
    out[:, 1 : 1 + len(bounds)] /= [m.limit for m in bounds]
    return out
