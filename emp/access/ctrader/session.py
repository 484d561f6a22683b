"""The protocol, without a socket: bytes and time go in, bytes and outputs come out.

A shell (`access.py`) connects, calls `connected`, hands over what it reads (`receive`), calls `advance` when
`deadline` has come, writes what `outgoing` returns and acts on what `take` returns. Nothing here blocks, sleeps
or reads a clock of its own.
"""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec

from emp.access.ctrader.enums import ErrorCode
from emp.access.ctrader.feed import BrokenFrame, Feed, Overfull
from emp.access.ctrader.flows import (
    Flow,
    Opening,
    Refused,
    Unanswered,
    expect,
    leave,
    login,
    open_account,
    renew_depth,
    resolve,
)
from emp.access.ctrader.inbound import Inbound
from emp.access.ctrader.margin import ask_margin
from emp.access.ctrader.messages import (
    ProtoHeartbeatEvent,
    ProtoOAReconcileReq,
    ProtoOAReconcileRes,
    ProtoOARefreshTokenRes,
    ProtoOAVersionReq,
)
from emp.access.ctrader.orders import Orders
from emp.access.ctrader.others import ask_others
from emp.access.ctrader.outbox import Outbox
from emp.access.ctrader.parts import ProtoOADeal, ProtoOAOrder
from emp.access.ctrader.positions import Positions
from emp.access.ctrader.runner import PROBE, Runner
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
    S,
    Settings,
)
from emp.access.ctrader.stops import Stops
from emp.access.ctrader.symbols import Terms
from emp.access.ctrader.trading import Trading
from emp.access.ctrader.wire import WireError
from emp.access.port import Cause, OthersTrade, VenueMargin
from emp.core.clock import Clock
from emp.core.codes import OrderStatus
from emp.core.config.secrets import Secret
from emp.core.contracts import Command, OrderUpdate, QueryOrder
from emp.core.errors import VenueError
from emp.core.ids import generator
from emp.core.instrument import Instrument

FATAL = frozenset(
    {
        ErrorCode.CH_CLIENT_AUTH_FAILURE,
        ErrorCode.CH_OA_CLIENT_NOT_FOUND,
        ErrorCode.CH_ACCESS_TOKEN_INVALID,
        ErrorCode.OA_AUTH_TOKEN_EXPIRED,
        ErrorCode.CH_CTID_TRADER_ACCOUNT_NOT_FOUND,
        ErrorCode.RET_NO_SUCH_LOGIN,
        ErrorCode.RET_ACCOUNT_DISABLED,
    }
)
"""Refusals of a logon that no second attempt can change."""

STEADY_NS = 30 * S
"""A session that was ready for so long begins again with the shortest wait."""

REOPENED_MAX = 3
"""Times within a minute that the account's session is opened again before the connection is dropped."""

RENEW_BOOK_NS = 60 * S


