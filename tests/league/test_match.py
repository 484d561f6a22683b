"""Several players in one book: one queue, own accounts, and the same luck for whoever sits down."""

import numpy as np

from emp.core.numba.rng import seeded
from emp.league.match import SEATS, Table, match, run_seats, states
from emp.league.seats import IDLE, IMMEDIATE, LEARNED, MAKER, TIMED, first_weights, seat
from emp.sim.book.book import BEST, BUY, IOC, POST_ONLY, SELL
from emp.sim.flow.zi import zi_params
from emp.sim.world.desk import World, deliver, desk_new, new_desk, run_desk
from emp.sim.world.latency import LatencyConfig, latency_record

TABLE = Table(zi_params(), decisions=40)
LEGS = latency_record(LatencyConfig())


def worlds(flow):
    return tuple(World(flow, new_desk(0.0, 0.0, owner=i + 1), LEGS, seeded(i, "seat")) for i in range(SEATS))


def field(first, second):
    return np.concatenate([first, second, seat(MAKER), seat(TIMED, parent=20)])


def test_orders_of_all_players_stand_in_one_queue() -> None:
    flow = states(TABLE, 1, 1)[0].clone().flow
    flow.state["next"] = 2**61  # nobody else acts
    bid, now = int(flow.book[BEST]), int(flow.state["now"][0])
    seats = worlds(flow)
    desk_new(seats[0], now, BUY, bid - 5, 4, POST_ONLY)
    run_seats(seats, now + 10**9, 1)
    desk_new(seats[1], now + 10**9, BUY, bid - 5, 3, POST_ONLY)
    run_seats(seats, now + 2 * 10**9, 1)
    first, second = (w.desk[0]["orders"][0] for w in seats[:2])
    assert second["ahead"] == first["ahead"] + 4
    rest = second["ahead"] - 4  # the market's, at that price
    for side_px in range(bid, bid - 5, -1):  # sell through all that stands above
        desk_new(seats[2], now + 2 * 10**9, SELL, side_px, 500, IOC)
    run_seats(seats, now + 3 * 10**9, 1)
    desk_new(seats[3], now + 3 * 10**9, SELL, bid - 5, int(rest) + 5, IOC)
    run_seats(seats, now + 4 * 10**9, 1)
    assert [int(w.desk["position"][0]) for w in seats[:2]] == [4, 1]  # in the order of their arrival
    assert seats[3].desk["position"][0] == -(rest + 5)
    assert seats[1].desk["cash"][0] == -(bid - 5)
    assert seats[0].desk["ahead_sum"][0] == rest
    for w in seats[:2]:
        deliver(w, now + 5 * 10**9)
    assert [int(w.desk["seen_position"][0]) for w in seats[:2]] == [4, 1]
    assert seats[0].desk["maker_lots"][0] == 4
    assert seats[3].desk["taker_lots"][0] == rest + 5


def test_one_player_alone_is_a_desk_in_a_market() -> None:
    state = states(TABLE, 2, 1)[0]
    one, many = state.clone().flow, state.clone().flow
    alone, seats = World(one, new_desk(0.1, 0.2), LEGS, seeded(0, "seat")), worlds(many)
    seats[0].desk["maker_fee"], seats[0].desk["taker_fee"] = 0.1, 0.2
    for k in range(60):
        run_desk(alone, 2**62, 10)
        run_seats(seats, 2**62, 10)
        for w in (alone, seats[0]):
            now = int(w.flow.state["now"][0])
            deliver(w, now)
            side, kind = k % 2, IOC if k % 7 == 0 else POST_ONLY
            px = int(w.flow.book[BEST + (1 - side if kind == IOC else side)])
            desk_new(w, now, side, px, 1 + k % 3, kind)
    assert alone.desk.tobytes() == seats[0].desk.tobytes()
    assert one.book.tobytes() == many.book.tobytes()
    assert alone.desk["maker_lots"][0] > 0
    assert alone.desk["taker_lots"][0] > 0


def test_a_copy_in_the_same_seat_makes_no_difference_and_another_player_does() -> None:
    state = states(TABLE, 3, 1)[0]
    me = seat(LEARNED, weights=first_weights())
    first = match(TABLE, state, field(me, me), 5)
    assert first.tobytes() == match(TABLE, state, field(me, me.copy()), 5).tobytes()
    other = match(TABLE, state, field(me, seat(IMMEDIATE, parent=20)), 5)
    assert other["lots"][1] == 20
    assert other["maker_lots"][1] == 0
    assert other["pnl"][0] != first["pnl"][0]  # what one does, the others meet in the book
    assert match(TABLE, state, field(me, me), 6).tobytes() != first.tobytes()


def test_execution_trades_its_order_and_an_idle_seat_nothing() -> None:
    for k, state in enumerate(states(TABLE, 4, 5)):
        out = match(TABLE, state, field(seat(IDLE), seat(TIMED, side=-1, parent=10)), k)
        assert out["lots"][0] == out["pnl"][0] == 0
        assert 8 <= out["lots"][1] <= 10
        assert out["position"][1] < 0
        assert out["maker_fills"][2] > 0
        assert out["ahead"][2] > 0
