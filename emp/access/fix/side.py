"""What one session of `FixAccess` does with what it hears: market data, orders, or both."""

from collections import deque
from typing import Protocol

import structlog

from emp.access.fix.frame import Frame
from emp.access.fix.link import Link
from emp.access.fix.market import REASONS, Market
from emp.access.fix.message import Message
from emp.access.fix.orders import Orders
from emp.access.fix.pacing import Conversation
from emp.access.fix.refusal import reason_of
from emp.access.fix.settings import FixSettings
from emp.access.fix.terms import NEVER, Application
from emp.access.port import Channel, LinkState, Sink
from emp.core.clock import Clock
from emp.core.contracts import OrderUpdate

log = structlog.get_logger("emp.access.fix")


class Host(Protocol):
    """The access that a session belongs to."""

    settings: FixSettings
    clock: Clock

    @property
    def sink(self) -> Sink:
        """Who receives this market."""

    def fail(self, why: str) -> None:
        """The market is over for good, for this reason."""

    def report(self, update: OrderUpdate, px: int = 0) -> None:
        """Hand out a report; `px` is the price at which something has just filled, in ticks; 0: none is told."""

    def answer(self, message: Message) -> bool:
        """Whether the message answers one of our requests."""

    def dealt_with(self, seq: int) -> None:
        """In lockstep the venue is told when the receiver has dealt with an event."""

    def dispute(self, message: Message) -> None:
        """A report was refused: the order that it names has to be asked for."""

    def heard(self) -> None:
        """Something was said of orders."""

    def unheard(self, first: int, last: int) -> None:
        """What left under these numbers may not have arrived."""

    def recover(self, *, anew: bool = False) -> None:
        """Find out what became of our orders."""

    def recover_in_time(self) -> None:
        """A recovery that had to wait may begin."""

    def recovery_due_ns(self) -> int:
        """Monotonic time at which that is so."""


