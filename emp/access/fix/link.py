"""One session over one TCP or TLS connection, kept up: the only place of the package that does I/O."""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable
from typing import Final

import structlog

from emp.access.fix.dialect import Dialect
from emp.access.fix.refusal import Denials
from emp.access.fix.session import Session
from emp.access.fix.terms import Phase
from emp.access.port import Cause
from emp.core.clock import Clock
from emp.core.errors import EmpError

DEFER_S: Final = 0.25
"""How long an order may wait for a peer that does not read; the market has moved on then."""

CLOSE_S: Final = 2.0
"""Longest that `close` takes."""

_S = 1_000_000_000
_SHORTEST_S = 0.01
OCCUPIED_S = 5.0
"""Most seconds between two logons while the venue still has somebody logged on under our name."""

PATIENT_S: Final = 0.5
"""Between two logons of a start that waits for another's session to end."""

_ABORT_S = 0.5  # after which a polite close is not waited for
_DEAF_S = 10.0  # after which a peer that does not read is given up
_SEND_BUFFER = 65_536  # bytes that the system takes before we notice that the peer does not read

log = structlog.get_logger("emp.access.fix")


class _Wire(asyncio.Protocol):
    """Carries bytes between a transport and a session."""

    def __init__(self, link: "Link") -> None:
        self._link = link
        self.lost = False
        self.why = "the connection was closed"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=1, low=0)  # any byte that is stuck stops the orders behind it
        self._link.up(transport)

    def data_received(self, data: bytes) -> None:
        self._link.received(data)

    def pause_writing(self) -> None:
        self._link.paused(True)

    def resume_writing(self) -> None:
        self._link.paused(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.why = f"the connection was lost: {exc}" if exc else self.why
        self.lost = True
        self._link.down(self.why)


class Link:
    """Dials, runs the session, and dials again after a loss until it is closed or the session cannot go on."""

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
        patience_s: float = 0.0,
    ) -> None:
        self.session = session
        self.address = f"{host}:{port}"
        self.losses = 0
        self.cause: Cause = ""  # the kind of the last loss
        self.on_loss: Callable[[str, int], None] = lambda _why, _attempt: None
        self._host, self._port = host, port
        self._dialect = dialect
        self._clock = clock
        self._tls = tls
        self._timeout_s = timeout_s
        self._seed = seed
        self._patience_s = patience_s
        self._transport: asyncio.Transport | None = None
        self._closing = False
        self._denials = Denials(dialect.backoff)
        self._paused_ns = -1  # since when the peer takes no more bytes, -1: it does
        self._deferred: deque[tuple[Callable[[], None], Callable[[], None]]] = deque()
        self._expiry: asyncio.TimerHandle | None = None
        self._wake = asyncio.Event()
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
        self._wake.set()
        if self._transport is None:
            self._task.cancel()
        if (await asyncio.wait([self._task], timeout=CLOSE_S - _SHORTEST_S))[1]:
            self.drop()
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self._task.cancelled():
            self._task.result()
        self._task = None
        self.session.store.close()

    # --- orders of one's own --------------------------------------------------------------------------------

    @property
    def reading(self) -> bool:
        """Whether the peer takes what is written."""
        return self._paused_ns < 0

    def defer(self, send: Callable[[], None], expire: Callable[[], None]) -> None:
        """Call `send` as soon as the peer reads again, or `expire` when it has not within DEFER_S or is gone."""
        self._deferred.append((send, expire))
        if self._expiry is None:
            self._expiry = asyncio.get_running_loop().call_later(DEFER_S, self._expire)

    def _expire(self) -> None:
        """What was deferred has waited too long: it is not sent any more."""
        self._expiry = None
        waiting, self._deferred = self._deferred, deque()
        for _, expire in waiting:
            expire()

    def paused(self, paused: bool) -> None:
        """The transport says that the peer does not read, or does again."""
        self._paused_ns = self._clock.monotonic_ns() if paused else -1
        if paused:
            return
        self.flush()
        while self._deferred and self.reading and self.session.phase is Phase.ACTIVE:
            self._deferred.popleft()[0]()
        if not self._deferred and self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    # --- the transport --------------------------------------------------------------------------------------

    def up(self, transport: asyncio.Transport) -> None:
        """The transport is connected."""
        self._transport = transport
        self._paused_ns = -1
        plain = transport.get_extra_info("socket")
        if plain is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._guarded(self.session.connect)

    def received(self, data: bytes) -> None:
        """Bytes arrived."""
        self._guarded(lambda: self.session.receive(data))

    def down(self, why: str) -> None:
        """The transport is gone."""
        self._transport = None
        if self._expiry is not None:
            self._expiry.cancel()
        self._expire()
        self.session.lost(why)
        self._wake.set()

    def _guarded(self, step: Callable[[], None]) -> None:
        """Run a step of the session; an error that the user must hear of ends it in one line."""
        try:
            step()
        except EmpError as error:
            self.session.fail(str(error))
        self.flush()

    def flush(self) -> None:
        """Write what the session has to say; close where it has ended."""
        transport = self._transport
        if transport is None:
            return
        ending = self.session.phase is Phase.CLOSING
        if self.reading or ending:
            data = self.session.drain()
            if data and not transport.is_closing():
                transport.write(data)
        if ending and not transport.is_closing():
            transport.close()
            # a peer that does not read would keep a polite close waiting for ever
            asyncio.get_running_loop().call_later(_ABORT_S, transport.abort)

    def wake(self) -> None:
        """Something is due earlier than it was when the link last looked."""
        self._wake.set()

    def drop(self) -> None:
        """Cut the connection without a word, as a failing network would."""
        if self._transport is not None:
            self._transport.abort()

    # --- the connection kept up -----------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        began = self._clock.monotonic_ns()
        reset = False  # a logon that asks the peer to reset its numbers is due, or was made
        while True:
            why = await self._once()
            session = self.session
            if self._closing:
                self._fail(why)
                return
            first = self._ready is not None and not self._ready.done()
            # at a start one logon may be lost, and one may show that the numbers have to begin anew
            again = (
                first
                and self.cause == "occupied"
                and self._clock.monotonic_ns() - began < self._patience_s * _S
            )
            again = again or (session.unanswered and attempt == 0) or (session.begins_anew and not reset)
            reset = reset or session.begins_anew
            if first and not again:
                self._fail(why)
                return
            denied = "" if first else self._denied()
            if session.fatal or denied:
                why = f"{why} ({denied})" if denied else why
                log.error("given up", address=self.address, reason=why, cause=self.cause)
                session.ended(why)
                return
            self.losses += 1
            attempt = 1 if self._was_steady() else attempt + 1
            pause = 0.0 if first else self._pause_s(attempt)
            if first and self.cause == "occupied":
                pause = PATIENT_S
            log.warning(
                "connection lost",
                address=self.address,
                reason=why,
                cause=self.cause,
                attempt=attempt,
                wait_s=round(pause, 3),
            )
            self.on_loss(why, attempt)
            await asyncio.sleep(pause)

    def _fail(self, why: str) -> None:
        """Tell a waiting `start` that it failed."""
        if self._ready is not None and not self._ready.done():
            self._ready.set_exception(ConnectionError(why))

    def _denied(self) -> str:
        """Why no further logon makes sense after the last one: empty while one does."""
        hours, session = self._dialect.hours, self.session
        shut = hours is not None and hours.session(self._clock.now_ns()) is None
        if self.cause not in ("refused", "occupied") or shut or session.active_ns >= 0:
            if self.cause != "unanswered":
                self._denials.forget()
            return ""
        return self._denials.note(self._clock.monotonic_ns())

    def _was_steady(self) -> bool:
        """Whether the last session was logged on for long enough to begin counting attempts anew."""
        began = self.session.active_ns
        return began >= 0 and self._clock.monotonic_ns() - began >= self._dialect.backoff.steady_s * _S

    def _pause_s(self, attempt: int) -> float:
        """Backoff, or until the session hours begin."""
        hours, now = self._dialect.hours, self._clock.now_ns()
        if hours is not None and hours.session(now) is None:
            return (hours.next_start_ns(now) - now) / _S
        delay_s = self._dialect.backoff.delay_s(attempt, self._seed)
        # what is left of our own session goes as soon as the venue misses its heartbeats: be there then
        return min(delay_s, OCCUPIED_S) if self.cause == "occupied" else delay_s

    async def _once(self) -> str:
        """One connection from dial to loss; returns why it ended."""
        loop = asyncio.get_running_loop()
        name = self._host if self._tls else None
        session = self.session
        session.dialling()
        self.cause = "unreachable"
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
            while not wire.lost:
                self._wake.clear()
                wait = max(_SHORTEST_S, (self.session.deadline_ns - self._clock.monotonic_ns()) / _S)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(wait, _DEAF_S)):
                        await self._wake.wait()
                if not wire.lost:
                    self._guarded(self.session.tick)
                    if not self.reading and self._clock.monotonic_ns() - self._paused_ns >= _DEAF_S * _S:
                        wire.why = f"the peer has read nothing for {_DEAF_S:g} s"
                        self.drop()
        finally:
            self.drop()
        return self._ended_by(wire.why)

    def _ended_by(self, wire: str) -> str:
        """Why a connection that stood is over, and of which kind that is; `wire` is what the transport says."""
        session = self.session
        if session.reason:
            self.cause = session.cause or "fault"
            return session.reason
        if session.active_ns >= 0:
            self.cause = "silent" if not self.reading else "lost"
            return wire
        self.cause = (
            "refused"  # FIX asks of an acceptor that it closes without a word on an identity unknown to it
        )
        config = session.config
        return (
            f"the peer closed the connection at our logon without an answer: does it know {config.sender} at"
            f" {config.target}, from this address? ({wire})"
        )
