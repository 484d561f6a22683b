"""What the owner asks of a running engine: halt, resume, flatten, kill, stop, reload. Recorded before it is applied;
what comes before trading begins is recorded too, and waits for it.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import structlog

from emp.core.contracts import Control, OwnerAction
from emp.core.errors import UsageError
from emp.engine.driver import Driver
from emp.engine.kill_file import KillFile
from emp.engine.market_clock import MarketClock
from emp.engine.opening import Opening
from emp.engine.reconciliation.agreement import Agreement
from emp.engine.reloads import OFFERED, Reloads
from emp.journal.ledger import Ledger
from emp.observe.board import Board

_log = structlog.get_logger(__name__)


class RunState(NamedTuple):
    """Where a run stands, as its owner's controls see and change it."""

    connected: asyncio.Event  # trading has begun
    stop: asyncio.Event  # it is to end
    failed: Callable[[], bool]
    surviving: Callable[[], AbstractContextManager[None]]  # what fails inside ends the run
    kill_file: KillFile  # bars what was killed from being resumed


class Owner:
    """Takes what is asked for, on the loop that trades."""

    def __init__(
        self,
        run: RunState,
        driver: Driver,
        ledger: Ledger,
        board: Board,
        market: MarketClock,
        agreement: Agreement,
        opening: Opening,
        reloads: Reloads,
    ) -> None:
        self._run, self._driver, self._engine, self._ledger = run, driver, driver.engine, ledger
        self._board, self._market = board, market
        self._agreement, self._opening, self._reloads = agreement, opening, reloads
        self._waiting: list[Control] = []  # inputs that came before trading began
        self._began = False  # whether the ledger holds where this process begins
        self._over = False
        self._closing_only = ""  # why, in words

    @property
    def closing_only(self) -> str:
        """Why this run may open nothing, in words; "" where it may."""
        return self._closing_only

    @property
    def waited(self) -> bool:
        """Whether anything was asked for before trading began."""
        return bool(self._waiting)

    def stop(self) -> None:
        """End in order; to be called on the loop."""
        self.control("stop", "operator")

    def kill(self, why: str) -> None:
        """Pull the kill switch: cancel all, flatten, halt; the engine runs on, halted. Call it on the loop."""
        self.control("kill", why)

    def only_close(self, why: str) -> None:
        """Close everything as soon as trading begins, and let nobody open anything for as long as this run lasts. To be
        called before it begins.
        """
        self._closing_only = why
        self.keep(Control(action="kill", ts=self._market.newest(), reason="closing_only"))

    def reload(self) -> None:
        """Bring the model that the owner names now, while trading goes on; call it on the loop."""
        self.control("reload", "operator")

    def control(self, action: OwnerAction, reason: str, instrument: str = "") -> None:
        """Record and apply a control input; one that comes before trading begins waits for it. Call it on the loop."""
        if self._over or self._refuses(action, instrument):
            return
        control = Control(action=action, ts=self._market.newest(), instrument=instrument, reason=reason)
        if not self._run.connected.is_set() and action != "stop":
            _log.warning("control input waits until trading begins", action=action, reason=reason)
            self.keep(control)
            return
        self._apply(control)

    def ask(self, action: OwnerAction, reason: str, instrument: str) -> str | Awaitable[str]:
        """Do what the owner asks through the control socket, and say in words what comes of it.

        UsageError where nothing can come of it any more, also from what is to be awaited; and where it is not on
        record, so that the next start would not know of it.
        """
        if self._over:
            raise UsageError(f"{action} comes too late: the run has ended")
        if action == "reload" and self._reloads.under_way:
            raise UsageError("reload: one is under way, this one is not begun")
        if action == "resume" and self._run.kill_file.there:
            raise UsageError("resume: a file KILL lies in the run's folder, or beside it; remove it first")
        if self._refuses(action, instrument):
            raise UsageError(
                f"{action}: this run closes only, until it is ended and a start is allowed again: {self._closing_only}"
            )
        waits = not self._run.connected.is_set() and action != "stop"
        doubted = self._agreement.doubted(instrument) if action == "resume" else []
        self.control(action, reason, instrument)
        if self._run.failed() and action != "stop":
            raise UsageError(
                f"{action} holds until this run ends, which has failed: ask again after the next start"
            )
        if waits:
            return f"{action} will be done as soon as trading begins: the start is not over yet"
        if doubted:
            held = self._held(doubted)
            more = "" if self._closing_only else "; then resume again"
            return f"not resumed: our fills are taken for what is held, {held}, and closed{more}"
        if action == "reload":
            return self._reloads.outcome()
        if action == "resume":
            return f"{self._resumed(instrument)}; held: {self._held()}"
        working = len(self._engine.orders.open_orders())
        return f"{action}: {working} orders working or being withdrawn, held: {self._held()}"

    def _refuses(self, action: OwnerAction, instrument: str) -> bool:
        """Whether something is asked for by which a run that closes only could open something. To resume what is in
        doubt opens nothing, and may be all that lets it be closed.
        """
        ends_doubt = (
            action == "resume" and self._run.connected.is_set() and self._agreement.doubted(instrument)
        )
        refused = bool(self._closing_only) and action in ("resume", "reload") and not ends_doubt
        if refused:
            _log.error("refused: this run closes only", action=action, why=self._closing_only)
        return refused

    def _held(self, names: list[str] | None = None) -> str:
        """What is held of these instruments, or of all, in words."""
        orders = self._engine.orders
        each = [(name, orders.position(name)) for name in names or orders.instruments]
        return ", ".join(f"{name} {position:+d}" for name, position in each if position) or "nothing"

    def _resumed(self, instrument: str) -> str:
        names = enumerate(self._engine.orders.instruments)
        chosen = [i for i, name in names if instrument in ("", name)]
        closing = any(i in self._engine.flattening for i in chosen)
        return "still closing, not resumed" if closing else "trading again"

    def _apply(self, control: Control) -> None:
        _log.warning("control input", action=control.action, reason=control.reason)
        doubted = self._agreement.doubted(control.instrument) if control.action == "resume" else []
        if doubted:
            self._agreement.take_ours(doubted)
            return
        self._driver.control(control)
        if control.action == "resume":
            self._run.kill_file.forget()
            self._opening.resumed()
            self._board.clear_alarm("session")
        elif control.action == "stop":
            self._run.stop.set()
        elif control.action == "reload":
            self._reloads.begin(offered=control.reason == OFFERED)

    # --- before trading begins, and after it has ended

    def keep(self, control: Control) -> None:
        """Let an input wait for trading. It is recorded now, so that it holds for the next start where trading never
        begins in this one, and again when it is applied; but behind the mark of where this process begins.
        """
        self._waiting.append(control)
        if self._began:
            with self._run.surviving():
                self._ledger.record_control(control)

    def record_what_waits(self) -> None:
        """Record the inputs that came before the ledger was taken in."""
        if self._began:
            return
        self._began = True
        for control in self._waiting:
            with self._run.surviving():
                self._ledger.record_control(control)

    def apply_what_waits(self) -> None:
        """Trading has begun."""
        if self._closing_only:
            _log.error("closing only: nothing is opened in this run", why=self._closing_only)
        for control in self._waiting:
            self._apply(control)

    def hear_no_more(self) -> None:
        """The run has ended."""
        self._over = True
