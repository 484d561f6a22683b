"""What is looked after beside the trading: the account's marks and file, the run's disk, conversion rates, and stops
that rest at the venue.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import structlog

from emp.access.port import MarketAccess
from emp.core.clock import Clock
from emp.core.contracts import Control
from emp.engine.carry import carried, failed_models
from emp.engine.checkpoint import EVERY, account_note, earned_here, record_checkpoint
from emp.engine.driver import Driver
from emp.engine.earned import earned_note
from emp.engine.lease_keeper import LeaseKeeper
from emp.engine.market_clock import MarketClock
from emp.engine.protection import Protection, Protects
from emp.engine.rates import RateFile
from emp.engine.reconciliation.first_book import KnownPrice
from emp.engine.reconciliation.units import in_units
from emp.journal.account_file import AccountFile, AccountState, Carried
from emp.journal.lease.left import Left, encode_left
from emp.journal.ledger import Ledger
from emp.journal.place import Place
from emp.journal.records import Note
from emp.observe.board import Board

ACCOUNT_NS = 60_000_000_000
"""How often the account's file is written where only what a position is worth has changed."""

STOP = "stop_at_venue"
"""Kind of the ledger's note of where a stop was asked to rest."""

_log = structlog.get_logger(__name__)


class Home(NamedTuple):
    """Where a run lives."""

    folder: Path | None = None  # the run's, where its owner finds the control socket
    account: AccountFile | None = None  # what the account's next run will know of this one
    place: Place | None = None  # the disk that the run is written to
    rates: RateFile | None = None  # where the owner tells conversion rates
    lease: LeaseKeeper | None = None  # the right to trade the account, where several engines may


