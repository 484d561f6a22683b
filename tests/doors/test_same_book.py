"""One market through every door gives the same books, the same quarantine and the same decisions."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.access.ctrader.feed import Feed
from emp.access.ctrader.symbols import Terms
from emp.access.recordings import open_recording
from emp.core.approval import command_of
from emp.core.codes import EventFlag, OrderStatus, Quarantine
from emp.core.contracts import NewOrder, OrderUpdate
from emp.core.records import EVENT, UNHASHED, Array, fieldwise_bytes
from emp.engine.engine import Engine
from tests.core.book_reference import Judge, row_of, whole_lots
from tests.core.book_reference import book_of as seen_book
from tests.doors.markets import (
    ACCOUNT,
    LOT,
    SYMBOL,
    Moment,
    book_of,
    csv_lines,
    depth_events,
    fix_changes,
    fix_snapshots,
    generate,
    stamp_ns,
    visible,
)
from tests.fix.desk import EURUSD, Screen
from tests.kit.models import LOOSE, eager_model

Passed = tuple[Array, Counter[Quarantine], int]
"""Visible rows, what was quarantined, and how many levels held less than one lot."""


def directly(market: Sequence[Moment]) -> Passed:
    """EVENT rows made by the rules in plain Python."""
    judge, last = Judge(), None
    rows, bad, left_out = [], Counter[Quarantine](), 0
    for k, moment in enumerate(market):
        book, few = whole_lots(book_of(moment), LOT)
        left_out += few
        reason = judge.book(book, stamp_ns(k))
        if reason:
            bad[reason] += 1
        elif book != last:
            row = row_of(book, int(EventFlag.VISIBLE))
            row["ts"] = stamp_ns(k)
            rows.append(row)
            last = book
    return visible(np.concatenate(rows)), bad, left_out


def through_fix(messages: Sequence[bytes]) -> Passed:
    screen = Screen()
    rows = [row for message in messages for row in screen.show(message)]
    market = screen.market
    return visible(np.array(rows, EVENT)), market.quarantined, market.sub_lot_levels


def through_open_api(market: Sequence[Moment]) -> Passed:
    feed = Feed(ACCOUNT, depth=True)
    terms = Terms(
        index=0,
        instrument=EURUSD,
        symbol_id=SYMBOL,
        digits=5,
        tick_points=1,
        lot_volume=LOT * 100,
        min_volume=0,
        max_volume=0,
        step_volume=0,
        quote_asset_id=0,
    )
    feed.set_terms([terms])
    rows = []
    for k, data in enumerate(depth_events(market)):
        for received in feed.receive(data, stamp_ns(k)):
            assert isinstance(received, np.ndarray)
            rows.append(received.copy())
    counts = feed.tally()
    assert counts.rows == len(market) == counts.events + counts.merged + counts.quarantined.total()
    return visible(np.concatenate(rows)), counts.quarantined, feed.sub_lot_levels


def through_a_recording(market: Sequence[Moment], folder: Path) -> Passed:
    path = folder / "EURUSD_book13.csv"
    path.write_text("\n".join(csv_lines(market)) + "\n")
    source = open_recording(path, EURUSD, accept_losses=True)  # most of these books are bad
    rows = np.concatenate(list(source.batches()))
    return visible(rows), source.counts.quarantined, source.sub_lot_levels


def all_doors(market: Sequence[Moment], folder: Path) -> dict[str, Passed]:
    return {
        "fix snapshots": through_fix(fix_snapshots(market)),
        "fix changes": through_fix(fix_changes(market)),
        "open api": through_open_api(market),
        "recording": through_a_recording(market, folder),
    }


@given(seed=st.integers(0, 2**32 - 1), moments=st.integers(1, 60))
@settings(max_examples=60)
def test_every_door_shows_the_books_that_the_rules_give(
    tmp_path_factory: pytest.TempPathFactory, seed: int, moments: int
) -> None:
    market, meant = generate(seed, moments)
    rows, bad, left_out = directly(market)
    assert bad == Counter(reason for reason in meant if reason), "the market holds what it is meant to hold"
    for door, (found, quarantined, few) in all_doors(market, tmp_path_factory.mktemp("doors")).items():
        assert [seen_book(row) for row in found] == [seen_book(row) for row in rows], door
        assert fieldwise_bytes(found) == fieldwise_bytes(rows), door
        assert (quarantined, few) == (bad, left_out), door


def decided(engine: Engine, events: Array) -> Array:
    """DECISION rows of all events; an order fills whole at its limit the moment it is sent."""
    rows, at = [], 0
    while at < len(events):
        output = engine.process(events[at:])
        at += output.consumed
        rows.append(output.rows)
        for one in output.commands:
            engine.sent(one)
            command = command_of(one)
            if isinstance(command, NewOrder):
                engine.on_report(
                    OrderUpdate(
                        clOrdID=command.cl_ord_id,
                        execID=f"E{command.cl_ord_id}",
                        status=OrderStatus.FILLED,
                        filled=command.qty,
                        price=command.px,
                        ts=command.ts,
                        instrument=command.instrument,
                        side=command.side,
                    )
                )
    return np.concatenate(rows)


def test_every_door_leads_to_the_same_decisions(tmp_path: Path) -> None:
    market, _ = generate(11, 1_500)
    model = eager_model(tmp_path / "model", 0)
    rows, bad, left_out = directly(market)
    assert set(bad) == {
        Quarantine.CROSSED,
        Quarantine.LOCKED,
        Quarantine.ONE_SIDED,
        Quarantine.ABSURD_PRICE,
    }
    assert left_out > 1_000
    assert {bool(row["flags"] & int(EventFlag.NO_SIZE)) for row in rows} == {True, False}
    expected = decided(Engine([EURUSD], model, LOOSE, "DOORS001"), rows)
    assert len(expected) == len(rows)
    assert len(np.unique(expected["action"])) > 1, "something was traded"
    for door, (events, _, _) in all_doors(market, tmp_path).items():
        found = decided(Engine([EURUSD], model, LOOSE, "DOORS001"), events)
        assert fieldwise_bytes(found, UNHASHED) == fieldwise_bytes(expected, UNHASHED), door
