"""A wire that lies: a proxy of whole FIX messages that does to them what networks and brokers do.

It keeps both sides' numbers apart, so that it can put messages of its own into the stream and begin the numbers anew
in the middle of a session: what a side calls 17 may be 21 to the other. Every fault is drawn from a seed and counted.
"""

import asyncio
import contextlib
import re
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from emp.core.ids import generator
from tests.fix.counted import Numbers
from tests.fix.wire import framed

_FRAME = re.compile(rb"8=FIX\.4\.4\x019=([0-9]+)\x01")
ANY = ("cut", "stall", "drop", "twice", "swap", "checksum", "length")
"""Faults of either direction."""

TOLD = (
    "number",
    "empty",
    "stamp",
    "header",
    "stagger",
    "ask above",
    "logon again",
    "logon too high",
    "skip",
    "reset",
)
"""Faults of what is said to the side under test."""

LOGON_TIMES = 15.0
"""By how much likelier a logon asks for no heartbeats than a message meets a fault: there are few logons."""

NUMBERS = {"8": (31, 32, 14, 6, 38, 151), "W": (270, 271), "X": (270, 271), "D": (38, 44), "G": (38, 44)}
NONSENSE = (b"1,08", b"NaN", b"1e999999", b"9e9999999", b"-1", b"0x10", b"99999999999999999999", b"1..5")


def frames(data: bytes) -> tuple[list[bytes], bytes]:
    """Whole messages at the front of a buffer, and what is left of it."""
    found = []
    while (head := _FRAME.match(data)) is not None:
        end = head.end() + int(head[1]) + 7
        if len(data) < end:
            break
        found.append(data[:end])
        data = data[end:]
    return found, data


def value(frame: bytes, tag: int) -> bytes:
    """First value of a tag, empty where absent."""
    at = frame.find(b"\x01%d=" % tag)
    if at < 0:
        return b""
    at = frame.index(b"=", at) + 1
    return frame[at : frame.index(b"\x01", at)]


def with_values(frame: bytes, values: dict[int, bytes]) -> bytes:
    """The frame with the first value of some tags changed, whole again."""
    for tag, text in values.items():
        frame = re.sub(rb"(\x01%d=)[^\x01]*" % tag, lambda m, text=text: m[1] + text, frame, count=1)
    return whole(frame)


def whole(frame: bytes) -> bytes:
    """The frame with the length and the sum that its body needs."""
    body = frame[frame.index(b"\x0135=") + 1 : frame.rindex(b"\x0110=") + 1]
    return framed(body.decode("latin-1"))


class Plan:
    """Which fault befalls which message."""

    def __init__(self, seed: int, chance: float, only: tuple[str, ...] = ()) -> None:
        self.chance = chance
        self.only = only  # these faults alone, where any are named
        self.on = True
        self.counts: Counter[str] = Counter()
        self._rng = generator(seed, "faulty wire")

    def fault(self, kinds: tuple[str, ...], times: float = 1.0) -> str:
        """The next message's fault, empty for none; `times` as likely as of any message."""
        if not self.on or self._rng.random() >= times * self.chance:
            return ""
        fault = str(self.pick(self.only or kinds))
        return fault if fault in kinds else ""

    def pick(self, things: Any) -> Any:
        return things[int(self._rng.integers(len(things)))]

    def between(self, low: float, high: float) -> float:
        return float(self._rng.uniform(low, high))


