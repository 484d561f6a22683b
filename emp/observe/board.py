"""The board: what the engine lets others see. It is written by the engine, read by threads, and never shared.

The engine's loop publishes a frozen `View` a few times a second. `/health`, `/metrics`, the console and the
terminal read the newest one; nobody reads the engine itself.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from emp.core.clock import Clock
from emp.observe.lease_view import LeaseView
from emp.observe.trading_views import (
    CalibrationView,
    ControlView,
    FillView,
    HorizonView,
    LimitView,
    OutcomeView,
)

SILENT_AFTER_MS = 1_000.0
"""Age of the newest view above which the engine counts as not answering."""


class DecisionView(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the action log, in words."""

    ts: int
    seq: int
    action: str
    reason: str
    side: int
    px: int
    qty: int
    edge_ticks: float
    cost_to_take: float
    context_mult: float
    inventory: int
    latency_ms: float
    n: int = 0  # counts the rows that were shown, from 1
    horizon: str = ""  # that carried the edge, where an order was asked for
    expected_ticks: float | None = None  # what a lot was believed to bring, where an order was asked for
    came_ticks: float | None = (
        None  # the mid's move in favour of the trade over the horizon, once it is known
    )


class OrderView(msgspec.Struct, frozen=True, kw_only=True):
    """One of our orders that may still fill."""

    cl_ord_id: str
    side: int
    px: int
    qty: int
    filled: int
    status: str
    ts: int = 0  # when it was decided
    queue_ahead: int | None = None  # lots ahead of it at its price, where that is known


TOLD_AFTER = 512
"""Outcomes after which a forecast that nothing follows is said to be off its ground."""

FOLLOWS = 0.25
"""Slope of real on expected moves below which nothing follows, at any horizon."""


class KindView(msgspec.Struct, frozen=True, kw_only=True):
    """Lots of one kind of order that opened them: ticks per closed lot."""

    question: str  # reason, action, queue or hour
    name: str
    closed_lots: float
    expected: float
    realised: float
    low: float | None = None  # bounds of realised less expected; those of a question hold together with 95 %
    high: float | None = None


class ValueView(msgspec.Struct, frozen=True, kw_only=True):
    """What our lots were believed to bring beside what they brought, ticks per closed lot, and what that allows."""

    closed_lots: int = 0
    expected: float = 0.0
    realised: float = 0.0
    held_s: float = 0.0  # mean time from fill to close
    earned_lots: int = (
        1  # most that an order which opens may have; 0: stopped, the rule trades in the head only
    )
    may_cross: bool = False  # to open: crossings in the head have earned it
    stops: int = 0  # times that lots brought so much less than believed that nothing more was opened
    worth_level: float = 0.0  # what a gain that the rule sees has been worth: level + slope * gain
    worth_slope: float = 1.0
    shadow_trips: int = 0  # round trips in the head behind that
    kinds: tuple[KindView, ...] = ()  # those of which lots were closed


class HeadView(msgspec.Struct, frozen=True, kw_only=True):
    """Which head of the model forecasts an instrument, and what its forecasts have been worth there."""

    name: str = ""
    trained: bool = True  # on this very instrument; else its forecasts count for what they have earned
    outcomes: int = 0  # that are known, at the horizon that knows the fewest
    scale: Mapping[
        str, float
    ] = {}  # by horizon: what an expected move of 1 has brought; forecasts count for that

    @property
    def off_ground(self) -> bool:
        """Whether real moves do not follow the expected ones, with enough outcomes to say so."""
        return self.outcomes >= TOLD_AFTER and max(self.scale.values(), default=1.0) < FOLLOWS


class DriftView(msgspec.Struct, frozen=True, kw_only=True):
    """How the inputs of an instrument lie beside those of the model's training, by input."""

    psi: Mapping[str, float] = {}  # over the last blocks of events
    chance: Mapping[str, float] = {}  # 95 % point of it when nothing differs
    drifted: tuple[str, ...] = ()  # that have drifted beyond chance, the one with the most evidence first
    trained: bool = True  # the model was trained on this market; else drift is worth knowing and no alarm


