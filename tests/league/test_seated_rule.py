"""The engine's rule at the table: the others play as in any match, it plays as it does alone, and one book has all."""

from functools import cache
from typing import Any

import numpy as np

from emp.core.codes import Action, WorkingState
from emp.core.ids import generator
from emp.core.messages import MESSAGE, NEW
from emp.core.records import DECISION, EVENT, Array
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.fork import restore
from emp.engine.step import QUIET
from emp.engine.trade import NEVER, OVER
from emp.engine.trading import Trading
from emp.execution.order import no_order
from emp.league.contest import contest_advance
from emp.league.duel import Duel, second_of
from emp.league.match import OUTCOME, SEATS, Table, play
from emp.league.rule import PLACE, SeatedRule, State
from emp.league.seats import FEATURES, IDLE, IMMEDIATE, MAKER, TIMED, VIEW, seat
from emp.sim.book.book import BEST, IOC, POST_ONLY, SELL
from emp.sim.book.check import check_book
from emp.sim.flow.zi import zi_params
from emp.sim.world.desk import World, desk_new, new_desk
from emp.sim.world.latency import FEED, latency_record
from emp.sim.world.venue import reactive_send, told

TABLE = Table(zi_params(), decisions=40)
OTHERS = SEATS - 1


@cache
def seated(limit: int = 10) -> SeatedRule:
    return SeatedRule(TABLE, "ES", load_model("linear"), size=1, limit=limit, states=8, seed=3)


def others(first: Array | None = None, parent: int = 20) -> Array:
    me = seat(MAKER, size=2) if first is None else first
    return np.concatenate([me, seat(MAKER), seat(TIMED, parent=parent)])


def nobody() -> Array:
    return np.concatenate([seat(IDLE)] * OTHERS)


def test_it_has_learned_enough_to_trade_and_the_same_match_is_the_same() -> None:
    rule = seated()
    out = np.stack([rule.play(k, others(), k) for k in range(4)])
    again = np.stack([rule.play(k, others(), k) for k in range(4)])
    assert out.tobytes() == again.tobytes()
    assert out["lots"][:, PLACE].sum() > 10
    assert out["maker_fills"][:, PLACE].sum() > 10
    assert (out["lots"][:, 3] <= 20).all()
    other = np.stack([rule.play(k, others(seat(IMMEDIATE, parent=40)), k) for k in range(4)])
    assert (
        other["pnl"][:, PLACE] != out["pnl"][:, PLACE]
    ).any()  # what one does, the others meet in the book


def test_the_others_play_as_in_a_match_where_the_rule_may_hold_nothing() -> None:
    rule = seated(limit=0)
    for k in range(4):
        mine = rule.play(k, others(), k)
        assert mine["lots"][PLACE] == 0
        luck = generator(k, "contest").integers(0, 2**63, OTHERS + 2, dtype=np.uint64)
        flow = rule.states[k].market.clone().flow
        flow.rng[:] = luck[:1]
        legs = latency_record(TABLE.latency)
        rngs = [luck[1:2], *(luck[2 + i : 3 + i] for i in range(OTHERS))]
        worlds = tuple(
            World(flow, new_desk(0.0, 0.0, owner=i + 1), legs, r.copy()) for i, r in enumerate(rngs)
        )
        out = np.zeros(SEATS, OUTCOME)
        seats = np.concatenate([seat(IDLE), others()])
        play(worlds, seats, np.zeros(1, VIEW), TABLE.decisions, TABLE.every, np.zeros(len(FEATURES)), out)
        for place, there in ((0, 1), (2, 2), (3, 3)):
            for name in ("pnl", "lots", "maker_fills", "posted_lots", "ahead", "position", "square", "hours"):
                assert mine[name][place] == out[name][there], (k, place, name)
        assert mine["lots"][3] >= 19


def engine_of(rule: SeatedRule, state: State) -> Engine:
    """An engine as it was in a state."""
    engine = rule._new_engine()
    engine.extend_calendar(state.market.now_ns, state.market.now_ns)
    restore(engine, state.engine)
    engine.sequence = state.sequence
    return engine


