"""A model beside the one that serves: its forecasts of every event, and the built-in rule trading on them in the head.

    forecasts = contender.forecast(events)        # or `recorded_forecasts`, of the model that served
    worth = trader.trade(events, forecasts)       # what its one lot has brought so far, after each event

All contenders see the same events, costs, rolls and fills (`emp.decision.shadow`), each with states, recalibration and
evidence of its own. Nothing here is on the hot path: a tap runs it, or a replay.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from emp.core.contracts import Control
from emp.core.instrument import Instrument
from emp.core.numba.hold import entry_point, hold, opened
from emp.core.numba.jit import kernel
from emp.core.numba.lend import lent
from emp.core.records import DECISION, FORECAST, HORIZONS, QUANTILES, Array, empty_events
from emp.decision.estimates import forget_trades, see_trade, update_estimates
from emp.decision.financing import expect_carry, learn_unfinished
from emp.decision.rule import ValueRule
from emp.decision.shadow import end_shadow, meet_market, withdraw_shadow
from emp.decision.standing import lift_bars
from emp.engine.desk import Desk
from emp.engine.financing import take_financing
from emp.engine.limits import EngineLimits, fresh_desk, lay_out_calendar
from emp.engine.loaded import LoadedModel, apart
from emp.engine.policy import Policy
from emp.engine.serving import allocate, attach_model, policy_of
from emp.engine.step import trade_in_the_head
from emp.model.port import forecast
from emp.model.recalibrate import recalibrate
from emp.model.reversion import ReversionParams
from emp.model.table import NO_NUMBER, StateTable, advance_or_reset
from emp.perception.depth import ENCODER
from emp.perception.features import NO_VISIBLE_CHANGE, BookFeatures
from emp.perception.port import perceive

SAID = np.dtype(
    [
        ("made", "?"),  # the event led to a forecast
        ("state_events", "i8"),  # visible events since the model's state was zero
        ("since_reset", "i8"),  # visible events since the stream last began or was broken
        ("sigma_ticks", "f8"),
        ("f", FORECAST),
    ],
    align=True,
)
"""What a model says of one event."""

CLASSES = 3


@kernel
def copy_forecast(said: Any, f: Any) -> None:
    """Copy the fields of FORECAST from a record that has them, a DECISION row too, into a FORECAST record."""
    for h in range(HORIZONS):
        f.mean[h] = said.mean[h]
        f.interval[h, 0], f.interval[h, 1] = said.interval[h, 0], said.interval[h, 1]
        for k in range(CLASSES):
            f.p[h, k] = said.p[h, k]
        for k in range(len(QUANTILES)):
            f.q[h, k] = said.q[h, k]


@kernel
def forecast_events(held: Any, events: Any, said: Any) -> None:
    """Forecast EVENT[n] into SAID[n], as `engine.step.step` does; `held` is (desk, policy)."""
    desk, policy = opened(held)
    events, said = lent(events), lent(said)
    for k in range(events.size):
        event, one = events[k], said[k]
        i = event.instrument
        p, f = desk.perception[i], desk.forecast[i]
        one.made = False
        if (
            perceive(
                policy.features,
                p,
                event,
                desk.sessions[i],
                desk.facts[i].venue_id,
                desk.state[i],
                desk.inputs[i],
            )
            != 0
        ):
            continue
        advance_or_reset(desk.stream[i], desk.memory[i], p.since_reset, event.ts, desk.facts[i].state_ttl_ns)
        forecast(policy.model, desk.memory[i], desk.facts[i].domain, desk.inputs[i], f)
        broken = p.since_reset == 1
        if not recalibrate(
            desk.recalibration[i], event.ts, event.bid_px[0], event.ask_px[0], p.sigma_ticks, broken, f
        ):
            desk.stream[i].events = NO_NUMBER
        one.made, one.state_events = True, desk.stream[i].events
        one.since_reset, one.sigma_ticks = p.since_reset, p.sigma_ticks
        copy_forecast(f, one.f)


@kernel
def recorded_forecasts(events: Any, rows: Any, said: Any) -> int:
    """Take what the model that served said of EVENT[n] from the DECISION[m] rows that they led to, into SAID[n]; return
    how many rows these are.
    """
    events, rows, said = lent(events), lent(rows), lent(said)
    r = 0
    for k in range(events.size):
        event, one = events[k], said[k]
        one.made = False
        if r == rows.size:
            continue
        row = rows[r]
        if row.seq == event.seq and row.instrument == event.instrument and row.ts == event.ts:
            r += 1
            if row.unit_ticks > 0.0:  # else it only withdraws
                one.made, one.state_events = True, row.state_events
                one.since_reset, one.sigma_ticks = row.since_reset, row.sigma_ticks
                copy_forecast(row, one.f)
    return r


@kernel
def trade_forecasts(held: Any, events: Any, said: Any, worth: Any) -> None:
    """Let the rule trade in the head on SAID[n] of EVENT[n]; `held` is (desk, policy, DECISION[1]).

    `worth` float64[n] receives what the lots of the event's instrument have brought up to it, ticks: closed ones all
    that they brought, an open one up to the mid.
    """
    desk, policy, rows = opened(held)
    events, said, worth = lent(events), lent(said), lent(worth)
    row = rows[0]
    for k in range(events.size):
        event, one = events[k], said[k]
        i = event.instrument
        p, e, shadow = desk.perception[i], desk.estimates[i], desk.shadow[i]
        account, working, lots = desk.shadow_account[i], desk.shadow_working[i], desk.shadow_lots[i]
        seen = perceive(
            policy.features, p, event, desk.sessions[i], desk.facts[i].venue_id, desk.state[i], desk.inputs[i]
        )
        if seen == NO_VISIBLE_CHANGE:
            see_trade(e, event)
            meet_market(shadow, event, account, working, desk.costs[i])
        elif seen != 0:
            withdraw_shadow(shadow, event.ts + desk.facts[i].round_trip_ns, working)
        else:
            if p.since_reset == 1:
                last_ns = e.ts
                forget_trades(e)
                lift_bars(desk.standing[i])
                learn_unfinished(desk.standing[i], lots, last_ns)
                end_shadow(shadow, account, working, lots, desk.standing[i], desk.costs[i], last_ns)
            update_estimates(e, event)
            if one.made:
                copy_forecast(one.f, desk.forecast[i])
                row.since_reset, row.disturbed = p.since_reset, p.events > p.since_reset
                row.state_events = one.state_events
                if desk.financing[i].roll_ns != 0:
                    expect_carry(desk.financing[i], event.ts, desk.standing[i], desk.shadow_standing[i])
                trade_in_the_head(desk, policy.rule, i, event, p, row)
        mid = 0.5 * (event.bid_px[0] + event.ask_px[0])
        open_lots = lots.position * (mid - lots.entry) if lots.position != 0 else 0.0
        worth[k] = lots.brought + open_lots


class Contender:
    """A model that forecasts beside the one that serves."""

    def __init__(
        self,
        model: LoadedModel,
        instruments: Sequence[Instrument],
        limits: EngineLimits,
        perception: Array | None = None,
    ) -> None:
        """`perception` is what is known of the market already, PERCEPTION[instruments]."""
        self.model = apart(model)
        self._instruments = tuple(instruments)
        self._table, desk = _desk_for(model, instruments, limits, perception)
        if isinstance(model.params, ReversionParams):
            self.model = model._replace(params=model.params._replace(perception=desk.perception))
        self._desk = desk
        self._hold()

    def _hold(self) -> None:
        self._held = hold((self._desk, policy_of(self._desk, self.model)))
        like = empty_events(0), np.zeros(0, SAID)
        self._run = entry_point(forecast_events, self._held, *like)

    def forecast(self, events: Array) -> Array:
        """SAID[n] of EVENT[n]."""
        said = np.zeros(len(events), SAID)
        if len(events):
            self._desk, renewed = _covering(self._desk, self._instruments, events)
            if renewed:
                self._hold()
            self._run(self._held, events, said)
        return said


class Trader:
    """The built-in rule trading in the head on somebody's forecasts, one lot at a time."""

    def __init__(
        self,
        model: LoadedModel,
        instruments: Sequence[Instrument],
        limits: EngineLimits,
        perception: Array | None = None,
    ) -> None:
        """`model` says how long its forecasts are not to be traded on, and in which unit; `perception` as above."""
        self._instruments = tuple(instruments)
        self._table, self.desk = _desk_for(model, instruments, limits, perception)
        self._row = np.zeros(1, DECISION)
        self._hold()

    def _hold(self) -> None:
        features = BookFeatures(np.zeros(1, ENCODER))
        policy = Policy(features, ValueRule(self.desk.costs), ValueRule(self.desk.costs))
        self._held = hold((self.desk, policy, self._row))
        self._run = entry_point(trade_forecasts, self._held, empty_events(0), np.zeros(0, SAID), np.zeros(0))

    def trade(self, events: Array, said: Array) -> Array:
        """What lots have brought after each of EVENT[n], float64[n] ticks, where `said` is SAID[n] of them."""
        worth = np.zeros(len(events))
        if len(events):
            self.desk, renewed = _covering(self.desk, self._instruments, events)
            if renewed:
                self._hold()
            self._run(self._held, events, said, worth)
        return worth

    def finance(self, i: int, control: Control) -> None:
        """The next roll of an instrument is told, or has come: the lot that is held receives or pays as ours does."""
        desk = self.desk
        take_financing(desk.financing[i : i + 1], desk.shadow_account[i : i + 1], control)
        if control.action == "finance":
            for standing in (desk.standing, desk.shadow_standing):
                standing["carry_buy"][i] = standing["carry_sell"][i] = 0.0


def _desk_for(
    model: LoadedModel, instruments: Sequence[Instrument], limits: EngineLimits, perception: Array | None
) -> tuple[StateTable, Desk]:
    """States and desk of a model; the table must be kept as long as the desk."""
    ready = allocate(model, len(instruments))
    desk = attach_model(fresh_desk(instruments, limits), instruments, ready, limits.warmup_events, 0)
    desk.facts["calendar_end_ns"] = 0  # the first events say from when on it is laid out
    if perception is not None:
        desk.perception[...] = perception
    return ready.table, desk


def _covering(desk: Desk, instruments: Sequence[Instrument], events: Array) -> tuple[Desk, bool]:
    """The desk with trading calendars that cover EVENT[n], and whether they had to be laid out anew."""
    last = int(events["ts"].max())
    if last < desk.facts["calendar_end_ns"][0]:
        return desk, False
    return lay_out_calendar(desk, instruments, int(events["ts"][0]), last), True
