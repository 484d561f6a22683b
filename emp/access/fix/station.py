"""The application of one session that only asks: requests, their answers, pings, and quotes that are looked at."""

import asyncio
from collections.abc import Callable
from typing import Any

from emp.access.fix.answers import Pending
from emp.access.fix.frame import Frame
from emp.access.fix.link import Link
from emp.access.fix.market import Market
from emp.access.fix.message import Message
from emp.access.fix.refusal import reason_of
from emp.access.fix.terms import Application, Phase
from emp.access.survey import Survey
from emp.core.clock import Clock
from emp.core.errors import VenueError

ANSWER_S = 3.0
"""How long an answer that no engine needs is waited for."""

_ANSWERS = {"8": 584, "AP": 710, "AO": 710, "j": 379, "y": 320, "Y": 262}
"""Where an answer names the request that it is about."""


class Question:
    """Takes the answers to one request until they are complete, or the refusal."""

    def __init__(self, complete: Callable[[Message], bool]) -> None:
        self.done: asyncio.Future[list[Message]] = asyncio.get_running_loop().create_future()
        self.refusal: Message | None = None
        self._complete = complete
        self._found: list[Message] = []

    def take(self, message: Message) -> None:
        """Take one answer in, or a refusal."""
        if self.done.done():
            return
        if message.kind in ("3", "j", "Y"):
            self.refusal = message
            self.done.set_exception(VenueError(reason_of(message)))
            self.done.exception()  # read here, so that nobody has to
            return
        self._found.append(message)
        if self._complete(message):
            self.done.set_result(self._found)


class Station(Application):
    """The application of one session that only asks."""

    link: Link

    def __init__(self, clock: Clock, market: Market | None, found: Survey) -> None:
        self.market = market
        self._clock = clock
        self._found = found
        self._open: dict[str, Pending | Question] = {}
        self._sent: dict[int, str] = {}
        self._pings: dict[str, asyncio.Future[tuple[int, int, int]]] = {}
        self.on_end: Callable[[str], None] = lambda _why: None
        self._gone = asyncio.Event()
        self.first = asyncio.Event()  # market data has come, or the session is gone

    # --- asking ---------------------------------------------------------------------------------------------

    async def ask(
        self, kind: bytes, body: bytes, request: str, question: Pending | Question, wait_s: float
    ) -> list[Message]:
        """Send a request and wait for its answers; VenueError with the refusal, or where nothing came in time."""
        if self.link.session.phase is not Phase.ACTIVE:
            raise VenueError("the session is gone")
        self._open[request] = question
        self._sent[self.link.session.send(kind, body)] = request
        self.link.flush()
        gone = asyncio.create_task(self._gone.wait())
        either: list[asyncio.Future[Any]] = [question.done, gone]
        try:
            await asyncio.wait(either, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if kind != b"V":  # a subscription may be refused later
                del self._open[request]
        if question.done.done():
            return question.done.result()
        if self._gone.is_set():
            raise VenueError(self.link.session.reason or "the session is gone")
        raise VenueError(f"no answer to 35={kind.decode()} within {wait_s:g} s")

    async def ping(self, n: int) -> tuple[float, float] | None:
        """(round trip, our clock minus the peer's) in ms, by a TestRequest; None without an answer."""
        name, session = f"emp{n}", self.link.session
        if session.phase is not Phase.ACTIVE:
            return None
        answer = self._pings[name] = asyncio.get_running_loop().create_future()
        sent = self._clock.monotonic_ns(), self._clock.now_ns()
        session.send(b"1", f"112={name}\x01".encode())
        self.link.flush()
        await asyncio.wait([answer], timeout=ANSWER_S)
        if not answer.done():
            return None
        mono, wall, stamp = answer.result()
        trip = mono - sent[0]
        middle = sent[1] + (wall - sent[1]) / 2
        return trip / 1e6, (middle - stamp) / 1e6

    # --- what the session tells -----------------------------------------------------------------------------

    def on_logon(self) -> None:
        """The session stands."""
        self.link.logged_on()

    def on_logout(self, reason: str) -> None:
        """It does not any more."""
        self._gone.set()
        self.first.set()

    def on_ended(self, reason: str) -> None:
        """It will not come again."""
        self.on_end(reason)

    def on_heartbeat(self, message: Message) -> None:
        """An answer to a ping."""
        answer = self._pings.pop(message.text(112), None)
        if answer is not None and not answer.done():
            answer.set_result((self._clock.monotonic_ns(), self._clock.now_ns(), message.sent_ns))

    def on_market(self, rows: int, result: int) -> None:
        """Look at rows."""
        market = self.market
        if market is None:
            return
        market.settle(result)
        for row in market.rows[:rows]:
            self._found.quotes[market.instruments[int(row["instrument"])].name].take(row)
        if all(self._found.quotes[i.name].events for i in market.instruments):
            self.first.set()

    def on_late_market(self, frame: Frame) -> None:
        """Decode what waited for its turn."""
        if self.market is not None:
            self.on_market(*self.market.late(self.link.session.framer, frame, self._clock.now_ns()))

    def on_message(self, message: Message) -> None:
        """An answer or a refusal; whatever nobody asked for is no concern of a survey."""
        tag = _ANSWERS.get(message.kind)
        request = message.text(tag) if tag is not None else ""
        if message.kind in ("3", "j") and request not in self._open:
            request = self._sent.get(message.integer(45), "")
        question = self._open.get(request)
        if question is not None:
            question.take(message)

    def on_reject(self, message: Message) -> None:
        """A request was refused."""
        self.on_message(message)
