"""A checkpoint says exactly what the rows before it say; a start reads nothing older, and what is damaged is found."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
import numpy as np
import pytest

from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import Control, OrderUpdate
from emp.core.errors import CorruptLedgerError, JournalError
from emp.core.records import Array
from emp.engine.checkpoint import record_checkpoint
from emp.engine.engine import Engine
from emp.engine.history import verify_history
from emp.engine.limits import EngineLimits
from emp.engine.rebuild import begin, rebuild, recall
from emp.execution import orders as execution
from emp.execution.orders import OrderManager
from emp.journal.ledger import Ledger
from emp.journal.reader import CHECKPOINT, LedgerReader, chained_crc
from emp.journal.records import LedgerEvent, Note
from tests.kit.orders import cancel_order, new_order, replace_order
from tests.live.world import BTC, buyer

S = OrderStatus
NAME = BTC.name
RUN = "RUN"


class Trader:
    """Trades at random by its own rules, records as the driver does, and may stop to sum up."""

    def __init__(self, path: Path, seed: int) -> None:
        self.ledger = Ledger(path, run=RUN, mode="live")
        self.engine = Engine([BTC], buyer(), EngineLimits(), RUN)
        self.rng = np.random.default_rng(seed)
        self.execs = 0
        self.ledger.record_control(Control(action="begin", ts=1, value=1_000.0))

    def tell(self, name: str, status: S, filled: int, **more: object) -> None:
        self.execs += 1
        px = 50_000 + int(self.rng.integers(-9, 9))
        fields = {"price": px, "side": 1 if self.side > 0 else -1, "instrument": NAME, **more}
        update = OrderUpdate(
            clOrdID=name, execID=f"X{self.execs}", status=status, filled=filled, ts=self.execs, **fields
        )  # type: ignore[arg-type]
        self.engine.orders.forget_ended()
        recall(self.ledger, self.engine.orders, name)
        assert self.ledger.record_report(update)
        applied = self.engine.orders.apply(update)
        assert applied.alarm is None, applied.alarm

    def order(self) -> str:
        """A new order, and perhaps what becomes of it."""
        draw, orders = self.rng, self.engine.orders
        self.side = 1 if draw.random() < 0.5 else -1
        name = self.engine.next_id()
        sent = new_order(name, instrument=NAME, side=self.side, qty=4, px=50_000)
        self.ledger.record_intent(sent)
        orders.sent(sent)
        ended = draw.random() < 0.8
        self.tell(name, S.NEW, 0)
        if draw.random() < 0.3:
            asked = orders.order(name).query(1)  # type: ignore[union-attr]
            self.ledger.record_intent(asked)
            orders.sent(asked)
        if draw.random() < 0.3:
            changed = self.engine.next_id()
            change = replace_order(changed, name, instrument=NAME, side=self.side, qty=5, px=50_001)
            self.ledger.record_intent(change)
            orders.sent(change)
            self.tell(changed, S.NEW, 0, replacement=changed)
        latest = orders.order(name)
        assert latest is not None
        at, qty = latest.command.cl_ord_id, latest.command.qty
        if draw.random() < 0.5:
            self.tell(at, S.PARTIALLY_FILLED, 2, fee=0.5)
        if ended and draw.random() < 0.5:
            self.tell(at, S.FILLED, qty)
        elif ended:
            asked = self.engine.next_id()
            cancel = cancel_order(asked, at, instrument=NAME)
            self.ledger.record_intent(cancel)
            orders.sent(cancel)
            self.tell(at, S.CANCELED, orders.order(name).filled)  # type: ignore[union-attr]
        return name

    def control(self, action: str) -> None:
        control = Control(action=action, ts=1, reason="rejects" if action == "bar" else "", value=1.0)  # type: ignore[arg-type]
        self.ledger.record_control(control)
        self.engine.control(control)

    def finance(self, action: str, **fields: object) -> None:
        control = Control(action=action, instrument=NAME, **fields)  # type: ignore[arg-type]
        self.ledger.record_control(control)
        self.engine.control(control)

    def roll(self) -> None:
        """The venue states a rate, and lots are held over the next roll: its date, what it brings, and that it came."""
        at = 1_700_000_000_123_456_789 + int(self.rng.integers(0, 10**9))
        self.finance("terms", ts=1, reason="short", value=-0.3)
        for side in ("short", "long"):
            self.finance("roll", ts=at, reason=side, value=float(self.rng.normal()))
        if self.rng.random() < 0.5:
            self.finance("finance", ts=at)

    def sum_up(self) -> None:
        record_checkpoint(self.engine, self.ledger, (), 1)

    def close(self) -> None:
        self.ledger.close()


@pytest.fixture(autouse=True)
def few_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(execution, "KEPT_ENDED", 3)


@pytest.fixture
def trader(tmp_path: Path) -> Iterator[Trader]:
    made = Trader(tmp_path / "ledger.sqlite", 1)
    yield made
    made.close()


def known(path: Path, *, whole: bool) -> tuple[object, ...]:
    reader = LedgerReader(path)
    try:
        manager = OrderManager([NAME])
        rebuilt = rebuild(reader, manager, whole=whole)
        return (
            manager.accounts.tolist(),
            manager.working.tolist(),
            manager.prices,
            manager.open_orders(),
            msgspec.structs.replace(rebuilt, financing=repr(rebuilt.financing.tolist())),  # NaN is no NaN
        )
    finally:
        reader.close()


@pytest.mark.parametrize("seed", range(12))
def test_it_says_what_the_rows_before_it_say(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "ledger.sqlite"
    trader = Trader(path, seed)
    for k in range(30):
        trader.order()
        if k == 10:
            trader.control(("halt", "kill", "bar")[seed % 3])
        if k == 14 and seed % 2:
            trader.control("resume")
        if k in (5, 16, 22):
            trader.roll()
        if k % 9 == 8:
            trader.sum_up()
    trader.close()
    assert known(path, whole=False) == known(path, whole=True)


def test_it_brings_back_what_the_engine_knew(trader: Trader) -> None:
    for _ in range(12):
        trader.order()
    trader.roll()
    trader.control("kill")
    trader.sum_up()
    trader.close()
    ledger = Ledger(trader.ledger.path, run=RUN, mode="live")
    again = Engine([BTC], buyer(), EngineLimits(), RUN)
    begin(ledger, again)
    ledger.close()
    assert again.orders.open_orders() == trader.engine.orders.open_orders() != []
    assert again.desk.account.tolist() == trader.engine.desk.account.tolist()
    assert repr(again.desk.financing.tolist()) == repr(trader.engine.desk.financing.tolist())
    assert again.sequence == trader.engine.sequence
    assert again.flattening == {0}
    assert int(again.desk.risk["halt_reason"][0]) == Reason.KILL_SWITCH


def test_a_start_reads_nothing_that_is_older(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(60):
        trader.order()
    while trader.engine.orders.open_orders():  # what is open is told again from its own rows
        order = trader.engine.orders.open_orders()[0]
        trader.side = order.command.side
        trader.tell(order.command.cl_ord_id, S.CANCELED, order.filled)
    trader.sum_up()
    at = trader.ledger.last_seq
    trader.order()
    trader.close()
    read: list[int] = []
    asked: list[str] = []
    ledger = Ledger(trader.ledger.path, run=RUN, mode="live")
    ledger._db.set_trace_callback(asked.append)
    events = ledger.events

    def counted(after_seq: int = 0) -> Iterator[LedgerEvent]:
        for one in events(after_seq):
            read.append(one.seq)
            yield one

    monkeypatch.setattr(ledger, "events", counted)
    begin(ledger, Engine([BTC], buyer(), EngineLimits(), RUN))
    assert min(read) == at + 1
    assert not any("quick_check" in words for words in asked)
    assert ledger.unread == at - 1
    ledger.close()


def test_an_order_that_was_forgotten_is_known_again(trader: Trader) -> None:
    """The venue takes back the fill of an order that ended long ago, and has it work again."""
    trader.side = 1
    name = trader.engine.next_id()
    sent = new_order(name, 1, 4, 50_000, instrument=NAME)
    trader.ledger.record_intent(sent)
    trader.engine.orders.sent(sent)
    trader.tell(name, S.FILLED, 4, price=50_000)
    before = trader.engine.desk.account.copy()
    for _ in range(10):
        trader.order()
    trader.engine.orders.forget_ended()
    assert trader.engine.orders.order(name) is None
    position = int(trader.engine.desk.account["position"][0])
    cash = float(trader.engine.desk.account["cash"][0])
    trader.side = 1
    trader.tell(name, S.PARTIALLY_FILLED, 1, price=50_000, correction=True, average=50_000.0, leaves=3)
    assert int(before["position"][0]) == 4
    assert int(trader.engine.desk.account["position"][0]) == position - 3
    assert float(trader.engine.desk.account["cash"][0]) == cash + 3 * 50_000
    assert trader.engine.orders.order(name) in trader.engine.orders.open_orders()
    trader.close()
    assert trader.engine.orders.accounts["fills"] == known_fills(trader.ledger.path)


def known_fills(path: Path) -> Array:
    reader, manager = LedgerReader(path), OrderManager([NAME])
    rebuild(reader, manager)
    reader.close()
    return manager.accounts["fills"]


def changed(path: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement, values)
        db.commit()


def summed_up(trader: Trader) -> Path:
    for _ in range(20):
        trader.order()
    trader.sum_up()
    for _ in range(5):
        trader.order()
    trader.close()
    return trader.ledger.path


@pytest.mark.parametrize("told", ["7", "999999", "nonsense", ""])
def test_a_start_that_cannot_find_it_reads_every_row(trader: Trader, told: str) -> None:
    path = summed_up(trader)
    expected = known(path, whole=True)
    changed(path, "UPDATE meta SET value=? WHERE key=?", told, CHECKPOINT)
    ledger = Ledger(path, run=RUN, mode="live")
    assert ledger.unread == 0
    ledger.close()
    assert known(path, whole=False)[:4] == expected[:4]


def test_one_of_which_a_bit_flipped_is_refused(trader: Trader) -> None:
    path = summed_up(trader)
    changed(
        path,
        "UPDATE events SET payload=CAST(replace(CAST(payload AS TEXT), 'cash', 'cbsh') AS BLOB)"
        f" WHERE seq=(SELECT CAST(value AS INTEGER) FROM meta WHERE key='{CHECKPOINT}')",
    )
    with pytest.raises(JournalError, match="is corrupt"):
        Ledger(path, run=RUN, mode="live")


def test_one_of_other_instruments_is_not_taken(trader: Trader) -> None:
    path = summed_up(trader)
    reader, manager = LedgerReader(path), OrderManager(["ELSE"])
    assert rebuild(reader, manager).next_sequence == int(trader.engine.sequence) + 1
    reader.close()


def test_an_old_row_that_was_changed_is_found_while_it_trades_and_refused_from_then_on(
    trader: Trader,
) -> None:
    path = summed_up(trader)
    changed(path, "UPDATE events SET payload=payload || ' ' WHERE seq=5")
    ledger = Ledger(path, run=RUN, mode="live")
    with pytest.raises(JournalError, match="event 5"):
        asyncio.run(verify_history(ledger))
    ledger.close()
    for _ in range(2):
        with pytest.raises(JournalError, match="event 5"):
            Ledger(path, run=RUN, mode="live")


def tampered(path: Path, seq: int) -> None:
    """Change a row so that it is no message any more, and give it the checksum that it would have."""
    with closing(sqlite3.connect(path)) as db, db:
        before = db.execute("SELECT crc FROM events WHERE seq=?", (seq - 1,)).fetchone()[0]
        kind, payload, at = db.execute("SELECT kind, payload, at FROM events WHERE seq=?", (seq,)).fetchone()
        payload = payload[:-1] + b"|"
        crc = chained_crc(seq, kind, payload, before, at)
        db.execute("UPDATE events SET payload=?, crc=? WHERE seq=?", (payload, crc, seq))
    db.close()


def test_a_row_changed_with_its_checksum_is_shown_to_nobody_and_refused_from_then_on(trader: Trader) -> None:
    path = summed_up(trader)
    tampered(path, 5)
    ledger = Ledger(path, run=RUN, mode="live")
    seen: list[object] = []
    with pytest.raises(CorruptLedgerError, match="event 6 does not follow"):
        seen.extend(event.body for event in ledger.events())
    ledger.close()
    assert len(seen) == 4
    with pytest.raises(CorruptLedgerError, match="event 6 does not follow"):
        Ledger(path, run=RUN, mode="live")


def test_a_disk_that_cannot_be_read_for_a_moment_damages_nothing(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = summed_up(trader)
    ledger = Ledger(path, run=RUN, mode="live")
    with monkeypatch.context() as patched:
        patched.setattr(LedgerReader, "events", cannot_be_read)
        with pytest.raises(JournalError, match="disk I/O error"):
            asyncio.run(verify_history(ledger))
    ledger.close()
    Ledger(path, run=RUN, mode="live").close()


def cannot_be_read(reader: LedgerReader, after_seq: int) -> Iterator[LedgerEvent]:
    raise reader._unreadable(sqlite3.OperationalError("disk I/O error"))
    yield  # a generator


def test_a_whole_history_is_read_to_its_end(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    path = summed_up(trader)
    monkeypatch.setattr("emp.engine.history.CHUNK", 3)
    monkeypatch.setattr("emp.engine.history.REST_S", 0.0)
    ledger = Ledger(path, run=RUN, mode="live")
    asyncio.run(verify_history(ledger))
    ledger.close()
    Ledger(path, run=RUN, mode="live").close()


def test_a_process_that_dies_in_it_leaves_what_was(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(10):
        trader.order()

    def dies(_: Note) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(trader.ledger, "record_checkpoint", dies)
    with pytest.raises(KeyboardInterrupt):
        trader.sum_up()
    trader.close()
    assert known(trader.ledger.path, whole=False)[:4] == known(trader.ledger.path, whole=True)[:4]
