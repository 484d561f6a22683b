"""A simulated trading day: auctions, halts and interruptions, and our orders in them."""

from datetime import UTC, datetime

import msgspec
import numpy as np
import pytest

from emp.core.codes import EventFlag, OrderStatus, Session
from emp.core.contracts import NewOrder, OrderUpdate
from emp.core.errors import UsageError
from emp.core.instrument import Instrument, SessionSpan, find
from emp.core.records import EVENT
from emp.core.sessions import session_table
from emp.sim.book.check import check_book
from emp.sim.flow.zi import zi_params
from emp.sim.world.day import SECOND, DayConfig, DayMarket, Phase
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.mock import MockMarket
from tests.kit.orders import cancel_order, new_order

MINUTE = 60 * SECOND
BEFORE = int(datetime(2012, 6, 21, 13, 25, tzinfo=UTC).timestamp()) * SECOND  # 09:25 in New York
OPEN, CALL, CLOSE = BEFORE + 5 * MINUTE, BEFORE + 385 * MINUTE, BEFORE + 395 * MINUTE
SLOW = zi_params(limit_hz=4.0, market_hz=0.6, cancel_hz=0.03)
START = 100_000
BAND = 0.00002  # two ticks: this flow hardly moves
HALT, RESUME, AUCTION = int(EventFlag.HALT), int(EventFlag.RESUME), int(EventFlag.AUCTION)


@pytest.fixture(scope="module")
def goog() -> Instrument:
    """GOOG with a closing auction of ten minutes, which US exchanges do not hold."""
    goog = find("GOOG")
    zone = goog.sessions[0].zone
    closing = SessionSpan(session="auction_close", start="15:50", end="16:00", zone=zone)
    return msgspec.structs.replace(goog, sessions=(*goog.sessions, closing))


def day(goog: Instrument, start: int = BEFORE, seed: int = 1, **rules: object) -> DayMarket:
    return DayMarket(SLOW, seed, START, start, goog, DayConfig(**rules))  # type: ignore[arg-type]


def rows_until(market: DayMarket, until: int, batch: int = 5_000) -> np.ndarray:
    parts = []
    while True:
        rows = np.zeros(batch, EVENT)
        n = market.run(until, batch, rows=rows)
        parts.append(rows[:n])
        if n < batch:
            return np.concatenate(parts)


