"""What the session makes of depth and spot events, without a socket."""

import msgspec
import pytest
from ctrader_rig import ACCOUNT, QUICK, Link

from emp.access.ctrader.messages import (
    ProtoOADepthEvent,
    ProtoOASpotEvent,
    ProtoOASubscribeDepthQuotesReq,
)
from emp.access.ctrader.outbox import frame
from emp.access.ctrader.parts import ProtoOADepthQuote
from emp.core.codes import EventFlag, Quarantine

S = 1_000_000_000
LOT = 100_000


def depth(new: list[tuple[int, str, int, int]], gone: tuple[int, ...] = ()) -> bytes:
    quotes = tuple(
        ProtoOADepthQuote(id=i, size=size, bid=px if side == "b" else None, ask=px if side == "a" else None)
        for i, side, px, size in new
    )
    event = ProtoOADepthEvent(
        ctid_trader_account_id=ACCOUNT, symbol_id=1, new_quotes=quotes, deleted_quotes=gone
    )
    return frame(event, None)


def shown(link: Link) -> list[tuple[list[tuple[int, int]], list[tuple[int, int]]]]:
    return [
        (
            [(int(r["bid_px"][i]), int(r["bid_sz"][i])) for i in range(r["n_bid"])],
            [(int(r["ask_px"][i]), int(r["ask_sz"][i])) for i in range(r["n_ask"])],
        )
        for r in link.rows
    ]


def test_quotes_of_one_price_add_up_and_levels_below_one_lot_are_left_out() -> None:
    link = Link()
    link.session.receive(depth([(900, "b", 110_000, 2 * LOT), (901, "b", 109_990, LOT // 2)]))
    link.pump()
    assert shown(link)[-1][0] == [(110_000, 5)]
    assert link.session.feed.sub_lot_levels == 1
    link.session.receive(depth([(902, "b", 109_990, LOT // 2)]))
    link.pump()
    assert shown(link)[-1][0] == [(110_000, 5), (109_990, 1)]


def test_a_delete_that_came_before_its_quote_leaves_no_ghost() -> None:
    link = Link()
    link.session.receive(depth([], (900, 901)) + depth([(900, "b", 110_001, LOT), (902, "b", 109_000, LOT)]))
    link.pump()
    assert shown(link)[-1][0] == [(110_000, 3), (109_000, 1)]


def test_only_visible_changes_make_rows() -> None:
    link = Link()
    before = len(link.rows)
    quotes = [(900 + i, "b", 109_900 - i, LOT) for i in range(12)]
    link.session.receive(depth(quotes))
    link.session.receive(depth([], (911,)))
    link.session.receive(depth([(950, "b", 109_000, LOT)]))
    link.pump()
    assert len(link.rows) == before + 1
    assert link.rows[-1]["n_bid"] == 10
    assert link.session.feed.tally().merged == 2


@pytest.mark.parametrize(
    ("quotes", "reason"),
    [
        ([(900, "b", 110_005, LOT)], Quarantine.CROSSED),
        ([(900, "a", 110_000, LOT)], Quarantine.LOCKED),
        ([(900, "b", 0, LOT)], None),
        ([(900, "b", 1 << 60, LOT)], Quarantine.ABSURD_PRICE),
        ([(900, "b", 109_999, 1 << 60)], Quarantine.ABSURD_SIZE),
    ],
)
def test_bad_books_are_quarantined_and_counted(
    quotes: list[tuple[int, str, int, int]], reason: Quarantine | None
) -> None:
    link = Link()
    before = len(link.rows)
    link.session.receive(depth(quotes))
    link.pump()
    if reason is None:
        assert not link.session.online, "a quote without a price breaks the protocol"
        return
    counts = link.session.feed.tally()
    assert counts.quarantined == {reason: 1}
    assert [s.reason for s in counts.samples] == [reason]
    assert len(link.rows) == before
    link.session.receive(depth([(901, "b", 109_000, LOT)], (900,)))
    link.pump()
    assert len(link.rows) == before + 1
    counts = link.session.feed.tally()
    assert counts.rows == counts.events + counts.merged + sum(counts.quarantined.values())


def test_an_emptied_side_is_one_sided() -> None:
    link = Link()
    link.session.receive(depth([], (1,)))
    assert link.session.feed.tally().quarantined == {Quarantine.ONE_SIDED: 1}


def test_a_book_that_stays_crossed_is_asked_for_anew() -> None:
    link = Link()
    link.session.receive(depth([(900, "b", 110_009, LOT)]))
    link.later(4 * S)
    asked = sum(isinstance(m, ProtoOASubscribeDepthQuotesReq) for m in link.venue.received)
    link.later(3 * S)
    assert sum(isinstance(m, ProtoOASubscribeDepthQuotesReq) for m in link.venue.received) == asked + 1
    assert shown(link)[-1] == ([(110_000, 3)], [(110_002, 5)])
    assert link.rows[-1]["flags"] & EventFlag.GAP


def test_a_book_of_too_many_quotes_starts_over() -> None:
    link = Link()
    for start in range(0, 1_200, 100):
        link.session.receive(depth([(10_000 + start + i, "b", 90_000 - start - i, LOT) for i in range(100)]))
        link.pump()
    assert link.session.online
    fresh = [i for i, row in enumerate(link.rows) if row["flags"] & EventFlag.GAP]
    assert [shown(link)[i] for i in fresh] == [([(110_000, 3)], [(110_002, 5)])]


def spot(bid: int | None, ask: int | None) -> bytes:
    return frame(ProtoOASpotEvent(ctid_trader_account_id=ACCOUNT, symbol_id=1, bid=bid, ask=ask), None)


def test_spot_events_may_lack_a_side() -> None:
    link = Link(msgspec.structs.replace(QUICK, depth=False))
    for event in (spot(110_001, None), spot(None, 110_004), spot(None, None), spot(110_001, 110_004)):
        link.session.receive(event)
    link.pump()
    assert shown(link) == [
        ([(110_000, 0)], [(110_002, 0)]),
        ([(110_001, 0)], [(110_002, 0)]),
        ([(110_001, 0)], [(110_004, 0)]),
    ]
    flags = EventFlag.VISIBLE | EventFlag.NO_SIZE | EventFlag.NO_DEPTH
    assert {int(r["flags"]) for r in link.rows} == {int(flags)}
    assert link.session.feed.tally().merged == 2


def test_stamps_never_go_back_when_the_clock_does() -> None:
    link = Link()
    link.clock.step(-10 * S)
    link.market.show("EURUSD", [(110_001, 1)], [(110_003, 1)])
    link.pump()
    assert link.rows[-1]["ts"] >= link.rows[-2]["ts"]
