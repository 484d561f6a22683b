"""A trading day: opening auction, continuous trading, volatility interruptions, closing auction.

The phases are the instrument's own calendar: orders gather without matching while it says `auction_open` or
`auction_close`, and trade at one price when that span ends. In between the flow model drives continuous trading.

A volatility interruption stops it when the mid leaves a band around its average of the last five minutes; after a
pause in which orders gather, an auction reopens. The default is the US Limit Up-Limit Down plan for liquid shares:
5 % around the mean of five minutes, a pause of five minutes, a reopening auction (National Market System Plan to
Address Extraordinary Market Volatility; the figures are from memory, not checked against its text). Two things are
simpler here: the plan's limit state of 15 seconds before the pause is left out, and the order that reaches the band
is executed before the pause, not held back. Announced halts take cancels only, then gather orders for the reopening
auction for as long again.

What the public sees: a row with HALT when trading stops, and one with the auction's price, volume and resulting
book when it ends (AUCTION, and RESUME where trading goes on). A crossed book of gathering orders is not shown.
"""

from enum import IntEnum
from typing import Any

import msgspec
import numpy as np

from emp.core.codes import EventFlag, Session
from emp.core.errors import UsageError
from emp.core.instrument import Instrument
from emp.core.numba.borrow import borrowed
from emp.core.numba.jit import kernel
from emp.core.numba.rng import table_index, uniform
from emp.core.records import Array
from emp.core.sessions import session_table
from emp.sim.book.auction import begin_auction, halt, uncross
from emp.sim.book.book import BEST, BUY, CONTINUOUS, LO, MARKET, MASK, N_FILLS, PHASE, SELL, clear_trade, u
from emp.sim.book.matching import submit
from emp.sim.book.view import mark_visible, write_event
from emp.sim.flow.observe import AT
from emp.sim.flow.params import SPREADS, ZI
from emp.sim.flow.state import pass_time, place, recentre
from emp.sim.world.market import NO_MSGS, NO_ROWS, Market, flow_event, write_msg

SECOND = 1_000_000_000
NEVER = 2**62
WARMUP = 5_000  # events of an undisturbed twin that tell the flow's mean rate
VISIBLE = int(EventFlag.VISIBLE)
VISIBLE_CROSS = VISIBLE | int(EventFlag.AUCTION)
RESUME = int(EventFlag.RESUME)


class Phase(IntEnum):
    """What the market does now."""

    OPENING = 0  # orders gather for the opening auction
    TRADING = 1
    INTERRUPTED = 2  # orders gather for a reopening auction
    HALTED = 3  # cancels only
    CLOSING = 4  # orders gather for the closing auction
    CLOSED = 5


class DayConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Rules of the venue; the defaults are those of the Limit Up-Limit Down plan, tier 1."""

    band: float = 0.05  # share of the reference price; 0: no volatility interruptions
    reference_s: float = 300.0
    pause_s: float = 300.0
    halts: tuple[tuple[int, float], ...] = ()  # announced: (start in ns UTC, seconds of cancels only)
    market_share: float = 0.2  # of gathering orders that are market orders

    def __post_init__(self) -> None:
        if not 0 <= self.band < 1 or self.reference_s <= 0 or self.pause_s <= 0:
            raise UsageError(
                "a day's band must lie in [0, 1), its reference and pause must be longer than 0 s"
            )


@kernel
def trade_in_band(flow: Any, until_ns: int, n_max: int, msgs: Any, rows: Any, last: Any, g: Any) -> int:
    """As `market.advance`, and stop behind the event whose mid leaves the band.

    `g` (float64[4]): band as a share, time constant of the reference in ns, the reference in ticks, and 1 where
    the mid has left.
    """
    flow = borrowed(flow)
    b, s = flow.book, flow.state[0]
    n = 0
    while n < n_max and s.next <= until_ns and g[3] == 0.0:
        before = s.now
        flow_event(flow)
        if n < len(msgs):
            write_msg(msgs[n], s)
        if n < len(rows):
            write_event(b, rows[n], s.now, s.seq, 0)
            mark_visible(rows[n], rows[n - 1] if n > 0 else last[0])
        n += 1
        bid, ask = int(b[u(BEST)]), int(b[u(BEST + 1)])
        if bid != b[u(LO)] and ask != b[u(LO)] + b[u(MASK)]:
            mid = 0.5 * (bid + ask)
            g[2] += (mid - g[2]) * min(1.0, (s.now - before) / g[1])
            if abs(mid - g[2]) > g[0] * g[2] > 0.0:
                g[3] = 1.0
        if b[u(N_FILLS)] != 0:
            break
    if 0 < n <= len(rows):
        last[0] = rows[n - 1]
    return n


@kernel
def _auction_order(flow: Any, reference: int, market_share: float) -> None:
    """One gathering order: its size and distance are the flow's own at a usual spread, above or below the reference."""
    b, p, r = flow.book, flow.params[0], flow.rng
    side = BUY if uniform(r) < 0.5 else SELL
    if p.model == ZI:
        away = int(uniform(r) * p.band)
        qty = 1 + int(uniform(r) * p.max_qty)
    else:
        away = int(p.deep_ticks[SPREADS // 2, 0, table_index(r) & 255] + 0.5)
        qty = p.limit_qty[AT, table_index(r) & 1023]
    if uniform(r) < market_share:
        submit(b, flow.fills, side, 0, qty, MARKET, 0, 0)
    else:
        sign = 1 if uniform(r) < 0.5 else -1
        low, high = int(b[LO]) + 1, int(b[LO]) + int(b[MASK]) - 1
        place(flow, side, min(high, max(low, reference + sign * away)), qty)


@kernel
def gather(flow: Any, until_ns: int, hz: float, reference: int, market_share: float) -> int:
    """Let orders for an auction arrive at `hz` until a time; return how many did. Nothing trades."""
    flow = borrowed(flow)
    s, p = flow.state[0], flow.params[0]
    n = 0
    while s.next <= until_ns:
        s.now = s.next
        s.seq += 1
        clear_trade(flow.book)
        _auction_order(flow, reference, market_share)
        pass_time(s, int(p.exp[table_index(flow.rng)] * 1e9 / hz) + 1)
        n += 1
    return n


@kernel
def end_auction(flow: Any, reference: int, at_ns: int, go_on: bool, row: Any) -> int:
    """Uncross at `at_ns`, write what the public sees into `row`, and return the volume."""
    flow = borrowed(flow)
    b, s = flow.book, flow.state[0]
    clear_trade(b)
    s.now = max(s.now, at_ns)
    s.seq += 1
    _, volume = uncross(b, flow.fills, reference)
    recentre(b, s)
    write_event(b, row, s.now, s.seq, 0)
    row.flags |= VISIBLE_CROSS if volume > 0 else VISIBLE
    if go_on:
        row.flags |= RESUME
    return int(volume)


class Auction(msgspec.Struct, frozen=True):
    """One auction that took place."""

    ts: int
    kind: Phase  # OPENING, INTERRUPTED or CLOSING
    price: int  # ticks; 0 where nothing crossed
    volume: int


class DayMarket(Market):
    """A market that keeps an instrument's hours; where its calendar has no auctions, it only has interruptions."""

    def __init__(
        self,
        params: Array,
        seed: int,
        start_px: int,
        start_ns: int,
        instrument: Instrument,
        rules: DayConfig | None = None,
        days: int = 1,
    ) -> None:
        super().__init__(params, seed, start_px, start_ns)
        self.rules = rules or DayConfig()
        self.auctions: list[Auction] = []
        twin = Market(params, seed, start_px)
        twin.run(NEVER, WARMUP)
        self._hz = WARMUP / (twin.now_ns / 1e9)
        self._guard = np.array([self.rules.band, self.rules.reference_s * SECOND, float(start_px), 0.0])
        self._changes = _changes(instrument, start_ns, days)
        self._halts = sorted(self.rules.halts)
        self._phase, self._end = Phase.TRADING, NEVER
        self._pending: list[int] = []  # flags of rows that say that trading stopped
        self._enter(self._scheduled(start_ns), start_ns)
        self._pending.clear()  # nobody has seen it trade

    @property
    def public(self) -> bool:
        """Whether the book is shown: in continuous trading only."""
        return self._phase is Phase.TRADING

    @property
    def phase(self) -> Phase:
        """What the market does now."""
        return self._phase

    def clone(self) -> "DayMarket":
        """An independent market in the same state and phase."""
        twin = super().clone()
        assert isinstance(twin, DayMarket)
        for name in ("rules", "_hz", "_changes", "_phase", "_end"):
            setattr(twin, name, getattr(self, name))
        twin.auctions, twin._halts = list(self.auctions), list(self._halts)
        twin._guard, twin._pending = self._guard.copy(), list(self._pending)
        return twin

    def run(self, until_ns: int, n_max: int, msgs: Array = NO_MSGS, rows: Array = NO_ROWS) -> int:
        """Advance through the phases; as `Market.run`, where a stop and an auction are one row each."""
        n = 0
        while n < n_max and not self.book[N_FILLS]:
            if self._pending:
                self._show_stop(rows, n, self._pending.pop(0))
                n += 1
                continue
            limit = min(until_ns, self._end - 1)
            n += self._within(limit, n_max - n, msgs[n:], rows[n:])
            if self._guard[3] and self._phase is Phase.TRADING:
                self._interrupt()
            elif self._end <= until_ns and n < n_max and not self.book[N_FILLS]:
                n += self._turn(rows, n)
            elif n >= n_max or self.book[N_FILLS] or int(self.state["next"][0]) > until_ns:
                break
        return n

    def _within(self, until_ns: int, n_max: int, msgs: Array, rows: Array) -> int:
        """Let time pass inside one phase; return the rows."""
        if self._phase is Phase.TRADING:
            return int(trade_in_band(self.flow, until_ns, n_max, msgs, rows, self.last, self._guard))
        if self._gathers:
            gather(self.flow, until_ns, self._hz, int(self._guard[2]), self.rules.market_share)
        return 0

    @property
    def _gathers(self) -> bool:
        return self._phase in (Phase.OPENING, Phase.INTERRUPTED, Phase.CLOSING)

    def _turn(self, rows: Array, n: int) -> int:
        """The phase ends: hold its auction, and enter the next one; return the rows written."""
        at, ended = self._end, self._phase
        written = 0
        follows = self._scheduled(at)
        if ended is Phase.HALTED and follows is Phase.TRADING:
            follows = Phase.INTERRUPTED
        if self._gathers:
            row = (
                rows[n : n + 1]
                if len(rows) > n
                else np.zeros(1, rows.dtype if len(rows) else self.last.dtype)
            )
            go_on = follows is Phase.TRADING
            volume = end_auction(self.flow, int(self._guard[2]), at, go_on, row[0])
            self.auctions.append(Auction(at, ended, int(row["trade_px"][0]), volume))
            self.last[0] = row[0]
            written = 1
            if volume:
                self._guard[2] = float(row["trade_px"][0])
        self._enter(follows, at)
        return written

    def _interrupt(self) -> None:
        """The mid has left the band: stop, and gather orders."""
        now = self.now_ns
        self._enter(Phase.INTERRUPTED, now)
        self._pending.append(int(EventFlag.HALT))

    def _enter(self, phase: Phase, at: int) -> None:
        """Begin a phase at `at`."""
        was, self._phase = self._phase, phase
        self._guard[3] = 0.0
        s = self.state
        if phase is Phase.TRADING:
            self.book[PHASE] = CONTINUOUS
            self._end = min(self._next_change(at), self._halts[0][0] if self._halts else NEVER)
            s["next"] = max(int(s["next"][0]), at + 1)
            return
        self._end = self._next_change(at)
        if phase is Phase.HALTED:
            start, seconds = self._halts.pop(0)
            self._end = min(self._end, max(start, at) + int(seconds * SECOND))
            self._pending.append(int(EventFlag.HALT))
        elif phase is Phase.INTERRUPTED:
            self._end = min(self._end, at + int(self.rules.pause_s * SECOND))
        if phase in (Phase.HALTED, Phase.CLOSED):
            halt(self.book)
            s["next"] = self._end
        else:
            begin_auction(self.book)
            s["next"] = max(int(s["next"][0]) if was is Phase.TRADING else at, at) + 1

    def _scheduled(self, at: int) -> Phase:
        """The phase that the calendar and the announced halts say begins at `at`."""
        k = int(np.searchsorted(self._changes["start"], at, side="right")) - 1
        session = int(self._changes["session_id"][k])
        if session == Session.AUCTION_OPEN:
            return Phase.OPENING
        if session == Session.AUCTION_CLOSE:
            return Phase.CLOSING
        if session == Session.CLOSED:
            return Phase.CLOSED
        return Phase.HALTED if self._halts and self._halts[0][0] <= at else Phase.TRADING

    def _next_change(self, at: int) -> int:
        later = self._changes["start"][self._changes["start"] > at]
        return int(later[0]) if len(later) else NEVER

    def _show_stop(self, rows: Array, n: int, flags: int) -> None:
        """Say that trading has stopped, with the last book that traded."""
        self.state["seq"] += 1
        row = self.last.copy()
        row["ts"] = row["ts_recv"] = self.now_ns
        row["seq"], row["flags"] = self.state["seq"], flags
        row["trade_px"] = row["trade_qty"] = row["trade_qty_last"] = 0
        if n < len(rows):
            rows[n] = row[0]


def _changes(instrument: Instrument, start_ns: int, days: int) -> Array:
    """SESSION rows where the kind of phase changes: one session's end is another's beginning, not a stop."""
    table = session_table(instrument, start_ns, start_ns + days * 86_400 * SECOND)
    special = (int(Session.AUCTION_OPEN), int(Session.AUCTION_CLOSE), int(Session.CLOSED))
    kind = np.where(np.isin(table["session_id"], special), table["session_id"], -1)
    keep = np.ones(len(table), np.bool_)
    keep[1:] = kind[1:] != kind[:-1]
    return np.asarray(table[keep])
