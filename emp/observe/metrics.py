"""`/metrics`: the roadmap's quantities and the model's, from the board's newest view. See docs/metrics.md."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from emp.observe.board import Board, View
from emp.observe.lease_view import lease_families
from emp.observe.mirror_metrics import mirror_families
from emp.observe.trading_metrics import trading_families

CAUSES = ("unreachable", "unanswered", "refused", "occupied", "taken", "logout", "lost", "silent", "fault")
"""The kinds of reasons for which a connection goes down; a counter of each is there from the beginning."""


BREAKERS = ("rejects", "latency")
"""Reasons of breakers, see `emp.engine.breakers`."""


class BoardCollector(Collector):
    """Turns the newest view into metric families at the moment of a scrape."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def describe(self) -> Iterable[Metric]:
        """Return nothing: what there is depends on the view."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Yield one family per quantity; before the first view nothing but the lease."""
        view = self._board.view
        if self._board.lease is not None:
            yield from lease_families(self._board.lease())
        if view is not None:
            yield from _families(view)
            if self._board.folder is not None:
                yield from mirror_families(self._board.folder, view.started_ns, self._board.now_ns)


def _families(view: View) -> Iterable[Metric]:
    lag = GaugeMetricFamily(
        "event_lag_ms",
        "Longest wait of an event from its receipt to the engine, newest view",
        labels=["instrument"],
    )
    depth = GaugeMetricFamily("queue_depth", "Events that wait for the engine", labels=["instrument"])
    drops = CounterMetricFamily(
        "drops",
        "Events that did not reach the engine as themselves: quarantined, or merged by a full queue",
        labels=["instrument", "reason"],
    )
    for one in view.instruments:
        lag.add_metric([one.name], one.event_lag_ms)
        depth.add_metric([one.name], one.queue_depth)
        drops.add_metric([one.name, "overflow"], one.drops.get("overflow", 0))
        for reason, count in sorted(one.drops.items()):
            if reason != "overflow":
                drops.add_metric([one.name, reason], count)
    yield lag
    yield depth
    for level, value in ((50, view.p50_infer_ms), (90, view.p90_infer_ms), (99, view.p99_infer_ms)):
        yield GaugeMetricFamily(
            f"p{level}_infer_ms", f"{level}th percentile of the model's time per event, sliding window", value
        )
    yield drops
    yield GaugeMetricFamily("risk_halted", "1 while risk has halted trading", int(view.halted))
    yield from _links(view)
    if view.mode != "observe":  # then there is no model
        yield from _breakers(view)
        yield from _account(view)
        yield from _model(view)
        yield from _value(view)
        yield from _forecasts(view)
        yield from _drift(view)
        yield from _context(view)
        yield from trading_families(view)


def _breakers(view: View) -> Iterable[Metric]:
    """What bars opening for a while."""
    open_now = GaugeMetricFamily(
        "breaker_open", "1 while nothing is opened for that reason", labels=["reason"]
    )
    trips = CounterMetricFamily("breaker_trips", "Times that it has come to that", labels=["reason"])
    for reason in BREAKERS:
        open_now.add_metric([reason], int(reason in view.barred))
        trips.add_metric([reason], view.bars.get(reason, 0))
    yield from (open_now, trips)


def _account(view: View) -> Iterable[Metric]:
    """All instruments together, where the account has limits."""
    one = view.account
    if not one.currency:
        return
    exposure = GaugeMetricFamily(
        "account_exposure", "Of what is held, in the account's currency", labels=["currency", "kind"]
    )
    exposure.add_metric([one.currency, "gross"], one.gross)
    exposure.add_metric([one.currency, "net"], one.net)
    gained = GaugeMetricFamily(
        "account_day_pnl", "Gained since each instrument's day began", labels=["currency"]
    )
    gained.add_metric([one.currency], one.day_pnl)
    yield from (exposure, gained)


