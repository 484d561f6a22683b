"""Our two ends of a session, driven by hand: a strict venue as the acceptor, a session as the initiator."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec

from emp.access.fix.dialect import PLAIN
from emp.access.fix.frame import Frame
from emp.access.fix.message import Message
from emp.access.fix.session import Session
from emp.access.fix.store import MemoryStore
from emp.access.fix.terms import Application, Phase, SessionConfig
from emp.access.fix.text import Stamp, utc_ns
from emp.core.clock import SimClock
from emp.sim.venues.fix.client import Client
from emp.sim.venues.fix.venue import FixVenue, VenueSettings
from tests.fix.desk import EURUSD
from tests.fix.markets import Toy
from tests.fix.wire import fields, framed

NOON = utc_ns(b"20240605-12:00:00")
S = 1_000_000_000
DUP = "43=Y|122=20240605-11:59:59|"


class Side:
    """One of our ends, driven by hand: what is said to it, what it answers, what it has taken."""

    initiator = False

    def __init__(self) -> None:
        self.clock = SimClock(NOON)
        self.taken: list[str] = []  # ids of application messages that were acted on, in order
        self.open = True
        self._answers: list[bytes] = []

    # what the case does

    def connect(self) -> None:
        raise NotImplementedError

    def receive(self, data: bytes) -> None:
        raise NotImplementedError

    def tick(self) -> None:
        raise NotImplementedError

    def application(self, name: str) -> str:
        """Type and body of an application message, `35=…` first, without its header."""
        raise NotImplementedError

    def logon(self, seq: int = 1, body: str = "98=0|108=30|") -> None:
        self.connect()
        self.say("A", seq, body)

    def head(self, seq: int, *, late_s: float = 0.0) -> str:
        stamp = Stamp()(self.clock.now_ns() + round(late_s * S)).decode()
        them, us = ("ISLD", "TW") if self.initiator else ("TW", "ISLD")
        return f"34={seq}|49={them}|52={stamp}|56={us}|"

    def say(self, kind: str, seq: int, body: str = "", extra: str = "", **kind_of_head: float) -> None:
        self.receive(framed(f"35={kind}|{self.head(seq, **kind_of_head)}{extra}{body}"))

    def order(self, seq: int, name: str, extra: str = "", **kind_of_head: float) -> None:
        kind, _, body = self.application(name).partition("|")
        self.say(kind[3:], seq, body, extra, **kind_of_head)

    def garbled(self, change: Callable[[bytes], bytes], seq: int) -> None:
        """Say a message of which the bytes are changed afterwards."""
        self.receive(change(framed(f"35=0|{self.head(seq)}")))

    # what it checks

    def expect(self, kind: str, **tags: str) -> dict[int, str]:
        """The next answer must be of this type and carry these fields (`t45="2"`)."""
        assert self._answers, f"no answer, wanted 35={kind}"
        found = dict(fields(self._answers.pop(0)))
        wanted = {35: kind} | {int(tag[1:]): text for tag, text in tags.items()}
        assert {tag: found.get(tag) for tag in wanted} == wanted, found
        return found

    def reject(self, of: int, why: int, tag: int | None = None) -> None:
        wanted = {"t45": str(of), "t373": str(why)} | ({"t371": str(tag)} if tag else {})
        self.expect("3", **wanted)

    def nothing(self) -> None:
        assert not self._answers, self._answers

    def closed(self) -> None:
        assert not self.open, "the connection stands"

    def alive(self, seq: int) -> None:
        """A test request must be answered: the session goes on, and this is the number it expects."""
        assert self.open, "the connection is closed"
        self.say("1", seq, "112=alive|")
        self.expect("0", t112="alive")

    def bye(self, seq: int) -> None:
        self.say("5", seq)
        self.expect("5")
        self.closed()


class Acceptor(Side):
    """Our venue with a market of one instrument behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.market = Toy([EURUSD], pause_s=3600.0)
        dialect = msgspec.structs.replace(PLAIN, hours=None)
        settings = VenueSettings(sender="ISLD", target="TW", dialect=dialect, strict=True)
        self.venue = FixVenue(self.market, [EURUSD], settings, clock=self.clock)
        self.client: Client | None = None

    def connect(self) -> None:
        self.client, self.open = Client(self.venue), True
        self.client.connection_made(Wire(self, self.client))

    def receive(self, data: bytes) -> None:
        assert self.client is not None
        before = len(self.market.orders)
        self.client.data_received(data)
        self.taken += list(self.market.orders)[before:]
        # reports on orders are not what the definitions speak of, unless they are sent again
        self._answers = [a for a in self._answers if b"\x0135=8\x01" not in a or b"\x0143=Y\x01" in a]

    def tick(self) -> None:
        assert self.client is not None
        self.client.session.tick()
        self.client.flush()

    def application(self, name: str) -> str:
        stamp = Stamp()(self.clock.now_ns()).decode()
        return f"35=D|11={name}|21=3|40=2|44=1.08755|54=1|55=EURUSD|38=1000|60={stamp}|"

    def heard(self, data: bytes) -> None:
        self._answers.append(data)


class Wire(asyncio.Transport):
    """A transport that hands what is written to the case."""

    def __init__(self, side: Acceptor, client: Client) -> None:
        super().__init__()
        self._side, self._client, self._gone = side, client, False

    def write(self, data: Any) -> None:
        self._side.heard(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._gone

    def close(self) -> None:
        if not self._gone:
            self._gone = True
            self._side.open = self._side.client is not self._client and self._side.open
            self._client.connection_lost(None)

    abort = close


class Initiator(Side, Application):
    """Our session as the initiator, with an application that writes down what it is handed."""

    initiator = True

    def __init__(self) -> None:
        super().__init__()
        config = SessionConfig(sender="TW", target="ISLD")
        self.session = Session(config, MemoryStore(), self.clock, self)
        self.session.store.created_ns = 1

    def connect(self) -> None:
        self.open = True
        self.session.connect()
        self._answers = []
        self.session.drain()

    def logon(self, seq: int = 1, body: str = "98=0|108=30|") -> None:
        super().logon(seq, body)
        if self.session.phase is Phase.ACTIVE:
            self._answers.insert(0, framed("35=A|"))  # ours came first; the cases expect an answer

    def receive(self, data: bytes) -> None:
        self.session.receive(data)
        self._collect()

    def tick(self) -> None:
        self.session.tick()
        self._collect()

    def _collect(self) -> None:
        self._answers += self.session.take()
        if self.session.phase is Phase.CLOSING:
            self.open = False
            self.session.lost("closed")

    def application(self, name: str) -> str:
        return f"35=8|37=V|17={name}|150=0|39=0|11={name}|55=EURUSD|54=1|38=1000|14=0|151=1000|6=0|"

    def on_message(self, message: Message) -> None:
        self.taken.append(message.text(11))

    def on_late_market(self, frame: Frame) -> None:
        self.taken.append("book")
