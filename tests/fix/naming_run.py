"""Our books behind a session beside a venue that keeps the truth, over a wire that loses, garbles and breaks.

    python -m tests.fix.naming_run --steps 1000000        # per way of naming; minutes

Time is a clock of its own: 4 ms pass per message, so that heartbeats, pacing and timeouts happen as they would. Every
few hundred messages the market pauses, what is under way arrives, and both books must be the venue's. The venue counts
what is asked of it: never a second recovery, of books or of numbers, while one is under way.
"""

import argparse
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

import msgspec
import structlog

from emp.access.fix.dialect import PLAIN
from emp.access.fix.market import Market
from emp.access.fix.message import Message
from emp.access.fix.session import Session
from emp.access.fix.settings import FixSettings
from emp.access.fix.side import Side
from emp.access.fix.store import MemoryStore
from emp.access.fix.terms import NEVER, Phase, SessionConfig
from emp.access.fix.text import Stamp
from emp.access.port import LinkState
from emp.core.clock import SimClock
from emp.core.contracts import OrderUpdate
from emp.core.ids import generator
from emp.core.records import Array, empty_events
from tests.fix.desk import EURUSD, levels
from tests.fix.naming import KEYING, SYMBOLS, WAYS, TruthfulVenue
from tests.fix.wire import fields, framed

MS = 1_000_000
STEP_NS = 4 * MS
QUIET = 400
"""Steps between two comparisons."""

FAULTS = {"drop": 0.002, "garble": 0.001, "swap": 0.001, "spoil": 0.0005, "cut": 0.001, "twice": 0.0005}
"""Chance per message; a spoilt one is whole and cannot be read."""

_TIMEOUT_S = 10.0


