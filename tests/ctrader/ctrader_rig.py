"""Everything a test needs around an access: certificate, venue, market, and a check for orphans."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from emp.access.ctrader.access import CTraderAccess
from emp.access.ctrader.session import Session
from emp.access.ctrader.settings import Credentials, Output, Report, Rows, Settings
from emp.core.clock import LiveClock, SimClock
from emp.core.codes import Reason
from emp.core.config.secrets import Secret
from emp.core.contracts import OrderUpdate
from emp.core.instrument import Instrument, find
from emp.sim.venues.ctrader.connection import Connection
from emp.sim.venues.ctrader.venue import CTraderVenue
from tests.kit.handmarket import HandMarket
from tests.kit.listener import Listener
from tests.kit.orders import cancel_order, cleared, new_order, query_order
from tests.kit.tls import client_tls, server_tls

MS = 1_000_000
ACCOUNT = 12_345
EURUSD = find("EURUSD")
XAUUSD = find("XAUUSD")

QUICK = Settings(
    account=ACCOUNT,
    backoff_first_ns=20 * MS,
    backoff_last_ns=200 * MS,
    answer_ns=1_000 * MS,
)


def credentials(**changes: Any) -> Credentials:
    basic = Credentials(
        client_id=Secret("app"),
        client_secret=Secret("app-secret"),
        access_token=Secret("access-1"),
        refresh_token=Secret("refresh-1"),
    )
    return msgspec.structs.replace(basic, **changes)


class Rig:
    """A venue, an access that is connected to it, and what the access said."""

    def __init__(self, pem: Path, instruments: tuple[Instrument, ...], **venue: Any) -> None:
        self.pem = pem
        self.instruments = instruments
        self.market = HandMarket(instruments, LiveClock().now_ns())
        for i, instrument in enumerate(instruments):
            base = 110_000 + 1_000_000 * i
            self.market.show(instrument.name, [(base, 3), (base - 1, 4)], [(base + 2, 5), (base + 3, 6)])
        self.venue = CTraderVenue(self.market, account=ACCOUNT, **venue)
        self.reports: list[OrderUpdate] = []
        self.rows: list[np.ndarray[Any, Any]] = []
        self.kept: list[Credentials] = []
        self.access: Listener
        self.error: Exception | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ids = 0

    async def start(
        self, settings: Settings = QUICK, secrets: Credentials | None = None, **options: Any
    ) -> "Rig":
        await self.venue.start(server_tls(self.pem))
        await self.attach(settings, secrets, **options)
        return self

    async def attach(
        self, settings: Settings = QUICK, secrets: Credentials | None = None, **options: Any
    ) -> None:
        self.access = Listener(
            CTraderAccess(
                settings,
                secrets or credentials(),
                host="127.0.0.1",
                port=self.venue.port,
                tls=client_tls(self.pem),
                keep_tokens=self.kept.append,
                **options,
            )
        )
        self.access.on_report(self.reports.append)
        await self.access.connect(self.instruments)
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async for rows in self.access.events():
                self.rows.extend(rows)
        except Exception as error:
            self.error = error

    async def stop(self) -> None:
        await self.access.close()
        if self._reader is not None:
            await self._reader
        await self.venue.stop()

    async def until(self, true: Callable[[], bool], what: str = "", timeout: float = 5.0) -> None:
        """Wait until something holds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout
        while not true():
            if loop.time() > end:
                raise AssertionError(f"did not happen: {what}; reports {self.reports}")
            await asyncio.sleep(0.005)

    def order(self, side: int, qty: int, px: int, *, immediate: bool, name: str | None = None) -> str:
        self._ids += 1
        name = name or f"RUN-{self._ids:08d}"
        intent = new_order(
            name,
            side,
            qty,
            px,
            instrument=self.instruments[0].name,
            immediate=immediate,
            reason=Reason.CROSS_EDGE,
        )
        self.access.send(cleared(intent))
        return name

    def cancel(self, orig: str) -> str:
        self._ids += 1
        name = f"RUN-{self._ids:08d}"
        self.access.send(cancel_order(name, orig, instrument=self.instruments[0].name))
        return name

    def query(self, name: str) -> None:
        self.access.send(query_order(name, instrument=self.instruments[0].name))

    def of(self, name: str) -> list[OrderUpdate]:
        return [r for r in self.reports if r.clOrdID == name]

    def statuses(self, name: str) -> list[str]:
        return [str(r.status) for r in self.of(name)]


