"""Where training episodes begin: a main buffer, and one of rare regimes that would otherwise hardly be met.

A state is rare where the price has just run, or the spread is wide, by a rule over what the undisturbed market did
before it; and where a burst of market orders was made to sweep the book (a flash move). Episodes are drawn in strata,
a fixed share of them rare. What is learned is about the market as it is, so each episode carries the importance weight
of its stratum, its rate in the market over its rate in the draw; the weight's exponent rises from 0 to 1 over a
training (Schaul et al. 2016, arXiv 1511.05952): early episodes teach the rare, late ones do not distort.
"""

from typing import NamedTuple

import numpy as np

from emp.core.ids import generator
from emp.core.records import EVENT, Array
from emp.league.match import Table, states
from emp.sim.book.book import BEST, BUY, MARKET, SELL, clear_trade
from emp.sim.book.matching import submit
from emp.sim.book.view import write_event
from emp.sim.capacity.trade import two_sided
from emp.sim.world.market import Market

RARE_SHARE = 0.2
RUN_SPREADS = 4.0
"""Usual spreads that the mid has moved over the last WINDOW events of a rare state."""
WIDE_SPREADS = 3.0
"""Usual spreads that lie between the best prices of a rare state."""
WINDOW = 200
FLASH_ORDERS = 10


class Draw(NamedTuple):
    """Episodes drawn from a buffer."""

    picks: Array  # int64 (n,): places in `Buffer.states`
    weights: Array  # float64 (n,): importance weights, mean 1


class Buffer(NamedTuple):
    """States of the market in which episodes begin, and which of them are rare."""

    states: list[Market]
    rare: Array  # bool (n,)
    rate: float  # of rare states in the undisturbed market
    made: int  # rare states that were made; they are the last

    def draw(self, seed: int, round_: int, n: int, progress: float) -> Draw:
        """`n` states for a round; `progress` (0 to 1) of the training is the exponent of the weights."""
        rng = generator(seed, "buffer", round_)
        kinds = [np.flatnonzero(~self.rare), np.flatnonzero(self.rare)]
        share = RARE_SHARE if len(kinds[0]) and len(kinds[1]) else float(len(kinds[1]) > 0)
        many = round(share * n)
        picks = (
            np.concatenate([rng.choice(kinds[0], n - many), rng.choice(kinds[1], many)])
            if many
            else (rng.choice(kinds[0], n))
        )
        if not 0 < many < n:
            return Draw(picks, np.ones(n))
        drawn = many / n
        ratio = np.where(self.rare[picks], self.rate / drawn, (1.0 - self.rate) / (1.0 - drawn)) ** progress
        return Draw(picks, ratio / ratio.mean())


def fill(table: Table, seed: int, n: int, made: int) -> Buffer:
    """A buffer of `n` states of one undisturbed market, and `made` of them again behind a flash move."""
    found = states(table, seed, n, between=WINDOW)
    mids = np.array([_mid(m) for m in found])
    spreads = np.array([int(m.book[BEST + 1]) - int(m.book[BEST]) for m in found], float)
    usual = max(1.0, float(np.median(spreads)))
    ran = np.abs(np.diff(mids, prepend=mids[0])) >= RUN_SPREADS * usual
    rare = ran | (spreads >= WIDE_SPREADS * usual)
    picks = generator(seed, "flash").integers(0, n, made)
    flashes = [flash(found[k], table, BUY if j % 2 else SELL) for j, k in enumerate(picks)]
    return Buffer(found + flashes, np.concatenate([rare, np.ones(made, bool)]), float(rare.mean()), made)


def flash(state: Market, table: Table, side: int) -> Market:
    """The state behind market orders of one side that took FLASH_ORDERS times the quantity at the best price."""
    market = state.clone()
    row = np.zeros(1, EVENT)
    for _ in range(FLASH_ORDERS):
        write_event(market.book, row[0], market.now_ns, 0, 0)
        first = int(row["ask_sz" if side == BUY else "bid_sz"][0][0])
        if first == 0:
            break
        clear_trade(market.book)
        submit(market.book, market.flow.fills, side, 0, first, MARKET, 0, 0)
    while not two_sided(market.book):
        market.run(2**62, 5)
    return market


def _mid(market: Market) -> float:
    return 0.5 * (int(market.book[BEST]) + int(market.book[BEST + 1]))
