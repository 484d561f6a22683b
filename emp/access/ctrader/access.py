"""The cTrader Open API as a MarketAccess: a thin asyncio shell around `session.Session`.

    access = CTraderAccess(Settings(account=12345), credentials, host=DEMO_HOST)
    await access.connect([find("EURUSD")], sink)

One task keeps the connection (connect, wait for its end, wait, again); one timer drives the session. Nothing in
here blocks the loop: keeping new tokens runs in a thread.
"""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
import structlog

from emp.access.ctrader.flows import Opening, login
from emp.access.ctrader.messages import ProtoOAReconcileRes
from emp.access.ctrader.session import Session
from emp.access.ctrader.settings import (
    Credentials,
    Dropped,
    Failed,
    Left,
    Notice,
    Output,
    Ready,
    Renewed,
    Report,
    Rows,
    Settings,
)
from emp.access.fills import Fills
from emp.access.port import (
    Cause,
    Channel,
    LinkState,
    OthersTrade,
    Reach,
    ReadCounts,
    Sink,
    VenueFinancing,
    VenueMargin,
)
from emp.core.approval import Cleared, command_of
from emp.core.clock import Clock, LiveClock
from emp.core.contracts import OrderUpdate, VenuePosition
from emp.core.errors import VenueError
from emp.core.instrument import Instrument

DEMO_HOST = "demo.ctraderapi.com"
LIVE_HOST = "live.ctraderapi.com"
PORT = 5035
"""Of the protobuf form."""

HANDSHAKE_S = 10.0
LOGOUT_S = 1.9  # so that closing takes 2 s at most
LOGON_S = 30.0

CHANNELS: tuple[Channel, ...] = ("market", "trade")
"""One connection carries both."""

T = TypeVar("T")

log = structlog.get_logger("emp.access.ctrader")


