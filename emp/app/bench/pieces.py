"""How long one read of a connection may hold the loop: messages of every length that the FIX session lets in."""

import time
from collections.abc import Callable

from emp.access.fix.dialect import PLAIN
from emp.access.fix.market import Market
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders
from emp.access.fix.session import Session
from emp.access.fix.store import MemoryStore
from emp.access.fix.terms import Application, SessionConfig
from emp.access.fix.text import Scale, Stamp
from emp.core.clock import LiveClock
from emp.core.instrument import Instrument

PIECE = 65_536
"""Bytes of one read: what asyncio hands over at most."""

LIMIT_MS = 5.0
RUNS = 5
_HEAD = "34=2|49=VENUE|52={}|56=ME|"


def long_bodies() -> list[str]:
    """Bodies whose cost could grow with their length, `{}` for the rest of the header: books of 4,000 and 40,000
    entries, a text of 3 MB, one tag over and over, a group that promises more than there is, a data field.
    """
    entries = "".join(
        f"269={i % 2}|270=1.{40_000 - i if i % 2 == 0 else 50_000 + i}|271=1000|278=x{i}|"
        for i in range(4_000)
    )
    return [
        f"35=W|{{}}55=1|268=4000|{entries}",
        f"35=W|{{}}55=1|268=40000|{entries * 10}",
        "35=8|{}58=" + "x" * 3_000_000 + "|",
        "35=8|{}" + "11=x|" * 500_000,
        "35=8|{}" + "11=x|" * 4_000,
        "35=AP|{}702=999999999|" + "703=TOT|704=1|705=0|" * 1_300,
        "35=B|{}95=65000|96=" + "\x01" * 65_000 + "|",
    ]


def slowest_piece_s(session: Session, data: bytes) -> float:
    """CPU time of the piece of a message that a session takes longest over."""
    slowest = 0.0
    for first in range(0, len(data), PIECE):
        piece = data[first : first + PIECE]
        began = time.thread_time()
        session.receive(piece)
        slowest = max(slowest, time.thread_time() - began)
    session.drain()
    return slowest


def longest_hold_ms(instrument: Instrument, framed: Callable[[str], bytes]) -> float:
    """The longest that any piece of any such message holds the loop, in ms of CPU time; of each, the best run.

    `framed` makes a message of a body, `|` for SOH.
    """
    clock = LiveClock()
    orders = Orders({instrument.name: Scale(instrument)}, {instrument.name: "1"}, PLAIN)

    class Everything(Application):
        def on_message(self, message: Message) -> None:
            orders.report(message)
            list(message.group(702))

    market = Market([instrument], ["1"], PLAIN)
    session = Session(SessionConfig(sender="ME", target="VENUE"), MemoryStore(), clock, Everything(), market)
    longest = 0.0
    for body in long_bodies():
        best = float("inf")
        for _ in range(RUNS):
            stamp = Stamp()(clock.now_ns()).decode()
            session.store.reset(clock.now_ns())
            session.connect()
            session.receive(framed(f"35=A|34=1|49=VENUE|52={stamp}|56=ME|98=0|108=30|141=Y|"))
            best = min(best, slowest_piece_s(session, framed(body.format(_HEAD.format(stamp)))))
        longest = max(longest, best)
    return longest * 1e3
