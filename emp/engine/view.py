"""What the live engine shows of itself: a tap that builds the board's view from batches and the engine's arrays."""

import math
from collections import deque
from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import structlog

from emp.access.port import LinkState
from emp.bus.bus import EventBus
from emp.core.clock import Clock
from emp.core.codes import Action, OrderStatus, Quarantine, Reason, Session
from emp.core.contracts import Control, Message, OrderUpdate, RiskBreach
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.engine.beliefs import Beliefs
from emp.engine.control_log import ControlLog
from emp.engine.driver import Driver
from emp.engine.fill_log import FillLog
from emp.engine.hours import Hours
from emp.engine.monitor_tap import MonitorTap
from emp.engine.tap import Batch, Tap
from emp.engine.view_parts import (
    account_view,
    decision_view,
    expected_of,
    halted_by,
    halts_in_words,
    head_view,
    levels,
    limit_views,
    link_view,
    money_of,
    order_view,
    reason_counts,
    unrealised_ticks,
    value_view,
)
from emp.model.table import NO_NUMBER, Restart
from emp.observe.board import (
    Board,
    DriftView,
    HeadView,
    InstrumentView,
    LinkView,
    ModelView,
    OrderView,
    ValueView,
    View,
)
from emp.observe.quantiles import SlidingQuantiles

_log = structlog.get_logger(__name__)

DECISIONS_SHOWN = 20
BREACHES_SHOWN = 5
VIEW_NS = 100_000_000
BELIEFS_KEPT = 1_024
"""Decisions whose expected value is remembered for their fills."""

_REASONS = max(Reason) + 1


class _Seen(msgspec.Struct):
    """What passed by of one instrument."""

    events: int = 0
    fills: int = 0
    last_ts: int = 0  # market time of the newest event
    at_ns: int = 0  # monotonic time when it reached the engine
    longest_wait_ms: float = 0.0  # since the last view
    shown: tuple[int, int] = (-1, -1)  # action and reason of the last row kept
    context_reason: str = ""  # of the newest change of the slow context
    earned: int = 1  # lots that outcomes allowed at the last view
    off_ground: bool = False  # whether moves followed the forecasts no more, at the last view
    decisions: deque[tuple[int, Array]] = msgspec.field(default_factory=lambda: deque(maxlen=DECISIONS_SHOWN))
    kept: int = 0  # decisions that were ever among them
    book: Array | None = None  # the newest event
    row: Array | None = None  # the newest decision
    reasons: Array = msgspec.field(default_factory=lambda: np.zeros(_REASONS, np.int64))  # decisions by code
    orders: Array = msgspec.field(default_factory=lambda: np.zeros(_REASONS, np.int64))
    expected: dict[int, float] = msgspec.field(default_factory=dict)  # ticks per lot, by seq of the decision
    beliefs: Beliefs = msgspec.field(default_factory=Beliefs)