class _Wire(asyncio.Protocol):
    """Passes what the transport does on to the access."""

    def __init__(self, access: "CTraderAccess", gone: "asyncio.Future[None]") -> None:
        self._access = access
        self._gone = gone

    def connection_made(self, transport: Any) -> None:
        transport.set_write_buffer_limits(high=1, low=0)  # any byte that is stuck stops the orders behind it
        self._access._connected(transport)

    def data_received(self, data: bytes) -> None:
        self._access._received(data)

    def pause_writing(self) -> None:
        self._access._paused(True)

    def resume_writing(self) -> None:
        self._access._paused(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._access._lost(str(exc) if exc is not None else "the venue closed the connection")
        if not self._gone.done():
            self._gone.set_result(None)


class CTraderAccess:
    """A live market at a cTrader broker; see `emp.access.port.MarketAccess`."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        *,
        host: str,
        port: int = PORT,
        clock: Clock | None = None,
        tls: ssl.SSLContext | None = None,
        keep_tokens: Callable[[Credentials], None] | None = None,
        opening: Opening = login,
    ) -> None:
        """`opening` is the conversation with which each connection begins."""
        self._settings = settings
        self._opening = opening
        self._channels = CHANNELS if settings.reach is not Reach.MARKET else CHANNELS[:1]
        self._credentials = credentials
        self._address = (host, port)
        self._clock = clock or LiveClock()
        self._tls = tls
        self._keep_tokens = keep_tokens
        self._session: Session | None = None
        self._transport: asyncio.Transport | None = None
        self._runner: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._keeping: set[asyncio.Task[None]] = set()
        self._logon: asyncio.Future[None] | None = None
        self._leaving: asyncio.Future[None] | None = None
        self._sink: Sink | None = None
        self._losses = 0  # since the last logon
        self._lost_for_good = False
        self._may_send: Callable[[], bool] = lambda: True
        self._settling = False
        self._fills = Fills()
        self._retry_ns = 0
        self._closed = False

    # --- the port ---

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Log on and subscribe; raise VenueError with one clear line when that fails."""
        if self._session is not None:
            raise VenueError("cTrader: this access was connected before; make a new one")
        self._sink = sink
        self._session = Session(self._settings, self._credentials, instruments, self._clock, self._opening)
        self._session.out.may_send = self._may_send
        self._logon = asyncio.get_running_loop().create_future()
        self._runner = asyncio.create_task(self._run(), name="ctrader")
        try:
            await asyncio.wait_for(asyncio.shield(self._logon), LOGON_S)
        except TimeoutError:
            await self.close()
            raise VenueError(f"cTrader: {self._where}: no logon within {LOGON_S:g} s") from None
        except BaseException:
            await self.close()
            raise

    def send(self, cleared: Cleared) -> None:
        """Hand over a command; its outcome, a refusal too, arrives as a report after this call."""
        command = command_of(cleared)
        self._fills.sent(command)
        self._live().send(command)
        self._write()

    def guard(self, may_send: Callable[[], bool]) -> None:
        """As the port; to be called before `connect`."""
        self._may_send = may_send

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """What the venue says is working on our instruments."""
        session = self._live()
        state = await self._reconcile(session)
        found = []
        for order in state.order:
            terms = session.terms_of(order.trade_data.symbol_id)
            if terms is not None:
                found.append(session.orders.describe(order, terms, self._clock.now_ns()))
        return found

    async def positions(self) -> Sequence[VenuePosition]:
        """What the venue says we hold of our instruments, both sides of a hedged account netted."""
        session = self._live()
        await self._reconcile(session)
        return session.positions.net(session.terms)

    async def trades_of_others(self, since: int, is_ours: Callable[[str], bool]) -> Sequence[OthersTrade]:
        """What others have traded on our instruments since then (ns), newest first."""
        session = self._live()
        answer: asyncio.Future[Sequence[OthersTrade]] = asyncio.get_running_loop().create_future()
        session.others(since, is_ours, _settling(answer))
        self._settle()
        return await answer

    def financing(self) -> Sequence[VenueFinancing]:
        """What the venue states of the rolls of our instruments."""
        session = self._live()
        found = [one.financing for one in session.terms if one.financing is not None]
        return (
            [msgspec.structs.replace(one, long=0.0, short=0.0) for one in found]
            if session.swap_free
            else found
        )

    async def margin(self) -> VenueMargin:
        """The account's margin as it stands now."""
        session = self._live()
        answer: asyncio.Future[VenueMargin] = asyncio.get_running_loop().create_future()
        session.margin(_settling(answer))
        self._settle()
        return await answer

    def protect(self, instrument: str, side: int, px: int) -> None:
        """Keep a stop at `px` ticks on what is held of an instrument on one side; 0: ask for none any more."""
        self._live().stops.protect(instrument, side, px)
        self._write()

    def protected(self, instrument: str) -> int:
        """Ticks at which the venue says that everything held of an instrument is stopped; 0 where it does not."""
        return self._live().stops.resting(instrument)

    async def close(self) -> None:
        """Unsubscribe, log off, leave no task behind."""
        if self._closed:
            return
        self._closed = True
        loop = asyncio.get_running_loop()
        if self._session is not None and self._transport is not None:
            self._leaving = loop.create_future()
            self._session.leave()
            self._settle()
            await asyncio.wait([self._leaving], timeout=LOGOUT_S)
        if self._transport is not None:
            self._transport.abort()
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)
        if self._timer is not None:
            self._timer.cancel()
        await asyncio.gather(*self._keeping, return_exceptions=True)
        if self._logon is not None and not self._logon.done():
            self._logon.cancel()

    @property
    def counts(self) -> ReadCounts:
        """Where every market data message went."""
        return self._session.feed.tally() if self._session is not None else ReadCounts()

    @property
    def credentials(self) -> Credentials:
        """The credentials now in use; tokens change when they are renewed."""
        return self._session.credentials if self._session is not None else self._credentials

    # --- the connection ---

    @property
    def _where(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    def _live(self) -> Session:
        if self._session is None or self._closed:
            raise VenueError("cTrader: not connected")
        return self._session

    async def _run(self) -> None:
        """Keep the connection until the access is closed or the venue is lost for good."""
        loop = asyncio.get_running_loop()
        assert self._session is not None
        tls = self._tls or ssl.create_default_context()
        while not self._lost_for_good and not self._closed:
            gone: asyncio.Future[None] = loop.create_future()
            host, port = self._address
            try:
                await loop.create_connection(
                    lambda gone=gone: _Wire(self, gone),  # type: ignore[misc]
                    host,
                    port,
                    ssl=tls,
                    server_hostname=host,
                    ssl_handshake_timeout=HANDSHAKE_S,
                )
            except (OSError, TimeoutError) as error:
                self._session.drop(f"{self._where}: cannot connect: {_plain(error)}", "unreachable")
                self._settle()
            else:
                await gone
            if not self._lost_for_good and not self._closed:
                await asyncio.sleep(self._retry_ns / 1e9)

    def _connected(self, transport: asyncio.Transport) -> None:
        assert self._session is not None
        self._transport = transport
        self._session.connected()
        self._settle()

    def _received(self, data: bytes) -> None:
        assert self._session is not None
        self._session.receive(data)
        self._settle()

    def _paused(self, paused: bool) -> None:
        assert self._session is not None
        self._session.pause(paused=paused)
        if not paused:
            self._settle()

    def _lost(self, reason: str) -> None:
        assert self._session is not None
        self._transport = None
        self._session.disconnected(reason)
        self._settle()

    def _tick(self) -> None:
        self._timer = None
        if self._session is not None:
            self._session.advance()
            self._settle()

    def _write(self) -> None:
        """Write what there is to write, and act on the rest when the caller is done."""
        assert self._session is not None
        data = self._session.outgoing()
        if data and self._transport is not None:
            self._transport.write(data)
        asyncio.get_running_loop().call_soon(self._settle)

    def _settle(self) -> None:
        """Write what there is to write, act on what has happened, set the timer."""
        session = self._session
        assert session is not None
        if self._settling:  # a report's receiver sent a command: the loop below comes to it, in order
            return
        self._settling = True
        try:
            outputs: list[Output] | None = None
            while outputs != []:
                data = session.outgoing()
                if data and self._transport is not None:
                    self._transport.write(data)
                outputs = session.take()
                for output in outputs:
                    self._act(output)
        finally:
            self._settling = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = session.deadline()
        if due is not None:
            wait = max(0, due - self._clock.monotonic_ns()) / 1e9
            self._timer = asyncio.get_running_loop().call_later(wait, self._tick)

    def _act(self, output: Output) -> None:
        match output:
            case Rows(rows):
                self._out.events(rows)
            case Report(update, px):
                if self._fills.first(update) and px and self._session is not None:
                    self._session.feed.filled(update.instrument, px)
                self._out.report(update)
            case Ready():
                self._losses = 0
                for channel in self._channels:
                    self._out.link(LinkState(channel=channel, up=True))
                log.info("ready", venue=self._where, account=self._settings.account)
                if self._logon is not None and not self._logon.done():
                    self._logon.set_result(None)
            case Dropped(reason, retry_ns, cause):
                self._dropped(reason, retry_ns, cause)
            case Failed(error):
                self._failed(error)
            case Renewed(credentials):
                self._renewed(credentials)
            case Left():
                if self._leaving is not None and not self._leaving.done():
                    self._leaving.set_result(None)
            case Notice(text):
                log.warning("notice", text=text)

    @property
    def _out(self) -> Sink:
        assert self._sink is not None
        return self._sink

    def _dropped(self, reason: str, retry_ns: int, cause: Cause) -> None:
        self._losses += 1
        log.warning(
            "connection lost",
            address=self._where,
            reason=reason,
            cause=cause,
            attempt=self._losses,
            wait_s=round(retry_ns / 1e9, 3),
        )
        for channel in self._channels:
            state = LinkState(channel=channel, up=False, reason=reason, attempt=self._losses, cause=cause)
            self._out.link(state)
        self._retry_ns = retry_ns
        if self._transport is not None:
            self._transport.abort()
        if self._logon is not None and not self._logon.done():
            self._logon.set_exception(VenueError(f"cTrader: {reason}"))
        if self._leaving is not None and not self._leaving.done():
            self._leaving.set_result(None)

    def _failed(self, error: Exception) -> None:
        log.error("given up", address=self._where, reason=str(error))
        self._lost_for_good = True
        self._out.ended(error)

    def _renewed(self, credentials: Credentials) -> None:
        if self._keep_tokens is None:
            log.warning("tokens renewed, but nobody keeps them: after a restart the old ones will not do")
            return
        task = asyncio.create_task(self._keep(credentials))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    async def _keep(self, credentials: Credentials) -> None:
        assert self._keep_tokens is not None
        try:
            await asyncio.to_thread(self._keep_tokens, credentials)
        except Exception as error:  # the tokens are in use all the same; the reader must know
            log.error("new tokens could not be kept", reason=credentials.mask(str(error)))

    async def _reconcile(self, session: Session) -> ProtoOAReconcileRes:
        answer: asyncio.Future[ProtoOAReconcileRes] = asyncio.get_running_loop().create_future()
        session.reconcile(_settling(answer))
        self._settle()
        return await answer


def _settling(answer: "asyncio.Future[T]") -> Callable[[T | VenueError], None]:
    """What settles a future that may have been given up meanwhile."""

    def done(result: T | VenueError) -> None:
        if answer.done():
            return
        if isinstance(result, VenueError):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    return done


def _plain(error: BaseException) -> str:
    """One line that says what went wrong."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer"
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)).splitlines()[0]
