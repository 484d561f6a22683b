"""The engine in the reactive flow of GOOG twice: driven event by event from Python, and in the compiled world.

    python -m tests.kit.two_worlds 1000000 --seed 3

prints both action logs' hashes, what was said, and how fast each was.
"""

import argparse
import hashlib
import time
from collections import Counter

import msgspec
import numpy as np

from emp.core.approval import Cleared, command_of
from emp.core.codes import WorkingState
from emp.core.contracts import Command, Control, OrderUpdate
from emp.core.instrument import find
from emp.core.records import DECISION, UNHASHED, Array, empty_events, fieldwise_bytes
from emp.engine.choose import load_model
from emp.engine.driver import Driver
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.sim.flow.shipped import shipped_flow
from emp.sim.world.exchange import Exchange
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market
from emp.sim.world.screen import Screen
from emp.sim.world.trader import YEARS_NS, Trader

START_NS = 1_340_285_400_000_000_000  # 2012-06-21, 13:30 UTC
START_PX = 58_000
CHUNK = 512

BUSY = EngineLimits(
    orders_per_minute=1e6,
    turnover_per_minute=1e7,
    turnover_per_hour=1e8,
    max_daily_loss=1e12,
    max_drawdown=1e12,
    max_position_lots=200,
    depth_share=0.5,
)
"""Limits that hold nothing back: as many orders as the rule asks for."""


class Told:
    """An action log's hash, row by row, and what was said in the order in which it was."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.rows = 0
        self.said: list[Command | OrderUpdate | Control] = []

    def take(self, rows: Array) -> None:
        """Take DECISION rows, whatever they are cut into."""
        for k in range(len(rows)):
            self.digest.update(fieldwise_bytes(rows[k : k + 1], UNHASHED))
        self.rows += len(rows)

    def kinds(self) -> dict[str, int]:
        """How often what was said."""
        return dict(
            Counter(
                f"{m.status}{' (replaced)' if m.replacement else ''}"
                if isinstance(m, OrderUpdate)
                else type(m).__name__
                for m in self.said
            )
        )


def engine(limits: EngineLimits = BUSY) -> Engine:
    """The engine that both drive."""
    return Engine([find("GOOG")], load_model("linear"), limits, "WORLD000")


def market(seed: int) -> Market:
    """The market that both trade in."""
    return Market(shipped_flow(), seed, START_PX, START_NS)


def compiled(n: int, seed: int, limits: EngineLimits = BUSY, *, hear: bool = True) -> Told:
    """`n` events in the compiled world."""
    told, trader = Told(), Trader(engine(limits), market(seed), seed=seed)
    rows, laps = np.zeros(CHUNK, DECISION), np.zeros((CHUNK, 3), np.int32)
    while trader.events < n and not trader.closed:
        written = trader.run(rows, laps, n - trader.events)
        told.take(rows[:written])
        if hear:
            told.said += trader.messages()
    return told


class Ordinary:
    """The engine, its driver and the exchange in Python, one event at a time."""

    def __init__(self, seed: int, limits: EngineLimits = BUSY) -> None:
        self.engine = engine(limits)
        self.market = market(seed)
        self.exchange = Exchange(self.market, self.engine.instruments[0], LatencyConfig(), seed)
        self.engine.extend_calendar(self.market.now_ns, self.market.now_ns + YEARS_NS)
        self.driver = Driver(self.engine, self._send)
        self.screen = Screen()
        self.told = Told()
        self.seen = self.market.now_ns
        self._due: list[OrderUpdate] = []

    def _send(self, cleared: Cleared) -> None:
        command = command_of(cleared)
        self.told.said.append(command)
        self.exchange.send(command, self.seen)

    def _silent_from(self) -> int:
        """When a feed that brings nothing more counts as silent, where an order rests."""
        if self.engine.desk.working["state"][0] != WorkingState.RESTING:
            return 2**62
        return int(self.engine.desk.perception["ts_event"][0]) + self.engine.limits.stale_after_ns

    def run(self, n: int) -> Told:
        """Process `n` events."""
        done = 0
        while done < n and not self.engine.halted:
            done += self._next()
        return self.told

    def _next(self) -> int:
        row, until = empty_events(1), self._silent_from()
        came = self.exchange.run(until, 1, row, self._due.append)
        self.seen = int(row["ts"][0]) if came else max(self.seen, until)
        due, self._due[:] = list(self._due), []
        for update in due:
            self.told.said.append(update)
            self.driver.report(update)
        shown = self.screen.show(row)[0] if came else row[:0]
        if came and not len(shown):
            return 0
        until = self._silent_from()
        if until < 2**62 and (not came or int(row["ts"][0]) > until):
            self.told.said.append(Control(action="timer", ts=until + 1))
            self.driver.tick(until + 1)
        if not came:
            return 0
        self.told.take(self.driver.events(shown).rows)
        return 1


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("events", type=int)
    parser.add_argument("--seed", type=int, default=3)
    asked = parser.parse_args()
    for name, run in (
        ("compiled", lambda: compiled(asked.events, asked.seed)),
        ("ordinary", lambda: Ordinary(asked.seed).run(asked.events)),
    ):
        began = time.process_time()
        told = run()
        print(
            f"{name}: {told.rows:,} rows, sha256 {told.digest.hexdigest()}, {time.process_time() - began:.0f} s"
        )
        print("  " + ", ".join(f"{n:,} {kind}" for kind, n in sorted(told.kinds().items())))
        words = hashlib.sha256(b"".join(msgspec.json.encode(m) for m in told.said)).hexdigest()
        print(f"  sha256 of what was said: {words}")


if __name__ == "__main__":
    _main()
