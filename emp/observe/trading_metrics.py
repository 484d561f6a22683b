"""Of `/metrics`, what tells of trading: position, money, orders, limits, calibration. See docs/metrics.md."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from emp.observe.board import InstrumentView, View

_GAUGES: Mapping[str, tuple[str, Callable[[InstrumentView], float | None]]] = {
    "position_lots": ("Lots held, signed", lambda one: one.position),
    "pnl_ticks": ("Marked to mid after fees, ticks times lots", lambda one: one.pnl_ticks),
    "unrealised_pnl_ticks": (
        "Of the open position at the mid, ticks times lots",
        lambda one: one.unrealised_ticks,
    ),
    "realised_pnl_ticks": ("The rest of it, ticks times lots", lambda one: _realised(one)),
    "drawdown_ticks": ("Below the highest pnl of the run, ticks times lots", lambda one: one.drawdown_ticks),
    "fees_ticks": ("Paid less rebates, ticks times lots", lambda one: one.fees_ticks),
    "financing_ticks": ("Received at rolls, ticks times lots", lambda one: one.financing_ticks),
    "open_orders": ("Orders of ours that may still fill", lambda one: len(one.open_orders)),
}
"""By name what a gauge says, and its value; None where that is not known: then there is no sample."""


def trading_families(view: View) -> Iterable[Metric]:
    """One family per quantity of trading."""
    for name, (says, value_of) in _GAUGES.items():
        gauge = GaugeMetricFamily(name, says, labels=["instrument"])
        for one in view.instruments:
            value = value_of(one)
            if value is not None:
                gauge.add_metric([one.name], value)
        yield gauge
    money = GaugeMetricFamily(
        "pnl_money",
        "Marked to mid after fees, in the instrument's currency",
        labels=["instrument", "currency"],
    )
    fills = CounterMetricFamily("fills", "Fills of ours", labels=["instrument"])
    used = GaugeMetricFamily(
        "limit_used_ratio", "Share of a limit that is used; account: over all", labels=["instrument", "limit"]
    )
    for one in view.instruments:
        fills.add_metric([one.name], one.fills)
        if one.money_per_tick:
            money.add_metric([one.name, one.currency], one.pnl_ticks * one.money_per_tick)
        for limit in one.limits:
            used.add_metric([one.name, limit.name], limit.value / limit.limit)
    for limit in view.account.limits:
        used.add_metric(["account", limit.name], limit.value / limit.limit)
    yield from (money, fills, used)
    yield from _by_reason(view)
    yield from _calibration(view)
    yield from _by_kind(view)


def _realised(one: InstrumentView) -> float | None:
    return None if one.unrealised_ticks is None else one.pnl_ticks - one.unrealised_ticks


def _by_reason(view: View) -> Iterable[Metric]:
    decisions = CounterMetricFamily(
        "decisions", "Decisions, by the reason in the action log", labels=["instrument", "reason"]
    )
    orders = CounterMetricFamily(
        "orders_decided",
        "Orders and replacements that were decided, by reason",
        labels=["instrument", "reason"],
    )
    for one in view.instruments:
        for family, counts in ((decisions, one.reasons), (orders, one.orders)):
            for reason, count in sorted(counts.items()):
                family.add_metric([one.name, reason], count)
    yield from (decisions, orders)


def _by_kind(view: View) -> Iterable[Metric]:
    labels = ["instrument", "question", "kind"]
    lots = CounterMetricFamily(
        "kind_closed_lots", "Closed lots, by the order that opened them", labels=labels
    )
    says = "Ticks a lot brought beyond what was believed, by the order that opened it"
    missed = GaugeMetricFamily("kind_missed_ticks", says, labels=[*labels, "bound"])
    for one in view.instruments:
        for kind in one.value.kinds:
            names = [one.name, kind.question, kind.name]
            lots.add_metric(names, kind.closed_lots)
            missed.add_metric([*names, "mean"], kind.realised - kind.expected)
            if kind.low is not None and kind.high is not None:
                missed.add_metric([*names, "low"], kind.low)
                missed.add_metric([*names, "high"], kind.high)
    yield from (lots, missed)


def _calibration(view: View) -> Iterable[Metric]:
    labels = ["instrument", "horizon"]
    inside = GaugeMetricFamily(
        "forecast_inside_ratio",
        "Share of outcomes between the quartiles of the forecast; 0.5 is right",
        labels=labels,
    )
    below = GaugeMetricFamily(
        "forecast_below_ratio", "Share of outcomes below the lower quartile; 0.25 is right", labels=labels
    )
    brier = GaugeMetricFamily(
        "forecast_brier", "Squared error of the class shares, mean over classes", labels=labels
    )
    for one in view.instruments:
        for horizon, told in one.calibration.items():
            inside.add_metric([one.name, horizon], told.inside)
            below.add_metric([one.name, horizon], told.below)
            brier.add_metric([one.name, horizon], told.brier)
    yield from (inside, below, brier)