class Way:
    """One direction of one connection."""

    def __init__(
        self, wire: "FaultyWire", name: str, writer: asyncio.StreamWriter, numbers: Numbers, *, told: bool
    ) -> None:
        self.wire, self.plan, self.writer, self.numbers = wire, wire.plan, writer, numbers
        self.name = name
        self.faults = ANY + TOLD * told
        self._told = told
        self.back: Way
        self.last = b""  # the last message that went this way, as a pattern for the proxy's own
        self.awaits_reset = False  # what comes this way next with 141=Y answers the proxy
        self.pair: tuple[asyncio.StreamWriter, ...] = ()  # both ends of the connection
        self._held = b""  # waits to change places with the next
        self._late: deque[bytes] = deque()  # sent again, and told between what is live

    async def pump(self, reader: asyncio.StreamReader) -> None:
        """Carry messages until the connection ends."""
        data = b""
        with contextlib.suppress(ConnectionError):
            while more := await reader.read(65_536):
                found, data = frames(data + more)
                for frame in found:
                    self._note("said", frame)
                    await self._carry(frame)
        for one in self.pair:
            one.close()

    # --- numbers --------------------------------------------------------------------------------------------

    async def _carry(self, frame: bytes) -> None:
        """Carry one message, or what becomes of it.

        A Reject for QuickFIX waits for no gap to close but is lost in it: out of its turn, QuickFIX would count it in
        place of the message that is missing, and never take that one (its `Session::nextReject` looks at no number).
        """
        numbers, kind = self.numbers, value(frame, 35).decode()
        if kind == "A" and value(frame, 141) == b"Y":
            if self.awaits_reset:  # to the other side this answer never was
                self.awaits_reset = False
                numbers.begin(2, numbers.last + 1)
                return
            for one in (numbers, self.back.numbers):
                one.begin(1, 1)
        again = value(frame, 43) == b"Y"
        if kind == "2":
            self.back.numbers.expects.asked_from(int(value(frame, 7)))
            if self.awaits_reset:  # it speaks of numbers that are no more
                frame = self.own("0", int(value(frame, 34)), pattern=frame)
            else:
                await self._answer_for_the_past(frame)
        frame = self._renumbered(frame)
        number = int(value(frame, 34))
        if number < numbers.first and (again or kind != "A"):
            return  # sent again, of before the numbers began anew
        self.last = frame
        if again and number - 1 in numbers.own:
            self._write(self._filled(number - 1, number))
        if not again:
            numbers.last = max(numbers.last, number)
        if kind == "3" and not self._told and numbers.expects.gap:
            self._note("lost in a gap", frame)
            return
        await self._spoil(frame, kind, again=again)
        while numbers.last + 1 in numbers.own:
            numbers.last += 1

    def _renumbered(self, frame: bytes) -> bytes:
        """The frame under the number that the other side knows, and with the numbers that it speaks of."""
        numbers, other = self.numbers, self.back.numbers
        kind, number = value(frame, 35), numbers.told(int(value(frame, 34)))
        changes = {34: max(1, number) if kind == b"A" else number}
        if kind == b"4":
            changes[36] = numbers.told(int(value(frame, 36)))
        elif kind == b"2":
            end = int(value(frame, 16))
            changes[7] = max(1, other.meant(int(value(frame, 7))))
            changes[16] = max(1, other.meant(end)) if end else 0
        elif kind in (b"3", b"j") and value(frame, 45):
            changes[45] = max(1, other.meant(int(value(frame, 45))))
        now = {tag: b"%d" % number for tag, number in changes.items()}
        if all(value(frame, tag) == text for tag, text in now.items()):
            return frame
        return with_values(frame, now)

    async def _answer_for_the_past(self, request: bytes) -> None:
        """What was said before the numbers began anew is asked for: it is no more, and the proxy says so."""
        first, begin = self.back.numbers.first, int(value(request, 7))
        if begin < first and self.back.last:
            self.back._write(self.back._filled(begin, first))

    def own(self, kind: str, number: int, body: str = "", extra: str = "", pattern: bytes = b"") -> bytes:
        """A message of the proxy's own, under a number that the side it goes to knows."""
        pattern = pattern or self.last
        sender, target, stamp = (value(pattern, tag).decode() for tag in (49, 56, 52))
        return framed(f"35={kind}|34={number}|49={sender}|52={stamp}|56={target}|{extra}{body}")

    def _filled(self, first: int, following: int) -> bytes:
        stamp = value(self.last, 52).decode()
        return self.own("4", first, f"123=Y|36={following}|", f"43=Y|122={stamp}|")

    # --- faults ---------------------------------------------------------------------------------------------

    async def _spoil(self, frame: bytes, kind: str, *, again: bool) -> None:
        plan = self.plan
        fault = plan.fault(self.faults) if kind not in "A5" and not self._resetting else ""
        if kind == "A" and self._told:
            fault = plan.fault(("no heartbeats",), LOGON_TIMES)
        if again and not self._told and fault not in ("cut", "stall"):
            fault = ""  # QuickFIX does not miss what it has asked for once, and goes on without it
        if self._late and not again:
            self._write(frame)
            self._write(self._late.popleft())
            return
        spoilt = fault and getattr(self, "_" + fault.replace(" ", "_"))(frame, kind, again)
        if asyncio.iscoroutine(spoilt):
            spoilt = await spoilt
        if spoilt is None or spoilt == "":
            self._write(frame)
        else:
            plan.counts[fault] += 1
            self.wire.log.append((fault, frame))
            self._note(f"fault: {fault}", frame)
            for data in spoilt:
                self._write(data)
        if self._held and self._held != frame:
            held, self._held = self._held, b""
            self._write(held)

    @property
    def _resetting(self) -> bool:
        return self.awaits_reset or self.back.awaits_reset

    # Each returns what to write in place of the message, or None where the fault does not fit it.

    async def _cut(self, frame: bytes, kind: str, again: bool) -> list[bytes]:
        self._write(frame[: len(frame) // 2])
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()
        for one in self.pair:
            one.transport.abort()
        return []

    async def _stall(self, frame: bytes, kind: str, again: bool) -> list[bytes]:
        await asyncio.sleep(self.plan.between(0.1, self.wire.stall_s))
        return [frame]

    def _drop(self, frame: bytes, kind: str, again: bool) -> list[bytes]:
        return []

    def _twice(self, frame: bytes, kind: str, again: bool) -> list[bytes]:
        return [frame, frame]

    def _swap(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        if self._held:
            return None
        self._held = frame
        return []

    def _checksum(self, frame: bytes, kind: str, again: bool) -> list[bytes]:
        return [frame[:-4] + b"%03d\x01" % ((int(frame[-4:-1]) + 1) % 256)]

    def _length(self, frame: bytes, kind: str, again: bool) -> list[bytes]:
        off = int(self.plan.pick((-3, 3, 40)))
        return [_FRAME.sub(lambda m: b"8=FIX.4.4\x019=%d\x01" % max(5, int(m[1]) + off), frame, count=1)]

    def _number(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        tags = [tag for tag in NUMBERS.get(kind, ()) if value(frame, tag)]
        return [with_values(frame, {self.plan.pick(tags): self.plan.pick(NONSENSE)})] if tags else None

    def _empty(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        if kind not in NUMBERS:
            return None
        tags = [int(part.split(b"=")[0]) for part in frame.split(b"\x01")[:-2]]
        body = [tag for tag in tags if tag not in (8, 9, 35, 49, 56, 34, 43)]
        return [with_values(frame, {self.plan.pick(body): b""})]

    def _stamp(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        return [with_values(frame, {52: b"yesterday"})] if kind in NUMBERS else None

    def _no_heartbeats(self, frame: bytes, kind: str, again: bool) -> list[bytes]:
        return [with_values(frame, {108: b"0"})]

    def _header(self, frame: bytes, kind: str, again: bool) -> list[bytes]:
        extra = b"115=A\x01116=B\x01128=C\x01129=D\x01144=E\x01145=F\x01347=UTF-8\x011128=9\x01627=1\x01628=hop\x01"
        return [whole(frame.replace(b"\x0134=", b"\x01" + extra + b"34=", 1))]

    def _stagger(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        if not again:
            return None
        self._late.append(frame)
        asyncio.get_running_loop().call_later(0.3, self._catch_up)
        return []

    def _catch_up(self) -> None:
        while self._late:
            self._write(self._late.popleft())

    def _put_in(self, kind: str, number: int, body: str, *numbers: int) -> bytes:
        """A message of the proxy's own in the stream; the side it goes to counts it, the other does not."""
        self.numbers.add(*(numbers or (number,)))
        return self.own(kind, number, body)

    def _ask_above(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        return None if again else [frame, self._put_in("2", self.numbers.last + 1, "7=999999|16=0|")]

    def _logon_again(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        return None if again else [frame, self._put_in("A", self.numbers.last + 1, "98=0|108=30|")]

    def _logon_too_high(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        number = self.numbers.last + 3
        if again or number in self.numbers.own:
            return None
        return [frame, self._put_in("A", number, "98=0|108=30|")]

    def _skip(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        first = self.numbers.last + 1
        if again or {first, first + 1, first + 2} & set(self.numbers.own):
            return None
        return [frame, self._put_in("4", first, f"36={first + 3}|", first, first + 1, first + 2)]

    def _reset(self, frame: bytes, kind: str, again: bool) -> list[bytes] | None:
        if again or self._held or self._late or not self.wire.may_reset():
            return None
        numbers = self.numbers
        anew = self.own("A", 1, "98=0|108=30|141=Y|")
        numbers.begin(numbers.meant(numbers.last) + 1, 2)
        numbers.first = 2
        self.back.awaits_reset = True
        return [frame, anew]

    def _note(self, what: str, data: bytes) -> None:
        self.wire.trace.append((time.monotonic_ns(), f"{self.name} {what}", data))

    def _write(self, data: bytes) -> None:
        self._note("told", data)
        self.numbers.expects.told(data)
        if not self.writer.is_closing():
            self.writer.write(data)


class FaultyWire:
    """The proxy: dial its port instead of the venue's. `told` says which side is under test: the one that dials?"""

    def __init__(self, port: int, plan: Plan, *, dialler_told: bool, stall_s: float = 1.0) -> None:
        self.plan = plan
        self.stall_s = stall_s
        self.connections = 0
        self.log: list[tuple[str, bytes]] = []  # what was done to which message
        self.trace: list[tuple[int, str, bytes]] = []  # monotonic ns, the way, what came or was told
        self.may_reset: Callable[[], bool] = lambda: True
        self._port = port
        self._dialler_told = dialler_told
        self._up, self._down = Numbers(), Numbers()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.sleep(0.05)

    def cut(self) -> None:
        """Every connection is gone, without a word."""
        for one in tuple(self._writers):
            one.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError:
            writer.transport.abort()
            return
        self.connections += 1
        mine = {writer, far_writer}
        self._writers |= mine
        for numbers in (self._up, self._down):
            numbers.expects.connected()
        up = Way(self, "up", far_writer, self._up, told=not self._dialler_told)
        down = Way(self, "down", writer, self._down, told=self._dialler_told)
        up.back, down.back = down, up
        up.pair = down.pair = (writer, far_writer)
        await asyncio.gather(up.pump(reader), down.pump(far_reader))
        self._writers -= mine
