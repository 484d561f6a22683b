"""Messages that are sound as frames and strange inside: no exception, no false event, no waiting, bounded memory.

EMP_FIX_MUTATIONS=200000 python -m pytest tests/fix/test_fuzz.py
"""

import gc
import os
import re
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from emp.access.fix.dialect import PLAIN
from emp.access.fix.frame import Frame
from emp.access.fix.market import Market
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders
from emp.access.fix.session import Session
from emp.access.fix.store import MemoryStore
from emp.access.fix.terms import Application, Phase, SessionConfig
from emp.access.fix.text import Scale, utc_ns
from emp.app.bench.pieces import long_bodies, slowest_piece_s
from emp.core.clock import SimClock
from emp.core.contracts import OrderUpdate
from emp.core.ids import generator
from tests.fix.desk import EURUSD, levels
from tests.fix.wire import framed

MUTATIONS = int(os.environ.get("EMP_FIX_MUTATIONS", "12000"))
NOON = utc_ns(b"20240605-12:00:00")
LONGEST_S = 0.005
SHARED = 5.0
"""What a machine that others load too may take more: a cost that grows with the square of a
length is thousands of times more, not five."""

HEAD = ["34={}", "49=VENUE", "52=20240605-12:00:00.000", "56=ME"]
KINDS = {
    "W": "55=1|268=2|269=0|270=1.0875|271=5000|278=7|269=1|270=1.0877|271=3000|278=8|",
    "X": "268=2|279=1|278=7|55=1|270=1.0874|271=4000|279=0|269=1|278=9|270=1.0879|271=3000|",
    "8": "37=V|17=e{}|150=F|39=1|11=R-1|55=1|54=1|38=3000|44=1.0876|14=1000|151=2000|6=1.0875|31=1.0875|32=1000|",
    "9": "37=V|11=R-2|41=R-1|39=2|434=1|102=0|58=late|",
    "j": "45=3|372=D|379=R-1|380=0|58=no|",
    "3": "45=3|371=38|372=D|373=5|58=no|",
    "AP": "710=q|721=1|727=1|728=0|55=1|702=2|703=TOT|704=1000|705=0|703=TOT|704=2000|705=0|730=1.08|",
    "B": "148=news|33=1|58=text|95=5|96=a\x01b=c|354=3|355=xyz|",
    "2": "7=1|16=0|",
    "4": "123=Y|36=900|",
    "1": "112=T|",
    "0": "112=T|",
}
EXTRA = [
    "115=X",
    "116=X",
    "128=X",
    "129=X",
    "144=X",
    "145=X",
    "90=2",
    "91=ab",
    "347=UTF-8",
    "627=1",
    "628=hop",
    "1128=9",
]
NASTY = [
    "", "0", "-0", "00", "1,08", "1.08.1", "NaN", "nan", "Infinity", "-inf", "1e5", "1E5", "9e9999999", "1e999999",
    "+1", " 1", "1 ", "0x10", "1_000", ".", "-", "--1", "-1", "-1.0875", "1.08751", "1.087510000000000001", "1.5",
    "9" * 18, "9" * 20, "9" * 400, "1." + "0" * 60, "Y", "N", "Z", "é", "\x00", "\xff\xfe", "A" * 3_000,
    "18446744073709551616", "-9223372036854775808", "4611686018427387904", "2147483648",
    "1000", "3000", "7", "8", "1.0875", "1.0874",
]  # fmt: skip
NUMBER = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")


class Everything(Application):
    """Books and orders behind a session, as the client has them."""

    def __init__(self) -> None:
        self.market = Market([EURUSD], ["1"], PLAIN)
        self.forget()
        self.session: Session
        self.updates: list[OrderUpdate] = []
        self.rows: list[np.ndarray] = []
        self.refused = 0

    def forget(self) -> None:
        """Know of no order, so that every figure of an update comes from the message at hand."""
        self.orders = Orders({"EURUSD": Scale(EURUSD)}, {"EURUSD": "1"}, PLAIN)

    def on_market(self, rows: int, result: int) -> None:
        self.rows += [row.copy() for row in self.market.rows[:rows]]
        self.market.settle(result)

    def on_late_market(self, frame: Frame) -> None:
        self.on_market(*self.market.late(self.session.framer, frame, 1))

    def on_message(self, message: Message) -> None:
        repr(message)
        self.updates += self.orders.report(message)
        for entry in message.group(702):
            entry.get(704)

    def on_refused(self, message: Message, why: str) -> None:
        self.refused += 1
        self.market.invalidate()

    on_reject = on_message


def started(everything: Everything, clock: SimClock) -> Session:
    session = Session(
        SessionConfig(sender="ME", target="VENUE"), MemoryStore(), clock, everything, everything.market
    )
    everything.session = session
    return session


def log_on(session: Session) -> None:
    session.store.reset(1)
    session.connect()
    session.receive(framed("35=A|34=1|49=VENUE|52=20240605-12:00:00|56=ME|98=0|108=30|141=Y|"))
    session.drain()


