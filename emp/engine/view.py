"""What the live engine shows of itself: a tap that builds the board's view from batches and the engine's arrays."""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import structlog

from emp.access.port import LinkState
from emp.bus.bus import EventBus
from emp.core.clock import Clock
from emp.core.codes import Action, OrderStatus, Quarantine, Reason, Session
from emp.core.contracts import Control, Message, OrderUpdate, RiskBreach
from emp.core.instrument import Instrument
from emp.core.records import HORIZON_NAMES, Array
from emp.engine.desk import Desk
from emp.engine.driver import Driver
from emp.engine.hours import Hours
from emp.engine.tap import Batch, Tap
from emp.model.table import Restart
from emp.observe.board import (
    Board,
    DecisionView,
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
    decisions: deque[Array] = msgspec.field(default_factory=lambda: deque(maxlen=DECISIONS_SHOWN))


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
    ) -> None:
        """`models` says which model serves."""
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
        self._infer_ms = SlidingQuantiles()
        self._total_ms = SlidingQuantiles()
        self._breaches: deque[str] = deque(maxlen=BREACHES_SHOWN)
        self._links: dict[str, LinkView] = {}
        self._refused: dict[str, int] = {}  # orders, by instrument
        self._models = models
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
        """Note why the slow context is what it is."""
        if control.action == "context":
            for one, seen in zip(self._engine.instruments, self._seen, strict=True):
                if control.instrument in ("", one.name):
                    seen.context_reason = control.reason

    def on_link(self, state: LinkState) -> None:
        """Note how a connection is."""
        self._links[state.channel] = link_view(self._links.get(state.channel), state, self._clock.now_ns())

    def on_report(self, update: OrderUpdate, at: int) -> None:
        """Count what was refused."""
        if update.status is OrderStatus.REJECTED:
            self._refused[update.instrument] = self._refused.get(update.instrument, 0) + 1

    def on_missed(self, messages: int) -> None:
        """Say that the view is incomplete."""
        self._missed += messages

    def on_tick(self, now_ns: int) -> None:
        """Publish a view where one is due; where the engine's loop stands still there are no ticks, and no views."""
        now = self._clock.monotonic_ns()
        if now - self._published_at >= VIEW_NS:
            self._published_at = now
            self._board.publish(self.view())

    def close(self) -> None:
        """Publish the last view."""
        self._board.publish(self.view())

    def _keep(self, seen: _Seen, rows: Array) -> None:
        """Keep the rows worth showing: every action, and a hold where its reason is another than before."""
        pairs = np.stack([rows["action"], rows["reason_code"]], axis=1)
        before = np.concatenate([[seen.shown], pairs[:-1]])
        worth = (rows["action"] != Action.HOLD) | (pairs != before).any(axis=1)
        seen.shown = (int(pairs[-1, 0]), int(pairs[-1, 1]))
        seen.decisions.extendleft(rows[i].copy() for i in np.flatnonzero(worth)[-DECISIONS_SHOWN:])

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
            commands=self._driver.commands,
            breaches=tuple(self._breaches),
            serving=self._models(),
            links=dict(self._links),
            missed=self._missed,
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
            closing=self._engine.closing.why_not_flat(i),
            refused_orders=self._refused.get(instrument.name, 0),
            decisions=tuple(_decision(row) for row in seen.decisions),
            value=value,
            forecaster=head,
            context_mult=float(self._engine.desk.risk["context_mult"][i]),
            context_reason=seen.context_reason,
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


def value_view(desk: Desk, i: int) -> ValueView:
    """What the lots of an instrument were believed to bring and brought, and what that allows."""
    lots, standing = desk.lots[i], desk.standing[i]
    closed = int(lots["lots"])
    each = max(closed, 1)
    return ValueView(
        closed_lots=closed,
        expected=float(lots["believed"]) / each,
        realised=float(lots["brought"]) / each,
        held_s=float(lots["held_ns"]) / each * 1e-9,
        earned_lots=int(standing["lots"]),
        stops=int(standing["stops"]),
        worth_level=float(standing["level"]),
        worth_slope=float(standing["slope"]),
        shadow_trips=int(desk.shadow_lots["trips"][i]),
    )


def head_view(desk: Desk, domains: Sequence[str], i: int) -> HeadView:
    """Which head forecasts an instrument, and what its forecasts have been worth there."""
    learned = desk.recalibration[i]
    if not learned["learns"]:  # a rule in a model's place is taken at its word
        return HeadView()
    return HeadView(
        name=domains[int(desk.facts["domain"][i])],
        trained=bool(learned["prior_slope"] == 1.0),
        outcomes=int(learned["labels"].min()),
        scale={
            name: round(float(slope), 4) for name, slope in zip(HORIZON_NAMES, learned["slope"], strict=True)
        },
    )


def link_view(before: LinkView | None, state: LinkState, now_ns: int) -> LinkView:
    """How a connection is after a change, with what was counted of it so far."""
    before = before or LinkView(up=False)
    turned = before.up != state.up or not before.since_ns
    since_ns = now_ns if turned else before.since_ns
    if state.up:
        return msgspec.structs.replace(before, up=True, attempt=0, since_ns=since_ns)
    losses = dict(before.losses)
    if before.up:
        losses[state.cause] = losses.get(state.cause, 0) + 1
    return LinkView(
        up=False,
        reason=state.reason,
        cause=state.cause,
        attempt=state.attempt,
        since_ns=since_ns,
        losses=losses,
        retries=before.retries + (state.attempt > 0),
        refusals=before.refusals + (state.cause == "refused"),
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
