"""LOBSTER readers: what is one event, what a row does, which rows are kept out, and that nothing gets lost."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emp.access.recordings import lobster, lobster_rebuild, open_recording
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import DataError
from emp.core.instrument import find
from tests.access.reading import read
from tests.access.small_market import NAME, SmallMarket, truth

GOOG = find("GOOG")
BOOK = "5000100,300,4999900,200,5000200,100,4999800,100"
VISIBLE, TRADE = EventFlag.VISIBLE, EventFlag.TRADE


def pair(folder: Path, rows: list[tuple[str, str]], levels: int = 2) -> Path:
    message = folder / NAME.format(f"message_{levels}")
    message.write_text("".join(f"{m}\n" for m, _ in rows))
    (folder / NAME.format(f"orderbook_{levels}")).write_text("".join(f"{b}\n" for _, b in rows))
    return message


def test_a_sweep_with_its_remainder_is_one_event(tmp_path: Path) -> None:
    after = "5000200,40,5000100,60,5000300,100,4999900,200"
    events, source = read(
        pair(
            tmp_path,
            [
                ("34200.000000001,1,1,300,5000100,-1", BOOK),
                ("34200.5,4,1,200,5000100,-1", BOOK.replace("300", "100")),
                ("34200.5,4,2,100,5000100,-1", "5000200,100,4999900,200,5000300,100,4999800,100"),
                ("34200.5,5,0,30,5000150,-1", "5000200,100,4999900,200,5000300,100,4999800,100"),
                ("34200.5,4,3,60,5000200,-1", "5000200,40,4999900,200,5000300,100,4999800,100"),
                ("34200.5,1,4,60,5000200,1", after),
                ("34200.6,3,4,60,5000100,1", BOOK),
            ],
        )
    )
    assert len(events) == 3
    sweep = events[1]
    assert sweep["flags"] == VISIBLE | TRADE
    assert sweep["trade_qty"] == 390  # the resting orders were sold, so buyers took
    assert (sweep["trade_px"], sweep["trade_qty_last"]) == (50002, 90)
    assert [a.tolist() for a in truth(after)] == [
        sweep[f].tolist() for f in ("bid_px", "bid_sz", "ask_px", "ask_sz")
    ]
    assert (sweep["seq"], events[0]["seq"]) == (6, 1)
    assert source.counts.merged == 4
    assert events[0]["ts"] == 1_340_285_400_000_000_001  # 09:30 in New York is 13:30 UTC in June


@pytest.mark.parametrize(
    ("second", "why"),
    [
        ("34200.500000001,4,2,100,5000100,-1", "another instant"),
        ("34200.5,4,2,100,4999900,1", "the other side"),
        ("34200.5,3,2,100,5000100,-1", "no execution"),
        ("34200.5,1,9,100,5000000,1", "rests behind the price that was paid"),
        ("34200.5,1,9,100,5000100,-1", "rests on the side that was hit"),
        ("34200.5,6,-1,100,5000100,-1", "an auction"),
    ],
)
def test_rows_that_are_not_of_one_sweep_are_events_of_their_own(
    tmp_path: Path, second: str, why: str
) -> None:
    events, source = read(pair(tmp_path, [("34200.5,4,1,200,5000100,-1", BOOK), (second, BOOK)]))
    assert len(events) == 2, why
    assert source.counts.merged == 0


def test_flags_signs_and_prices_of_single_rows(tmp_path: Path) -> None:
    rows = [
        ("34200.1,1,1,10,4999800,1", BOOK),
        ("34200.2,4,1,10,4999900,1", BOOK),  # a buy order was hit: sellers took; nothing visible changed
        ("34200.3,5,0,7,4999950,1", BOOK),  # hidden between two ticks: the seller got the lower one
        ("34200.4,5,0,7,4999950,-1", BOOK),  # hidden between two ticks: the buyer paid the higher one
        ("34200.5,7,0,0,-1,-1", BOOK),
        ("34200.6,7,0,0,0,-1", BOOK),
        ("34200.7,7,0,0,1,-1", BOOK),
        ("34200.8,6,-1,500,5000000,-1", BOOK),
        ("34200.9,2,1,10,4999800,1", BOOK.replace("300", "290")),
    ]
    events, _ = read(pair(tmp_path, rows))
    assert events["flags"].tolist() == [
        VISIBLE,
        TRADE,
        TRADE,
        TRADE,
        EventFlag.HALT,
        0,
        EventFlag.RESUME,
        TRADE | EventFlag.AUCTION,
        VISIBLE,
    ]
    assert events["trade_qty"].tolist() == [0, -10, -7, 7, 0, 0, 0, 500, 0]
    assert events["trade_px"].tolist() == [0, 49999, 49999, 50000, 0, 0, 0, 50000, 0]
    assert (events["ts_recv"] == events["ts"]).all()


FAULTS = {
    "words": ("not,a,row", None, Quarantine.MALFORMED),
    "short": ("34201.0,1,5,10", None, Quarantine.MALFORMED),
    "long": ("{t},1,5,10,5000000,1,7", None, Quarantine.MALFORMED),
    "nan": ("{t},1,5,nan,5000000,1", None, Quarantine.MALFORMED),
    "type": ("{t},9,5,10,5000000,1", None, Quarantine.MALFORMED),
    "direction": ("{t},1,5,10,5000000,0", None, Quarantine.MALFORMED),
    "after midnight": ("86400.0,1,5,10,5000000,1", None, Quarantine.MALFORMED),
    "negative size": ("{t},1,5,-10,5000000,1", None, Quarantine.ABSURD_SIZE),
    "no size": ("{t},4,5,0,5000000,1", None, Quarantine.ABSURD_SIZE),
    "huge size": ("{t},1,5,9999999999999,5000000,1", None, Quarantine.ABSURD_SIZE),
    "negative price": ("{t},1,5,10,-5000000,1", None, Quarantine.ABSURD_PRICE),
    "off the grid": ("{t},4,5,10,5000050,1", None, Quarantine.ABSURD_PRICE),
    "far trade": ("{t},4,5,10,50000000,1", None, Quarantine.ABSURD_PRICE),
    "backwards": ("34200.0,1,5,10,5000000,1", None, Quarantine.BACKWARDS),
    "crossed": ("{t},1,5,10,5000000,1", "4999800,1,4999900,200", Quarantine.CROSSED),
    "locked": ("{t},1,5,10,5000000,1", "4999900,1,4999900,200", Quarantine.LOCKED),
    "no bid": ("{t},1,5,10,5000000,1", "5000100,1,-9999999999,0", Quarantine.ONE_SIDED),
    "no ask": ("{t},1,5,10,5000000,1", "9999999999,0,4999900,200", Quarantine.ONE_SIDED),
    "negative at a level": ("{t},1,5,10,5000000,1", "5000100,-4,4999900,200", Quarantine.ABSURD_SIZE),
    "far book": ("{t},1,5,10,5000000,1", "50001000,5,49999000,200", Quarantine.ABSURD_PRICE),
    "garbage book": ("{t},1,5,10,5000000,1", "x,y,z,0", Quarantine.MALFORMED),
    "book off the grid": ("{t},1,5,10,5000000,1", "5000130,5,4999900,200", Quarantine.ABSURD_PRICE),
}


@given(
    seed=st.integers(0, 5),
    faults=st.lists(st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(12, 110)), max_size=12),
    batch=st.sampled_from([7, 64, 16_384]),
)
@settings(max_examples=40)
def test_injected_faults_are_quarantined_one_by_one_and_the_rest_is_untouched(
    tmp_path_factory: pytest.TempPathFactory, seed: int, faults: list[tuple[str, int]], batch: int
) -> None:
    market = SmallMarket(seed, levels=1).run(100)
    # without the first orders, before which the book has one side only
    clean = dict(enumerate(zip(market.messages[10:], market.books[10:], strict=True)))
    rows = []
    expected = []
    chosen = {at: fault for fault, at in faults if at < len(clean)}
    for i, (message, book) in clean.items():
        if i in chosen:
            wrong, wrong_book, reason = FAULTS[chosen[i]]
            rows.append((wrong.format(t=message.split(",")[0]), wrong_book or book))
            expected.append((len(rows) - 1, reason))
        rows.append((message, book))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lobster, "BATCH", batch)
        events, source = read(pair(tmp_path_factory.mktemp("faults"), rows, levels=1))
    found = sorted((sample.row, sample.reason) for sample in source.counts.samples)
    assert found == sorted(expected)
    assert all(sample.text for sample in source.counts.samples)
    # what is left is what the file without faults gives
    alone, _ = read(pair(tmp_path_factory.mktemp("clean"), list(clean.values()), levels=1))
    wrong_rows = {row for row, _ in expected}
    kept = [row for row in range(len(rows)) if row not in wrong_rows]
    assert len(events) == len(alone)
    for field in set(events.dtype.names or ()) - {"seq"}:
        assert (events[field] == alone[field]).all()
    assert [kept.index(seq - 1) for seq in events["seq"]] == [seq - 1 for seq in alone["seq"]]


def test_an_order_that_arrives_twice_is_a_duplicate(tmp_path: Path) -> None:
    rows = [
        ("34200.1,1,1,10,4999800,1", BOOK),
        ("34200.1,1,1,10,4999800,1", BOOK),
        ("34200.1,5,0,10,4999800,1", BOOK),
        ("34200.1,5,0,10,4999800,1", BOOK),  # two hidden executions may well be alike
        ("34200.2,3,1,10,4999800,1", BOOK),
        ("34200.2,3,1,10,4999800,1", BOOK),
    ]
    _, source = read(pair(tmp_path, rows))
    assert source.counts.quarantined == {Quarantine.DUPLICATE: 2}
    assert [sample.row for sample in source.counts.samples] == [1, 5]


def test_rows_outside_the_cash_session_are_kept_out(tmp_path: Path) -> None:
    rows = [
        (f"{t},1,{i},10,4999800,1", BOOK) for i, t in enumerate((33000, 33900, 34200, 57599.9, 57600, 60000))
    ]
    events, source = read(pair(tmp_path, rows))
    assert len(events) == 3
    assert source.counts.quarantined == {Quarantine.CLOSED_HOURS: 3}


@pytest.mark.parametrize(("every_ms", "refused"), [(200, 32), (100, 50), (1, 80)])
def test_a_market_that_has_really_moved_far_is_accepted_after_a_while(
    tmp_path: Path, every_ms: int, refused: int
) -> None:
    """More than 32 rows must agree, over 5 s."""
    moved = "15000100,300,14999900,200,15000200,100,14999800,100"
    at = [f"{34_200 + i * every_ms // 1000}.{i * every_ms % 1000:03d}" for i in range(100)]
    rows = [(f"{at[i]},3,{i},10,4999800,1", BOOK if i < 20 else moved) for i in range(100)]
    events, source = read(pair(tmp_path, rows))
    assert source.counts.quarantined == {Quarantine.ABSURD_PRICE: refused}
    assert len(events) == 100 - refused


@pytest.mark.parametrize("levels", [1, 3, 10, 50])
def test_any_number_of_levels(tmp_path: Path, levels: int) -> None:
    market = SmallMarket(3, levels=levels).run(300)
    events, _ = read(market.write(tmp_path))
    for event in events:
        expected = truth(market.books[event["seq"] - 1])
        for field, values in zip(("bid_px", "bid_sz", "ask_px", "ask_sz"), expected, strict=True):
            assert event[field].tolist() == values.tolist()
    assert events["n_bid"].max() == min(levels, 10, len(market.ladder(1)) + 10)


def test_events_are_the_markets_own_sweeps(tmp_path: Path) -> None:
    market = SmallMarket(4).run(2_000)
    events, source = read(market.write(tmp_path))
    lasts = [sweep[-1] + 1 for sweep in market.sweeps]
    assert set(events["seq"]) <= set(lasts) | {0} or source.counts.quarantined
    kept = [last for last in lasts if last in set(events["seq"].tolist())]
    assert len(kept) >= 0.98 * len(lasts)


@pytest.mark.parametrize("seed", range(4))
def test_messages_alone_rebuild_the_book_that_the_market_had(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    market = SmallMarket(seed).run(3_000)
    monkeypatch.setattr(lobster_rebuild, "BATCH", 100)
    events, source = read(market.write(tmp_path, book=False))
    assert set(source.counts.quarantined) <= {Quarantine.ONE_SIDED}
    assert source.counts.quarantined[Quarantine.ONE_SIDED] <= 6
    for event in events:
        expected = truth(market.books[event["seq"] - 1])
        for field, values in zip(("bid_px", "bid_sz", "ask_px", "ask_sz"), expected, strict=True):
            assert event[field].tolist() == values.tolist()


def test_messages_about_unknown_orders_leave_the_rebuilt_book_whole(tmp_path: Path) -> None:
    market = SmallMarket(1).run(1_000)
    late = 200
    market.messages = market.messages[late:]
    events, source = read(market.write(tmp_path, book=False))
    unknown = source.counts.quarantined[Quarantine.UNKNOWN_ORDER]
    assert 0 < unknown < 60
    last = truth(market.books[-1])
    assert events[-1]["bid_px"][0] == last[0][0]
    assert events[-1]["ask_px"][0] == last[2][0]
    assert (events["bid_px"][:, 0] < events["ask_px"][:, 0]).all()


def test_what_becomes_of_a_ghost_does_not_touch_the_level_that_took_its_place(tmp_path: Path) -> None:
    message = tmp_path / NAME.format("message")
    rows = [
        "34200.1,1,1,5,5001000,-1",
        "34200.1,1,2,5,5002000,-1",
        "34200.2,1,3,5,5000000,1",
        "34200.3,1,4,5,5001000,1",  # rests at the price of order 1, which must be long gone
        "34200.4,3,4,5,5001000,1",
        "34200.5,1,5,7,5001000,-1",
        "34200.6,3,1,5,5001000,-1",  # only now are we told that order 1 is gone
    ]
    message.write_text("\n".join(rows))
    events, source = read(message)
    asks = [(e["ask_px"][0], e["ask_sz"][0]) for e in events]
    assert asks == [(50010, 5), (50020, 5), (50020, 5), (50010, 7), (50010, 7)]
    assert source.counts.quarantined == {Quarantine.ONE_SIDED: 2}


def test_levels_that_the_file_does_not_tell_of_are_forgotten(tmp_path: Path) -> None:
    rows = [f"34200.{i},1,{i},5,{5000000 + side * 100 * i},{-side}" for side in (1, -1) for i in (1, 2, 3)]
    rows = [row.replace(f",1,{row.split(',')[2]},", f",1,{n},") for n, row in enumerate(rows, start=1)]
    rows = sorted(rows, key=lambda row: row.split(",")[0])
    for name, levels in (("message", 3), ("message_2", 2)):
        path = tmp_path / NAME.format(name)
        path.write_text("\n".join(rows))
        assert read(path)[0]["n_ask"].max() == levels


def test_the_orderbook_file_leads_to_its_messages(tmp_path: Path) -> None:
    message = SmallMarket(1, levels=2).run(50).write(tmp_path)
    book = tmp_path / NAME.format("orderbook_2")
    by_message, by_book, by_both = (
        np.concatenate(list(open_recording(p, GOOG).batches())) for p in (message, book, [book, message])
    )
    assert (by_message == by_book).all()
    assert (by_message == by_both).all()


def test_days_are_read_in_order_of_time(tmp_path: Path) -> None:
    first = SmallMarket(1, levels=2).run(50).write(tmp_path)
    second = first.rename(tmp_path / first.name.replace("06-21", "06-25"))
    book = tmp_path / NAME.format("orderbook_2")
    book.rename(tmp_path / book.name.replace("06-21", "06-25"))
    first = SmallMarket(2, levels=2).run(50).write(tmp_path)
    source = open_recording([second, first], GOOG)
    events = np.concatenate(list(source.batches()))
    assert (np.diff(events["ts"]) >= 0).all()
    assert events["ts"][-1] - events["ts"][0] > 3 * 86_400_000_000_000
    assert source.counts.quarantined == {Quarantine.ONE_SIDED: 10}


def test_a_batch_is_not_overwritten_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = SmallMarket(5).run(500).write(tmp_path)
    whole = np.concatenate(list(open_recording(path, GOOG).batches()))
    monkeypatch.setattr(lobster, "BATCH", 50)
    source = open_recording(path, GOOG)
    pieces = list(source.batches())
    assert len(pieces) > 5
    assert (np.concatenate(pieces) == whole).all()
    again = np.concatenate(list(source.batches()))
    assert (again == whole).all()
    assert source.counts.events == len(whole)


@pytest.mark.parametrize("short", ["message", "orderbook"])
def test_files_of_different_length_end_in_one_line(tmp_path: Path, short: str) -> None:
    rows = len(SmallMarket(1, levels=2).run(50).write(tmp_path).read_text().splitlines())
    path = tmp_path / NAME.format(f"{short}_2")
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-3]))
    with pytest.raises(DataError, match=f"{short}_2.csv: ends after {rows - 3} rows but GOOG_.* goes on"):
        list(open_recording(tmp_path / NAME.format("message_2"), GOOG).batches())
