"""Inputs that market time alone brings: rolls, and what the slow context is. Each is recorded and applied before
exactly the event that it is due for, wherever batches end.
"""

from collections.abc import Callable

import numpy as np

from emp.core.contracts import Control
from emp.core.records import Array
from emp.engine.context import SlowContext
from emp.engine.market_clock import MarketClock
from emp.engine.rolls import Rolls


class Scheduled:
    """Those of one engine; `control` records and applies one."""

    def __init__(self, rolls: Rolls, context: SlowContext | None, control: Callable[[Control], None]) -> None:
        """Without a `context` size is never multiplied."""
        self._rolls, self._context, self._control = rolls, context, control

    def until(self, i: int, events: Array) -> int:
        """Apply what is due before the first of these EVENT rows [n] of instrument `i`; how many of them come before
        more may be.
        """
        first = int(events["ts"][0])
        self._change(None if self._context is None else self._context.change(i, first))
        self._roll(i, first)
        next_ns = self._rolls.until(i)
        if self._context is not None:
            next_ns = min(next_ns, self._context.until(i))
        return int(np.searchsorted(events["ts"], next_ns, side="left"))

    def by_time(self, market: MarketClock, instruments: int) -> None:
        """Apply what has come though no event has. Context that makes size smaller: an order that rests must go. A
        roll: what is held now is what stood there.
        """
        seen = [i for i in range(instruments) if market.seen(i)]
        for i in seen:
            self._change(None if self._context is None else self._context.fall(i, market.now(i)))
        for i in seen:
            if self._rolls.until(i) <= market.now(i):
                self._roll(i, market.now(i))

    def _roll(self, i: int, ts_ns: int) -> None:
        for control in self._rolls.due(i, ts_ns):
            self._control(control)

    def _change(self, change: Control | None) -> None:
        if change is not None:
            self._control(change)
