"""What a decision was worth: a recorded run forked at it, and both ways played on in the same simulated markets.

    played = play(fork, flow, base, other, settings)

Each pair of worlds begins with the recorded book in a market of its own (`graft.py`), the same for both branches, with
the same random numbers; what differs is what the branches do, and how the market answers. A branch is the engine that
traded, with one action given to it, other limits or another model. Values are cash less fees, with what is held sold to
the book at the horizon; so two equal branches differ by exactly nothing.
"""

from collections.abc import Callable
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from emp.core.codes import Action, Reason, WorkingState
from emp.core.errors import EmpError, JournalError, UsageError
from emp.core.numba.rng import seeded
from emp.core.records import DECISION, Array
from emp.decision.forced import ForcedRule, nothing_forced
from emp.engine.engine import Engine
from emp.engine.explain import ANSWER
from emp.engine.fork import Fork, restore
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.step import QUIET
from emp.engine.trade import DOUBT, SILENCE
from emp.engine.trading import Trading
from emp.sim.flow.params import params_hash
from emp.sim.world.graft import NOBODY, Ours, come_near, graft, refuse_unlike
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market
from emp.sim.world.stretch import HORIZON, Stretch, worth_closed
from emp.sim.world.venue import ACCEPTED, KNOWN, PARTIALLY_FILLED, US, Reactive, reactive, reactive_send, told

ROWS = 4096
EMPTY = np.zeros(1, DECISION)[0]
WARM_EVENTS = 20_000
BETWEEN = 2_000
"""Events that the warm market runs on between two pairs."""
LEVEL = 0.95
ACTIONS = ("hold", "cross", "join", "improve", "behind", "cancel")


class Change(NamedTuple):
    """What is otherwise in a branch; nothing of it is the run as it was."""

    action: str | None = None  # of ACTIONS
    side: int = 0  # +1, -1; 0: the side that the run's decision looked at
    qty: int = 0  # lots; 0: what the rule would have sent, at least one
    model: LoadedModel | None = None
    limits: EngineLimits | None = None


class Settings(NamedTuple):
    """How long and how often."""

    pairs: int
    horizon_ns: int
    until_closed: bool
    seed: int
    latency: LatencyConfig
    shown: bool  # whether the recorded book counts our own order


class Outcomes(NamedTuple):
    """What a branch did: one number a pair."""

    value: Array  # ticks times lots: cash less fees, less what was held at the fork at that book's mid
    fills: Array
    lots: Array
    maker_lots: Array
    held_s: Array  # seconds played
    closed: Array  # bool: it ended flat with nothing at work


class Played(NamedTuple):
    """Both branches, pair by pair."""

    base: Outcomes
    other: Outcomes
    rows: tuple[Any, Any]  # DECISION of both at the fork
    at_stake: int  # lots by which a difference is divided


def difference(played: Played) -> tuple[float, float]:
    """Mean of other less base, ticks times lots, and the half width of its 95 % interval."""
    d = played.other.value - played.base.value
    z = NormalDist().inv_cdf(0.5 + LEVEL / 2)
    return float(d.mean()), float(z * d.std(ddof=1) / np.sqrt(len(d)))


def forced_at(fork: Fork, row: Any, change: Change) -> Array:
    """FORCED[1] for an action at the decision `row` of the run.

    Raises UsageError where it cannot be: no order to cancel, no price inside the spread, an answer that is awaited.
    """
    forced = nothing_forced()
    if change.action is None:
        return forced
    action, working = change.action, fork.working
    if action not in ACTIONS:
        raise UsageError(f"--action {action} is none of {', '.join(ACTIONS)}")
    rests = working is WorkingState.RESTING
    if working not in (WorkingState.NONE, WorkingState.RESTING) and action != "hold":
        raise UsageError(
            f"--action {action}: an order was {working.name.lower().replace('_', ' ')} there, and nothing is sent"
            " before its report: only hold is open"
        )
    if action == "cancel" and not rests:
        raise UsageError("--action cancel: no order rested there")
    if action == "cross" and rests:
        raise UsageError("--action cross: an order rested there: cancel or move it (join, improve, behind)")
    f = forced[0]
    f["given"], f["seq"], f["qty"] = True, fork.event["seq"][0], change.qty
    if action in ("hold", "cancel"):
        f["action"] = Action[action.upper()]
        return forced
    f["side"] = side = _side(fork, row, change)
    f["px"] = px = _price(fork, side, action)
    f["action"] = Action.CROSS if action == "cross" else Action.REPLACE if rests else Action.POST
    if rests:
        f["qty"] = change.qty or int(fork.state["working"]["leaves"][0])
        if px == int(fork.state["working"]["px"][0]) and f["qty"] == fork.state["working"]["leaves"][0]:
            raise UsageError(f"--action {action}: the order rested at {px} already: that is hold")
    return forced