class InstrumentView(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument. Prices are in ticks (times `tick` for quote currency), money in ticks times lots."""

    name: str
    tick: float
    bid: int = 0
    ask: int = 0
    last_ts: int = 0  # of the newest event that reached the engine
    position: int = 0
    pnl_ticks: float = 0.0
    fees_ticks: float = 0.0
    financing_ticks: float = 0.0  # received at rolls; what was paid is below 0
    fills: int = 0
    events: int = 0
    queue_depth: int = 0
    event_lag_ms: float = 0.0
    drops: Mapping[str, int] = {}  # events that did not reach the engine as themselves, by reason
    degraded: bool = False
    halted: str = ""  # why risk has halted it
    stale_ms: float = 0.0  # since the last event, while the market is open
    stale: bool = False
    restarts: Mapping[str, int] = {}  # of the model's state from zero, by cause
    no_number: bool = False  # what the model said last was none
    open_orders: tuple[OrderView, ...] = ()
    closing: str = ""  # what a position that is to be closed, and is not yet, waits for
    refused_orders: int = 0  # by the venue, or because they could not leave
    decisions: tuple[DecisionView, ...] = ()  # newest first
    value: ValueView = ValueView()
    forecaster: HeadView = HeadView()
    drift: DriftView = DriftView()
    money_per_tick: float = 0.0  # of one lot, in `currency`; 0 unknown
    currency: str = ""
    bids: tuple[tuple[int, int], ...] = ()  # (price, lots) of the visible book, best first; lots 0: unknown
    asks: tuple[tuple[int, int], ...] = ()
    unrealised_ticks: float | None = None  # of the open position at the mid, its fees paid; None: not known
    drawdown_ticks: float = 0.0  # below the highest pnl of the run: 0 or less
    limits: tuple[LimitView, ...] = ()
    forecast: Mapping[str, HorizonView] = {}  # by horizon; empty before the first
    outcomes: tuple[
        OutcomeView, ...
    ] = ()  # forecasts at the longest horizon whose time has come, newest first
    calibration: Mapping[str, CalibrationView] = {}  # by horizon
    recent_fills: tuple[FillView, ...] = ()  # newest first
    reasons: Mapping[str, int] = {}  # decisions so far, by reason
    orders: Mapping[str, int] = {}  # orders and replacements that were decided, by reason
    context_mult: float = 1.0  # what the slow context multiplies size by
    context_reason: str = ""  # why, where that is not 1


class PlannerView(msgspec.Struct, frozen=True, kw_only=True):
    """The planner that decides in the rule's place."""

    on: bool  # it decides; else its searches took too long, or a model serves that it does not know
    switched_off: int = 0  # times, because of its searches
    search_us: float = 0.0  # the newest search


class ModelView(msgspec.Struct, frozen=True, kw_only=True):
    """Which model serves, and how it came to."""

    hash: str = ""
    kind: str = ""
    role: str = "primary"  # or "fallback": it took over from one that was too slow
    why: str = ""  # the figures that made it take over
    standing: str = ""  # what the registry says of it: candidate, approved or retired
    rule: str = ""  # of the user's own, which decides; "" where the built-in one does
    planner: PlannerView | None = None
    standby: str = ""  # hash of what would take over
    swaps: Mapping[str, int] = {}  # so far, by reason
    refused: int = 0  # artifacts that could not be reloaded
    slow: bool = False  # its p99 is above a limit
    pinned: bool = True  # its states are locked in memory


class LinkView(msgspec.Struct, frozen=True, kw_only=True):
    """A connection to the venue."""

    up: bool
    reason: str = ""  # why it is, or was last, down, in the peer's own words where it gave any
    cause: str = ""  # of which kind that is, as of `emp.access.port.Cause`
    attempt: int = 0  # of dialling again, while it is down
    since_ns: int = 0  # when it went up or down
    losses: Mapping[str, int] = {}  # times that it went down, by cause
    retries: int = 0  # times that it was dialled again
    refusals: int = 0  # logons that the peer refused


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """All instruments together, in the account's currency; of an account without limits nothing."""

    currency: str = ""
    gross: float = 0.0  # exposure of what is held
    net: float = 0.0
    day_pnl: float = 0.0
    limits: tuple[LimitView, ...] = ()  # in `currency`, those that there are
    unconverted: tuple[
        str, ...
    ] = ()  # instruments in which nothing is opened, for want of rates that may be trusted


class View(msgspec.Struct, frozen=True, kw_only=True):
    """The whole system at one moment."""

    mode: str
    run: str
    model: str  # hash of what serves
    now_ns: int
    started_ns: int
    instruments: tuple[InstrumentView, ...]
    halted: bool = False
    halt_reason: str = ""  # of several instruments with those that it holds for, where not all are
    p50_infer_ms: float = 0.0
    p90_infer_ms: float = 0.0
    p99_infer_ms: float = 0.0
    p99_total_ms: float = 0.0
    commands: int = 0
    breaches: tuple[str, ...] = ()  # the newest risk breaches, in words
    serving: ModelView = ModelView()
    links: Mapping[str, LinkView] = {}  # by what they carry: market, trade
    barred: tuple[str, ...] = ()  # reasons for which nothing is opened now
    bars: Mapping[str, int] = {}  # times that opening was barred, by reason
    account: AccountView = AccountView()
    evidence: Mapping[
        str, float
    ] = {}  # by comparison, that the model is worse than another: log10, 2.3 is one in 200
    p50_total_ms: float = 0.0
    controls: tuple[ControlView, ...] = ()  # what the owner asked for, newest first
    missed: int = 0  # batches and messages that this view did not see, because it fell behind


class Board:
    """Holds the newest view and the alarms that other threads raise."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._view: tuple[View, int] | None = None
        self._alarms: dict[str, str] = {}
        self._watchers: list[Callable[[View], None]] = []
        self.folder: Path | None = None
        """Of the run, once it is known: mirrors say there how far they are."""
        self.address = ""
        """Of the page, with what lets a person in; "" where there is none."""
        self.lease: Callable[[], LeaseView] | None = None
        """What tells of the lease on the account, where there is one."""

    def watch(self, watcher: Callable[[View], None]) -> None:
        """Let `watcher` be called with each view, in the publisher's thread; it must be quick and may not raise."""
        self._watchers.append(watcher)

    def publish(self, view: View) -> None:
        """Replace the view."""
        self._view = (view, self._clock.monotonic_ns())
        for watcher in self._watchers:
            watcher(view)

    def raise_alarm(self, name: str, text: str) -> None:
        """Say that something is wrong until `clear_alarm`; callable from any thread."""
        self._alarms[name] = text

    def clear_alarm(self, name: str) -> None:
        """Take an alarm back; callable from any thread."""
        self._alarms.pop(name, None)

    def alarms(self) -> dict[str, str]:
        """What is wrong, by the name under which it was raised."""
        return dict(self._alarms)

    @property
    def now_ns(self) -> int:
        """Wall time."""
        return self._clock.now_ns()

    def silent_s(self) -> float:
        """Seconds since the newest view; 0 before the first."""
        return 0.0 if self._view is None else (self._clock.monotonic_ns() - self._view[1]) / 1e9

    @property
    def view(self) -> View | None:
        """The newest view; None before the first."""
        return None if self._view is None else self._view[0]

    def snapshot(self) -> dict[str, Any]:
        """The newest view as plain JSON values, with its health; what a console shows."""
        reasons = self.unhealthy()
        shown: dict[str, Any] = {} if self.view is None else msgspec.to_builtins(self.view)
        return {**shown, "healthy": not reasons, "reasons": reasons, "notices": self.notices()}

    def notices(self) -> list[str]:
        """What works as it should and is worth knowing: instruments on which nothing is opened, and why."""
        view = self.view
        if view is None:
            return []
        context = [
            f"{one.name}: the slow context multiplies size by {one.context_mult:g}: {one.context_reason}"
            for one in view.instruments
            if one.context_mult != 1.0
        ]
        if view.account.unconverted:
            context.append(
                f"{', '.join(view.account.unconverted)}: nothing is opened: rates into {view.account.currency} are"
                " missing or too old"
            )
        of_each = (_of_forecasts, _of_value, _of_inputs)
        return context + [line for one in view.instruments for told in of_each for line in told(one)]

    def unhealthy(self) -> list[str]:
        """Why the system should not be relied on now; empty when it is healthy."""
        if self._view is None:
            return ["starting: the engine has not reported yet", *self._alarms.values()]
        view, _ = self._view
        reasons = list(self._alarms.values())
        silent_ms = self.silent_s() * 1e3
        if silent_ms > SILENT_AFTER_MS:
            reasons.append(f"the engine has not reported for {silent_ms:.0f} ms")
        if view.halted:
            reasons.append(f"risk halted: {view.halt_reason or 'unknown reason'}")
        for one in view.instruments:
            if one.closing:
                reasons.append(f"{one.name}: {one.position:+d} lots are to be closed: {one.closing}")
            if one.no_number:
                reasons.append(f"{one.name}: the model says no number: nothing is opened")
            if one.degraded:
                reasons.append(f"{one.name}: degraded, {one.queue_depth} events wait")
            if one.stale:
                reasons.append(f"{one.name}: no market data for {one.stale_ms:.0f} ms")
        return reasons


def _of_forecasts(one: InstrumentView) -> list[str]:
    """What is worth knowing of the forecasts of an instrument."""
    head = one.forecaster
    best = max(head.scale.values(), default=1.0)
    lines = []
    if not head.trained:
        lines.append(
            f"{one.name}: no head was trained on it; {head.name} serves, and its forecasts count for what they have"
            f" earned here, {best:.2f} of their size at best ({head.outcomes:,} outcomes)"
        )
    if head.off_ground:
        lines.append(
            f"{one.name}: moves do not follow the forecasts: they bring {best:.2f} of what is expected at best, and"
            " count for no more"
        )
    return lines


def _of_inputs(one: InstrumentView) -> list[str]:
    """That inputs do not look as in training, on a market that was not in it."""
    drift = one.drift
    if drift.trained or not drift.drifted:
        return []
    named = ", ".join(f"{name} (PSI {drift.psi[name]:.2f})" for name in drift.drifted)
    return [
        f"{one.name}: inputs do not look as in the model's training, of which this market was no part: {named}"
    ]


def _of_value(one: InstrumentView) -> list[str]:
    """Why nothing is opened, where outcomes say so."""
    value = one.value
    if value.earned_lots >= 1:
        return []
    return [
        f"{one.name}: opens nothing: {value.closed_lots} lots brought {value.realised:.2f} ticks each where"
        f" {value.expected:.2f} were expected; it trades in the head until that has earned it back"
    ]
