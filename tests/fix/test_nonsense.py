"""Sound frames with nonsense inside: everything behind the framer must hold."""

from emp.access.fix.dialect import CTRADER
from emp.access.fix.frame import Frame
from emp.access.fix.market import Market
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders
from emp.access.fix.session import Session
from emp.access.fix.store import MemoryStore
from emp.access.fix.terms import Phase, SessionConfig
from emp.access.fix.text import Scale
from emp.core.clock import SimClock
from emp.core.ids import generator
from tests.fix.desk import EURUSD
from tests.fix.side import NOON, Heard, message
from tests.fix.wire import framed

SOUND_BUT_STRANGE = [
    "35=W|34={}|49=VENUE|52=20240605-12:00:00|56=ME|55=1|268=2|269=0|270=1.08|271=1000|278=7|269=1|270=1.09|278=8|",
    "35=X|34={}|49=VENUE|52=20240605-12:00:00|56=ME|268=2|279=2|278=7|55=1|279=0|269=1|278=9|55=1|270=1.1|271=3000|",
    "35=8|34={}|49=VENUE|52=20240605-12:00:00|56=ME|37=V|17=e|150=F|39=1|11=R-1|55=1|54=1|38=3000|14=1000|151=2000|"
    "6=1.08|31=1.08|32=1000|60=20240605-12:00:00.1|12=0.3|",
    "35=9|34={}|49=VENUE|52=20240605-12:00:00|56=ME|37=V|11=R-2|41=R-1|39=2|434=1|102=0|58=late|",
    "35=j|34={}|49=VENUE|52=20240605-12:00:00|56=ME|45=3|372=D|379=R-1|380=0|58=no|",
    "35=3|34={}|49=VENUE|52=20240605-12:00:00|56=ME|45=3|371=38|372=D|373=5|58=no|",
    "35=2|34={}|49=VENUE|52=20240605-12:00:00|56=ME|7=1|16=0|",
    "35=4|34={}|49=VENUE|52=20240605-12:00:00|56=ME|123=Y|36=900|",
    "35=1|34={}|49=VENUE|52=20240605-12:00:00|56=ME|112=T|",
    "35=5|34={}|49=VENUE|52=20240605-12:00:00|56=ME|58=bye|",
    "35=A|34={}|49=VENUE|52=20240605-12:00:00|56=ME|98=0|108=30|141=Y|",
    "35=AP|34={}|49=VENUE|52=20240605-12:00:00|56=ME|710=q|721=1|727=1|728=0|55=1|702=1|704=1000|705=0|730=1.08|",
]


def test_sound_frames_with_nonsense_inside_raise_nothing() -> None:
    """Bodies are mutated and framed again with a right length and sum: everything behind the framer must hold."""
    rng = generator(2, "fix-nonsense")
    market = Market([EURUSD], ["1"], CTRADER)
    orders = Orders({"EURUSD": Scale(EURUSD)}, {"EURUSD": "1"}, CTRADER)

    class Everything(Heard):
        def on_message(self, message: Message) -> None:
            repr(message)
            for update in orders.report(message):
                assert isinstance(update.filled, int)
            list(message.group(702))

        def on_late_market(self, frame: Frame) -> None:
            market.settle(market.late(session.framer, frame, 1)[1])

        def on_market(self, rows: int, result: int) -> None:
            market.settle(result)

        on_reject = on_message

    clock = SimClock(NOON)
    session = Session(SessionConfig(sender="ME", target="VENUE"), MemoryStore(), clock, Everything(), market)
    survived = 0
    for i in range(20_000):
        if session.phase is not Phase.ACTIVE:
            session.store.reset(0)
            session.connect()
            session.receive(message("A", 1, "98=0|108=30|141=Y|"))
            orders.sent(3, b"D", "R-1")
        body = SOUND_BUT_STRANGE[i % len(SOUND_BUT_STRANGE)].format(session.store.next_in)
        data = bytearray(body.replace("|", "\x01").encode())
        for _ in range(int(rng.integers(0, 4))):
            at = int(rng.integers(3, len(data)))
            data[at] = (
                int(rng.integers(0, 256)) if rng.random() < 0.5 else b"\x01=.-0129ZYN"[int(rng.integers(11))]
            )
        session.receive(framed(data.decode("latin-1")))
        session.drain()
        survived += session.phase is Phase.ACTIVE
    assert survived > 8_000
