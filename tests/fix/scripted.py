"""A venue that says what a test tells it to, over TCP, and writes down what it hears."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from emp.access.fix.client import FixAccess, FixSettings
from emp.access.fix.dialect import PLAIN, Dialect
from emp.access.fix.schedule import Backoff
from emp.access.fix.text import Stamp
from emp.core.clock import LiveClock
from emp.core.config.secrets import Secret
from tests.fix.desk import EURUSD
from tests.fix.wire import fields, framed
from tests.kit.listener import Listener

FAST = msgspec.structs.replace(
    PLAIN,
    name="fast",
    reset_on_logon=True,
    backoff=Backoff(first_s=0.02, factor=1.5, longest_s=0.2, spread=0.0),
)


class ScriptedVenue:
    """Answers logons, test requests and logouts; everything else is the test's, through `on`."""

    def __init__(self) -> None:
        self.heard: list[dict[int, str]] = []
        self.on: dict[str, Callable[[dict[int, str]], None]] = {}
        self.seq = 1
        self.logons = 0
        self.began_anew = False  # inside the session: the next logon answers ours
        self.refuse = ""  # why the next logons are refused
        self._writer: asyncio.StreamWriter | None = None
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        await asyncio.sleep(0.02)

    def cut(self) -> None:
        if self._writer is not None:
            self._writer.transport.abort()

    def count(self, kind: str) -> int:
        return sum(message[35] == kind for message in self.heard)

    def say(self, kind: str, body: str = "", *, stamp: str = "", seq: int = 0, extra: str = "") -> None:
        """Send a message under the next number, or another."""
        stamp = stamp or Stamp()(LiveClock().now_ns()).decode()
        if not seq:
            seq, self.seq = self.seq, self.seq + 1
        assert self._writer is not None
        self._writer.write(framed(f"35={kind}|34={seq}|49=VENUE|52={stamp}|56=ME|{extra}{body}"))

    def begin_anew(self) -> None:
        """Begin the numbers at 1 inside the session."""
        self.began_anew, self.seq = True, 1
        self.say("A", "98=0|108=30|141=Y|")

    def pause(self) -> None:
        """Read no more."""
        assert self._writer is not None
        transport: Any = self._writer.transport
        transport.pause_reading()

    def book(self, mid: int = 108_755, seq: int = 0, *, head: str = "", extra: str = "") -> None:
        """A W of one level a side."""
        px = (f"1.{mid - 100_000 - 1:05d}", f"1.{mid - 100_000 + 1:05d}")
        self.say(
            "W",
            f"{head}55=EURUSD|268=2|269=0|270={px[0]}|271=5000|278=b|269=1|270={px[1]}|271=5000|278=a|",
            seq=seq,
            extra=extra,
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer, self.seq = writer, 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\x0110=")
                message = dict(fields(head + await reader.readexactly(4)))
                self.heard.append(message)
                kind = message[35]
                if kind == "A" and self.refuse:
                    self.say("5", f"58={self.refuse}|")
                elif kind == "A" and self.began_anew:
                    self.began_anew = False
                elif kind == "A":
                    self.logons += 1
                    self.say("A", "98=0|108=30|141=Y|")
                elif kind == "1":
                    self.say("0", f"112={message[112]}|")
                elif kind == "5":
                    self.say("5")
                    break
                if kind in self.on:
                    self.on[kind](message)
        writer.close()


@contextlib.asynccontextmanager
async def connected(dialect: Dialect = FAST, **changes: Any) -> AsyncIterator[tuple[ScriptedVenue, Any]]:
    """A scripted venue and a client that has logged on; the client is a Listener, its events are read by nobody."""
    venue = ScriptedVenue()
    settings = FixSettings(
        host="127.0.0.1", port=await venue.start(), sender="ME", target="VENUE", dialect=dialect, tls=False,
        timeout_s=2.0, password=Secret("s3cret"), **changes,
    )  # fmt: skip
    access = Listener(FixAccess(settings))
    try:
        await access.connect([EURUSD])
        yield venue, access
    finally:
        await access.close()
        await venue.close()
