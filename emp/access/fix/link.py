"""One session over one TCP or TLS connection, kept up: the only place of the package that does I/O."""

import asyncio
import contextlib
import ssl
from collections.abc import Callable

from emp.access.fix.dialect import Dialect
from emp.access.fix.session import Session
from emp.access.fix.terms import Phase
from emp.core.clock import Clock

_S = 1_000_000_000
_SHORTEST_S = 0.01
_GOODBYE_S = 1.0


class _Wire(asyncio.Protocol):
    """Carries bytes between a transport and a session."""

    def __init__(self, link: "Link") -> None:
        self._link = link
        self.lost = asyncio.Event()
        self.why = "the connection was closed"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._link.up(transport)

    def data_received(self, data: bytes) -> None:
        self._link.session.receive(data)
        self._link.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self.why = f"the connection was lost: {exc}" if exc else self.why
        self._link.down(self.why)
        self.lost.set()


class Link:
    """Dials, runs the session, and dials again after a loss until it is closed."""

    def __init__(
        self,
        session: Session,
        host: str,
        port: int,
        dialect: Dialect,
        clock: Clock,
        tls: ssl.SSLContext | None,
        timeout_s: float,
        seed: int = 0,
    ) -> None:
        self.session = session
        self.address = f"{host}:{port}"
        self.losses = 0
        self.on_loss: Callable[[str, int], None] = lambda _why, _attempt: None
        self._host, self._port = host, port
        self._dialect = dialect
        self._clock = clock
        self._tls = tls
        self._timeout_s = timeout_s
        self._seed = seed
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._ready: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> str:
        """Begin, and wait until the session is logged on; returns why it failed, empty when it did not."""
        self._ready = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(), name=f"fix {self.address}")
        try:
            await self._ready
        except ConnectionError as error:
            return str(error)
        return ""

    def logged_on(self) -> None:
        """The session calls this through its application."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    async def close(self) -> None:
        """Log out, wait for the peer's answer as long as the session allows, leave no task behind."""
        self._closing = True
        if self._task is None:
            return
        self.session.logout("closing")
        self.flush()
        if self._transport is None:
            self._task.cancel()
        await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()
        self._task = None
        self.session.store.close()

    def up(self, transport: asyncio.Transport) -> None:
        """The transport is connected."""
        self._transport = transport
        self.session.connect()
        self.flush()

    def down(self, why: str) -> None:
        """The transport is gone."""
        self._transport = None
        self.session.lost(why)

    def flush(self) -> None:
        """Write what the session has to say; close where it has ended."""
        transport = self._transport
        if transport is None:
            return
        data = self.session.drain()
        if data and not transport.is_closing():
            transport.write(data)
        if self.session.phase is Phase.CLOSING and not transport.is_closing():
            transport.close()
            # a peer that does not read would keep a polite close waiting for ever
            asyncio.get_running_loop().call_later(_GOODBYE_S, transport.abort)

    def drop(self) -> None:
        """Cut the connection without a word, as a failing network would."""
        if self._transport is not None:
            self._transport.abort()

    async def _run(self) -> None:
        attempt = 0
        while not self._closing:
            why = await self._once()
            if self._fail(why) or self._closing:
                return
            self.losses += 1
            attempt = 1 if self.session.was_active else attempt + 1
            self.on_loss(why, attempt)
            await asyncio.sleep(self._pause_s(attempt))

    def _fail(self, why: str) -> bool:
        """Tell a waiting `start` that the first try failed."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ConnectionError(why))
            return True
        return False

    def _pause_s(self, attempt: int) -> float:
        """Backoff, or until the session hours begin."""
        hours, now = self._dialect.hours, self._clock.now_ns()
        if hours is not None and hours.session(now) is None:
            return (hours.next_start_ns(now) - now) / _S
        return self._dialect.backoff.delay_s(attempt, self._seed)

    async def _once(self) -> str:
        """One connection from dial to loss; returns why it ended."""
        loop = asyncio.get_running_loop()
        name = self._host if self._tls else None
        try:
            async with asyncio.timeout(self._timeout_s):
                _, wire = await loop.create_connection(
                    lambda: _Wire(self), self._host, self._port, ssl=self._tls, server_hostname=name
                )
        except TimeoutError:
            return f"no connection to {self.address} within {self._timeout_s:g} s"
        except (OSError, ssl.SSLError) as error:
            return f"cannot connect to {self.address}: {error.strerror or error}"
        try:
            while not wire.lost.is_set():
                wait = max(_SHORTEST_S, (self.session.deadline_ns - self._clock.monotonic_ns()) / _S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await wire.lost.wait()
                if not wire.lost.is_set():
                    self.session.tick()
                    self.flush()
        finally:
            self.drop()
        return self.session.reason or wire.why