def mutated(rng: np.random.Generator, kind: str, number: int) -> tuple[str, list[str]]:
    """A message of a kind with one to three things wrong in its fields; also what was done."""
    fields = [f for f in KINDS[kind].replace("{}", str(number)).split("|") if f]
    head = list(HEAD)
    done = []
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(0, len(fields)))
        tag, _, value = fields[at].partition("=")
        match int(rng.integers(0, 9)):
            case 0 | 1 | 2:
                fields[at] = f"{tag}={NASTY[int(rng.integers(0, len(NASTY)))]}"
            case 3:
                head.insert(int(rng.integers(0, len(head) + 1)), EXTRA[int(rng.integers(0, len(EXTRA)))])
                rng.shuffle(head)
            case 4:
                fields.insert(int(rng.integers(0, len(fields) + 1)), fields[at])
            case 5 if len(fields) > 1:
                del fields[at]
            case 6:
                other = int(rng.integers(0, len(fields)))
                fields[at], fields[other] = fields[other], fields[at]
            case 7:
                fields[at] = f"{int(rng.integers(0, 1200))}={value}"
            case _:
                fields[at] = f"{tag}={value}{'0' * int(rng.integers(0, 3))}"
        done.append(fields[min(at, len(fields) - 1)])
    return f"35={kind}|" + "".join(f"{f}|" for f in [*head, *fields]), done


def plainly(text: str | None, unit: str) -> int | None:
    """A number as a whole count of a unit, read the slow way; None where it is none."""
    if text is None or NUMBER.fullmatch(text) is None or len(text) > 32:
        return None
    count = Decimal(text) / Decimal(unit)
    return int(count) if count == int(count) else None


def believed(update: OrderUpdate, body: str) -> bool:
    """Whether the figures of an update stand in the message, written as plain numbers."""
    pairs: dict[str, str] = {}
    for field in body.split("|"):
        tag, _, value = field.partition("=")
        if value:
            pairs.setdefault(tag, value)
    if update.filled and plainly(pairs.get("14"), "1000") != update.filled:
        return False
    last = pairs.get("31") if pairs["35"] == "8" else None
    return last is None or NUMBER.fullmatch(last) is not None


def rows_fit(rows: list[np.ndarray], body: str) -> bool:
    """Whether each price and size of new rows stands in the message or in the book before it, as plain numbers."""
    prices = {plainly(f[4:], "0.00001") for f in body.split("|") if f.startswith("270=")}
    sizes = {plainly(f[4:], "1000") for f in body.split("|") if f.startswith("271=")}
    cut = {
        int(Decimal(f[4:]) / 1000)
        for f in body.split("|")
        if f.startswith("271=") and NUMBER.fullmatch(f[4:])
    }
    for row in rows:
        for side in levels(row):
            for px, size in side:
                if px not in prices | {108_750, 108_770} or size not in sizes | cut | {5, 3, 0}:
                    return False
    return True


def test_mutated_messages_make_no_false_event_and_hold_nothing_up() -> None:
    rng = generator(11, "fix-fuzz")
    clock = SimClock(NOON)
    everything = Everything()
    session = started(everything, clock)
    log_on(session)
    kinds = list(KINDS)
    good = KINDS["W"]
    late, sound = [], 0
    began = _resident()
    gc.disable()
    try:
        for number in range(MUTATIONS):
            if session.phase is not Phase.ACTIVE:
                log_on(session)
            kind = kinds[number % len(kinds)]
            if kind in ("W", "X"):  # the book before it is always the same
                session.receive(framed(f"35=W|{'|'.join(HEAD).format(session.store.next_in)}|{good}"))
            everything.forget()
            everything.orders.sent(3, b"D", "R-1")
            body, done = mutated(rng, kind, number)
            data = framed(body.replace("{}", str(session.store.next_in)))
            everything.rows.clear()
            everything.updates.clear()
            first = time.thread_time()
            session.receive(data)
            session.tick()
            took = time.thread_time() - first
            if took > LONGEST_S:
                late.append((took, body[:200]))
            session.drain()
            for update in everything.updates:
                assert believed(update, body), (update, body)
            assert rows_fit(everything.rows, body), (everything.rows, body, done)
            sound += session.phase is Phase.ACTIVE
            if number % 5_000 == 4_999:
                gc.collect()
    finally:
        gc.enable()
    assert sound > MUTATIONS // 3
    assert everything.refused > MUTATIONS // 100
    assert len(late) <= MUTATIONS // 10_000, late[:5]  # a machine that is shared stands still at times
    assert _resident() - began < 200 << 20


def _resident() -> int:
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if path.exists() else 0


def test_long_messages_hold_nothing_up() -> None:
    """A W of 4,000 entries, books that overflow, endless groups and texts, each below the bound."""
    clock = SimClock(NOON)
    everything = Everything()
    session = started(everything, clock)
    for body in long_bodies():
        taken = []
        for _ in range(5):
            log_on(session)
            data = framed(body.format(f"{'|'.join(HEAD).format(2)}|"))
            taken.append(slowest_piece_s(session, data))
        assert min(taken) < LONGEST_S * SHARED, (body[:60], taken)


@pytest.mark.parametrize("kind", ["W", "8"])
def test_the_oracle_itself_tells_false_from_true(kind: str) -> None:
    row = np.zeros(1, Market([EURUSD], ["1"], PLAIN).rows.dtype)[0]
    row["n_bid"], row["bid_px"][0], row["bid_sz"][0] = 1, 108_740, 4
    assert not rows_fit([row], "270=1.0873|271=4000|")
    assert rows_fit([row], "270=1.0874|271=4000|")
    update = OrderUpdate(clOrdID="a", execID="b", status="new", filled=2, price=1, ts=1)  # type: ignore[arg-type]
    assert not believed(update, "35=8|14=2e3|")
    assert believed(update, "35=8|14=2000|")
