"""The engine's own rule as a player: it learns in an undisturbed market, and sits down in matches from there.

What the rule believes of fills, adverse selection and its own gains is learned as it trades, so an engine that has
seen nothing trades nothing. It trades alone for a while; the state of engine, account and market at some moments after
that is kept, and every episode goes on from a copy of one. Its limits are those of a seat, without loss limits.
"""

from typing import NamedTuple

import msgspec
import numpy as np

from emp.core.errors import EmpError
from emp.core.ids import generator
from emp.core.instrument import find
from emp.core.records import DECISION, Array
from emp.engine.engine import Engine
from emp.engine.fork import restore
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.step import COMMAND
from emp.engine.trade import DOUBT, SILENCE
from emp.engine.trading import Trading
from emp.league.contest import OTHERS, PACE, Contest, worth_at_touch
from emp.league.match import OUTCOME, SEATS, Table
from emp.league.seats import FEATURES, VIEW
from emp.sim.book.book import BEST
from emp.sim.capacity.trade import two_sided
from emp.sim.world.desk import World, new_desk
from emp.sim.world.latency import latency_record
from emp.sim.world.market import Market
from emp.sim.world.trader import Trader
from emp.sim.world.venue import US, Reactive, told

OPEN_NS = 1_340_285_400_000_000_000  # 2012-06-21, 13:30 UTC: a trading day of the shipped flows' instruments
LEARNED = 60_000
"""Events that the rule trades alone before the first state of a session."""
BETWEEN = 2_000
"""Events between two states of a session."""
FROM_ONE = 10
"""States of a session: after them the day would end."""
ROWS = 4_096
PLACE = 1
"""The engine's place among the outcomes of a match, as an opponent of the main agent."""


class State(NamedTuple):
    """An engine in a market, stopped."""

    engine: dict[str, Array]  # of a checkpoint
    sequence: int
    order: Array  # ORDER[1]
    market: Market
    venue: Reactive  # its `flow` and `last` are those of `market`