def marked(rows: np.ndarray) -> list[tuple[int, int]]:
    """(seconds since BEFORE, flags) of stops and auctions."""
    odd = rows[(rows["flags"] & (HALT | RESUME | AUCTION)) != 0]
    return [((int(r["ts"]) - BEFORE) // SECOND, int(r["flags"]) & (HALT | RESUME | AUCTION)) for r in odd]


def test_a_day_opens_trades_and_closes_by_the_calendar(goog: Instrument) -> None:
    market = day(goog)
    assert market.phase is Phase.OPENING
    rows = rows_until(market, CLOSE + MINUTE)
    assert market.phase is Phase.CLOSED
    assert marked(rows) == [(300, AUCTION | RESUME), (395 * 60, AUCTION)]
    assert int(rows["ts"][0]) == OPEN
    quiet = (rows["ts"] >= CALL) & (rows["ts"] < CLOSE)
    assert quiet.sum() == 0
    assert (rows["bid_px"][:, 0] < rows["ask_px"][:, 0]).all()
    assert (np.diff(rows["ts"]) >= 0).all()
    assert (np.diff(rows["seq"]) > 0).all()
    kinds = [(a.kind, a.volume > 0) for a in market.auctions]
    assert kinds == [(Phase.OPENING, True), (Phase.CLOSING, True)]
    opening = rows[0]
    assert (int(opening["trade_px"]), int(opening["trade_qty_last"])) == (
        market.auctions[0].price,
        market.auctions[0].volume,
    )
    assert int(opening["trade_qty"]) == 0  # nobody is the aggressor
    check_book(market.book)


def test_phases_are_the_session_tokens(goog: Instrument) -> None:
    """What the engine's calendar says of an instant is what the market does then."""
    table = session_table(goog, BEFORE, CLOSE)
    market = day(goog, band=0.0)
    want = {
        Session.AUCTION_OPEN: Phase.OPENING,
        Session.AUCTION_CLOSE: Phase.CLOSING,
        Session.CLOSED: Phase.CLOSED,
    }
    for minute in (1, 6, 100, 386, 396):
        at = BEFORE + minute * MINUTE
        market.run(at, 1 << 30)
        session = Session(int(table["session_id"][np.searchsorted(table["start"], at, side="right") - 1]))
        assert market.phase is want.get(session, Phase.TRADING)


def test_a_move_out_of_the_band_interrupts_and_an_auction_reopens(goog: Instrument) -> None:
    market = day(goog, OPEN, band=BAND, reference_s=600.0, pause_s=30.0)
    rows = rows_until(market, OPEN + 30 * MINUTE)
    stops = marked(rows)
    assert len(stops) >= 2
    (stopped, first), (reopened, second) = stops[:2]
    assert (first, second & RESUME) == (HALT, RESUME)
    assert reopened - stopped in (30, 31)
    between = rows[
        (rows["ts"] > BEFORE + (stopped + 1) * SECOND) & (rows["ts"] < BEFORE + (reopened - 1) * SECOND)
    ]
    assert len(between) == 0
    assert {a.kind for a in market.auctions} == {Phase.INTERRUPTED}
    at = int(np.flatnonzero(rows["flags"] & HALT)[0])
    mid = (rows["bid_px"][at, 0] + rows["ask_px"][at, 0]) / 2
    assert abs(mid - START) > 1  # it did leave the band
    calm = rows_until(day(goog, OPEN), OPEN + 10 * MINUTE)
    assert marked(calm) == []


def test_an_announced_halt_takes_cancels_then_reopens_by_auction(goog: Instrument) -> None:
    market = day(goog, OPEN, halts=((OPEN + 2 * MINUTE, 60.0),), pause_s=60.0)
    rows_until(market, OPEN + 2 * MINUTE + SECOND)
    assert market.phase is Phase.HALTED
    rows_until(market, OPEN + 3 * MINUTE + SECOND)
    assert market.phase is Phase.INTERRUPTED
    rows = rows_until(market, OPEN + 5 * MINUTE)
    assert market.phase is Phase.TRADING
    assert marked(rows)[0][1] & RESUME


def test_the_same_seed_gives_the_same_day_whatever_the_batch(goog: Instrument) -> None:
    whole = rows_until(day(goog, band=BAND, pause_s=30.0), OPEN + 20 * MINUTE, 5_000)
    parts = rows_until(day(goog, band=BAND, pause_s=30.0), OPEN + 20 * MINUTE, 7)
    assert whole.tobytes() == parts.tobytes()


def test_clones_part_only_when_disturbed(goog: Instrument) -> None:
    market = day(goog)
    market.run(BEFORE + MINUTE, 1 << 30)
    twin = market.clone()
    assert rows_until(market, OPEN + MINUTE).tobytes() == rows_until(twin, OPEN + MINUTE).tobytes()
    assert market.auctions == twin.auctions


def test_a_market_without_auctions_pauses_when_it_is_closed() -> None:
    """Gold futures break from 16:00 to 17:00 in Chicago."""
    start = int(datetime(2023, 5, 3, 20, 50, tzinfo=UTC).timestamp()) * SECOND
    market = DayMarket(SLOW, 1, START, start, find("GC"))
    rows = rows_until(market, start + 80 * MINUTE)
    at = (rows["ts"] - start) // MINUTE
    assert set(at.tolist()) == {*range(10), *range(70, 80)}
    assert market.auctions == []
    mock = MockMarket(find("GC"), 1, market=market)
    reports: list[OrderUpdate] = []
    now = start + 81 * MINUTE
    mock.exchange.send(msgspec.structs.replace(order(1, 1, START - 500, 1), instrument="GC"), now)
    pass_time(mock, now + SECOND, reports)
    assert [r.status for r in reports] == [OrderStatus.NEW]


def order(n: int, side: int, px: int, qty: int, immediate: bool = False) -> NewOrder:
    return new_order(f"D-{n}", side, qty, px, instrument="GOOG", immediate=immediate, seq=n)


def pass_time(mock: MockMarket, until: int, reports: list[OrderUpdate]) -> None:
    rows = np.zeros(4_096, EVENT)
    while mock.exchange.run(until, len(rows), rows, reports.append) == len(rows):
        pass


def test_our_orders_take_part_in_the_auction_and_nothing_immediate_does(goog: Instrument) -> None:
    market = day(goog)
    mock = MockMarket(goog, 1, market=market, latency=LatencyConfig())
    reports: list[OrderUpdate] = []
    mock.exchange.send(order(1, 1, START + 50, 7), BEFORE + SECOND)  # any price up to 50 ticks above
    mock.exchange.send(order(2, 1, START + 50, 7, immediate=True), BEFORE + SECOND)
    mock.exchange.send(order(3, -1, START + 900, 2), BEFORE + SECOND)
    pass_time(mock, OPEN + SECOND, reports)
    told = {(r.clOrdID, r.status): r for r in reports}
    assert told["D-2", OrderStatus.REJECTED].text == "the market is halted or in an auction"
    fill = told["D-1", OrderStatus.FILLED]
    assert fill.price == market.auctions[0].price <= START + 50
    assert fill.ts >= OPEN
    assert ("D-3", OrderStatus.NEW) in told
    assert ("D-3", OrderStatus.FILLED) not in told
    assert mock.exchange.position == 7


def test_a_halt_refuses_orders_and_takes_cancels(goog: Instrument) -> None:
    market = day(goog, OPEN, halts=((OPEN + MINUTE, 120.0),))
    mock = MockMarket(goog, 1, market=market, latency=LatencyConfig())
    reports: list[OrderUpdate] = []
    mock.exchange.send(order(1, 1, START - 500, 1), OPEN + SECOND)
    pass_time(mock, OPEN + 90 * SECOND, reports)
    assert market.phase is Phase.HALTED
    at = OPEN + 95 * SECOND
    mock.exchange.send(order(2, 1, START - 400, 1), at)
    mock.exchange.send(cancel_order("C", "D-1", instrument="GOOG", ts=at), at)
    pass_time(mock, OPEN + 100 * SECOND, reports)
    assert [(r.clOrdID, r.status) for r in reports] == [
        ("D-1", OrderStatus.NEW),
        ("D-2", OrderStatus.REJECTED),
        ("D-1", OrderStatus.CANCELED),
    ]


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UsageError, match="band must lie"):
        DayConfig(band=1.5)
    with pytest.raises(UsageError, match="longer than 0 s"):
        DayConfig(pause_s=0.0)