def _side(fork: Fork, row: Any, change: Change) -> int:
    rested = int(fork.state["working"]["side"][0])
    if rested and change.side not in (0, rested):
        raise UsageError("--side: the order that rested was on the other side; cancel it first")
    side = rested or change.side or int(row["side"])
    if not side:
        raise UsageError("--side buy or --side sell is missing: the run's decision looked at neither")
    return side


def _price(fork: Fork, side: int, action: str) -> int:
    event = fork.event[0]
    bid, ask = int(event["bid_px"][0]), int(event["ask_px"][0])
    touch, opposite = (bid, ask) if side > 0 else (ask, bid)
    if action == "cross":
        return opposite
    if action == "improve" and ask - bid <= 1:
        raise UsageError("--action improve: the spread was one tick, there is no price inside it")
    return touch + side * {"join": 0, "improve": 1, "behind": -1}[action]


class Branch:
    """One way to go on: an engine, and where it starts."""

    def __init__(self, fork: Fork, change: Change, row: Any) -> None:
        self.fork = fork
        self.engine: Engine = fork.engine(change.model, change.limits)
        self._start = {name: rows.copy() for name, rows in self.engine.checkpoint().items()}
        self.engine.attach_rule(ForcedRule(self.engine.desk.costs, forced_at(fork, row, change)))
        self._rows, self._laps = np.zeros(ROWS, DECISION), np.zeros((ROWS, 3), np.int32)
        self._trading: Trading | None = None

    def play(self, market: Market, mine: int, settings: Settings, pair: int) -> tuple[Reactive, Stretch, Any]:
        """Go on in a market until the horizon; return the venue, the stretch and the first decision."""
        fork, engine = self.fork, self.engine
        venue = _venue(fork, market, mine, settings, pair)
        horizon = np.zeros(1, HORIZON)
        horizon["until"] = int(fork.event["ts"][0]) + settings.horizon_ns
        horizon["until_closed"] = settings.until_closed
        stretch = Stretch(venue, fork.event, horizon)
        restore(engine, self._start)
        engine.sequence = int(fork.order["sequence"][0])
        if self._trading is None:
            self._trading = Trading(engine, stretch, lambda m: told(m, fork.run, fork.instrument.name))
        trading = self._trading
        trading.market = stretch
        trading.order[:] = fork.order
        first, events = None, 0
        while True:
            result = trading.run(self._rows, self._laps, events)
            if first is None:
                first = self._rows[0].copy()
            events += int(trading.progress["events"][0])
            if result in (DOUBT, SILENCE) or venue.venue["lost"][0]:
                raise EmpError(
                    "simulated market: a report was lost, or says what cannot be true of its order"
                )
            self._rows[: int(trading.progress["rows"][0])] = EMPTY
            if result != QUIET:  # the horizon, or a loss limit
                return venue, stretch, first


def _ours(fork: Fork, shown: bool) -> Ours:
    """Our order as it rests in the recorded market; NOBODY where none does."""
    o = fork.order[0]
    if not o["open"] or o["immediate"] or fork.working is WorkingState.IN_FLIGHT:
        return NOBODY
    side, px, event = int(o["side"]), int(o["px"]), fork.event[0]
    opposite = int(event["ask_px"][0]) if side > 0 else int(event["bid_px"][0])
    if (px - opposite) * side >= 0:
        raise UsageError(
            "the market has met the order that rested there, and its report is on its way: choose another seq"
        )
    return Ours(side, px, int(o["qty"] - o["filled"]), int(o["ahead"]), shown, US, 0)