class SeatedRule:
    """One engine, and the states in which its episodes begin."""

    def __init__(
        self,
        table: Table,
        instrument: str,
        model: LoadedModel,
        *,
        size: int,
        limit: int,
        states: int,
        seed: int,
    ) -> None:
        """Trade as many sessions as `states` need.

        Args:
            instrument: a name of the catalogue, whose calendar and units the flow takes; fees are the table's.
            size: lots of an order at most.
            limit: lots held at most.
        """
        maker, taker = table.fees
        self.table = table
        self._facts = msgspec.structs.replace(find(instrument), maker_fee=maker, taker_fee=taker)
        self._model = model
        self._limits = EngineLimits(
            max_position_lots=limit,
            max_order_lots=size,
            max_daily_loss=1e12,
            max_drawdown=1e12,
            depth_share=1.0,  # nobody at the table is held to a share of what is shown
        )
        self._rows, self._laps = np.zeros(ROWS, DECISION), np.zeros((ROWS, 3), np.int32)
        self.states: list[State] = []
        session = 0
        while len(self.states) < states:
            self._session((seed << 10) + session, min(FROM_ONE, states - len(self.states)))
            session += 1
        self._engine = self._new_engine()
        self._engine.extend_calendar(OPEN_NS, OPEN_NS)
        self._trading: Trading | None = None

    def _new_engine(self) -> Engine:
        return Engine([self._facts], self._model, self._limits, "LEAGUE00")

    def _session(self, seed: int, n: int) -> None:
        """Let a new engine learn in a new market, and keep `n` states of them."""
        market = Market(self.table.params, seed, self.table.start_px, OPEN_NS, ticks=4096, orders=4096)
        engine = self._new_engine()
        trader = Trader(engine, market, seed=seed, latency=self.table.latency)
        for k in range(n):
            self._trade(trader, LEARNED + k * BETWEEN)
            while not two_sided(market.book):
                self._trade(trader, trader.events + 10)
            self.states.append(
                State(
                    {name: rows.copy() for name, rows in engine.checkpoint().items()},
                    engine.sequence,
                    trader.trading.order.copy(),
                    market.clone(),
                    trader.venue._replace(
                        **{f: getattr(trader.venue, f).copy() for f in Reactive._fields if f != "flow"}
                    ),
                )
            )

    def _trade(self, trader: Trader, until: int) -> None:
        while trader.events < until:
            trader.run(self._rows, self._laps, until - trader.events)
            if trader.closed:
                raise EmpError("league: the engine asked to close its position, without a loss limit")

    def play(self, k: int, seats: Array, seed: int, latency: Array | None = None) -> Array:
        """Go on from the `k`-th state beside three players (SEAT[OTHERS]); OUTCOME[SEATS], the engine's at PLACE.

        The same arguments give the same outcomes, bit for bit.
        """
        state = self.states[k % len(self.states)]
        contest = self._contest(state, seats, seed, latency)
        before = worth_at_touch(contest), contest.ours.venue[0].copy(), int(contest.ours.flow.state["now"][0])
        engine = self._engine
        restore(engine, state.engine)
        engine.sequence = state.sequence
        if self._trading is None:
            name = self._facts.name
            self._trading = Trading(engine, contest, lambda row: told(row, engine.run, name))
        self._trading.market = contest
        self._trading.order[:] = state.order
        self._run(self._trading, contest)
        return self._outcome(contest, *before)

    def _contest(self, state: State, seats: Array, seed: int, latency: Array | None) -> Contest:
        luck = generator(seed, "contest").integers(0, 2**63, OTHERS + 2, dtype=np.uint64)
        market = state.market.clone()
        market.flow.rng[:] = luck[:1]
        legs = latency_record(self.table.latency) if latency is None else latency
        own = {f: getattr(state.venue, f).copy() for f in Reactive._fields if f not in ("flow", "last")}
        ours = Reactive(flow=market.flow, last=market.last, **own)
        ours.rng[:] = luck[1:2]
        ours.latency[:] = legs
        worlds = tuple(
            World(market.flow, new_desk(*self.table.fees, owner=US + 1 + i), legs, luck[2 + i : 3 + i].copy())
            for i in range(OTHERS)
        )
        pace = np.zeros(1, PACE)
        pace["decisions"], pace["every"] = self.table.decisions, self.table.every
        return Contest(
            ours, worlds, seats, np.zeros(1, VIEW), pace, np.zeros((OTHERS, 2)), np.zeros(len(FEATURES))
        )

    def _run(self, trading: Trading, contest: Contest) -> None:
        """Play to the end of the episode."""
        events, made = 0, -1
        while made < self.table.decisions:
            self._rows.view(np.uint8).fill(0)
            result = trading.run(self._rows, self._laps, events)
            events += int(trading.progress["events"][0])
            made = int(contest.pace["made"][0])
            if contest.ours.venue["lost"][0] or result in (COMMAND, DOUBT, SILENCE):
                raise EmpError("league: the engine's part of a match did not go on by itself")

    def _outcome(self, m: Contest, worth: float, before: Array, began: int) -> Array:
        """OUTCOME[SEATS]: places of the others as they were seated, the engine's between the first and the second."""
        out, v, p, b = np.zeros(SEATS, OUTCOME), m.ours.venue[0], m.pace[0], m.ours.flow.book
        hours = (int(m.ours.flow.state["now"][0]) - began) / 3.6e12
        mine = out[PLACE]
        mine["pnl"] = worth_at_touch(m) - worth
        mine["lots"], mine["maker_lots"] = v["lots"] - before["lots"], v["maker_lots"] - before["maker_lots"]
        mine["maker_fills"], mine["ahead"] = p["maker_fills"], p["ahead"]
        mine["position"], mine["square"] = p["position"] / p["made"], p["square"] / p["made"]
        for place, world, held in zip((0, 2, 3), m.worlds, m.held, strict=True):
            d, one = world.desk[0], out[place]
            touch = int(b[BEST]) if d["position"] > 0 else int(b[BEST + 1])
            one["pnl"] = d["cash"] - d["fees"] + d["position"] * touch - abs(d["position"]) * d["taker_fee"]
            one["lots"] = d["maker_lots"] + d["taker_lots"]
            for name in ("maker_lots", "maker_fills", "posted_lots"):
                one[name] = d[name]
            one["ahead"], one["lost"] = d["ahead_sum"], d["overflow"]
            one["position"], one["square"] = held / p["made"]
        out["hours"] = hours
        if out["lost"].any():
            raise EmpError("league: a player sent more at once than a line to the venue holds")
        return out
