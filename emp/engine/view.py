"""What the live engine shows of itself: builds the board's view from the engine's own arrays."""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from emp.bus.bus import EventBus
from emp.core.clock import Clock
from emp.core.codes import Action, Quarantine, Reason, Session
from emp.core.contracts import RiskBreach
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.engine.engine import Engine, Output
from emp.model.table import Restart
from emp.observe.board import DecisionView, InstrumentView, ModelView, OrderView, View
from emp.observe.quantiles import SlidingQuantiles

DECISIONS_SHOWN = 20
BREACHES_SHOWN = 5

_SHUT = frozenset({int(Session.CLOSED), int(Session.HALT), -1})


class _Seen(msgspec.Struct):
    """What passed by of one instrument."""

    events: int = 0
    fills: int = 0
    last_ts: int = 0  # market time of the newest event
    at_ns: int = 0  # monotonic time when it reached the engine
    longest_wait_ms: float = 0.0  # since the last view
    shown: tuple[int, int] = (-1, -1)  # action and reason of the last row kept
    decisions: deque[Array] = msgspec.field(default_factory=lambda: deque(maxlen=DECISIONS_SHOWN))


class Viewer:
    """Watches batches go by and turns the engine's state into a `View`. Runs on the engine's loop."""

    def __init__(
        self, engine: Engine, bus: EventBus, clock: Clock, *, mode: str, stale_after_ms: float
    ) -> None:
        self._engine = engine
        self._bus = bus
        self._clock = clock
        self._mode = mode
        self._stale_after_ms = stale_after_ms
        self._started_ns = clock.now_ns()
        self._started_mono = clock.monotonic_ns()
        self._seen = [_Seen() for _ in engine.instruments]
        self._infer_ms = SlidingQuantiles()
        self._total_ms = SlidingQuantiles()
        self._breaches: deque[str] = deque(maxlen=BREACHES_SHOWN)
        self.models: Callable[[], ModelView] = ModelView  # who knows which model serves
        self.commands = 0

    def delivered(self, instrument: int, event: Array, wait_ms: float, output: Output) -> None:
        """Note a batch that reached the engine; `event` is the last EVENT record it consumed."""
        seen = self._seen[instrument]
        seen.events += output.consumed
        seen.last_ts = int(event["ts"])
        seen.at_ns = self._clock.monotonic_ns()
        seen.longest_wait_ms = max(seen.longest_wait_ms, wait_ms)
        if not len(output.rows):
            return
        self._infer_ms.add(output.laps[:, 1] * 1e-6)
        self._total_ms.add(output.laps[:, 2] * 1e-6)
        self._keep(seen, output.rows)

    def _keep(self, seen: _Seen, rows: Array) -> None:
        """Keep the rows worth showing: every action, and a hold where its reason is another than before."""
        pairs = np.stack([rows["action"], rows["reason_code"]], axis=1)
        before = np.concatenate([[seen.shown], pairs[:-1]])
        worth = (rows["action"] != Action.HOLD) | (pairs != before).any(axis=1)
        seen.shown = (int(pairs[-1, 0]), int(pairs[-1, 1]))
        seen.decisions.extendleft(rows[i].copy() for i in np.flatnonzero(worth)[-DECISIONS_SHOWN:])

    def breached(self, breach: RiskBreach) -> None:
        """Note a risk breach."""
        what = f"{breach.instrument}: {breach.reason}".removeprefix(": ")
        self._breaches.appendleft(f"{what} ({breach.metric} {breach.value:g}, limit {breach.limit:g})")

    def market_now(self, instrument: int) -> int:
        """Market time now: the newest event's, and what has passed here since; unmoved by wall-clock steps."""
        seen = self._seen[instrument]
        if not seen.events:
            return self._clock.now_ns()
        return seen.last_ts + self._clock.monotonic_ns() - seen.at_ns

    def stale_ms(self, instrument: int) -> float:
        """Time without market data while the market is open, 0 while it is shut."""
        seen = self._seen[instrument]
        if seen.events and int(self._engine.desk.perception["session_id"][instrument]) in _SHUT:
            return 0.0
        return (self._clock.monotonic_ns() - (seen.at_ns or self._started_mono)) / 1e6

    def view(self) -> View:
        """The system as it is now."""
        p50, p90, p99 = self._infer_ms.quantiles((0.5, 0.9, 0.99))
        risk = self._engine.desk.risk
        halted = np.flatnonzero(risk["halted"])
        return View(
            mode=self._mode,
            run=self._engine.run,
            model=self._engine.model.artifact.hash,
            now_ns=self._clock.now_ns(),
            started_ns=self._started_ns,
            instruments=tuple(self._instrument(i, one) for i, one in enumerate(self._engine.instruments)),
            halted=len(halted) > 0,
            halt_reason=Reason(int(risk["halt_reason"][halted[0]])).name.lower() if len(halted) else "",
            p50_infer_ms=p50,
            p90_infer_ms=p90,
            p99_infer_ms=p99,
            p99_total_ms=self._total_ms.quantiles((0.99,))[0],
            commands=self.commands,
            breaches=tuple(self._breaches),
            serving=self.models(),
        )

    def _instrument(self, i: int, instrument: Instrument) -> InstrumentView:
        seen, account, book = self._seen[i], self._engine.desk.account[i], self._engine.desk.perception[i]
        waiting_ms = self._bus.lag_ms(i)
        lag_ms, seen.longest_wait_ms = max(seen.longest_wait_ms, waiting_ms), 0.0
        stale_ms = self.stale_ms(i)
        restarts = self._engine.desk.stream["restarts"][i]
        return InstrumentView(
            name=instrument.name,
            tick=instrument.tick,
            bid=int(book["bid"]),
            ask=int(book["ask"]),
            last_ts=seen.last_ts,
            position=int(account["position"]),
            pnl_ticks=float(account["pnl"]),
            fees_ticks=float(account["fees"]),
            fills=int(account["fills"]),
            events=seen.events,
            queue_depth=self._bus.depth(i),
            event_lag_ms=lag_ms,
            drops=self._drops(i),
            degraded=self._bus.degraded(i),
            stale_ms=stale_ms,
            stale=stale_ms > self._stale_after_ms,
            restarts={cause.name.lower(): int(restarts[cause]) for cause in Restart},
            open_orders=self._orders(instrument.name),
            decisions=tuple(_decision(row) for row in seen.decisions),
        )

    def _drops(self, i: int) -> dict[str, int]:
        """Events that the bus refused or merged, and those that perception refused, by reason."""
        counts = self._bus.counts(i)
        refused = self._engine.desk.quarantined[i]
        drops = {Quarantine(int(r)).name.lower(): int(refused[r]) for r in np.flatnonzero(refused)}
        for reason, count in counts.quarantined.items():
            drops[reason.name.lower()] = drops.get(reason.name.lower(), 0) + count
        if counts.conflated:
            drops[Quarantine.OVERFLOW.name.lower()] = counts.conflated
        return drops

    def _orders(self, instrument: str) -> tuple[OrderView, ...]:
        return tuple(
            OrderView(
                cl_ord_id=order.command.cl_ord_id,
                side=order.command.side,
                px=order.command.px,
                qty=order.command.qty,
                filled=order.filled,
                status=str(order.status),
            )
            for order in self._engine.orders.open_orders(instrument)
        )


def _decision(row: Array) -> DecisionView:
    """One DECISION record in words."""
    numbers = {name: row[name].item() for name in _COPIED}
    return DecisionView(
        action=Action(int(row["action"])).name.lower(),
        reason=Reason(int(row["reason_code"])).name.lower(),
        **numbers,
    )


_COPIED: Sequence[str] = tuple(n for n in DecisionView.__struct_fields__ if n not in ("action", "reason"))