def _context(view: View) -> Iterable[Metric]:
    """What the slow context multiplies size by, and why."""
    multiplier = GaugeMetricFamily(
        "context_multiplier", "What the slow context multiplies size by", labels=["instrument"]
    )
    info = GaugeMetricFamily(
        "context_info", "1 for the reason of a multiplier below 1", labels=["instrument", "reason"]
    )
    for one in view.instruments:
        multiplier.add_metric([one.name], one.context_mult)
        if one.context_mult != 1.0:
            info.add_metric([one.name, one.context_reason], 1)
    yield from (multiplier, info)


def _forecasts(view: View) -> Iterable[Metric]:
    """Which head forecasts, and what its forecasts have been worth."""
    info = GaugeMetricFamily(
        "forecast_head_info", "1; the head that forecasts", labels=["instrument", "head", "trained"]
    )
    outcomes = CounterMetricFamily(
        "forecast_outcomes", "Outcomes known at the horizon that knows the fewest", labels=["instrument"]
    )
    scale = GaugeMetricFamily(
        "forecast_scale", "What an expected move of 1 has brought", labels=["instrument", "horizon"]
    )
    off = GaugeMetricFamily(
        "forecast_off_ground", "1 while real moves do not follow the forecasts", labels=["instrument"]
    )
    for one in view.instruments:
        head = one.forecaster
        info.add_metric([one.name, head.name, "yes" if head.trained else "no"], 1)
        outcomes.add_metric([one.name], head.outcomes)
        off.add_metric([one.name], head.off_ground)
        for horizon, slope in head.scale.items():
            scale.add_metric([one.name, horizon], slope)
    yield from (info, outcomes, scale, off)


def _drift(view: View) -> Iterable[Metric]:
    """Whether the inputs look as in training, and whether the model does as well as it must."""
    psi = GaugeMetricFamily(
        "input_psi",
        "PSI of an input against the model's training, last blocks",
        labels=["instrument", "input"],
    )
    chance = GaugeMetricFamily(
        "input_psi_chance", "95 % point of it when nothing differs", labels=["instrument", "input"]
    )
    drifted = GaugeMetricFamily(
        "input_drifted", "1 while the alarm names the input", labels=["instrument", "input"]
    )
    evidence = GaugeMetricFamily(
        "model_failure_evidence",
        "log10 of the evidence that the model is worse than another; it holds whenever it is read",
        labels=["comparison"],
    )
    for one in view.instruments:
        for name, value in one.drift.psi.items():
            psi.add_metric([one.name, name], value)
            chance.add_metric([one.name, name], one.drift.chance[name])
            drifted.add_metric([one.name, name], int(name in one.drift.drifted))
    for comparison, value in view.evidence.items():
        evidence.add_metric([comparison], value)
    yield from (psi, chance, drifted, evidence)


def _value(view: View) -> Iterable[Metric]:
    """What our lots were believed to bring, what they brought, and what that allows."""
    families: list[tuple[GaugeMetricFamily | CounterMetricFamily, str]] = [
        (
            GaugeMetricFamily(
                "expected_value_per_lot",
                "Ticks that closed lots were believed to bring",
                labels=["instrument"],
            ),
            "expected",
        ),
        (
            GaugeMetricFamily(
                "realised_value_per_lot",
                "Ticks that closed lots brought, all costs paid",
                labels=["instrument"],
            ),
            "realised",
        ),
        (
            CounterMetricFamily("closed_lots", "Lots bought and sold again", labels=["instrument"]),
            "closed_lots",
        ),
        (
            GaugeMetricFamily(
                "holding_seconds", "Mean time from a lot's fill to its close", labels=["instrument"]
            ),
            "held_s",
        ),
        (
            GaugeMetricFamily(
                "earned_lots",
                "Most lots that an order which opens may have; 0 where outcomes have stopped it",
                labels=["instrument"],
            ),
            "earned_lots",
        ),
        (
            GaugeMetricFamily(
                "may_cross",
                "Whether crossing may open: what was opened so in the head has earned it",
                labels=["instrument"],
            ),
            "may_cross",
        ),
        (
            CounterMetricFamily(
                "value_stops",
                "Times that lots brought less than was believed of them, beyond chance",
                labels=["instrument"],
            ),
            "stops",
        ),
        (
            GaugeMetricFamily(
                "gain_worth_level",
                "Ticks that a gain of zero has been worth in the head",
                labels=["instrument"],
            ),
            "worth_level",
        ),
        (
            GaugeMetricFamily(
                "gain_worth_slope", "What a tick of gain has been worth in the head", labels=["instrument"]
            ),
            "worth_slope",
        ),
        (
            CounterMetricFamily("shadow_trips", "Round trips in the head behind that", labels=["instrument"]),
            "shadow_trips",
        ),
    ]
    for family, field in families:
        for one in view.instruments:
            family.add_metric([one.name], getattr(one.value, field))
        yield family


