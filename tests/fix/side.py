"""One side of a session, driven by bytes and a clock that stands still until told, and what its application heard."""

from emp.access.fix.frame import Frame
from emp.access.fix.message import Message
from emp.access.fix.session import Session
from emp.access.fix.store import MemoryStore, SequenceStore
from emp.access.fix.terms import Application, Phase, SessionConfig
from emp.access.fix.text import utc_ns
from emp.core.clock import SimClock
from tests.fix.wire import framed, is_sound, value

S = 1_000_000_000
NOON = utc_ns(b"20240605-12:00:00")  # a Wednesday


class Heard(Application):
    """An application that writes down what it is told."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.refuse = ""

    def on_logon(self) -> None:
        self.log.append("logon")

    def on_logout(self, reason: str) -> None:
        self.log.append(f"logout {reason}")

    def on_market(self, rows: int, result: int) -> None:
        self.log.append(f"rows {rows}")

    def on_message(self, message: Message) -> None:
        self.log.append(f"{message.kind} {message.seq}")

    def on_late_market(self, frame: Frame) -> None:
        self.log.append(f"market {frame[5]}")

    def on_gap(self, first: int, last: int) -> None:
        self.log.append(f"gap {first}-{last}")

    def on_withheld(self, first: int, last: int) -> None:
        self.log.append(f"withheld {first}-{last}")

    def on_reject(self, message: Message) -> None:
        self.log.append(f"reject of {message.integer(45)}")

    def on_refused(self, message: Message, why: str) -> None:
        self.log.append(f"refused {message.seq}: {why}")

    def accept(self, logon: Message) -> str:
        return self.refuse


class Peer:
    """One end of a session, and the messages it has written."""

    def __init__(
        self, *, initiator: bool = True, store: SequenceStore | None = None, **rules: object
    ) -> None:
        me, other = ("ME", "VENUE") if initiator else ("VENUE", "ME")
        self.heard = Heard()
        self.clock = SimClock(NOON)
        self.dump: list[str] = []
        config = SessionConfig(sender=me, target=other, initiator=initiator, **rules)  # type: ignore[arg-type]
        self.store = store or MemoryStore()
        self.session: Session = Session(
            config, self.store, self.clock, self.heard, log=lambda way, text: self.dump.append(text)
        )

    def sent(self) -> list[bytes]:
        """Messages written since the last call, each checked."""
        data = self.session.drain()
        found = []
        while data:
            end = data.index(b"\x0110=") + 8
            found.append(data[:end])
            assert is_sound(found[-1]), found[-1]
            data = data[end:]
        return found

    def kinds(self) -> list[str]:
        return [value(m, 35) or "" for m in self.sent()]


def message(
    kind: str, seq: int, body: str = "", when: str = "20240605-12:00:00.000", who: str = "VENUE"
) -> bytes:
    """A message of the scripted other side."""
    to = "ME" if who == "VENUE" else "VENUE"
    return framed(f"35={kind}|34={seq}|49={who}|52={when}|56={to}|{body}")


def active(**rules: object) -> Peer:
    """An initiator that has logged on; the other side's next number is 2."""
    peer = Peer(**rules)
    peer.session.connect()
    [logon] = peer.sent()
    assert value(logon, 35) == "A"
    peer.session.receive(message("A", 1, "98=0|108=30|141=Y|"))
    assert peer.session.phase is Phase.ACTIVE
    return peer
