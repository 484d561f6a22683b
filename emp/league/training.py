"""Rollouts of a league: candidates in a seat against opponents, in ordinary matches and in disturbed ones.

Seat 0 is the main agent's, seat 1 its opponent's; in seat 2 a naive maker quotes and in seat 3 somebody executes a
large order. Chaos is a randomisation of the domain: size, side and haste of that order, everybody's latencies, and
stalls that swallow decisions. It is drawn by episode, and all candidates meet the same.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from emp.core.ids import generator
from emp.core.records import Array
from emp.league.buffer import Buffer, Draw
from emp.league.evolve import Judge
from emp.league.match import OUTCOME, SEATS, Table, match, slower
from emp.league.seats import IMMEDIATE, LEARNED, MAKER, TIMED, seat
from emp.sim.world.latency import latency_record
from emp.sim.world.market import Market

LATENCIES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Factors on the medians that chaos draws from."""
DEAF = 0.3
"""Largest share of decisions that chaos swallows."""


class Players(msgspec.Struct, frozen=True):
    """Sizes in one market, in lots."""

    size: int  # of one order
    limit: int  # position
    parent: int  # of the order that is executed in seat 3


class Field:
    """A market with its seats: what every match of a league has in common."""

    def __init__(self, table: Table, players: Players, seed: int) -> None:
        self.table, self.players, self.seed = table, players, seed
        self._latency = {times: latency_record(slower(table.latency, times)) for times in LATENCIES}

    def learned(self, weights: Array, deaf: float = 0.0) -> Array:
        """The SEAT of a policy."""
        p = self.players
        return seat(LEARNED, weights=weights, size=p.size, limit=p.limit, deaf=deaf)

    def fixed(self, kind: int, side: int = 1) -> Array:
        """The SEAT of a fixed opponent."""
        p = self.players
        return seat(kind, size=p.size, limit=p.limit, parent=p.parent, side=side)

    def play(
        self, state: Market, first: Array, second: Array, key: Sequence[str | int], chaos: bool
    ) -> Array:
        """One episode; `key` names its luck. Returns OUTCOME, shape (SEATS,)."""
        rng = generator(self.seed, "scenario", *key)
        side = 1 if rng.random() < 0.5 else -1
        latency, fourth = self._latency[1.0], self.fixed(TIMED, side)
        seats = np.concatenate([first, second, self.fixed(MAKER), fourth])
        if chaos:
            latency = self._latency[LATENCIES[rng.integers(len(LATENCIES))]]
            seats["kind"][3] = IMMEDIATE if rng.random() < 0.5 else TIMED
            seats["parent"][3] = int(rng.integers(0, 3 * self.players.parent))
            seats["deaf"] = DEAF * rng.random()
        luck = int(rng.integers(2**62))
        return match(self.table, state, seats, luck, latency)

    def held_out(self, states: Sequence[Market], first: Array, second: Array, chaos: bool = False) -> Array:
        """An episode from each state; OUTCOME, shape (episodes, SEATS)."""
        return np.stack([self.play(s, first, second, ("held out", k), chaos) for k, s in enumerate(states)])


def judge(
    field: Field,
    buffer: Buffer,
    opponents: Callable[[int], Array],
    *,
    role: int,
    episodes: int,
    rounds: int,
    chaos: float,
    name: str,
) -> Judge:
    """Judge candidates in seat `role` by Sharpe ratio, lots an episode and variance of inventory.

    Args:
        opponents: the SEAT on the other side of the table in the k-th episode of a round.
        chaos: share of the episodes that are disturbed.
    """

    def judged(candidates: Array, round_: int) -> tuple[Array, Array]:
        draw = buffer.draw(field.seed, round_, episodes, min(1.0, round_ / max(1, rounds - 1)))
        out = np.zeros((len(candidates), episodes), OUTCOME)
        for k, pick in enumerate(draw.picks):
            other = opponents(k)
            for j, weights in enumerate(candidates):
                mine = field.learned(weights)
                pair = (mine, other) if role == 0 else (other, mine)
                key = (name, round_, k)
                disturbed = (k + 0.5) / episodes > 1.0 - chaos
                out[j, k] = field.play(buffer.states[pick], *pair, key, disturbed)[role]
        return utility(out, draw), np.stack([turnover(out, draw), variance(out, draw)], axis=1)

    return judged


def _mean(x: Array, draw: Draw | None) -> Array:
    return np.asarray(x.mean(axis=-1) if draw is None else x @ draw.weights / draw.weights.sum())


def utility(out: Array, draw: Draw | None = None) -> Array:
    """Sharpe ratio per episode of OUTCOME (…, episodes), weighted."""
    mean = _mean(out["pnl"], draw)
    square = _mean(out["pnl"] ** 2, draw)
    return np.asarray(mean / np.sqrt(np.maximum(1e-9, square - mean**2)))


def turnover(out: Array, draw: Draw | None = None) -> Array:
    """Lots traded an episode."""
    return _mean(out["lots"], draw)


def variance(out: Array, draw: Draw | None = None) -> Array:
    """Variance of the position over all moments of all episodes, lots squared: exact, not bounded by its square."""
    return np.asarray(_mean(out["square"], draw) - _mean(out["position"], draw) ** 2)


__all__ = ["SEATS", "Field", "Players", "judge", "turnover", "utility", "variance"]
