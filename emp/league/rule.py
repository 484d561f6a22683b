"""The engine's own rule as a player: it learns in an undisturbed market, and sits down in matches from there.

What the rule believes of fills, adverse selection and its own gains is learned as it trades, so an engine that has
seen nothing trades nothing. It trades alone for a while; what engine, account and market were at some moments after
that, when nothing was held or at work, is kept, and every episode goes on from a copy of one. Its limits are those of
a seat, without loss limits.
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
from emp.engine.step import QUIET
from emp.engine.trade import OVER
from emp.engine.trading import Trading
from emp.execution.order import no_order
from emp.league.contest import PACE, TALLY, Contest, worth_at_touch
from emp.league.duel import Duel, second_of
from emp.league.match import OUTCOME, SEATS, Table
from emp.league.seats import FEATURES, VIEW
from emp.sim.book.book import BEST
from emp.sim.capacity.trade import two_sided
from emp.sim.world.desk import World, new_desk
from emp.sim.world.latency import latency_record
from emp.sim.world.market import Market
from emp.sim.world.trader import Trader
from emp.sim.world.venue import US, Reactive, reactive, reactive_idle, told

OPEN_NS = 1_340_285_400_000_000_000  # 2012-06-21, 13:30 UTC: a trading day of the shipped flows' instruments
LEARNED = 60_000
"""Events that the rule trades alone before the first state of a session."""
BETWEEN = 2_000
"""Events between two states of a session."""
WAITED = 20_000
"""Events within which a state must be flat."""
FROM_ONE = 10
"""States of a session: after them the day would end."""
ROWS = 4_096
PLACE = 1
"""The engine's place among the outcomes of a match, as an opponent of the main agent."""
STOPPED = "league: the engine's part of a match did not go on by itself"


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
        self._second = self._new_engine()
        self._second.extend_calendar(OPEN_NS, OPEN_NS)
        self._trading: dict[type, Trading] = {}  # each compiled for its kind of match

    def _new_engine(self) -> Engine:
        return Engine([self._facts], self._model, self._limits, "LEAGUE00")

    def _session(self, seed: int, n: int) -> None:
        """Let a new engine learn in a new market, and keep `n` states of them."""
        market = Market(self.table.params, seed, self.table.start_px, OPEN_NS, ticks=4096, orders=4096)
        engine = self._new_engine()
        trader = Trader(engine, market, seed=seed, latency=self.table.latency)
        for k in range(n):
            self._trade(trader, LEARNED + k * BETWEEN)
            while not self._calm(trader):
                if trader.events > (k + 1) * WAITED + LEARNED:
                    raise EmpError("league: the engine is never flat with nothing at work")
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

    def _calm(self, trader: Trader) -> bool:
        """Whether an episode can begin: nothing is held, at work or on its way, so that all begin alike."""
        venue, account = trader.venue, trader.engine.desk.account[0]
        flat = account["position"] == 0 and venue.venue["position"][0] == 0
        return bool(
            flat
            and not trader.trading.order["open"][0]
            and reactive_idle(venue)
            and two_sided(trader.venue.flow.book)
        )

    def _trade(self, trader: Trader, until: int) -> None:
        while trader.events < until:
            trader.run(self._rows, self._laps, until - trader.events)
            if trader.closed:
                raise EmpError("league: the engine asked to close its position, without a loss limit")

    def play(self, k: int, seats: Array, seed: int, latency: Array | None = None) -> Array:
        """Go on from the `k`-th state beside three players (SEAT[3]); OUTCOME[SEATS], the engine's at PLACE.

        The others' outcomes are in places 0, 2 and 3. The same arguments give the same outcomes, bit for bit.
        """
        state = self.states[k % len(self.states)]
        contest = self.contest(state, seats, seed, latency)
        self._run(state, contest, contest)
        return self._outcome(contest, [PLACE, 0, 2, 3], state)

    def play_copy(self, k: int, seats: Array, seed: int, latency: Array | None = None) -> Array:
        """The same beside a copy of itself, in place 0, and two players (SEAT[2])."""
        state = self.states[k % len(self.states)]
        contest = self.contest(state, seats, seed, latency, copy=True)
        restore(self._second, state.engine)
        second = second_of(self._second.desk, self._second.policy, no_order(state.sequence))
        self._run(state, contest, Duel(contest, second))
        if second.stopped[0]:
            raise EmpError(STOPPED)
        return self._outcome(contest, [PLACE, 0, 2, 3], state)

    def contest(
        self, state: State, seats: Array, seed: int, latency: Array | None = None, *, copy: bool = False
    ) -> Contest:
        """The market of a state with everybody seated; with `copy` a second account, as the engine's is."""
        engines = 2 if copy else 1
        luck = generator(seed, "contest").integers(0, 2**63, SEATS + 1, dtype=np.uint64)
        market = state.market.clone()
        market.flow.rng[:] = luck[:1]
        legs = latency_record(self.table.latency) if latency is None else latency
        own = {f: getattr(state.venue, f).copy() for f in Reactive._fields if f not in ("flow", "last")}
        venues = [Reactive(flow=market.flow, last=market.last, **own)]
        if copy:
            venues.append(self._beside(market, state))
        for e, venue in enumerate(venues):
            venue.rng[:] = luck[1 + e : 2 + e]
            venue.latency[:] = legs
        worlds = tuple(
            World(market.flow, new_desk(*self.table.fees, owner=US + n), legs, luck[1 + n : 2 + n].copy())
            for n in range(engines, SEATS)
        )
        pace = np.zeros(1, PACE)
        pace["decisions"], pace["every"] = self.table.decisions, self.table.every
        scratch = np.zeros(1, VIEW), pace, np.zeros(SEATS, TALLY), np.zeros(len(FEATURES))
        return Contest(tuple(venues), worlds, seats, *scratch)

    def _beside(self, market: Market, state: State) -> Reactive:
        """A second account in the market, with what the engine holds and is shown, and nothing at work."""
        venue = reactive(market, self._facts, self.table.latency, 0, owner=US + 1)
        for name in ("position", "cash", "fees", "seen"):
            venue.venue[name] = state.venue.venue[name]
        own = {name: getattr(state.venue, name).copy() for name in ("judge", "shown", "waiting", "last")}
        return venue._replace(**own)

    def _run(self, state: State, contest: Contest, venue: Contest | Duel) -> None:
        """Play to the end of the episode."""
        engine = self._engine
        restore(engine, state.engine)
        engine.sequence = state.sequence
        trading = self._trading.get(type(venue))
        if trading is None:
            trading = Trading(engine, venue, lambda row: told(row, engine.run, self._facts.name))
            self._trading[type(venue)] = trading
        trading.market = venue
        trading.order[:] = state.order
        events, result = 0, QUIET
        while result == QUIET:
            self._rows.view(np.uint8).fill(0)
            result = trading.run(self._rows, self._laps, events)
            events += int(trading.progress["events"][0])
        if result != OVER or any(one.venue["lost"][0] for one in contest.engines):
            raise EmpError(STOPPED)

    def _outcome(self, m: Contest, places: list[int], state: State) -> Array:
        """OUTCOME[SEATS]: of engines and others, in that order, at their places."""
        out, before, b = np.zeros(SEATS, OUTCOME), state.venue.venue[0], m.engines[0].flow.book
        worth = worth_at_touch(state.venue._replace(flow=state.market.flow))
        for place, venue, tally in zip(places, m.engines, m.tally, strict=False):
            one, v = out[place], venue.venue[0]
            first = before if venue.venue["owner"][0] == US else np.zeros(1, before.dtype)[0]
            one["pnl"] = worth_at_touch(venue) - worth
            one["lots"], one["maker_lots"] = v["lots"] - first["lots"], v["maker_lots"] - first["maker_lots"]
            one["maker_fills"], one["ahead"] = tally["maker_fills"], tally["ahead"]
        for place, world in zip(places[len(m.engines) :], m.worlds, strict=True):
            one, d = out[place], world.desk[0]
            touch = int(b[BEST]) if d["position"] > 0 else int(b[BEST + 1])
            one["pnl"] = d["cash"] - d["fees"] + d["position"] * touch - abs(d["position"]) * d["taker_fee"]
            one["lots"] = d["maker_lots"] + d["taker_lots"]
            for name in ("maker_lots", "maker_fills", "posted_lots"):
                one[name] = d[name]
            one["ahead"], one["lost"] = d["ahead_sum"], d["overflow"]
        for place, tally in zip(places, m.tally, strict=True):
            for name in ("position", "square"):
                out[place][name] = tally[name] / m.pace["made"][0]
        out["hours"] = (int(m.engines[0].flow.state["now"][0]) - state.market.now_ns) / 3.6e12
        if out["lost"].any():
            raise EmpError("league: a player sent more at once than a line to the venue holds")
        return out
