"""A run's journal that grows by itself, to be killed: python -m emp.app.bench.mirrored.writer FOLDER.

The ledger, market data, action log and metrics are written by the very classes that a run writes them with; what they
say is made up from a seed. SIGTERM ends the run in order; after SIGKILL the next process goes on with it.
"""

import signal
import sys
import time
from pathlib import Path

import msgspec
import numpy as np

from emp.core.clock import LiveClock
from emp.core.codes import EventFlag, OrderStatus, Reason
from emp.core.contracts import Control, NewOrder, OrderUpdate, RiskBreach
from emp.core.instrument import Instrument, find
from emp.core.records import DECISION, EVENT, MARKET_STATE, Array
from emp.engine.journal_tap import JournalTap
from emp.engine.tap import Batch
from emp.journal.latency_log import Hour, LatencyLog
from emp.journal.ledger import Ledger
from emp.journal.monitor_log import MonitorLog, line_of
from emp.journal.run import RunFolder, build_manifest

NAMES = ("GOOG", "BTCUSDT", "EURUSD")
MODEL = "0" * 64
FLUSH_S = 2.0
"""Between two parts: a minute's in a run, so that a drill of minutes sees as many."""


class Writer:
    """Writes batches with what led to them and came of them."""

    def __init__(self, path: Path) -> None:
        instruments = [find(name) for name in NAMES]
        self._folder = _folder(path, instruments)
        self._ledger = Ledger(self._folder.ledger, run=path.name, mode="paper")
        self._tap = JournalTap(self._folder, instruments, [MODEL], LiveClock(), FLUSH_S)
        self._monitor = MonitorLog(self._folder.path, self._tap.market.events)
        self._latency = LatencyLog(self._folder.path)
        self._rng = np.random.default_rng(self._tap.market.events)

    def batch(self) -> None:
        """Some events and decisions, and now and then an order, its report, an alarm, a line of metrics."""
        n, first = int(self._rng.integers(1, 25)), self._tap.market.events
        events, rows = self._events(n, first), self._rows(n, first)
        self._ledger.at = first
        self._record(first, int(events["ts"][0]))
        laps = np.full((n, 3), 1000, np.int32)
        states = np.zeros(n, MARKET_STATE)
        self._tap.on_batch(Batch(first, events, states, self._tap.actions.rows, rows, laps))
        self._tap.on_idle()
        self._tap.on_tick(int(events["ts"][-1]))
        if self._rng.random() < 0.2:
            self._monitor.write(line_of(first, "psi", value=float(self._rng.random())))
            self._monitor.flush()
        if self._rng.random() < 0.02:
            self._latency.write(Hour(first, MODEL, n, (1, 2, 3)))

    def _events(self, n: int, first: int) -> Array:
        events, rng = np.zeros(n, EVENT), self._rng
        events["seq"] = first + 1 + np.arange(n)
        events["ts"] = events["ts_recv"] = 1_750_000_000_000_000_000 + events["seq"] * 10_000_001
        events["instrument"] = rng.integers(0, len(NAMES), n)
        events["flags"] = EventFlag.VISIBLE
        events["n_bid"] = events["n_ask"] = rng.integers(1, 11, n)
        for side, away in (("bid", -1), ("ask", 1)):
            levels = np.arange(10) < events["n_bid"][:, None]
            events[f"{side}_px"] = levels * (57_000 + away * (1 + np.arange(10)))
            events[f"{side}_sz"] = levels * rng.integers(1, 1 << 40, (n, 10))
        return events

    def _rows(self, n: int, first: int) -> Array:
        rows, rng = np.zeros(n, DECISION), self._rng
        rows["seq"] = first + 1 + np.arange(n)
        rows["ts"] = 1_750_000_000_000_000_000 + rows["seq"] * 10_000_001
        rows["instrument"], rows["action"] = rng.integers(0, len(NAMES), n), rng.integers(0, 3, n)
        rows["reason_code"] = rng.integers(0, 10, n)
        for name in ("edge_ticks", "sigma_ticks", "p", "q", "interval", "pnl_ticks"):
            rows[name] = rng.normal(size=rows[name].shape)
        rows["inventory"] = rng.integers(-9, 10, n)
        return rows

    def _record(self, at: int, ts: int) -> None:
        chance = self._rng.random()
        name = f"{at:012d}-{self._ledger.last_seq}"
        if chance < 0.25:
            order = NewOrder(
                cl_ord_id=name,
                instrument=NAMES[at % 3],
                side=1,
                qty=3,
                px=57_000,
                immediate=False,
                ts=ts,
                reason=Reason.POST_EDGE,
                decision_seq=at,
            )
            self._ledger.record_intent(order)
            for filled in (1, 3):
                status = OrderStatus.FILLED if filled == 3 else OrderStatus.PARTIALLY_FILLED
                self._ledger.record_report(
                    OrderUpdate(
                        clOrdID=name,
                        execID=f"x{filled}",
                        status=status,
                        filled=filled,
                        price=57_000,
                        ts=ts,
                        instrument=NAMES[at % 3],
                        side=1,
                    )
                )
        elif chance < 0.3:
            self._ledger.record_control(
                Control(action="degraded", ts=ts, reason="queue", value=float(at % 2))
            )
        elif chance < 0.35:
            self._ledger.record_note(
                RiskBreach(reason="daily_loss", metric="day_pnl", value=-1.5, limit=-1.0, ts=ts)
            )

    def end(self) -> None:
        """End the run in order."""
        self._tap.close()
        self._monitor.close()
        self._latency.close()
        self._ledger.seal()
        self._ledger.close()
        self._folder.write_summary({"drill": True})


def _folder(path: Path, instruments: list[Instrument]) -> RunFolder:
    if path.exists():
        return RunFolder(path)
    facts = [msgspec.to_builtins(one) for one in instruments]
    manifest = build_manifest(
        run=path.name, mode="paper", config={}, instruments=NAMES, model_hashes=[MODEL], facts=facts
    )
    return RunFolder.create(path, manifest)


def main(path: Path, pause_s: float = 0.03) -> None:
    """Write until SIGTERM."""
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ended.append(number))
    writer = Writer(path)
    while not ended:
        writer.batch()
        time.sleep(pause_s)
    writer.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
