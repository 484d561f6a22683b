"""What stands around the compiled loop of engine and venue: its log as messages, and the way back to Python.

While the loop trades, `Engine.orders` knows of nothing; the position and the money are the engine's own all the same.
Where Python must go on (to close a position, to look at a report), it is told of everything that may still be answered:
the messages since nothing of ours was at work last.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emp.core.contracts import Command, Control, OrderUpdate
from emp.core.messages import KIND, MESSAGE, REPORT, TIMER, Row, command_of, timer_of
from emp.core.numba.hold import entry_point
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.trade import NEVER, ROOM, new_progress, scratch_event, trade
from emp.execution.order import no_order

LOG = 1 << 14
"""Messages that one call may log."""

Tell = Callable[[Row], OrderUpdate]
"""A venue's words for a report that it logged."""


class Trading:
    """The compiled loop of one engine at one venue, and the log of what was said in it.

    `market` is the venue as the port knows it (`emp.access.venue`), of the engine's instrument number `place`; `tell`
    puts its reports into words.
    """

    def __init__(self, engine: Engine, market: Any, tell: Tell, place: int = 0) -> None:
        self._engine = engine
        self._instrument = engine.instruments[place].name
        self._tell = tell
        self.market = market
        self.order = no_order(engine.sequence)
        self.progress = new_progress()
        self.progress["place"] = place
        self._log: Array = np.zeros(LOG + ROOM, MESSAGE)
        self._event = scratch_event()
        self._tail: list[Row] = []  # logged since nothing of ours was at work last
        self._call: tuple[Any, Any] | None = (
            None  # the types of the last call, and the compiled loop for them
        )

    def run(self, rows: Array, laps: Array, before: int, *, by_hand: bool = False, most: int = NEVER) -> int:
        """Trade until `rows` are full, `most` events are processed, the market is over, or Python must do something.

        `before` is how many events the engine has processed in all: the log says so of its messages.
        """
        engine = self._engine
        self.order["sequence"] = engine.sequence
        self.progress["before"], self.progress["most"] = before, most
        arguments = (
            engine.held,
            self.market,
            self.order,
            self._event,
            rows,
            laps,
            self._log,
            self.progress,
            by_hand,
        )
        if self._call is None or self._call[0] is not engine.held.kind:
            self._call = (engine.held.kind, entry_point(trade, *arguments))
        result: int = self._call[1](*arguments)
        engine.sequence = int(self.order["sequence"][0])
        return result

    def logged(self) -> list[Row]:
        """What the last call logged, and the tail that the way back to Python needs is kept."""
        done = self.progress[0]
        rows: list[Row] = self._log[: done["messages"]].tolist()
        calm = int(done["calm"])
        self._tail = rows[calm:] if calm >= 0 else self._tail + rows
        return rows

    def copy_of_log(self) -> Array:
        """MESSAGE rows that the last call logged."""
        return self._log[: int(self.progress["messages"][0])].copy()

    def messages(self, rows: Sequence[Row]) -> list[Command | OrderUpdate | Control]:
        """Logged rows in words."""
        run, instrument = self._engine.run, self._instrument
        timed = instrument if len(self._engine.instruments) > 1 else ""
        return [
            self._tell(row)
            if row[KIND] == REPORT
            else timer_of(row, timed)
            if row[KIND] == TIMER
            else command_of(row, run, instrument)
            for row in rows
        ]

    def doubted(self) -> OrderUpdate:
        """The report that the last call ended with."""
        return self._tell(self._log[int(self.progress["messages"][0]) - 1].tolist())

    def hand_over(self, but: int = 0) -> None:
        """Tell the engine's orders of everything that may still be answered, without the last `but` messages."""
        known = self._tail[: len(self._tail) - but]
        self._engine.orders.recall([m for m in self.messages(known) if not isinstance(m, Control)])
        self._tail = []
        self.order["open"] = False