def rows_of(
    rule: SeatedRule, k: int, venue: Any, most: int = NEVER, *, engine: Engine | None = None
) -> tuple[Array, int]:
    """What the engine decides from the `k`-th state on in a venue of that state, and how many events it saw."""
    state = rule.states[k]
    engine = engine or engine_of(rule, state)
    trading = Trading(engine, venue, lambda row: told(row, engine.run, "ES"))
    trading.order[:] = state.order
    rows, laps = np.zeros(1 << 16, DECISION), np.zeros((1 << 16, 3), np.int32)
    result = trading.run(rows, laps, 0, most=most)
    assert result in (QUIET, OVER)
    rows["latency_ms"] = 0.0  # of the clock on the wall
    return rows[: int(trading.progress["rows"][0])], int(trading.progress["events"][0])


def test_beside_nobody_it_decides_as_alone_in_its_market() -> None:
    rule = seated()
    at_once = latency_record(
        TABLE.latency
    )  # no feed to wait for, and every leg the same: as a lone engine sends
    at_once["body_ns"], at_once["compute_ns"] = 0.0, 0.0
    at_once["floor_ns"], at_once["floor_ns"][:, FEED] = 200_000.0, 0.0
    contest, alone = (rule.contest(rule.states[1], nobody(), 9, at_once) for _ in range(2))
    beside, events = rows_of(rule, 1, contest)
    by_itself, _ = rows_of(rule, 1, alone.engines[0], events)
    assert events > TABLE.decisions * TABLE.every
    assert beside.tobytes() == by_itself.tobytes()
    for name in contest.engines[0].venue.dtype.names:
        assert contest.engines[0].venue[name] == alone.engines[0].venue[name], name
    assert (beside["action"] == Action.POST).sum() >= 3


def test_the_book_is_sound_and_the_accounts_are_whole_after_a_match() -> None:
    rule = seated()
    for k in range(4):
        contest = rule.contest(rule.states[k], others(seat(IMMEDIATE, parent=40)), k)
        rows_of(rule, k, contest)
        check_book(contest.engines[0].flow.book)
        first = contest.worlds[0].desk[0]
        assert first["position"] == first["taker_lots"]
        assert 30 <= first["position"] <= 40


def test_a_trade_between_the_engine_and_another_is_booked_once_by_each() -> None:
    rule = seated()
    for immediate in (True, False):  # the engine takes what the other shows, and the other what it shows
        wide = max(rule.states, key=lambda one: int(one.market.book[BEST + 1]) - int(one.market.book[BEST]))
        contest = rule.contest(wide, nobody(), 1)
        ours, world = contest.engines[0], contest.worlds[0]
        flow = ours.flow
        flow.state["next"] = 2**61  # nobody else acts
        now, bid, ask = int(flow.state["now"][0]), int(flow.book[BEST]), int(flow.book[BEST + 1])
        assert ask - bid > 1
        held, lots = int(ours.venue["position"][0]), int(ours.venue["lots"][0])
        message = np.zeros(1, MESSAGE)[0]
        message["kind"], message["id"], message["side"], message["qty"] = NEW, 900_001, 1, 2
        message["px"], message["immediate"] = bid + 1, immediate
        maker, taker = (desk_new(world, now, SELL, bid + 1, 2, POST_ONLY), 0) if immediate else (0, 1)
        if immediate:
            contest_advance(contest, now + 10**9, np.zeros(1, EVENT))
        reactive_send(ours, message)
        contest_advance(contest, now + 2 * 10**9, np.zeros(1, EVENT))
        if taker:
            desk_new(world, now + 2 * 10**9, SELL, bid + 1, 2, IOC)
            contest_advance(contest, now + 3 * 10**9, np.zeros(1, EVENT))
        desk = world.desk[0]
        assert maker == 0
        assert (int(ours.venue["position"][0]), int(ours.venue["lots"][0])) == (held + 2, lots + 2)
        assert (desk["position"], desk["maker_lots"], desk["taker_lots"]) == (
            -2,
            0 if taker else 2,
            2 * taker,
        )
        assert contest.tally["maker_fills"][0] == taker