class Side(Application):
    """The application of one session: what it hears goes to the market, the orders, or a waiting request."""

    link: Link

    def __init__(self, access: Host, market: Market | None, orders: Orders | None) -> None:
        self._access = access
        self._market = market
        self._orders = orders
        self._books = Conversation(round(access.settings.timeout_s * 1e9))
        self._asked: deque[int] = deque(maxlen=16)  # numbers of our market data requests

    def channels(self) -> list[Channel]:
        """What this session carries."""
        carried: list[tuple[Channel, object]] = [("market", self._market), ("trade", self._orders)]
        return [channel for channel, what in carried if what is not None]

    def on_logon(self) -> None:
        """Tell that the link is up, subscribe, find out about orders."""
        self.link.logged_on()
        for channel in self.channels():
            self._access.sink.link(LinkState(channel=channel, up=True))
        if self._market is not None:
            self._market.invalidate()
            self._books.start(self._now())
            self._ask(self._market.subscribe())
        if self._orders is not None:
            self._orders.forget_numbers()
            self._access.recover(anew=True)

    def on_logout(self, reason: str) -> None:
        """What was asked for will not be answered."""
        self._books.stop()
        self._asked.clear()

    def on_loss(self, reason: str, attempt: int) -> None:
        """The connection is gone, and is dialled again for the `attempt`th time."""
        for channel in self.channels():
            self._access.sink.link(
                LinkState(channel=channel, up=False, reason=reason, attempt=attempt, cause=self.link.cause)
            )

    def on_ended(self, reason: str) -> None:
        """The link has given up, so the market is over."""
        for channel in self.channels():
            self._access.sink.link(LinkState(channel=channel, up=False, reason=reason, cause=self.link.cause))
        self._access.fail(f"{self.link.address}: {reason}")

    def on_tick(self) -> None:
        """Begin the recoveries that had to wait."""
        if self._market is not None and self._books.tick(self._now()):
            self._resubscribe()
        if self._market is not None and self._market.stuck(self._now()):
            log.warning("a book stays crossed", address=self.link.address)
            self._lost()
        if self._orders is not None:
            self._access.recover_in_time()

    def due_ns(self) -> int:
        """When the next of them may begin."""
        due = self._books.due_ns() if self._market is not None else NEVER
        return min(due, self._access.recovery_due_ns()) if self._orders is not None else due

    def on_market(self, rows: int, result: int) -> None:
        """Hand rows on; a book that is lost has to come anew."""
        market = self._market
        if market is None:
            return
        if rows:
            self._access.sink.events(market.rows[:rows])
            if self._access.settings.lockstep:
                self._access.dealt_with(int(market.rows["seq"][rows - 1]))
        if result and market.settle(result):
            if self._books.running:  # not even what was asked for can be used
                self._books.failed(self._now())
                self.link.wake()
            else:
                log.warning("a book is lost", address=self.link.address, reason=REASONS[result].name.lower())
                self._lost()
        elif self._books.running and market.whole:
            self._books.done(self._now(), whole=True)

    def on_late_market(self, frame: Frame) -> None:
        """Decode what waited for its turn or was sent again."""
        if self._market is not None:
            now = self._access.clock.now_ns()
            self.on_market(*self._market.late(self.link.session.framer, frame, now))

    def on_message(self, message: Message) -> None:
        """An answer, a refusal of our request, or a report."""
        access = self._access
        if access.answer(message) or self._refuses_market(message):
            return
        if message.kind == "Y":
            if self._market is not None and self._market.superseded(message.text(262)):
                return
            access.fail(f"{self.link.address}: market data refused: {reason_of(message)}")
        elif self._orders is not None:
            for update in self._orders.report(message):
                access.report(update, self._orders.fresh_price(message, update.clOrdID))
            access.heard()

    def _refuses_market(self, message: Message) -> bool:
        """Whether this rejects a market data request (35=3 or j), which is then the end."""
        if message.kind not in ("3", "j") or self._market is None:
            return False
        named = message.integer(45) in self._asked
        if message.text(372) != "V" and (message.get(372) is not None or not named):
            return False
        if message.poss_dup and message.get(45) is not None and not named:
            return False  # sent again: about a request of before
        self._access.fail(f"{self.link.address}: market data request rejected: {reason_of(message)}")
        return True

    def on_new_numbers(self) -> None:
        """A reject that names a number means one of the new ones."""
        self._asked.clear()
        if self._orders is not None:
            self._orders.forget_numbers()

    def on_gap(self, first: int, last: int) -> None:
        """Books and orders may have changed unseen."""
        log.warning("messages will not come", address=self.link.address, first=first, last=last)
        if self._market is not None:
            self._market.invalidate()
            self._lost()
        if self._orders is not None:
            self._access.recover()

    def on_withheld(self, first: int, last: int) -> None:
        """What we asked for under these numbers was not heard, nor perhaps our orders."""
        if self._market is not None and any(first <= seq <= last for seq in self._asked):
            log.warning("a request was not heard", address=self.link.address, first=first, last=last)
            if self._books.unheard(self._now()):
                self._resubscribe()
            else:
                self.link.wake()
        if self._orders is not None and self._orders.sent_between(first, last):
            log.warning("orders were not heard", address=self.link.address, first=first, last=last)
            self._access.unheard(first, last)

    def on_refused(self, message: Message, why: str) -> None:
        """What the message said is lost."""
        log.error(
            "message refused", address=self.link.address, kind=message.kind[:8], seq=message.seq, reason=why
        )
        if self._market is not None and message.kind in ("W", "X"):
            self._market.invalidate()
            self._lost()
        elif self._orders is not None:
            self._access.dispute(message)
            self._access.recover()

    def on_reject(self, message: Message) -> None:
        """The peer refused one of our messages."""
        self.on_message(message)

    def _now(self) -> int:
        return self._access.clock.monotonic_ns()

    def _lost(self) -> None:
        """The books have to come anew: now, or when it is time."""
        if self._books.want(self._now()):
            self._resubscribe()
        else:
            self.link.wake()

    def _ask(self, body: bytes) -> None:
        self._asked.append(self.link.session.send(b"V", body))

    def _resubscribe(self) -> None:
        if self._market is not None:
            self._ask(self._market.unsubscribe())
            self._ask(self._market.subscribe())