def run(main: Callable[[], Awaitable[None]]) -> None:
    """Run a test, then require that it left no task behind and that nothing failed out of sight."""
    problems: list[str] = []

    async def guarded() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: problems.append(str(context)))
        await asyncio.wait_for(main(), 30)
        await asyncio.sleep(0.02)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, f"orphans: {left}"

    asyncio.run(guarded())
    assert not problems, problems


class _Pipe:
    """The venue's end of a link in memory."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close


class Link:
    """A session and the venue joined in memory under a clock that stands still: no socket, no waiting."""

    def __init__(
        self,
        settings: Settings = QUICK,
        secrets: Credentials | None = None,
        mangle: Callable[[bytes], bytes] = bytes,
        **venue: Any,
    ) -> None:
        self.mangle = mangle
        self.clock = SimClock(1_700_000_000_000_000_000)
        self.market = HandMarket([EURUSD], self.clock.now_ns())
        self.market.show("EURUSD", [(110_000, 3)], [(110_002, 5)])
        self.venue = CTraderVenue(self.market, account=ACCOUNT, clock=self.clock, **venue)
        self.session = Session(settings, secrets or credentials(), [EURUSD], self.clock)
        self.outputs: list[Output] = []
        self.sent = 0
        self.connect()

    def connect(self) -> None:
        self.pipe = _Pipe()
        self.far = Connection(self.venue)
        self.venue.connections.clear()
        self.far.connection_made(self.pipe)
        self.session.connected()
        self.pump()

    def pump(self, *, split: int = 0) -> None:
        """Carry bytes both ways until nothing moves; `split`: the session reads so many at a time."""
        while True:
            there = self.session.outgoing()
            back, self.pipe.written = self.mangle(bytes(self.pipe.written)), bytearray()
            self.outputs += self.session.take()
            if not there and not back:
                return
            self.sent += len(there)
            if there and not self.pipe.closed:
                self.far.data_received(there)
            for i in range(0, len(back), split or max(1, len(back))):
                self.session.receive(back[i : i + (split or len(back))])

    def later(self, ns: int) -> None:
        """Let time pass, acting whenever the session asks for it."""
        until = self.clock.monotonic_ns() + ns
        while True:
            due = self.session.deadline()
            now = self.clock.monotonic_ns()
            if due is None or due > until:
                self.clock.advance(until - now)
                self.pump()
                return
            self.clock.advance(max(0, due - now))
            self.session.advance()
            self.pump()

    def order(
        self, name: str, side: int = 1, qty: int = 1, px: int = 110_002, *, immediate: bool = True
    ) -> None:
        self.session.send(new_order(name, side, qty, px, immediate=immediate, reason=Reason.CROSS_EDGE))
        self.pump()

    def cancel(self, name: str, orig: str) -> None:
        self.session.send(cancel_order(name, orig))
        self.pump()

    @property
    def reports(self) -> list[OrderUpdate]:
        return [o.update for o in self.outputs if isinstance(o, Report)]

    def statuses(self, name: str) -> list[str]:
        return [str(r.status) for r in self.reports if r.clOrdID == name]

    @property
    def rows(self) -> list[Any]:
        return [row for o in self.outputs if isinstance(o, Rows) for row in o.rows]

    def of(self, kind: type[Output]) -> list[Any]:
        return [o for o in self.outputs if isinstance(o, kind)]