def test_the_second_of_two_engines_trades_as_it_would_alone() -> None:
    rule = seated()
    k = next(k for k, state in enumerate(rule.states) if not state.order["open"][0])
    state, idle = rule.states[k], nobody()
    contest = rule.contest(state, idle, 5)
    alone = engine_of(rule, state)
    rows_of(rule, k, contest, engine=alone)
    watching, trading = engine_of(rule, state), engine_of(rule, state)
    watching.desk.risk["halted"] = True
    table = rule.contest(state, idle[1:], 5, copy=True)
    table.engines[1].rng[:] = rule.contest(state, idle, 5).engines[0].rng
    duel = Duel(table, second_of(trading.desk, trading.policy, no_order(state.sequence)))
    rows_of(rule, k, duel, engine=watching)
    assert not duel.second.stopped[0]
    assert table.engines[0].venue["reports"] == state.venue.venue["reports"]  # who is halted sends nothing
    assert table.engines[0].flow.book.tobytes() != state.market.book.tobytes()
    first, second = contest.engines[0].venue[0], table.engines[1].venue[0]
    assert second["lots"] == first["lots"] - state.venue.venue["lots"][0] > 0
    for name in ("position", "cash", "fees", "seen"):
        assert second[name] == first[name], name
    for name, rows in alone.checkpoint().items():
        assert rows.tobytes() == trading.checkpoint()[name].tobytes(), name


def test_a_copy_meets_it_and_both_keep_their_accounts() -> None:
    rule = seated()
    pair = np.concatenate([seat(MAKER), seat(TIMED, parent=20)])
    out = np.stack([rule.play_copy(k, pair, k) for k in range(8)])
    assert out.tobytes() == np.stack([rule.play_copy(k, pair, k) for k in range(8)]).tobytes()
    assert (out["lots"][:, :2].sum(axis=0) > 10).all()
    assert (out["lots"][:, 2] > 0).all()
    alone = np.stack([rule.play(k, np.concatenate([seat(IDLE), pair]), k) for k in range(8)])
    assert (out["pnl"][:, PLACE] != alone["pnl"][:, PLACE]).any()


def test_a_second_engine_leaves_a_feed_gone_silent_in_time() -> None:
    rule = seated()
    state = next(s for s in rule.states if not s.order["open"][0])
    watching, trading = engine_of(rule, state), engine_of(rule, state)
    watching.desk.risk["halted"] = True
    table = rule.contest(state, nobody()[1:], 5, copy=True)
    duel = Duel(table, second_of(trading.desk, trading.policy, no_order(state.sequence)))
    driver = Trading(watching, duel, lambda row: told(row, watching.run, "ES"))
    driver.order[:] = state.order
    rows, laps = np.zeros(64, DECISION), np.zeros((64, 3), np.int32)
    working, flow = trading.desk.working[0], table.engines[0].flow
    while working["state"] != WorkingState.RESTING:
        assert driver.run(rows, laps, 0, most=1) == QUIET
    now = int(flow.state["now"][0])
    flow.state["next"] = now + 60_000_000_000
    assert driver.run(rows, laps, 0, most=1) == QUIET  # up to the next event, a minute later
    stale = int(trading.desk.limits["stale_after_ns"][0])
    sent = int(table.engines[1].venue["last_in"][0])
    assert now + stale <= sent < now + stale + 1_000_000_000
    assert table.engines[1].venue["resting"][0] == 0


def test_states_begin_flat_with_nothing_at_work() -> None:
    for state in seated().states:
        assert not state.order["open"][0]
        assert state.engine["account"]["position"][0] == state.venue.venue["position"][0] == 0
        assert state.venue.venue["in_n"][0] == state.venue.venue["resting"][0] == 0
