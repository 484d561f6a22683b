"""Parts of the live view, each built from the engine's own arrays."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from emp.access.port import LinkState
from emp.core.codes import Action, Reason
from emp.core.instrument import Instrument
from emp.core.records import HORIZON_NAMES, Array
from emp.decision.kinds import QUESTIONS, kinds_of
from emp.engine.desk import Desk
from emp.engine.engine import Engine
from emp.engine.value import by_kind
from emp.execution.transitions import Order
from emp.observe.board import (
    AccountView,
    DecisionView,
    HeadView,
    InstrumentView,
    KindView,
    LinkView,
    OrderView,
    ValueView,
)
from emp.observe.trading_views import LimitView
from emp.risk.limits import BURST

_WORDS = ("n", "action", "reason", "horizon", "expected_ticks", "came_ticks")
_COPIED: Sequence[str] = tuple(n for n in DecisionView.__struct_fields__ if n not in _WORDS)
_ASKING = frozenset({Action.CROSS, Action.POST, Action.REPLACE})


def account_view(engine: Engine) -> AccountView:
    """What all instruments together hold and have gained that day; nothing where the account has no limits."""
    folio = engine.desk.portfolio[0]
    if not folio["limited"]:
        return AccountView()
    return AccountView(
        currency=engine.limits.account.currency,
        gross=float(folio["gross"]),
        net=float(folio["net"]),
        day_pnl=float(folio["day_pnl"]),
        limits=limits_of_account(engine),
        unconverted=tuple(
            one.name
            for one, bar in zip(engine.instruments, engine.desk.risk["account_bar"], strict=True)
            if bar == Reason.NO_RATE
        ),
    )


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
        may_cross=bool(standing["may_cross"]),
        stops=int(standing["stops"]),
        worth_level=float(standing["level"]),
        worth_slope=float(standing["slope"]),
        shadow_trips=int(desk.shadow_lots["trips"][i]),
        kinds=tuple(_kinds(lots["kinds"])) if closed else (),
    )


def _kinds(kinds: Array) -> Iterator[KindView]:
    """Every kind of which lots were closed."""
    for question, names in QUESTIONS.items():
        for name, one in by_kind(kinds[kinds_of(question)], names).items():
            if one["closed_lots"]:
                low, high = one["missed_interval"] or (None, None)
                yield KindView(
                    question=question,
                    name=name,
                    closed_lots=one["closed_lots"],
                    expected=one["expected"],
                    realised=one["realised"],
                    low=low,
                    high=high,
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


def decision_view(n: int, row: Array, came: float | None) -> DecisionView:
    """One DECISION record in words, the nth that is shown.

    `came` is the move in favour of its trade, ticks, where that is known.
    """
    numbers = {name: row[name].item() for name in _COPIED}
    asks = int(row["action"]) in _ASKING
    return DecisionView(
        n=n,
        action=Action(int(row["action"])).name.lower(),
        reason=Reason(int(row["reason_code"])).name.lower(),
        horizon=HORIZON_NAMES[int(row["horizon"])] if asks else "",
        expected_ticks=expected_of(row) if asks else None,
        came_ticks=came,
        **numbers,
    )


def expected_of(row: Array) -> float:
    """Ticks that a lot of the order of a DECISION record was believed to bring: its gain as outcomes have taught."""
    return float(row["worth_level"]) + float(row["worth_slope"]) * float(row["gain"])


def order_view(order: Order, row: Array | None) -> OrderView:
    """One of our orders that may still fill; `row`, the newest DECISION record, knows its place in the queue."""
    ahead = order.queue_ahead
    place = (order.command.side, order.command.px)
    if row is not None and (int(row["resting_side"]), int(row["resting_px"])) == place:
        ahead = int(row["queue_ahead"])
    return OrderView(
        cl_ord_id=order.command.cl_ord_id,
        side=order.command.side,
        px=order.command.px,
        qty=order.command.qty,
        filled=order.filled,
        status=str(order.status),
        ts=order.command.ts,
        queue_ahead=ahead if ahead >= 0 else None,
    )


def levels(event: Array) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """The visible book of one EVENT record: (price, lots) of bids and asks, best first."""
    bids = zip(event["bid_px"].tolist(), event["bid_sz"].tolist(), strict=True)
    asks = zip(event["ask_px"].tolist(), event["ask_sz"].tolist(), strict=True)
    return tuple(bids)[: int(event["n_bid"])], tuple(asks)[: int(event["n_ask"])]


def unrealised_ticks(desk: Desk, i: int) -> float | None:
    """What the open lots of an instrument have gained at the mid, ticks times lots; None where that is not known:
    while a fill has come that no event has followed, or there is no book.
    """
    lots, account, book = desk.lots[i], desk.account[i], desk.perception[i]
    position = int(account["position"])
    if position == 0:
        return 0.0
    if int(lots["position"]) != position or not book["bid"] < book["ask"]:
        return None
    return position * (0.5 * float(book["bid"] + book["ask"]) - float(lots["entry"]))


def limit_views(engine: Engine, i: int) -> tuple[LimitView, ...]:
    """How much of each of an instrument's limits is used."""
    account, risk, limits = engine.desk.account[i], engine.desk.risk[i], engine.limits
    pnl = float(account["pnl"])
    used = (
        ("position", abs(int(account["position"])), limits.max_position_lots, "lots"),
        ("loss of the day", max(0.0, float(account["day_start"]) - pnl), limits.max_daily_loss, "ticks"),
        ("drawdown", max(0.0, float(account["peak"]) - pnl), limits.max_drawdown, "ticks"),
        ("orders in a minute", float(risk["orders"]), BURST * limits.orders_per_minute, "orders"),
        ("lots in a minute", float(risk["minute_lots"]), BURST * limits.turnover_per_minute, "lots"),
        ("lots in an hour", float(risk["hour_lots"]), BURST * limits.turnover_per_hour, "lots"),
    )
    return tuple(
        LimitView(name=name, value=float(value), limit=float(limit), unit=unit)
        for name, value, limit, unit in used
    )