class Upkeep:
    """Looks after one run; everything on the loop that trades."""

    def __init__(
        self,
        driver: Driver,
        ledger: Ledger,
        access: MarketAccess,
        board: Board,
        clock: Clock,
        market: MarketClock,
        home: Home,
        surviving: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """What fails inside `surviving()` (a lost journal) ends the run, and lets what is at hand be finished."""
        self._driver, self._engine, self._ledger = driver, driver.engine, ledger
        self._board, self._clock, self._market = board, clock, market
        self._account, self._place, self._rates = home.account, home.place, home.rates
        self._surviving = surviving
        self._lease = home.lease
        self.foreign: frozenset[str] = frozenset()
        """Ids of orders that were not ours when the run began, and of our cancels of them."""
        known = AccountState() if home.account is None else home.account.read()
        self._state = msgspec.structs.replace(
            known,
            instruments={**known.instruments, **self._in_our_units(known)},
            run=self._engine.run,
            folder=str(home.folder or ""),
            token=max(known.token, self._engine.token),
        )
        self._priced = np.zeros(len(self._engine.instruments), np.bool_)  # whose price is written down
        self._coarse: list[tuple[int, int, bool]] = []
        self._written_at = 0
        self._marked: dict[int, tuple[int, float]] = {}
        self._allowed: dict[int, tuple[int, bool, int]] = {}
        self._learned: dict[int, tuple[int, tuple[float, ...]]] = {}
        self._protection = (
            Protection(self._engine, access, clock, self._note_stop) if isinstance(access, Protects) else None
        )

    def _in_our_units(self, known: AccountState) -> dict[str, Carried]:
        each = self._engine.instruments
        return {
            one.name: in_units(known.instruments[one.name], one)
            for one in each
            if one.name in known.instruments
        }

    def known_price(self, i: int) -> KnownPrice:
        """Where the market was when the account was traded last; 0 where nobody has written that down."""
        left = self._state.instruments.get(self._engine.instruments[i].name, Carried())
        return KnownPrice(left.price, left.price_ns)

    def _left_of(self, i: int) -> Carried:
        """What instrument `i` would take into the next run; where the market was is kept until this process sees it."""
        state, price = carried(self._engine, i), self.known_price(i)
        return state if state.price_ns else msgspec.structs.replace(state, price=price.px, price_ns=price.ts)

    def look(self, *, connected: bool) -> None:
        """Mark the accounts, and look at the disk and at conversion rates: every few seconds."""
        self._mark_accounts()
        if connected:
            self.mark_earned()
            self._sum_up()
            if self._account is not None:
                self._write_account_in_time()
        self._look_at_disk()
        self._look_at_rates()

    def look_at_stops(self) -> None:
        """Keep a stop at the venue behind every position, where the venue has such a thing: with every tick."""
        if self._protection is None or (self._lease is not None and not self._lease.valid()):
            return
        with self._surviving():
            self._protection.look()
        missing = self._protection.missing()
        words = f"no stop rests at the venue for {', '.join(missing)}" if missing else ""
        self._alarm("stops", words)

    def note_first_prices(self) -> None:
        """Write down where a market is as soon as it is known, not with the account's next minute: whoever starts after
        a process that died at once must have something to hold a first book against. With every tick, once connected.
        """
        if self._account is None or self._priced.all():
            return
        seen = self._engine.desk.perception["ts"] != 0
        if (seen & ~self._priced).any():
            self._priced |= seen
            self.write_account(is_open=True)

    def write_account(self, *, is_open: bool) -> None:
        """Let the account's next run know of what this one has lost, holds and halted."""
        if self._account is None:
            return
        states = {one.name: self._left_of(i) for i, one in enumerate(self._engine.instruments)}
        # a model's failure is the account's: what the owner has let open here is let open everywhere
        failed = failed_models(self._engine)
        others = {
            name: msgspec.structs.replace(left, failed=failed)
            for name, left in self._state.instruments.items()
        }
        self._state = msgspec.structs.replace(self._state, open=is_open, instruments={**others, **states})
        with self._surviving():
            self._account.write(self._state)

    def left(self) -> tuple[str, ...]:
        """What an engine that takes over from this one must know, per instrument."""
        now = self._clock.now_ns()
        return tuple(
            encode_left(Left(run=self._engine.run, ts=now, carried=self._left_of(i)))
            for i in range(len(self._engine.instruments))
        )

    def release(self) -> None:
        """Let go of the disk's reserve and of the account."""
        if self._place is not None:
            self._place.release()
        if self._account is not None:
            self._account.close()

    def _mark_accounts(self) -> None:
        """Record what fills alone cannot restore, so that loss limits hold across a restart."""
        for i, one in enumerate(self._engine.instruments):
            account = self._engine.desk.account[i]
            mark = (int(account["day"]), float(account["peak"]))
            if (account["fills"] or account["position"]) and self._marked.get(i) != mark:
                self._marked[i] = mark
                with self._surviving():
                    self._ledger.record_note(account_note(one.name, account, self._market.now(i)))

    def mark_earned(self, *, last: bool = False) -> None:
        """Record what outcomes allow when it changes, and what is behind it once a minute, and at the `last`."""
        now = self._clock.monotonic_ns()
        for i, one in enumerate(self._engine.instruments):
            st = self._engine.desk.standing[i]
            allowed = (int(st["lots"]), bool(st["may_cross"]), int(st["stops"]))
            learned = tuple(float(st[name]) for name in ("n", "scaled", "crossed_trips"))
            at, before = self._learned.get(i, (now - ACCOUNT_NS, (0.0, 0.0, 0.0)))
            changed = self._allowed.get(i, (1, False, 0)) != allowed
            if changed or (learned != before and (last or now - at >= ACCOUNT_NS)):
                self._allowed[i], self._learned[i] = allowed, (now, learned)
                with self._surviving():
                    data = earned_here(self._engine, i)
                    self._ledger.record_note(earned_note(one.name, data, self._market.now(i)))

    def _sum_up(self) -> None:
        """Record what the ledger's rows come to, where many have come since that was done: a start reads the newer ones
        alone, and neither its time nor its memory grows with the age of a run. Not while the venue is to say what it
        holds: nothing trades then, and claims are in the rows alone.
        """
        if (
            not (self._driver.failed or self._engine.positions.claims)
            and self._ledger.since_checkpoint >= EVERY
        ):
            with self._surviving():
                record_checkpoint(self._engine, self._ledger, self.foreign, self._market.newest())

    def _write_account_in_time(self) -> None:
        """Keep the account's state near to what it is: at once what was traded or halted, what a position has gained or
        lost meanwhile once a minute. A process that dies leaves all of it in its ledger.
        """
        now = self._clock.monotonic_ns()
        coarse = [
            (int(a["position"]), int(a["day"]), bool(r["halted"]))
            for a, r in zip(self._engine.desk.account, self._engine.desk.risk, strict=True)
        ]
        if coarse != self._coarse or now - self._written_at >= ACCOUNT_NS:
            self._coarse, self._written_at = coarse, now
            self.write_account(is_open=True)

    def _look_at_disk(self) -> None:
        self._alarm("disk", "" if self._place is None else self._place.alarm())

    def _look_at_rates(self) -> None:
        """Record and apply conversion rates that are new; a rate grows old in the market's time."""
        if self._rates is None:
            return
        for currency, value, written in self._rates.look():
            ts = self._market.newest() - max(0, self._clock.now_ns() - written)
            self._driver.control(Control(action="rate", ts=ts, reason=currency, value=value))
        self._alarm("rates", self._rates.problem)

    def _note_stop(self, i: int, px: int) -> None:
        """Record where a stop is to rest."""
        name = self._engine.instruments[i].name
        _log.info("stop at the venue", instrument=name, px=px)
        self._ledger.record_note(Note(kind=STOP, ts=self._market.newest(), instrument=name, data={"px": px}))

    def _alarm(self, name: str, words: str) -> None:
        """Raise an alarm with these words, or clear it where there are none."""
        if words:
            self._board.raise_alarm(name, words)
        else:
            self._board.clear_alarm(name)
