"""What a person is told of: conditions read off the board, each with a name, how grave it is, and words.

A condition is a state, never a moment: it holds or it does not. What decides when it is said, and that it is said
once, is `emp.observe.alert_log`; who is told, `emp.observe.alerting`. See docs/alerts.md.
"""

from collections.abc import Collection, Iterable
from typing import Literal

import msgspec

from emp.observe.board import Board, InstrumentView, LinkView, View
from emp.observe.trading_views import LimitView

Severity = Literal["critical", "warning"]

NEAR_LIMIT = 0.8
"""Share of a limit from which its owner is told."""

BELOW_LIMIT = 0.7
"""Share below which a limit that was near is near no more."""

SILENT_S = 5.0
"""Age of the newest view from which the engine counts as gone."""

HOLD_S = {
    "engine_silent": 0.0,
    "link_down": 20.0,
    "market_silent": 30.0,
    "degraded": 30.0,
    "not_flat": 5.0,
    "loop": 5.0,
}
"""Seconds that a condition must hold before it is said, where it often ends by itself; others are said at once."""

ENDING_LIMITS = frozenset({"loss of the day", "drawdown"})
"""Limits that end trading when they are reached; the others are worked up to every day."""

CRITICAL_ALARMS = frozenset({"failure", "session", "disk", "positions", "stops"})
"""Alarms of the board that put money at risk while nobody looks; all others are warnings."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that holds."""

    name: str
    severity: Severity
    text: str
    instrument: str = ""
    detail: str = ""  # tells apart conditions of one name and instrument: which limit, which link

    @property
    def key(self) -> str:
        """What makes two conditions the same, whatever their words are by now."""
        return "/".join((self.name, self.instrument, self.detail))

    @property
    def hold_s(self) -> float:
        """Seconds for which it must hold before it is said."""
        return HOLD_S.get(self.name, 0.0)


def alerts_of(board: Board, told: Collection[str] = ()) -> list[Alert]:
    """Every condition that holds now; those that were `told`, by key, end a little later than they begin.

    Callable from any thread. Before the first view only alarms count.
    """
    found = [_of_alarm(name, text) for name, text in board.alarms().items() if not name.endswith(" link")]
    view = board.view
    if view is None:
        return found
    silent_s = board.silent_s()
    if silent_s > SILENT_S:
        found.append(
            Alert(
                name="engine_silent",
                severity="critical",
                text=f"the engine has not reported for {silent_s:.0f} s{_held(view)}",
            )
        )
    if view.halted:
        found += _halted(view)
    found += [_down(channel, link) for channel, link in view.links.items() if not link.up]
    found += _near("account", view.account.limits, told)
    if view.serving.role == "fallback":
        found.append(
            Alert(
                name="fallback_serves",
                severity="warning",
                text=f"model {view.serving.hash[:12]} has taken over: {view.serving.why or 'no reason given'}",
            )
        )
    for one in view.instruments:
        found += _of_instrument(one, told)
    return found


def _of_alarm(name: str, text: str) -> Alert:
    kind = name.split()[0]
    severity: Severity = "critical" if kind in CRITICAL_ALARMS else "warning"
    return Alert(name=kind, severity=severity, text=text, detail=name.removeprefix(kind).strip())


def _halted(view: View) -> list[Alert]:
    """One of the whole run, or of several instruments one of each: whoever was told of one must hear of the next."""
    halts = [(one.name, one.halted) for one in view.instruments if one.halted]
    if len(view.instruments) < 2 or not halts:
        halts = [("", view.halt_reason)]
    found = []
    for name, reason in halts:
        whose = f"{name}: " if name else ""
        breach = next((f"; {one}" for one in view.breaches if one.startswith(whose)), "")
        what = f"trading of {name}" if name else "trading"
        found.append(
            Alert(
                name="killed" if reason == "kill_switch" else "halted",
                severity="critical",
                text=f"{what} is halted: {reason or 'unknown reason'}{breach}{_held(view)}",
                instrument=name,
            )
        )
    return found


def _held(view: View) -> str:
    """What is held, in words."""
    held = [f"{one.name} {one.position:+d}" for one in view.instruments if one.position]
    return f"; held: {', '.join(held)} lots" if held else ""


def _down(channel: str, link: LinkView) -> Alert:
    return Alert(
        name="link_down",
        severity="critical" if channel == "trade" else "warning",
        text=f"the {channel} link is down: {link.reason or link.cause or 'no reason given'}",
        detail=channel,
    )


def _near(whose: str, limits: Iterable[LimitView], told: Collection[str]) -> list[Alert]:
    """Limits that end trading, and of which much is used."""
    found = []
    for one in limits:
        if one.name not in ENDING_LIMITS:
            continue
        used = one.value / one.limit if one.limit > 0 else 0.0
        alert = Alert(
            name="near_limit",
            severity="warning",
            text=f"{whose}: {used:.0%} of {one.name} is used: {one.value:g} of {one.limit:g} {one.unit}",
            instrument=whose,
            detail=one.name,
        )
        if used >= NEAR_LIMIT or (alert.key in told and used >= BELOW_LIMIT):
            found.append(alert)
    return found


def _of_instrument(one: InstrumentView, told: Collection[str]) -> list[Alert]:
    found = _near(one.name, one.limits, told)

    def add(name: str, severity: Severity, text: str) -> None:
        found.append(Alert(name=name, severity=severity, text=f"{one.name}: {text}", instrument=one.name))

    if one.closing:
        add("not_flat", "critical", f"{one.position:+d} lots are to be closed: {one.closing}")
    if one.stale:
        add(
            "market_silent",
            "warning",
            f"no market data for {one.stale_ms / 1e3:.0f} s, {one.position:+d} lots held",
        )
    if one.degraded:
        add("degraded", "warning", f"{one.queue_depth} events wait: nothing is opened")
    if one.value.earned_lots < 1:
        lots, came, believed = one.value.closed_lots, one.value.realised, one.value.expected
        add(
            "value_stopped",
            "warning",
            f"opens nothing: {lots} lots brought {came:.2f} ticks each where {believed:.2f} were expected",
        )
    return found
