"""What bars opening while a run trades: breakers, a model that has failed, a lease in doubt. A bar is recorded before
it is applied, and said.
"""

from collections.abc import Sequence

import structlog

from emp.core.approval import Approved
from emp.core.clock import Clock
from emp.core.codes import Reason
from emp.core.contracts import Control, NewOrder, OrderUpdate
from emp.engine.breakers import Breakers
from emp.engine.driver import Driver
from emp.engine.engine import Output
from emp.engine.market_clock import MarketClock
from emp.observe.board import Board

_log = structlog.get_logger(__name__)


class Opening:
    """Whether anything may be opened; closing is never barred."""

    def __init__(self, driver: Driver, board: Board, clock: Clock, market: MarketClock) -> None:
        self._driver, self._engine, self._board = driver, driver.engine, board
        self._clock, self._market = clock, market
        self._breakers = Breakers(self._engine.limits.breakers, self.bar)

    def restore(self) -> None:
        """Go on with the bars that the ledger has told the engine of."""
        self._breakers.restore(self._engine.bars.every(), self._clock.monotonic_ns())
        self._show()
        serving = self._engine.model.artifact.hash
        if Reason.MODEL in self._engine.bars.every():
            self._engine.failed_models.add(serving)
            self._board.raise_alarm("model", "nothing is opened: the model had failed before this start")
        else:
            self._engine.failed_models.discard(serving)

    def bar(self, reason: Reason, active: bool, why: str) -> None:  # a callback
        """Record and apply that nothing may be opened, or that it may again."""
        name = reason.name.lower()
        now = self._market.newest()
        self._driver.control(Control(action="bar", ts=now, reason=name, value=float(active)))
        if active:
            _log.warning("nothing is opened", reason=name, why=why)
        else:
            _log.warning("opening is allowed again", reason=name)
        self._show()

    def look(self) -> None:
        """Time has passed."""
        self._breakers.look(self._clock.monotonic_ns())

    def decided(self, output: Output) -> None:
        """Note what was decided, and which orders that may open have left."""
        now = self._clock.monotonic_ns()
        self._breakers.decided(output.laps, now)
        for one in output.commands:
            if isinstance(one, Approved) and not one.closing and isinstance(one.intent, NewOrder):
                self._breakers.sent(one.intent.cl_ord_id, now)

    def answered(self, reports: Sequence[OrderUpdate]) -> None:
        """The venue has answered."""
        now = self._clock.monotonic_ns()
        for one in reports:
            self._breakers.answered(one, now)

    def resumed(self) -> None:
        """The owner lets everything open again."""
        self._breakers.resumed()
        self.trust_model()

    def trust_model(self) -> None:
        """The owner lets the model trade, or has brought another."""
        self._engine.failed_models.discard(self._engine.model.artifact.hash)
        if Reason.MODEL in self._engine.bars.every():
            self.bar(Reason.MODEL, False, "")
            self._board.clear_alarm("model")

    def model_failed(self, why: str) -> None:
        """The model opens nothing any more until the owner lets it."""
        if not self._engine.bars.everywhere(Reason.MODEL):
            self.bar(Reason.MODEL, True, why)
            self._board.raise_alarm("model", f"nothing is opened: {why}")

    def _show(self) -> None:
        """Say on the board what bars opening, in words."""
        barred = self._breakers.barred
        for reason in (Reason.REJECTS, Reason.LATENCY):
            if reason in barred:
                self._board.raise_alarm(f"breaker {reason.name}", f"{reason.name.lower()}: {barred[reason]}")
            else:
                self._board.clear_alarm(f"breaker {reason.name}")