class Session:
    """One connection's worth of protocol, and what outlives connections: orders, books, tokens."""

    def __init__(
        self,
        settings: Settings,
        credentials: Credentials,
        instruments: Sequence[Instrument],
        clock: Clock,
        opening: Opening = login,
    ) -> None:
        """`opening` is the conversation with which each connection begins."""
        self.settings = settings
        self.credentials = credentials
        self.instruments = tuple(instruments)
        self.clock = clock
        self._opening = opening
        self.account = settings.account
        self.depth = settings.depth
        self.demo = settings.demo
        self.reach = settings.reach
        self.hedged = False
        self.swap_free = False  # whether the account neither pays nor receives for what it holds over a roll
        self.online = False
        self.is_ready = False
        self.terms: list[Terms] = []
        self.orders = Orders()
        self.positions = Positions()
        self.feed = Feed(settings.account, settings.depth)
        self.out = Outbox(settings, clock)
        self.trading = Trading(self)
        self.stops = Stops(self)
        self.runner = Runner(self.out, clock, settings.answer_ns)
        self._inbound = Inbound(self)
        self._outputs: list[Output] = []
        self._attempts = 0
        self._leaving = False
        self._random = generator(settings.seed, "ctrader backoff")
        self._ready_at = self._heard_at = self._beat_at = 0
        self._reopened: deque[int] = deque(maxlen=REOPENED_MAX)
        self._renewed_at: dict[int, int] = {}
        self._resolve_at: dict[str, int] = {}
        self._strangers: dict[str, tuple[str, int]] = {}  # asked about, not sent by us: instrument, when

    # --- what the shell calls ---

    def connected(self) -> None:
        """The transport stands: log on."""
        now = self.clock.monotonic_ns()
        self.online, self._heard_at, self._beat_at = True, now, now
        self.feed.restart()
        self.out.restart()
        self.runner.start(self._opening(self), self._logon_failed)

    def receive(self, data: bytes | memoryview) -> None:
        """Take bytes as they were read."""
        if not self.online:
            return
        before = self.feed.frames
        now = self.clock.now_ns()
        while self.online:
            try:
                for found in self.feed.receive(data, now):
                    if isinstance(found, bytes):
                        self._inbound.frame(found)
                    else:
                        self._outputs.append(Rows(found))
                break
            except Overfull as error:
                self._renew_book(error.which, str(error))
                data = b""
            except (BrokenFrame, WireError) as error:
                self.drop(f"protocol error: {error}", "fault")
        if self.feed.frames != before:
            self._heard_at = self.clock.monotonic_ns()

    def disconnected(self, reason: str) -> None:
        """The transport is gone."""
        if self.online:
            self.drop(reason)

    def send(self, command: Command) -> None:
        """Take a command; whatever becomes of it arrives as a Report."""
        self.trading.send(command)

    def pause(self, *, paused: bool) -> None:
        """The transport takes no more for now, or does again; orders wait here, where their time is watched."""
        self.out.paused = paused

    def leave(self) -> None:
        """Say goodbye in order; `Left` tells when it is done."""
        self._leaving = True
        if self.online and self.is_ready:
            self.is_ready = False
            self.runner.start(leave(self), lambda error: self.left())
        else:
            self.left()

    def reconcile(self, done: Callable[[ProtoOAReconcileRes | VenueError], None]) -> None:
        """Ask the venue for its orders and positions; `done` is called once, with the answer or the error."""
        if not self.is_ready:
            done(VenueError("cTrader: not logged on"))
            return

        def ask() -> Flow:
            question = ProtoOAReconcileReq(ctid_trader_account_id=self.account)
            answer = expect(ProtoOAReconcileRes, (yield question))
            self.positions.replace(answer.position)
            self.stops.compare()
            done(answer)

        self.runner.start(
            ask(), lambda error: done(VenueError(f"cTrader: cannot reconcile: {self._text(error)}"))
        )

    def others(
        self,
        since: int,
        is_ours: Callable[[str], bool],
        done: Callable[[Sequence[OthersTrade] | VenueError], None],
    ) -> None:
        """Ask the venue for what others have traded since then; `done` is called once, with that or the error."""
        if not self.is_ready:
            done(VenueError("cTrader: not logged on"))
            return

        def ask() -> Flow:
            done((yield from ask_others(self.account, self.terms, since, self.clock.now_ns(), is_ours)))

        self.runner.start(
            ask(),
            lambda error: done(VenueError(f"cTrader: others' trades are not known: {self._text(error)}")),
        )

    def margin(self, done: Callable[[VenueMargin | VenueError], None]) -> None:
        """Ask the venue for the account's margin; `done` is called once, with the answer or the error."""
        if not self.is_ready:
            done(VenueError("cTrader: not logged on"))
            return

        def ask() -> Flow:
            done((yield from ask_margin(self.account, self.terms)))

        self.runner.start(
            ask(), lambda error: done(VenueError(f"cTrader: margin is not known: {self._text(error)}"))
        )

    def outgoing(self) -> bytes:
        """Bytes to write now."""
        if not self.online:
            return b""
        for command in self.out.overdue():
            self.trading.refuse(
                command, "not sent: held back longer than allowed, or it may not leave any more"
            )
        written = self.out.take(self.trading)
        while self.out.dropped:
            self.stops.refused(self.out.dropped.pop(), "it may not leave now")
        return written

    def take(self) -> list[Output]:
        """What has happened since the last call, in order."""
        outputs, self._outputs = self._outputs, []
        return outputs

    def deadline(self) -> int | None:
        """Monotonic ns at which `advance` and `outgoing` want to be called; None where nothing is due."""
        if not self.online:
            return None
        due = [self._beat_at + self.settings.heartbeat_ns, self._heard_at + self.settings.silence_ns]
        due += self.runner.deadlines()
        due += self._resolve_at.values()
        due += [o.sent_ns + self.settings.answer_ns for o in self.orders.open_orders() if o.awaiting]
        due += self.out.due()
        if self.is_ready:
            due.append(self.clock.monotonic_ns() + S)  # books that are stuck, tokens that grow old
        return min(due)

    def advance(self) -> None:
        """Let time act: heartbeats, missing answers, silence, tokens, stuck books."""
        now = self.clock.monotonic_ns()
        if not self.online:
            return
        if now - self._beat_at >= self.settings.heartbeat_ns:
            self._beat_at = now
            self.out.put(ProtoHeartbeatEvent(), None)
        self.runner.expire(now)
        silent = now - self._heard_at >= self.settings.silence_ns
        if silent and PROBE not in self.runner:
            self._probe(now)
        if self.is_ready:
            self._advance_ready(now)

    # --- what the flows call ---

    def token_is_old(self) -> bool:
        """Whether the access token should be exchanged now."""
        expires = self.credentials.expires_at_ns
        if expires is None or self.credentials.refresh_token is None:
            return False
        return self.clock.now_ns() >= expires - self.settings.refresh_margin_ns

    def renewed(self, answer: ProtoOARefreshTokenRes) -> None:
        """Take over new tokens."""
        lifetime = answer.expires_in * S
        self.credentials = msgspec.structs.replace(
            self.credentials,
            access_token=Secret(answer.access_token),
            refresh_token=Secret(answer.refresh_token),
            expires_at_ns=self.clock.now_ns() + max(lifetime, 2 * self.settings.refresh_margin_ns),
        )
        self._outputs.append(Renewed(self.credentials))

    def set_terms(self, terms: list[Terms]) -> None:
        """Take over the venue's terms for our instruments."""
        self.terms = terms
        self.feed.set_terms(terms)

    def clear_book(self, which: int) -> None:
        """Forget an instrument's quotes."""
        self.feed.clear_book(which)

    def ready(self, state: ProtoOAReconcileRes) -> None:
        """The logon is complete: bring orders and positions up to the venue's, find out about lost orders."""
        self.is_ready = True
        self._ready_at = self.clock.monotonic_ns()
        self.out.trading = True
        self.positions.replace(state.position)
        self.stops.restart()
        self.stops.apply()
        self._outputs.append(Ready())
        working = {o.order_id for o in state.order}
        named = {o.client_order_id for o in state.order}
        for order in state.order:
            self.report_state(order, (), asked=False)
        self.trading.ready(working)
        for tracked in self.orders.open_orders():
            if tracked.order_id not in working and tracked.cl_ord_id not in named:
                self.find_out(tracked.cl_ord_id)

    def left(self) -> None:
        """The goodbye is over."""
        self.online = False
        self._outputs.append(Left())

    def report_state(self, order: ProtoOAOrder, deals: Sequence[ProtoOADeal], *, asked: bool = True) -> None:
        """Report what the venue says of an order, where it is of our instruments."""
        terms = self.terms_of(order.trade_data.symbol_id)
        self._strangers.pop(order.client_order_id or "", None)
        if terms is not None:
            try:
                self.report(self.orders.on_state(order, deals, terms, self.clock.now_ns(), asked=asked))
            except VenueError as error:
                self.notice(str(error))
            if asked:
                self.trading.compare(self.orders.adopt(order, terms))

    def report_missing(self, cl_ord_id: str) -> None:
        """The venue has no such order: it never arrived, unless it may still be on its way."""
        self._resolve_at.pop(cl_ord_id, None)
        order = self.orders.find(cl_ord_id)
        instrument, asked_ns = self._strangers.get(cl_ord_id, ("", 0))
        since = order.sent_ns if order is not None else asked_ns
        if since and self.clock.monotonic_ns() - since < self.settings.settle_ns:
            self._resolve_at[cl_ord_id] = since + self.settings.settle_ns
            return
        text = "the venue has no such order"
        if order is None:
            self._strangers.pop(cl_ord_id, None)
            self.report(self.trading.rejected(cl_ord_id, instrument, text))
            return
        status = OrderStatus.REJECTED if order.filled == 0 else OrderStatus.CANCELED
        self.report(self.orders.local(order, status, text, self.clock.now_ns(), again=True))

    # --- shared with trading ---

    def report(self, update: OrderUpdate | None, px: int = 0) -> None:
        """Hand out a report, where there is one; `px` as in `Report`."""
        if update is not None:
            self._outputs.append(Report(update, px))

    def notice(self, text: str) -> None:
        """Put a line into the log, secrets masked."""
        self._outputs.append(Notice(self.credentials.mask(text)))

    def terms_of(self, symbol_id: int) -> Terms | None:
        """Our terms of a symbol, where it is one of our instruments."""
        return next((t for t in self.terms if t.symbol_id == symbol_id), None)

    def find_out(self, cl_ord_id: str) -> None:
        """Ask the venue what became of an order; its answer is a report."""
        self._resolve_at.pop(cl_ord_id, None)

        def failed(error: Exception) -> None:
            self.notice(f"cannot find out about {cl_ord_id}: {self._text(error)}")
            if self.online:
                self._resolve_at[cl_ord_id] = self.clock.monotonic_ns() + self.settings.answer_ns

        self.runner.start(resolve(self, cl_ord_id), failed)

    def query(self, command: QueryOrder) -> None:
        """Find out about an order, be it one that was sent by a process before this one."""
        if self.orders.find(command.cl_ord_id) is None:
            asked = (command.instrument, max(1, self.clock.monotonic_ns()))
            self._strangers.setdefault(command.cl_ord_id, asked)
        self.find_out(command.cl_ord_id)

    def drop(self, reason: str, cause: Cause = "lost") -> None:
        """Give the connection up, settle what hung on it, and say when to try again."""
        reason = self.credentials.mask(reason)
        now = self.clock.monotonic_ns()
        if self.is_ready and now - self._ready_at >= STEADY_NS:
            self._attempts = 0
        first, last = self.settings.backoff_first_ns, self.settings.backoff_last_ns
        wait = min(last, first << min(self._attempts, 30))
        self._attempts += 1
        self.online = self.is_ready = False
        self._outputs.append(Dropped(reason, int(wait * (0.5 + 0.5 * self._random.random())), cause))
        self._resolve_at.clear()
        self.runner.abandon(reason)
        self.trading.disconnected(reason)

    # --- inside ---

    def _text(self, error: Exception) -> str:
        return self.credentials.mask(str(error))

    def _logon_failed(self, error: Exception) -> None:
        fatal = isinstance(error, VenueError) or (isinstance(error, Refused) and error.code in FATAL)
        if not self.online:
            return
        cause: Cause = "unanswered" if isinstance(error, Unanswered) else "refused"
        self.drop(f"logon failed: {self._text(error)}", "fault" if isinstance(error, WireError) else cause)
        if fatal:
            self._outputs.append(Failed(VenueError(f"cTrader: logon failed: {self._text(error)}")))

    def _probe(self, now: int) -> None:
        """Ask for a sign of life; a server that gives none is gone."""
        self._heard_at = now

        def ask() -> Flow:
            yield ProtoOAVersionReq()

        def silent(error: Exception) -> None:
            if self.online:
                self.drop(f"the venue is silent: {self._text(error)}", "silent")

        self.runner.start(ask(), silent)

    def _advance_ready(self, now: int) -> None:
        for name in [n for n, at in self._resolve_at.items() if at <= now]:
            self.find_out(name)
        self.trading.advance(now)
        if self.token_is_old():
            self.reopen(refresh_first=True, why="the access token grows old")
            return
        if self.depth:
            for which in self.feed.stuck(self.clock.now_ns() - self.settings.stuck_ns):
                if now - self._renewed_at.get(which, -RENEW_BOOK_NS) >= RENEW_BOOK_NS:
                    self._renew_book(which, "it has been crossed for too long")

    def _renew_book(self, which: int, why: str) -> None:
        self._renewed_at[which] = self.clock.monotonic_ns()
        self.notice(f"{self.terms[which].instrument.name}: the book starts over: {why}")
        self.feed.clear_book(which)
        self.runner.start(renew_depth(self, (which,)), lambda error: self.disconnected(self._text(error)))

    def reopen(self, *, refresh_first: bool, why: str) -> None:
        """Open the account's session again on the same connection."""
        now = self.clock.monotonic_ns()
        self.notice(f"the account's session is opened again: {why}")
        if len(self._reopened) == REOPENED_MAX and now - self._reopened[0] < 60 * S:
            self.drop("the account's session ends again and again", "fault")
            return
        self._reopened.append(now)
        self.is_ready = self.out.trading = False
        self.runner.start(open_account(self, refresh_first=refresh_first), self._logon_failed)