def _venue(fork: Fork, market: Market, mine: int, settings: Settings, pair: int) -> Reactive:
    """The venue as it stood: our position, the order that rests, the commands on their way."""
    venue = reactive(market, fork.instrument, settings.latency, settings.seed + pair)
    v, o = venue.venue[0], fork.order[0]
    v["position"] = fork.position
    if mine:
        at = venue.orders[0]
        at["id"], at["side"], at["px"], at["qty"] = o["id"], o["side"], o["px"], o["qty"]
        at["filled"], at["leaves"], at["handle"] = o["filled"], o["qty"] - o["filled"], mine
        at["status"], at["rests"] = PARTIALLY_FILLED if o["filled"] else ACCEPTED, True
        v["resting"], v["next_slot"] = 1, 1
        for name in (o["first"], o["id"]):
            venue.known[int(name) % KNOWN] = (name, 0)
    for message in fork.on_its_way:
        reactive_send(venue, message)
    return venue


def play(
    fork: Fork,
    flow: Array,
    row: Any,
    base: Change,
    other: Change,
    settings: Settings,
    progress: Callable[[float], None] = lambda _: None,
) -> Played:
    """Play both branches in `settings.pairs` pairs of markets.

    Args:
        flow: FLOW[1].
        row: the run's DECISION at the fork, which an unchanged branch must make again.

    Raises:
        UsageError: an action that cannot be, that risk does not let pass, or a book that no flow can go on from.
        JournalError: the unchanged branch decides otherwise than the run did.
    """
    refuse_unlike(fork.event)
    ours = _ours(fork, settings.shown)
    branches = [Branch(fork, change, row) for change in (base, other)]
    warm = Market(flow, settings.seed, max(int(fork.event["bid_px"][0, 0]), 100_000))
    warm.run(2**62, WARM_EVENTS)
    found: list[list[tuple[float, ...]]] = [[], []]
    rows: list[Any] = [None, None]
    for pair in range(settings.pairs):
        warm.run(2**62, BETWEEN)
        near = come_near(warm, fork.event)
        rng = seeded(settings.seed, "what if", pair, params_hash(flow))
        market, mine = graft(near, fork.event, ours, rng)
        for k, branch in enumerate(branches):
            venue, stretch, first = branch.play(market.clone(), mine, settings, pair)
            if rows[k] is None:
                rows[k] = first
                _check(first, row, (base, other)[k])
            found[k].append(_outcome(venue, stretch, fork))
        progress((pair + 1) / settings.pairs)
    columns = [Outcomes(*np.array(one, float).T) for one in found]
    stake = max(1, abs(fork.position), *(int(r["qty"]) for r in rows if r["action"] != Action.HOLD))
    return Played(columns[0], columns[1], (rows[0], rows[1]), stake)


def _outcome(venue: Reactive, stretch: Stretch, fork: Fork) -> tuple[float, ...]:
    v, now = venue.venue[0], int(venue.flow.state["now"][0])
    first = fork.event[0]
    held = fork.position * 0.5 * float(first["bid_px"][0] + first["ask_px"][0])
    value = float(worth_closed(venue)) - held
    seconds = (now - int(first["ts"])) * 1e-9
    return (
        value,
        int(v["fills"]),
        int(v["lots"]),
        int(v["maker_lots"]),
        seconds,
        bool(stretch.horizon["closed"][0]),
    )


def _check(first: Any, row: Any, change: Change) -> None:
    """Hold the decision at the fork against what was to be decided there."""
    if change == Change():
        if any(first[name] != row[name] for name in ANSWER):
            raise JournalError(
                f"the decision comes out as {_said(first)}, the run has {_said(row)}: another machine or other sources?"
            )
    elif change.action is not None:
        wanted = {"hold": {Action.HOLD}, "cross": {Action.CROSS}, "cancel": {Action.CANCEL}}.get(
            change.action, {Action.POST, Action.REPLACE}
        )
        if Action(int(first["action"])) not in wanted:
            raise UsageError(f"--action {change.action}: risk does not let it pass there ({_said(first)})")


def _said(row: Any) -> str:
    return f"{Action(int(row['action'])).name.lower()} ({Reason(int(row['reason_code'])).name.lower()})"
