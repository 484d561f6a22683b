"""The engine in a simulated market, in one compiled loop: what it decides there, as fast as it decides anything.

    trader = Trader(engine, market, seed=1)
    written = trader.run(rows, laps, 1_000)  # rows[:written] are of the action log

The engine is the one that trades live: its perception, model, rule and risk, its rows of the action log. The market is
one in continuous trading (`Market`), and answers to every order. A breach of a loss limit, after which the engine would
close its position, ends the run.
"""

import numpy as np

from emp.core.contracts import Command, Control, OrderUpdate
from emp.core.errors import EmpError
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.step import COMMAND
from emp.engine.trade import DOUBT, SILENCE
from emp.engine.trading import Trading
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market
from emp.sim.world.venue import reactive, told

YEARS_NS = 400 * 86_400_000_000_000


class Trader:
    """One engine in one simulated market."""

    def __init__(
        self, engine: Engine, market: Market, *, seed: int, latency: LatencyConfig | None = None
    ) -> None:
        facts = engine.instruments[0]
        self.engine = engine
        self.venue = reactive(market, facts, latency or LatencyConfig(), seed)
        self.trading = Trading(engine, self.venue, lambda row: told(row, engine.run, facts.name))
        self.events = 0
        """Events that the engine has processed."""
        self.commands = 0
        """Commands that it has sent."""
        self.logged = 0
        """Commands, reports and timers."""
        self.closed = False
        """Whether a loss limit has ended the run."""
        self._said: list[Array] = []
        engine.extend_calendar(market.now_ns, market.now_ns + YEARS_NS)

    def run(self, rows: Array, laps: Array, most: int) -> int:
        """Trade until `rows` are full or `most` events are processed; return how many rows were written.

        Args:
            rows: DECISION[n], zeroed first: so the same memory can take stretch after stretch.
            laps: int32[n, 3], as `engine.step.run_batch` writes them.

        Raises:
            EmpError: a report was lost, or says what cannot be true of its order.
        """
        rows.view(np.uint8).fill(0)
        self._said.clear()
        written = 0
        while most > 0 and written < len(rows) and not self.closed:
            result = self.trading.run(rows[written:], laps[written:], self.events, most=most)
            done = self.trading.progress[0]
            self._said.append(self.trading.copy_of_log())
            written += int(done["rows"])
            self.events += int(done["events"])
            self.commands += int(done["took"])
            self.logged += int(done["messages"])
            most -= int(done["events"])
            if self.venue.venue["lost"][0] or result in (DOUBT, SILENCE):
                raise EmpError(
                    "simulated market: a report was lost, or says what cannot be true of its order"
                )
            self.closed = result == COMMAND
        return written

    def messages(self) -> list[Command | OrderUpdate | Control]:
        """What was said in the last call of `run`, in words."""
        return [message for log in self._said for message in self.trading.messages(log.tolist())]
