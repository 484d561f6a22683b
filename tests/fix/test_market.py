"""W and X into books: the captured cTrader session, and every way in which venues name entries."""

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from emp.access.fix.book import (
    COUNT,
    MALFORMED,
    NOT_WHOLE,
    OFF_TICK,
    SUPERSEDED,
    UNKNOWN_ENTRY,
    UNKNOWN_SYMBOL,
)
from emp.access.fix.dialect import BY_POSITION, BY_PRICE, CTRADER, LMAX, MOCK, PLAIN, Dialect
from emp.access.fix.frame import Framer
from emp.core.codes import EventFlag, Quarantine
from emp.core.ids import generator
from tests.fix.desk import EURUSD, Screen, levels
from tests.fix.wire import fields, framed, incremental, raw, snapshot, value
from tests.kit.instruments import currency_pair

VISIBLE, GAP = int(EventFlag.VISIBLE), int(EventFlag.GAP)


def captured(data_dir: Path) -> list[tuple[str, bytes]]:
    """The captured messages: (label, message)."""
    lines = (data_dir / "fix" / "fix44_real_messages_dev.psv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return [(label, raw(text)) for _, label, text in rows]


class Ledger:
    """A book kept the obvious way: a dict of entries by id, in decimals."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[str, Decimal, Decimal]] = {}

    def take(self, message: bytes) -> None:
        pairs = fields(message)
        kind = dict(pairs)[35]
        if kind == "W":
            self.entries.clear()
        start = [tag for tag, _ in pairs].index(268) + 1
        first = pairs[start][0]
        entry: dict[int, str] = {}
        for tag, text in [*pairs[start:-1], (first, "")]:
            if tag == first and entry:
                self.change(kind, entry)
                entry = {}
            entry[tag] = text

    def change(self, kind: str, entry: dict[int, str]) -> None:
        if kind == "X" and entry[279] == "2":
            del self.entries[entry[278]]
        else:
            self.entries[entry[278]] = (entry[269], Decimal(entry[270]), Decimal(entry[271]))

    def side(self, which: str) -> list[tuple[int, int]]:
        sums: dict[Decimal, Decimal] = {}
        for side, px, size in self.entries.values():
            if side == which:
                sums[px] = sums.get(px, Decimal(0)) + size
        ordered = sorted(sums.items(), reverse=which == "0")
        return [(int(px * 100_000), int(size / 1000)) for px, size in ordered[:10]]


@pytest.mark.real_data
def test_captured_ctrader_session_level_by_level(data_dir: Path) -> None:
    messages = [m for label, m in captured(data_dir) if "icmarkets-demo EURUSD depth" in label]
    assert len(messages) == 3
    screen, ledger = Screen(), Ledger()
    for message in messages:
        ledger.take(message)
        assert screen.show(message) == []
        assert screen.result == 0
        assert levels(screen.cached()) == (ledger.side("0"), ledger.side("1"))
    # the last book, read off the messages by hand
    assert ledger.side("0")[:3] == [(108749, 150), (108747, 1500), (108745, 3000)]
    assert ledger.side("1")[:3] == [(108749, 50), (108750, 100), (108753, 1500)]
    assert screen.market.quarantined == {Quarantine.LOCKED: 3}


@pytest.mark.real_data
def test_captured_messages_pass_or_fail_as_their_ends_say(data_dir: Path) -> None:
    lines = (data_dir / "fix" / "fix44_real_messages_dev.psv").read_text().splitlines()
    seen = 0
    for line in lines:
        if line.startswith("#") or not line:
            continue
        sound, label, text = line.split("\t")
        frames = list(Framer().frames(raw(text)))
        assert len(frames) == (1 if sound == "True,True" else 0), label
        seen += sound != "True,True"
    assert seen == 6  # among them both published ExecutionReports


@pytest.mark.real_data
def test_official_and_foreign_shapes_once_their_ends_are_right(data_dir: Path) -> None:
    def rebuilt(label: str, kind: str = "W") -> bytes:
        found = [m for name, m in captured(data_dir) if label in name]
        [message] = [m for m in found if value(m, 35) == kind]
        return framed("|".join(f"{t}={v}" for t, v in fields(message)[2:-1]))

    [spot] = Screen().show(rebuilt("official spec W"))
    assert levels(spot) == ([(106625, 0)], [(106630, 0)])
    assert spot["flags"] & int(EventFlag.NO_SIZE)
    [kraken] = Screen(PLAIN, [currency_pair("BTC", 0.1, 1e-8)], ["BTC/USD"]).show(rebuilt("Kraken"))
    assert levels(kraken) == ([(302999, 67373926)], [(303000, 844867022)])
    [btcc] = Screen(PLAIN, [currency_pair("XBT", 0.01, 1.0)], ["XBTCNY"]).show(rebuilt("BTCC"))
    assert levels(btcc) == ([(292094, 0)], [(292132, 0)])
    by_price = msgspec_replace(PLAIN, keying=BY_PRICE, snapshots=False)
    screen = Screen(by_price, [currency_pair("PERP", 0.5, 1.0)], ["BTC-PERPETUAL"])
    assert screen.show(rebuilt("Deribit", "X")) == []
    assert levels(screen.cached()) == ([], [(15612, 7439)])


def test_the_dictionary_trap_ids_inside_a_snapshot_do_not_cut_it_short() -> None:
    entries = [f"269={i % 2}|270=1.08{700 + i if i % 2 else 600 - i}|271=1000|278={i}" for i in range(20)]
    [row] = Screen().show(snapshot(entries))
    assert (row["n_bid"], row["n_ask"]) == (10, 10)


def test_unsorted_entries_sum_per_price_and_sort_best_first() -> None:
    entries = [
        "269=1|270=1.10|271=500|278=1",
        "269=1|270=1.09|271=7000|278=2",
        "269=1|270=1.10|271=500|278=3",
    ]
    bids = ["269=0|270=1.07|271=999|278=4", "269=0|270=1.08|271=2999|278=5"]
    [row] = Screen().show(snapshot([*entries, *bids]))
    assert levels(row) == ([(108000, 2)], [(109000, 7), (110000, 1)])  # 999 units are less than a lot
    assert np.datetime64(int(row["ts"]), "ns") == np.datetime64("2023-01-24T13:30:46.025")


def test_deletes_carry_no_price_and_no_side() -> None:
    screen = Screen()
    screen.show(snapshot(["269=0|270=1.08|271=1000|278=a", "269=1|270=1.09|271=1000|278=b9"]))
    [row] = screen.show(incremental(["279=2|278=b9|55=1", "279=0|269=1|278=c|55=1|270=1.1|271=3000"]))
    assert levels(row) == ([(108000, 1)], [(110000, 3)])
    assert row["seq"] == 2


def test_change_keeps_what_it_does_not_name() -> None:
    screen = Screen(PLAIN)
    screen.show(snapshot(["269=0|270=1.08|271=1000|278=7", "269=1|270=1.09|271=1000|278=8"]))
    [row] = screen.show(incremental(["279=1|278=7|55=1|271=4000"]))
    assert levels(row)[0] == [(108000, 4)]
    [row] = screen.show(incremental(["279=1|278=7|55=1|270=1.07"]))
    assert levels(row)[0] == [(107000, 4)]


def test_unknown_delete_is_counted_and_changes_nothing() -> None:
    screen = Screen()
    screen.show(snapshot(["269=0|270=1.08|271=1000|278=7", "269=1|270=1.09|271=1000|278=8"]))
    [row] = screen.show(incremental(["279=2|278=99|55=1"]))
    assert screen.result == UNKNOWN_ENTRY
    assert screen.market.quarantined == {Quarantine.UNKNOWN_ORDER: 1}
    assert not row["flags"] & VISIBLE
    assert levels(row) == ([(108000, 1)], [(109000, 1)])


def test_several_instruments_in_one_message() -> None:
    names = [currency_pair("A", 0.01, 1.0), currency_pair("B", 0.5, 1.0)]
    screen = Screen(CTRADER, names, ["1", "22"])
    screen.show(snapshot(["269=0|270=1.08|271=1|278=7", "269=1|270=2|271=1|278=8"], symbol="1"))
    screen.show(snapshot(["269=1|270=7.5|271=1|278=7", "269=0|270=7|271=3|278=8"], symbol="22"))
    rows = screen.show(
        incremental(["279=0|269=1|278=1|55=22|270=8|271=2", "279=0|269=0|278=2|55=1|270=1.09|271=5"])
    )
    assert [int(row["instrument"]) for row in rows] == [0, 1]
    assert levels(rows[0]) == ([(109, 5), (108, 1)], [(200, 1)])
    assert levels(rows[1]) == ([(14, 3)], [(15, 1), (16, 2)])


def test_only_the_broken_book_waits_for_a_snapshot() -> None:
    names = [currency_pair("A", 0.01, 1.0), currency_pair("B", 0.5, 1.0)]
    screen = Screen(CTRADER, names, ["1", "22"])
    screen.show(snapshot(["269=0|270=1.08|271=1|278=7", "269=1|270=2|271=1|278=8"], symbol="1"))
    screen.show(snapshot(["269=1|270=7.5|271=1|278=7", "269=0|270=7|271=3|278=8"], symbol="22"))
    rows = screen.show(
        incremental(["279=0|269=1|278=1|55=22|270=x|271=2", "279=0|269=0|278=2|55=1|270=1.09|271=5"])
    )
    assert [int(row["instrument"]) for row in rows] == [0]
    assert screen.result == MALFORMED
    assert screen.show(incremental(["279=0|269=1|278=3|55=22|270=8|271=2"])) == []
    assert screen.result == NOT_WHOLE
    [row] = screen.show(snapshot(["269=1|270=9|271=1|278=9", "269=0|270=7|271=3|278=8"], symbol="22"))
    assert row["flags"] & GAP
    [row] = screen.show(snapshot(["269=1|270=9.5|271=1|278=9", "269=0|270=7|271=3|278=8"], symbol="22"))
    assert not row["flags"] & GAP


@pytest.mark.parametrize(
    ("entries", "head", "result"),
    [
        (["269=0|270=1.080001|271=1|278=1"], "", OFF_TICK),
        (["269=0|270=1.08|271=-1|278=1"], "", MALFORMED),
        (["269=0|270=1.08|271=1e3|278=1"], "", MALFORMED),
        (["269=0|270=1.0.8|271=1|278=1"], "", MALFORMED),
        (["269=0|270=.|271=1|278=1"], "", MALFORMED),
        (["269=0|270=99999999999999999999|271=1|278=1"], "", MALFORMED),
        (["269=0|271=1|278=1"], "", MALFORMED),
    ],
)
def test_bad_values_make_no_event(entries: list[str], head: str, result: int) -> None:
    screen = Screen()
    assert screen.show(snapshot(entries, head=head)) == []
    assert screen.result == result
    [row] = screen.show(snapshot(["269=0|270=1.08|271=1000|278=1", "269=1|270=1.09|271=1000|278=2"]))
    assert row["flags"] & GAP


@pytest.mark.parametrize("count", ["0", "1", "3", "999999999", "99999999999999999999", "-1", "x"])
def test_absurd_counts_make_no_event(count: str) -> None:
    body = "35=W|34=2|49=a|52=20230124-13:30:46|56=b|55=1|"
    screen = Screen()
    message = framed(f"{body}268={count}|269=0|270=1.08|271=1000|278=1|269=1|270=1.09|271=1000|278=2|")
    assert screen.show(message) == []
    assert screen.result in (COUNT, MALFORMED)


def test_empty_snapshot_empties_the_book() -> None:
    screen = Screen()
    for empty in (snapshot([]), incremental(["279=0|269=J|55=1"])):
        screen.show(snapshot(["269=0|270=1.08|271=1000|278=1"]))
        assert levels(screen.cached()) == ([(108000, 1)], [])
        assert screen.show(empty) == []
        assert levels(screen.cached()) == ([], [])
    assert screen.market.quarantined == {Quarantine.ONE_SIDED: 4}


def test_other_symbols_are_not_ours() -> None:
    screen = Screen()
    assert screen.show(snapshot(["269=0|270=1.08|271=1000|278=1"], symbol="11")) == []
    assert screen.result == UNKNOWN_SYMBOL


@pytest.mark.parametrize("keeps", [True, False], ids=["snapshots", "changes alone"])
def test_what_an_earlier_request_asked_for_is_no_book(keeps: bool) -> None:
    screen = Screen(msgspec.structs.replace(CTRADER, snapshots=keeps), start=48_879_000_000)
    market, book = screen.market, ["269=0|270=1.08000|271=1000|278=1", "269=1|270=1.08003|271=1000|278=2"]
    market.subscribe()
    market.subscribe()
    market.invalidate()
    change = ["279=0|269=0|270=1.08001|271=1000|278=3|55=1"]
    for earlier in ("emp11pr-1", "emp11p-2", "emp11pr0-2", "emp1-2", "emp11pr-0"):
        for message in (snapshot(book, head=f"262={earlier}|"), incremental(change, head=f"262={earlier}|")):
            assert screen.show(message) == []
            assert screen.result == SUPERSEDED
    assert market.quarantined == {Quarantine.BACKWARDS: 10}
    assert market.books["n"][0] == 0
    for ours in ("emp11pr-2", "emp11pr-3", "md1", "em", "", "EMP11PR-1"):
        [row] = screen.show(snapshot(book, head=f"262={ours}|" if ours else ""))
        assert levels(row) == ([(108000, 1)], [(108003, 1)])
        market.books["gap"] = True
    market.subscribe(["1"])  # for some symbols: those before it stay in force
    assert len(screen.show(snapshot(book, head="262=emp11pr-2|"))) == 1


def test_changes_before_a_snapshot_wait_for_it() -> None:
    screen = Screen()
    assert screen.show(incremental(["279=0|269=1|278=1|55=1|270=8|271=2"])) == []
    assert screen.result == NOT_WHOLE


def test_trades_carry_their_side_and_leave_the_book() -> None:
    screen = Screen(MOCK, [currency_pair("A", 0.01, 1.0)], ["1"])
    screen.show(snapshot(["269=0|270=1.00|271=5|278=1", "269=1|270=1.02|271=5|278=2"]))
    trade = ["279=0|269=2|55=1|270=1.02|271=2", "279=0|269=2|55=1|270=1.03|271=4"]
    [row] = screen.show(incremental(trade))
    assert (row["trade_px"], row["trade_qty"], row["trade_qty_last"]) == (103, 6, 4)
    assert row["flags"] == int(EventFlag.TRADE)
    [row] = screen.show(incremental(["279=0|269=2|55=1|270=1.02|271=2|58=2"]))
    assert row["trade_qty"] == -2
    assert levels(row) == ([(100, 5)], [(102, 5)])


def test_lmax_like_snapshots_by_security_id_and_entry_time() -> None:
    screen = Screen(LMAX, [currency_pair("EURUSD", 0.00001, 0.1)], ["4001"])
    body = (
        "35=W|49=LMXBLM|56=me|34=5|52=20230124-13:30:47|262=r|48=4001|22=8|268=3|"
        "269=0|270=1.18|271=20.3|272=20230124|273=13:30:46.987|269=0|270=1.17|271=5|269=1|270=1.19|271=7.1|"
    )
    [row] = screen.show(framed(body))
    assert levels(row) == ([(118000, 203), (117000, 50)], [(119000, 71)])
    assert np.datetime64(int(row["ts"]), "ns") == np.datetime64("2023-01-24T13:30:46.987")


@pytest.mark.parametrize(
    ("stamp", "believed"),
    [
        ("272=20230124|273=13:32:46|", True),
        ("272=20230124|273=13:32:48|", False),
        ("272=20990124|273=13:30:46|", False),
    ],
)
def test_a_stamp_of_an_entry_that_lies_ahead_of_its_message_is_not_believed(
    stamp: str, believed: bool
) -> None:
    """One of another year would leave every later book behind it in time."""
    screen = Screen(LMAX, [currency_pair("EURUSD", 0.00001, 0.1)], ["4001"])
    body = (
        "35=W|49=LMXBLM|56=me|34=5|52=20230124-13:30:47|262=r|48=4001|22=8|268=2|"
        f"269=0|270=1.18|271=20.3|{stamp}269=1|270=1.19|271=7.1|"
    )
    [row] = screen.show(framed(body))
    sent = np.datetime64("2023-01-24T13:30:47", "ns").astype(int)
    assert (int(row["ts"]) == sent) is not believed


def test_keyed_by_price_without_ids() -> None:
    screen = Screen(msgspec_replace(PLAIN, keying=BY_PRICE), [currency_pair("A", 0.5, 1.0)], ["1"])
    screen.show(snapshot(["269=0|270=99.5|271=5", "269=1|270=100.5|271=5"]))
    [row] = screen.show(
        incremental(["279=1|269=0|55=1|270=99.5|271=7", "279=0|269=1|55=1|270=101.0000|271=1"])
    )
    assert levels(row) == ([(199, 7)], [(201, 5), (202, 1)])
    assert screen.show(incremental(["279=2|269=1|55=1|270=100.5", "279=1|269=0|55=1|270=99.5|271=0"])) == []
    assert levels(screen.cached()) == ([], [(202, 1)])


def test_xtx_like_updates_keyed_by_id_with_the_symbol_before_the_group() -> None:
    dialect = msgspec_replace(PLAIN, snapshots=False)
    screen = Screen(dialect, [EURUSD], ["EUR/USD"])
    body = "35=X|49=XTX|56=me|34=5|52=20230124-13:30:47.123456|262=r|55=EUR/USD|268=2|"
    [row] = screen.show(
        framed(
            body
            + "279=0|269=0|278=b1|270=1.18|271=1000000|299=q|279=0|269=1|278=a1|270=1.19|271=1000000|299=q|"
        )
    )
    assert levels(row) == ([(118000, 1000)], [(119000, 1000)])
    [row] = screen.show(framed(body + "279=2|278=b1|279=0|269=0|278=b2|270=1.17999|271=3000000|299=q2|"))
    assert levels(row) == ([(117999, 3000)], [(119000, 1000)])


def msgspec_replace(dialect: Dialect, **changes: Any) -> Dialect:

    return msgspec.structs.replace(dialect, **changes)


def positions(side: str, prices: Iterable[int]) -> list[str]:
    return [f"269={side}|290={i}|270={px}|271={px}" for i, px in enumerate(prices, 1)]


def test_keyed_by_position_against_a_list() -> None:
    """Inserts push deeper levels down, deletes pull them up, what leaves the depth is forgotten."""
    dialect = msgspec_replace(PLAIN, keying=BY_POSITION, depth=5)
    screen = Screen(dialect, [currency_pair("A", 1.0, 1.0)], ["1"])
    books = {"0": [100, 99, 98], "1": [101, 102, 103]}
    screen.show(snapshot([*positions("0", books["0"]), *positions("1", books["1"])]))
    rng = generator(3, "positions")
    for _ in range(300):
        side = "01"[int(rng.integers(2))]
        book = books[side]
        if len(book) > 1 and rng.random() < 0.45:
            at = int(rng.integers(len(book)))
            del book[at]
            entry = f"279=2|269={side}|55=1|290={at + 1}"
        else:
            at = int(rng.integers(len(book) + 1))
            sign = -1 if side == "0" else 1
            worse = book[at - 1] if at else book[0] - sign * 7
            better = book[at] if at < len(book) else worse + sign * 14
            px = (worse + better) // 2
            if px in book or at >= 5:
                continue
            book.insert(at, px)
            del book[5:]
            entry = f"279=0|269={side}|55=1|290={at + 1}|270={px}|271=1"
        screen.show(incremental([entry]))
        bids, asks = levels(screen.cached())
        assert [px for px, _ in bids] == books["0"]
        assert [px for px, _ in asks] == books["1"]


def test_random_books_by_id_agree_with_a_dict() -> None:
    rng = generator(4, "books")
    screen, ledger = Screen(), Ledger()
    first = ["269=0|270=1.08|271=1000|278=0", "269=1|270=1.09|271=1000|278=1"]
    message = snapshot(first)
    ledger.take(message)
    screen.show(message)
    number = 2
    for _ in range(400):
        entries = []
        alive = list(ledger.entries)
        for name in rng.permutation(alive)[: int(rng.integers(0, 5))]:
            entries.append(f"279=2|278={name}|55=1")
        for _ in range(int(rng.integers(0, 6))):
            side = int(rng.integers(2))
            px = 108_500 + int(rng.integers(-40, 40))
            size = int(rng.integers(1, 5000)) * 1000
            entries.append(f"279=0|269={side}|278={number}|55=1|270=1.{px - 100_000:05d}|271={size}")
            number += 1
        if not entries:
            continue
        message = incremental(entries)
        ledger.take(message)
        screen.show(message)
        assert levels(screen.cached()) == (ledger.side("0"), ledger.side("1"))