def limits_of_account(engine: Engine) -> tuple[LimitView, ...]:
    """The same of the account's limits, over all instruments; those that there are."""
    folio, limits = engine.desk.portfolio[0], engine.limits.account
    used = (
        ("gross exposure", float(folio["gross"]), limits.max_gross),
        ("net exposure", abs(float(folio["net"])), limits.max_net),
        ("loss of the day", max(0.0, -float(folio["day_pnl"])), limits.max_daily_loss),
        ("margin", *_margin(engine)),
    )
    return tuple(
        LimitView(name=name, value=value, limit=limit, unit=limits.currency)
        for name, value, limit in used
        if limit
    )


def _margin(engine: Engine) -> tuple[float, float]:
    """Margin that is used, and may be at the level that must stay; 0 where there is no such limit, or no statement."""
    folio, level = engine.desk.portfolio[0], engine.limits.account.min_margin_level
    if not level or not folio["stated_ns"]:
        return 0.0, 0.0
    used = float(folio["stated_used"] + folio["used"] - folio["used_then"])
    return used, max(0.0, float(folio["equity"] + folio["pnl"] - folio["pnl_then"])) / level


def money_of(instrument: Instrument) -> tuple[float, str]:
    """What a tick of one lot is worth, and in which currency; 0 where the catalogue does not say."""
    if not instrument.currencies:
        return 0.0, ""
    return instrument.tick * instrument.point_value, instrument.currencies[-1]


def halted_by(risk: Any) -> str:
    """Why risk has halted an instrument (RISK record); "" where it has not."""
    return Reason(int(risk["halt_reason"])).name.lower() if risk["halted"] else ""


def halts_in_words(instruments: Sequence[InstrumentView]) -> str:
    """Why risk has halted trading, "" where it has not: each reason with the instruments that it holds for, where that
    is not all of them.
    """
    by_reason: dict[str, list[str]] = {}
    for one in instruments:
        if one.halted:
            by_reason.setdefault(one.halted, []).append(one.name)
    return "; ".join(
        reason if len(found) == len(instruments) else f"{reason} ({', '.join(found)})"
        for reason, found in by_reason.items()
    )


def reason_counts(counts: Array) -> dict[str, int]:
    """Counts by code int64[reasons], in words, the most frequent first."""
    named = {Reason(int(code)).name.lower(): int(counts[code]) for code in np.flatnonzero(counts)}
    return dict(sorted(named.items(), key=lambda item: -item[1]))
