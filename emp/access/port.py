"""The port to the outside world: what the engine knows of a market is what passes here, through one door.

    await access.connect(instruments, sink)   # the one receiver, handed over once
    access.send(cleared)                      # its outcome arrives as sink.report(...)
    await access.close()

An access pushes what happens into the sink, on the event loop, in the order in which it happened. The sink that
trades (`emp.engine.live`) never raises: whatever goes wrong behind it halts and flattens there, and never reaches a
transport.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from emp.core.approval import Cleared
from emp.core.codes import Quarantine
from emp.core.contracts import OrderUpdate, VenuePosition
from emp.core.instrument import Instrument
from emp.core.records import Array

Channel = Literal["market", "trade"]

Cause = Literal[
    "", "unreachable", "unanswered", "refused", "occupied", "taken", "logout", "lost", "silent", "fault"
]
"""Why a connection is down, of a few kinds: nobody listens; nothing came back to the logon; the logon was refused, or
because somebody is logged on under our name; somebody else has logged on and taken our session; the peer logged out;
the connection broke; the peer fell silent; one side broke the protocol. Empty while it is up.
"""


class Reach(IntEnum):
    """How far an access may go; a message that lies beyond is never made, whoever asks for it."""

    MARKET = 1  # market data alone
    ACCOUNT = 2  # and questions about the account, its orders and positions
    ORDERS = 3  # and orders


class LinkState(msgspec.Struct, frozen=True, kw_only=True):
    """A connection of an access came up or went down."""

    channel: Channel  # what it carries; one that carries both tells of each
    up: bool
    reason: str = ""  # why it is down, in the peer's own words where it gave any
    attempt: int = 0  # of dialling again, while it is down
    cause: Cause = ""


class Sink(Protocol):
    """Who receives a market. Every method is called on the event loop and must not block."""

    def events(self, rows: Array) -> None:
        """EVENT rows [n] have arrived; the array is the caller's again when this returns."""

    def report(self, update: OrderUpdate) -> None:
        """The venue reports on an order; reports never wait behind market data."""

    def link(self, state: LinkState) -> None:
        """A connection came up or went down."""

    def ended(self, error: Exception | None) -> None:
        """No event will follow: the market has ended, or `error` says in one line why it is lost for good."""

    async def ready(self) -> None:
        """Return when there is room for more: for simulators and recordings, which can wait as no network can."""


@runtime_checkable
class HearsOld(Sink, Protocol):
    """A receiver that can be told of events that were long on their way: nothing may be opened on them."""

    def old(self, rows: Array, age_ns: int) -> None:
        """EVENT rows [n] have arrived as by `events`, the oldest of them `age_ns` after somebody had received it."""


@runtime_checkable
class Resumes(Protocol):
    """An access that may begin before now, as one whose market data are kept somewhere."""

    def begin_after(self, known: Sequence[int]) -> None:
        """Before `connect`: up to market time `known` (ns UTC; 0: nothing) of each of its instruments, in their order,
        everything is known and not told again.
        """


class MarketAccess(Protocol):
    """A live market: market data and reports arrive at the sink, commands leave."""

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """Log on and subscribe; raise VenueError with one clear line when that fails.

        From the first line of this call until `close` has returned the sink may be called.
        """

    def send(self, cleared: Cleared) -> None:
        """Hand over a command without blocking; its outcome, a refusal too, arrives as a report after this call.

        VenueError only where the access is closed. TypeError for an order that risk has not approved: nothing leaves.
        """

    async def open_orders(self) -> Sequence[OrderUpdate]:
        """What the venue says is working (mass status), for reconciliation."""

    async def positions(self) -> Sequence[VenuePosition]:
        """What the venue says we hold, for reconciliation."""

    async def close(self) -> None:
        """Unsubscribe, log off, leave no task behind."""


@runtime_checkable
class Guarded(Protocol):
    """An access that asks once more, at the moment at which a command leaves, whether it may: it may have waited."""

    def guard(self, may_send: Callable[[], bool]) -> None:
        """Before `connect`: commands leave where `may_send` says so; others are reported as not sent."""


class VenueFinancing(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue states of an instrument's rolls; what is paid is below 0."""

    instrument: str
    long: float  # ticks a lot and night, or per cent of the value a year where `percent`
    short: float
    percent: bool = False
    minute: int = -1  # of the day, UTC, at which it rolls; -1: not stated
    triple: int = -1  # weekday whose roll counts three nights, Monday 0; -1: not stated


class VenueMargin(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue states of an account's margin, in the account's currency."""

    currency: str
    equity: float  # balance and what the open positions would bring
    used: float
    lots: dict[str, float]  # what a lot of an instrument would ask, the dearer side


class OthersTrade(msgspec.Struct, frozen=True, kw_only=True):
    """An order that was executed on our account and is none of ours."""

    instrument: str
    qty: int  # lots, signed
    px: float  # ticks
    order: str  # the id under which its reports come
    ts: int  # ns UTC, by the venue's clock


@runtime_checkable
class TellsOthers(Protocol):
    """An access whose venue tells what others have traded on our account, and at which price."""

    async def trades_of_others(self, since: int, is_ours: Callable[[str], bool]) -> Sequence[OthersTrade]:
        """From `since` on (ns UTC), newest first; `is_ours` knows our client order ids. VenueError where the venue does
        not answer.
        """


@runtime_checkable
class StatesTerms(Protocol):
    """An access whose venue states financing and margin."""

    def financing(self) -> Sequence[VenueFinancing]:
        """Of the instruments of which it states it."""

    async def margin(self) -> VenueMargin:
        """As it stands now; VenueError where the venue does not answer."""


class MarketFeed(Protocol):
    """A live market that can only be watched: there is nothing to give it an order by."""

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        """As of a `MarketAccess`; the sink hears no report."""

    async def close(self) -> None:
        """Unsubscribe, log off, leave no task behind."""


class QuoteFeed(MarketFeed, Resumes, Protocol):
    """A feed beside a venue that takes orders and gives no market data."""

    def filled(self, instrument: str, px: int) -> None:
        """An order of ours has filled at `px` ticks: books far from it are not believed."""


class QuarantinedRow(msgspec.Struct, frozen=True):
    """A row that was kept out, with enough of it to see why."""

    row: int  # 0-based row in the source
    reason: Quarantine
    text: str  # the row as read, cut to 200 characters


class ReadCounts(msgspec.Struct):
    """Where every row of a source went: rows == events + merged + sum of quarantined."""

    rows: int = 0
    events: int = 0
    merged: int = 0
    quarantined: Counter[Quarantine] = msgspec.field(default_factory=Counter)
    samples: list[QuarantinedRow] = msgspec.field(default_factory=list)  # the first SAMPLES of each reason

    gaps: int = 0  # breaks of the stream: updates are missing, so the book had to begin again
    formats: list[str] = msgspec.field(
        default_factory=list
    )  # each file, what it was read as, and what was assumed

    SAMPLES = 20

    def losses(self) -> dict[str, dict[str, Any]]:
        """Reasons of the rows kept out, with their number and a few rows each."""
        found: dict[str, dict[str, Any]] = {}
        for reason, n in self.quarantined.items():
            rows = [f"row {one.row}: {one.text}" for one in self.samples if one.reason is reason]
            found[reason.name.lower()] = {"n": n, "sample": rows[:3]}
        return found


class Source(Protocol):
    """A market that can be read as fast as one likes: a recording, or a simulator without a clock."""

    instrument: Instrument
    counts: ReadCounts

    def batches(self) -> Iterator[Array]:
        """Yield arrays of EVENT rows in order; `counts` is final when the iterator ends."""