class Viewer(Tap):
    """Watches batches go by and publishes a `View` on the board every VIEW_NS of the clock."""

    name = "view"

    def __init__(
        self,
        driver: Driver,
        bus: EventBus,
        clock: Clock,
        board: Board,
        models: Callable[[], ModelView],
        *,
        mode: str,
        stale_after_ms: float,
        monitor: MonitorTap | None = None,
    ) -> None:
        """`models` says which model serves, `monitor` what watches it."""
        self._driver, self._engine = driver, driver.engine
        self._bus = bus
        self._clock = clock
        self._board = board
        self._mode = mode
        self._stale_after_ms = stale_after_ms
        self._started_ns = clock.now_ns()
        self._started_mono = clock.monotonic_ns()
        self._hours = Hours(self._engine.instruments)
        self._seen = [_Seen() for _ in self._engine.instruments]
        orders = self._engine.orders
        self._fills = [FillLog(orders.order, seen.expected.get) for seen in self._seen]
        self._index = {one.name: i for i, one in enumerate(self._engine.instruments)}
        self._controls = ControlLog(self._is_flat)
        self._infer_ms = SlidingQuantiles()
        self._total_ms = SlidingQuantiles()
        self._breaches: deque[str] = deque(maxlen=BREACHES_SHOWN)
        self._links: dict[str, LinkView] = {}
        self._refused: dict[str, int] = {}  # orders, by instrument
        self._bars: dict[str, int] = {}  # times that opening was barred, by reason
        self._models = models
        self._monitor = monitor
        self._missed = 0
        self._published_at = 0

    def on_batch(self, batch: Batch) -> None:
        """Note a batch that the engine has processed."""
        if not len(batch.events):
            return
        for i, seen in enumerate(self._seen):
            events = batch.events[batch.events["instrument"] == i]
            if not len(events):
                continue
            seen.events += len(events)
            seen.last_ts = int(events["ts"][-1])
            seen.at_ns = self._clock.monotonic_ns()
            seen.longest_wait_ms = max(seen.longest_wait_ms, batch.wait_ms)
            rows = batch.rows[batch.rows["instrument"] == i]
            seen.book = events[-1].copy()
            seen.beliefs.take(events, rows)
            if len(rows):
                self._keep(seen, rows)
        if len(batch.laps):
            self._infer_ms.add(batch.laps[:, 1] * 1e-6)
            self._total_ms.add(batch.laps[:, 2] * 1e-6)

    def on_message(self, message: Message) -> None:
        """Note a risk breach."""
        if isinstance(message, RiskBreach):
            what = f"{message.instrument}: {message.reason}".removeprefix(": ")
            shown = f"{what} ({message.metric} {message.value:g}, limit {message.limit:g})"
            self._breaches.appendleft(shown)

    def on_control(self, control: Control, at: int) -> None:
        """Note what the owner asked for, why the slow context is what it is, and how often opening was barred."""
        if self._controls.take(control, self._clock.now_ns(), self._clock.monotonic_ns()):
            self._controls.look(self._clock.monotonic_ns())
            self._publish()
        if control.action == "bar" and control.value:
            self._bars[control.reason] = self._bars.get(control.reason, 0) + 1
        if control.action == "context":
            for one, seen in zip(self._engine.instruments, self._seen, strict=True):
                if control.instrument in ("", one.name):
                    seen.context_reason = control.reason

    def on_link(self, state: LinkState) -> None:
        """Note how a connection is."""
        self._links[state.channel] = link_view(self._links.get(state.channel), state, self._clock.now_ns())

    def on_report(self, update: OrderUpdate, at: int) -> None:
        """Count what was refused, and note fills."""
        i = self._index.get(update.instrument)
        if i is not None:
            self._fills[i].take(update)
        self._look_at_controls()
        if update.status is OrderStatus.REJECTED:
            self._refused[update.instrument] = self._refused.get(update.instrument, 0) + 1

    def on_missed(self, messages: int) -> None:
        """Say that the view is incomplete."""
        self._missed += messages

    def on_tick(self, now_ns: int) -> None:
        """Publish a view where one is due; where the engine's loop stands still there are no ticks, and no views."""
        self._look_at_controls()
        if self._clock.monotonic_ns() - self._published_at >= VIEW_NS:
            self._settle()
            self._publish()

    def close(self) -> None:
        """Publish the last view."""
        self._settle()
        self._publish()

    def _publish(self) -> None:
        self._published_at = self._clock.monotonic_ns()
        self._board.publish(self.view())

    def _look_at_controls(self) -> None:
        """Publish at once where what the owner asked for is done: somebody waits for it."""
        if self._controls.look(self._clock.monotonic_ns()):
            self._publish()

    def _is_flat(self, instrument: str) -> bool:
        chosen = [i for name, i in self._index.items() if instrument in ("", name)]
        held = any(self._engine.desk.account["position"][i] for i in chosen)
        return not held and not self._engine.orders.open_orders(instrument)

    def _settle(self) -> None:
        """Compare what was believed with what has come meanwhile."""
        for i, (seen, fills) in enumerate(zip(self._seen, self._fills, strict=True)):
            threshold = self._engine.desk.recalibration["threshold"][i]
            seen.beliefs.settle(threshold, fills.waiting_since(seen.last_ts))
            fills.settle(seen.beliefs.mid_after)

    def _keep(self, seen: _Seen, rows: Array) -> None:
        """Keep the rows worth showing: every action, and a hold where its reason is another than before."""
        asks = np.isin(rows["action"], (Action.CROSS, Action.POST, Action.REPLACE))
        seen.row = rows[-1].copy()
        seen.reasons += np.bincount(rows["reason_code"], minlength=_REASONS)
        seen.orders += np.bincount(rows["reason_code"][asks], minlength=_REASONS)
        for row in rows[asks]:
            seen.expected[int(row["seq"])] = expected_of(row)
        while len(seen.expected) > BELIEFS_KEPT:
            seen.expected.pop(next(iter(seen.expected)))
        pairs = np.stack([rows["action"], rows["reason_code"]], axis=1)
        before = np.concatenate([[seen.shown], pairs[:-1]])
        worth = (rows["action"] != Action.HOLD) | (pairs != before).any(axis=1)
        seen.shown = (int(pairs[-1, 0]), int(pairs[-1, 1]))
        for i in np.flatnonzero(worth):
            seen.kept += 1
            seen.decisions.appendleft((seen.kept, rows[i].copy()))

    def stale_ms(self, instrument: int) -> float:
        """Time without market data while the market is open, 0 while it is shut.

        Its calendar is asked at the market's own time, which goes on between events; no event says that it closes.
        """
        seen = self._seen[instrument]
        passed = self._clock.monotonic_ns() - (seen.at_ns or self._started_mono)
        if not seen.events:
            return self._hours.silent_ms(instrument, self._clock.now_ns(), self._clock.now_ns() - passed)
        if int(self._engine.desk.perception["session_id"][instrument]) == int(Session.HALT):
            return 0.0  # an interruption that the market told; no calendar knows it
        return self._hours.silent_ms(instrument, seen.last_ts + passed, seen.last_ts)

    def view(self) -> View:
        """The system as it is now."""
        p50, p90, p99 = self._infer_ms.quantiles((0.5, 0.9, 0.99))
        p50_total, p99_total = self._total_ms.quantiles((0.5, 0.99))
        instruments = tuple(self._instrument(i, one) for i, one in enumerate(self._engine.instruments))
        halted = halts_in_words(instruments)
        return View(
            mode=self._mode,
            run=self._engine.run,
            model=self._engine.model.artifact.hash,
            now_ns=self._clock.now_ns(),
            started_ns=self._started_ns,
            instruments=instruments,
            halted=bool(halted),
            halt_reason=halted,
            p50_infer_ms=p50,
            p90_infer_ms=p90,
            p99_infer_ms=p99,
            p50_total_ms=p50_total,
            p99_total_ms=p99_total,
            controls=tuple(self._controls.controls),
            commands=self._driver.commands,
            breaches=tuple(self._breaches),
            serving=self._models(),
            links=dict(self._links),
            missed=self._missed,
            barred=tuple(reason.name.lower() for reason in self._engine.bars.every()),
            bars=dict(self._bars),
            account=account_view(self._engine),
            evidence={} if self._monitor is None else _told(self._monitor.evidence),
        )

    def _instrument(self, i: int, instrument: Instrument) -> InstrumentView:
        seen, account, book = self._seen[i], self._engine.desk.account[i], self._engine.desk.perception[i]
        waiting_ms = self._bus.lag_ms(i)
        lag_ms, seen.longest_wait_ms = max(seen.longest_wait_ms, waiting_ms), 0.0
        stale_ms = self.stale_ms(i)
        restarts = self._engine.desk.stream["restarts"][i]
        value = value_view(self._engine.desk, i)
        if (value.earned_lots < 1) != (seen.earned < 1):
            _say_earned(instrument.name, value)
        seen.earned = value.earned_lots
        head = head_view(self._engine.desk, self._engine.model.artifact.manifest.domains, i)
        if head.off_ground != seen.off_ground:
            _say_followed(instrument.name, head)
        seen.off_ground = head.off_ground
        bids, asks = ((), ()) if seen.book is None else levels(seen.book)
        money, currency = money_of(instrument)
        return InstrumentView(
            name=instrument.name,
            tick=instrument.tick,
            bid=int(book["bid"]),
            ask=int(book["ask"]),
            last_ts=seen.last_ts,
            position=int(account["position"]),
            pnl_ticks=float(account["pnl"]),
            fees_ticks=float(account["fees"]),
            financing_ticks=float(account["financing"]),
            fills=int(account["fills"]),
            events=seen.events,
            queue_depth=self._bus.depth(i),
            event_lag_ms=lag_ms,
            drops=self._drops(i),
            degraded=self._bus.degraded(i),
            stale_ms=stale_ms,
            stale=stale_ms > self._stale_after_ms,
            restarts={cause.name.lower(): int(restarts[cause]) for cause in Restart},
            no_number=bool(self._engine.desk.stream["events"][i] == NO_NUMBER),
            open_orders=self._orders(instrument.name, seen.row),
            closing=self._engine.closing.why_not_flat(i),
            refused_orders=self._refused.get(instrument.name, 0),
            decisions=tuple(
                decision_view(n, row, seen.beliefs.came_of(int(row["seq"])))
                for n, row in list(seen.decisions)
            ),
            money_per_tick=money,
            halted=halted_by(self._engine.desk.risk[i]),
            currency=currency,
            bids=bids,
            asks=asks,
            unrealised_ticks=unrealised_ticks(self._engine.desk, i),
            drawdown_ticks=float(account["pnl"] - account["peak"]),
            limits=limit_views(self._engine, i),
            forecast=seen.beliefs.forecast,
            outcomes=tuple(seen.beliefs.outcomes),
            calibration=seen.beliefs.calibration(),
            recent_fills=tuple(self._fills[i].fills),
            reasons=reason_counts(seen.reasons),
            orders=reason_counts(seen.orders),
            value=value,
            forecaster=head,
            context_mult=float(self._engine.desk.risk["context_mult"][i]),
            context_reason=seen.context_reason,
            drift=DriftView()
            if self._monitor is None
            else self._monitor.drift.get(instrument.name, DriftView()),
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

    def _orders(self, instrument: str, row: Array | None) -> tuple[OrderView, ...]:
        return tuple(order_view(order, row) for order in self._engine.orders.open_orders(instrument))


def _told(evidence: Mapping[str, float]) -> dict[str, float]:
    """Evidence as its logarithm to base 10."""
    return {gate: round(math.log10(e), 2) for gate, e in evidence.items() if e > 0.0}


def _say_earned(instrument: str, value: ValueView) -> None:
    """Log that outcomes have stopped an instrument, or that its shadow has earned it back."""
    facts = {"expected": round(value.expected, 3), "realised": round(value.realised, 3)}
    if value.earned_lots < 1:
        _log.warning("lots bring less than expected: nothing more is opened", instrument=instrument, **facts)
    else:
        _log.info("earned back in the head: one lot again", instrument=instrument, **facts)


def _say_followed(instrument: str, head: HeadView) -> None:
    """Log that real moves follow the forecasts no more, or again."""
    facts = {"head": head.name, "outcomes": head.outcomes, "scale": dict(head.scale)}
    if head.off_ground:
        _log.warning(
            "moves do not follow the forecasts: they count for nothing", instrument=instrument, **facts
        )
    else:
        _log.info("moves follow the forecasts again", instrument=instrument, **facts)