def _links(view: View) -> Iterable[Metric]:
    """The connections, and what was refused over them."""
    info = GaugeMetricFamily("run_info", "1 for the run that answers here", labels=["run", "mode"])
    info.add_metric([view.run, view.mode], 1)
    yield info
    up = GaugeMetricFamily("link_up", "1 while the connection stands", labels=["channel"])
    losses = CounterMetricFamily(
        "link_losses", "Times that a connection went down, by the kind of reason", labels=["channel", "cause"]
    )
    retries = CounterMetricFamily(
        "link_retries", "Times that a connection was dialled again", labels=["channel"]
    )
    refusals = CounterMetricFamily("logon_refusals", "Logons that the peer refused", labels=["channel"])
    for channel, one in sorted(view.links.items()):
        up.add_metric([channel], int(one.up))
        for cause in CAUSES:
            losses.add_metric([channel, cause], one.losses.get(cause, 0))
        retries.add_metric([channel], one.retries)
        refusals.add_metric([channel], one.refusals)
    yield from (up, losses, retries, refusals)
    orders = CounterMetricFamily(
        "orders_refused",
        "Orders, cancels and replacements that the venue refused or that could not leave",
        labels=["instrument"],
    )
    for each in view.instruments:
        orders.add_metric([each.name], each.refused_orders)
    yield orders


def _model(view: View) -> Iterable[Metric]:
    """Which model serves, how often and why that changed, and how its states fared."""
    yield GaugeMetricFamily(
        "p99_total_ms", "99th percentile of a whole decision's time, sliding window", view.p99_total_ms
    )
    one = view.serving
    info = GaugeMetricFamily("model_info", "1 for the model that serves", labels=["hash", "kind", "role"])
    info.add_metric([one.hash, one.kind, one.role], 1)
    yield info
    swaps = CounterMetricFamily("model_swaps", "Times another model took over", labels=["reason"])
    for reason in ("latency", "reload", "failed"):
        swaps.add_metric([reason], one.swaps.get(reason, 0))
    yield swaps
    yield CounterMetricFamily("model_reloads_refused", "Artifacts that could not be reloaded", one.refused)
    yield GaugeMetricFamily("model_slow", "1 while the p99 of its steps is above a limit", int(one.slow))
    yield GaugeMetricFamily("state_pinned", "1 while its states are locked in memory", int(one.pinned))
    if one.planner is not None:
        yield GaugeMetricFamily(
            "planner_on", "1 while the planner decides, 0 while the rule does", int(one.planner.on)
        )
        yield CounterMetricFamily(
            "planner_switched_off", "Times that its searches took too long", one.planner.switched_off
        )
        yield GaugeMetricFamily(
            "planner_search_us", "Time that its newest search took", one.planner.search_us
        )
    restarts = CounterMetricFamily(
        "state_restarts", "Times the model's state began at zero", labels=["instrument", "cause"]
    )
    for each in view.instruments:
        for cause, count in each.restarts.items():
            restarts.add_metric([each.name, cause], count)
    yield restarts


def registry(board: Board) -> CollectorRegistry:
    """A registry that holds these metrics and nothing else."""
    found = CollectorRegistry()
    found.register(BoardCollector(board))
    return found


def exposition(metrics: CollectorRegistry) -> bytes:
    """The text that Prometheus scrapes."""
    return generate_latest(metrics)