class Stand:
    """Both ends: the venue and its wire, and our session, its market data side and books."""

    def __init__(self, way: str, seed: int) -> None:
        self.truth = TruthfulVenue(way, seed)
        self.clock = SimClock(1_717_588_800_000_000_000)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.faulty = True
        self.seen: dict[int, Array] = {}
        self._rng = generator(seed, "naming run", way)
        self._stamp = Stamp()
        # the venue
        self._seq = 1
        self._sent: dict[int, tuple[str, str, str]] = {}  # number -> (type, body, when)
        self._subscribed = False
        self._asked: dict[str, int] = {}  # what is asked for and not answered yet -> since when
        self._missing_to = 0  # highest number that was missing or waited when numbers were asked for
        self._inbox: deque[tuple[int, bytes]] = deque()  # (when it arrives, what we said)
        self._wire = b""  # on its way to us
        self._held = b""
        # our side
        dialect = msgspec.structs.replace(PLAIN, keying=KEYING[way])
        self.settings = FixSettings(
            host="venue", port=1, sender="ME", target="VENUE", dialect=dialect, timeout_s=_TIMEOUT_S
        )
        self.market = Market((EURUSD, EURUSD), SYMBOLS, dialect)
        self.side = Side(self, self.market, None)
        self.side.link = self  # type: ignore[assignment]
        self.address = "venue"
        config = SessionConfig(sender="ME", target="VENUE", heartbeat_s=5)
        self.session = Session(config, MemoryStore(), self.clock, self.side, self.market)
        self.redial_ns = NEVER

    # --- what a side needs of its access and link -------------------------------------------------------------

    @property
    def sink(self) -> "Stand":
        return self

    def events(self, rows: Array) -> None:
        for row in rows:
            self.seen[int(row["instrument"])] = row.copy()

    def link(self, state: LinkState) -> None:
        pass

    def logged_on(self) -> None:
        pass

    def wake(self) -> None:
        pass

    def fail(self, why: str) -> None:
        self.wrong.append(f"the market is over: {why}")

    def report(self, update: OrderUpdate) -> None:
        pass

    def ended(self, error: Exception | None) -> None:
        pass

    async def ready(self) -> None:
        pass

    def answer(self, message: Message) -> bool:
        return False

    def dispute(self, message: Message) -> None:
        pass

    def dealt_with(self, seq: int) -> None:
        pass

    def heard(self) -> None:
        pass

    def unheard(self, first: int, last: int) -> None:
        pass

    def recover(self, *, anew: bool = False) -> None:
        pass

    def recover_in_time(self) -> None:
        pass

    def recovery_due_ns(self) -> int:
        return NEVER

    # --- the venue ------------------------------------------------------------------------------------------

    def _say(self, kind: str, body: str = "") -> None:
        """Send one message; market data is kept, to be sent again."""
        seq, when = self._seq, self._stamp(self.clock.now_ns()).decode()
        self._seq += 1
        if kind in "WX":
            self._sent[seq] = kind, body, when
            self._sent.pop(seq - 20_000, None)
        self._leave(framed(f"35={kind}|34={seq}|49=VENUE|52={when}|56=ME|{body}"), kind)

    def _leave(self, data: bytes, kind: str) -> None:
        fault = self._fault() if kind in "WX0" else ""
        if fault:
            self.counts[fault] += 1
        if fault == "garble":
            data = data[:-20] + bytes([data[-20] ^ 1]) + data[-19:]
        elif fault == "swap" and not self._held:
            self._held = data
            return
        elif fault == "twice":
            data += data
        elif fault == "spoil":
            text = data.replace(b"\x01270=", b"\x01270=1e", 1)
            inner = text[text.index(b"35=") : text.rindex(b"10=")]
            data = framed(inner.decode("latin-1"))
        elif fault == "cut":
            self._wire += data[: len(data) // 2]
            self.cut()
            return
        if fault != "drop":
            self._wire += data
        if self._held:
            self._wire, self._held = self._wire + self._held, b""

    def _fault(self) -> str:
        if not self.faulty:
            return ""
        draw = self._rng.random()
        for name, chance in FAULTS.items():
            if draw < chance:
                return name
            draw -= chance
        return ""

    def _hear(self, data: bytes) -> None:
        """Act on what we said."""
        for part in data.split(b"8=FIX.4.4\x01")[1:]:
            message = dict(fields(b"8=FIX.4.4\x01" + part))
            kind = message[35]
            if kind == "A":
                self._say("A", "98=0|108=5|")
            elif kind == "1":
                self._say("0", f"112={message[112]}|")
            elif kind == "2":
                self._again(int(message[7]), int(message[16]) or self._seq - 1)
            elif kind == "V" and message[263] == "2":
                self._subscribed = False
            elif kind == "V":
                self._answered("books")
                self._subscribed = True
                for symbol in SYMBOLS:
                    self._say("W", self.truth.snapshot(symbol))
            elif kind == "5":
                self.counts["logouts"] += 1
                self.cut()
            elif kind == "3":
                self.counts["rejects"] += 1

    def _again(self, begin: int, end: int) -> None:
        """Send again what is kept, or say that none of it matters any more."""
        self._answered("numbers")
        fills = self._rng.random() < 0.3
        self.counts["filled" if fills else "sent again"] += 1
        stamp = self._stamp(self.clock.now_ns()).decode()
        head = f"49=VENUE|52={stamp}|56=ME|43=Y|"
        seq = begin
        while seq <= end:
            kept = None if fills else self._sent.get(seq)
            if kept is not None:
                self._wire += framed(f"35={kept[0]}|34={seq}|{head}122={kept[2]}|{kept[1]}")
                seq += 1
                continue
            following = seq + 1
            while following <= end and (fills or following not in self._sent):
                following += 1
            self._wire += framed(f"35=4|34={seq}|{head}122={stamp}|123=Y|36={following}|")
            seq = following

    # --- the wire -------------------------------------------------------------------------------------------

    def cut(self) -> None:
        """The connection breaks: what was on its way to us arrives up to the break, what we said is lost."""
        self._carry()
        self._subscribed = False
        self._held = b""
        self._inbox.clear()
        self._asked.clear()
        self.counts["connections lost"] += 1
        self.session.lost("cut")
        self.redial_ns = self.clock.monotonic_ns() + 300 * MS

    def _carry(self) -> None:
        """What is on its way arrives, in two pieces."""
        data, self._wire = self._wire, b""
        if data and self.session.phase is not Phase.DOWN:
            at = int(self._rng.integers(0, len(data) + 1))
            self.session.receive(data[:at])
            self.session.receive(data[at:])

    def _listen(self) -> None:
        """What we say reaches the venue 20 to 100 ms later; it notes what is asked for while it already was."""
        now = self.clock.monotonic_ns()
        for data in self.session.take():
            kind = data[data.index(b"\x0135=") + 4 :][:2]
            if kind == b"V\x01" and b"\x01263=1\x01" in data:
                self._ask("books", _TIMEOUT_S)
            elif kind == b"2\x01":
                if self.session.store.next_in > self._missing_to:  # what was asked for came by itself
                    self._answered("numbers")
                self._missing_to = self.session._state.gap.highest
                self._ask("numbers", 5.0)
            self._inbox.append((now + int(self._rng.integers(20, 100)) * MS, data))
        if self.session.phase is Phase.CLOSING:
            self.cut()

    def _ask(self, what: str, again_s: float) -> None:
        """Something is asked for: a second time only where the first brought nothing for a long time."""
        now = self.clock.monotonic_ns()
        self.counts[f"asked for {what}"] += 1
        if what in self._asked and now - self._asked[what] < again_s * 1e9:
            self.wrong.append(f"asked for {what} while it was asked for already, at {now / 1e9:.3f} s")
        self._asked[what] = now

    def _answered(self, what: str) -> None:
        self._asked.pop(what, None)

    def pass_time(self, ns: int) -> None:
        """Time passes at both ends."""
        self.clock.advance(ns)
        now = self.clock.monotonic_ns()
        if now >= self.redial_ns:
            self.redial_ns = NEVER
            self.session.connect()
        while self._inbox and self._inbox[0][0] <= now:
            self._hear(self._inbox.popleft()[1])
        self._carry()
        if self.session.phase is not Phase.DOWN and now >= self.session.deadline_ns:
            self.session.tick()
        self._listen()

    def step(self) -> None:
        """The market moves; the venue says so to whoever has subscribed."""
        said = self.truth.step()
        if self._subscribed and self.session.phase is Phase.ACTIVE:
            self._say("X", said)
            self.counts["X"] += 1
        self.pass_time(STEP_NS)

    # --- the comparison -------------------------------------------------------------------------------------

    def quiet(self) -> None:
        """The market pauses and nothing goes wrong: within a minute both books are the venue's."""
        self.faulty = False
        if self._held:
            self._wire, self._held = self._wire + self._held, b""
        for _ in range(3_000):
            self.pass_time(20 * MS)
            if not self._inbox and not self._wire and self.session.phase is Phase.ACTIVE and self.equal():
                break
            if self._subscribed and self.clock.monotonic_ns() // MS % 2_000 < 20:
                self._say("0")  # a heartbeat shows what is missing
        else:
            self.wrong.append(f"books differ at {self.clock.monotonic_ns() / 1e9:.0f} s")
        self.counts["quiet points"] += 1
        self.faulty = True

    def equal(self) -> bool:
        """Whether both books, and the last event of each, are the venue's."""
        return self._subscribed and all(
            bool(self.market.books["whole"][at])
            and levels(self._cached(at)) == self.truth.levels(symbol)
            and at in self.seen
            and levels(self.seen[at]) == self.truth.levels(symbol)
            for at, symbol in enumerate(SYMBOLS)
        )

    def _cached(self, at: int) -> Array:
        from emp.access.fix.book import show

        [row] = empty_events(1)
        show(self.market.books[at], row)
        return row


def run(way: str, steps: int, seed: int = 1, stop: Callable[[], bool] = lambda: False) -> dict[str, Any]:
    """So many X in one way of naming; `wrong` says what was not as it must be."""
    stand = Stand(way, seed)
    began = time.perf_counter()
    stand.session.connect()
    stand._listen()
    stand.quiet()
    while stand.counts["X"] < steps and len(stand.wrong) < 5 and not stop():
        for _ in range(QUIET):
            stand.step()
        stand.quiet()
    seconds = time.perf_counter() - began
    market_s = stand.clock.monotonic_ns() / 1e9
    return {
        "way": way, **dict(sorted(stand.counts.items())), "refused": stand.session.refused,
        "messages/s": round(stand.counts["X"] / seconds), "market seconds": round(market_s),
        "quarantined": {reason.name: n for reason, n in stand.market.quarantined.items()},
        "wrong": stand.wrong,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--way", choices=WAYS, action="append", help="one way of naming, may be given often")
    asked = parser.parse_args()
    for way in asked.way or WAYS:
        with structlog.testing.capture_logs() as log:
            found = run(way, asked.steps, asked.seed)
        print(json.dumps(found | {"log": dict(Counter(entry["event"] for entry in log))}), flush=True)


if __name__ == "__main__":
    main()
