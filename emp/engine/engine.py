"""The engine: events in, commands out. Synchronous and free of I/O; live, replay and tests differ in what
surrounds it.

    output = engine.process(events)        # until a command must leave, or the batch ends
    for command in output.commands: ...    # ledger first, then the venue, then engine.sent(command)
    output = engine.on_report(update)      # what a report asks for in turn
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from emp.core.approval import Approved, Cleared, command_of
from emp.core.codes import Action, OrderStatus, Quarantine, Reason, WorkingState
from emp.core.contracts import (
    CancelOrder,
    Control,
    Message,
    NewOrder,
    OrderUpdate,
    QueryOrder,
    Replace,
)
from emp.core.ids import cl_ord_id
from emp.core.instrument import Instrument
from emp.core.numba.hold import entry_point, hold
from emp.core.records import DECISION, EVENT, MARKET_STATE, Array, empty_events
from emp.decision.standing import unearn
from emp.engine.bars import Bars, resting_openers
from emp.engine.breaches import BREACHES, kill_breach, limit_breach, order_breach, position_breach
from emp.engine.closing import Closing, Touch
from emp.engine.desk import MUTABLE, Desk
from emp.engine.financing import FINANCING_ACTIONS, Received, book_roll, take_financing
from emp.engine.limits import CALENDAR_DAYS, DAY_NS, EngineLimits, fresh_desk, lay_out_calendar
from emp.engine.load import LoadedModel
from emp.engine.policy import Policy
from emp.engine.portfolio import state_margin, tell_rate
from emp.engine.reconciliation.positions import Positions
from emp.engine.reconciliation.valuation import Adjustment, Valuation
from emp.engine.rows import NO_LAPS, NO_ROWS, ROWS_AT_ONCE, RowsAtHand, joined
from emp.engine.serving import Ready, allocate, attach_model, policy_of
from emp.engine.serving import warm_up as warm_up_model
from emp.engine.step import ASKED, CALENDAR, COMMAND, QUIET, run_batch
from emp.execution.flatten import is_flat
from emp.execution.orders import OrderManager
from emp.execution.transitions import Order
from emp.model.table import StateTable
from emp.risk.approval import approved, approved_closing

CROSS, POST, REPLACE = int(Action.CROSS), int(Action.POST), int(Action.REPLACE)
CANCEL, FLATTEN = int(Action.CANCEL), int(Action.FLATTEN)
REASONS = tuple(Reason)
"""By their numbers, which run from 0: the look-up of an enumeration takes longer than a decision."""

NO_EVENTS: Array = empty_events(0)
NO_STATES: Array = np.zeros(0, MARKET_STATE)

ASKED_AFTER = 2
"""Refused cancels in a row after which an order is asked for: one may be a venue's mood."""

FAILURE = "failure"
"""Why a run that has failed is flattened."""

TRADE_LINK = "trade_link"
"""The reason for size 0 while no order could leave."""

POSITIONS = "positions"
"""The reason for size 0 until the venue has said, after that, that we hold what our fills make."""


class Output(msgspec.Struct):
    """What the engine asks for. `rows` are the DECISION rows written, in order."""

    consumed: int = 0
    commands: list[Cleared] = []
    messages: list[Message] = []
    rows: Array = np.empty(0, DECISION)
    laps: Array = np.empty((0, 3), np.int32)  # ns in adapter, model, total: one line per row
    states: Array = np.empty(0, MARKET_STATE)  # after each consumed event, where `Engine.keep_states`
    valuations: list[Valuation] = []  # of lots that came without a report: to be recorded
    adjustments: list[Adjustment] = []  # of positions by orders that are none of ours: to be recorded
    received: list[Received] = []  # at rolls: to be recorded


class Engine:
    """One engine for a few instruments; `EVENT.instrument` is the index in `instruments`."""

    def __init__(
        self,
        instruments: Sequence[Instrument],
        model: LoadedModel,
        limits: EngineLimits,
        run: str,
        served: Sequence[str] = (),
    ) -> None:
        self.instruments = tuple(instruments)
        self.model = model
        self.limits = limits
        self.served = list(served)  # hashes of the models of this run so far: what a row's `model_id` indexes
        self.run = run
        self.sequence = 0  # of the last client order id
        self.token = (
            0  # of the lease under which this process trades, told in its order ids; 0: there is none
        )
        self.failed_models: set[str] = set()
        """Hashes of models that have failed, and that nobody has let open again."""
        self._left = False  # whether another engine has the lease, and closes what is held
        self.keep_states = False  # whether `process` hands out the state after each event
        self.bars = Bars(len(instruments))
        self._degraded: list[set[str]] = [set() for _ in instruments]  # reasons for size 0
        self._rows = RowsAtHand()
        self._asked: Array = np.zeros(ASKED, np.int64)
        self.table = StateTable(0, 0, "")
        self._calendar_end_ns = 0
        self._rule: Any = None  # another than the built-in one
        self._rule_owner: Any = None
        self.desk = self._new_desk()
        self.install(allocate(model, len(instruments)))
        names = [i.name for i in instruments]
        self.orders = OrderManager(names, self.desk.account, self.desk.working)
        self.closing = Closing(names, self.orders, self.next_id, self.touch, self._approve_closing)
        self.positions = Positions(self.orders, self.closing)

    def _new_desk(self) -> Desk:
        return fresh_desk(self.instruments, self.limits)

    # --- state

    @property
    def halted(self) -> bool:
        """Whether the kill switch has stopped any instrument."""
        return bool(self.desk.risk["halted"].any())

    def checkpoint(self) -> dict[str, Array]:
        """The arrays that make this engine the engine it is; fill them to restore it."""
        return {name: getattr(self.desk, name) for name in MUTABLE}

    def warm_up(self) -> None:
        """Compile (or load) every kernel for the model that serves."""
        self.prepare(self.model)

    def prepare(self, model: LoadedModel) -> Ready:
        """Make a model ready to serve here: states, kernels, caches. May run beside `process`, in a thread."""
        ready = allocate(model, len(self.instruments))
        spare = attach_model(self._new_desk(), self.instruments, ready, self.limits.warmup_events, 0)
        warm_up_model(spare, ready)
        if self._rule is not None:  # compiled, not run: what a rule remembers is of real events alone
            policy = policy_of(spare, model)._replace(rule=self._rule)
            held = hold((spare, policy, self._asked))
            entry_point(run_batch, held, NO_EVENTS, 0, NO_ROWS, NO_LAPS, NO_STATES)
        return ready

    def install(self, ready: Ready) -> None:
        """Let a model serve from the next event on: its states, and the burn-in, begin at zero."""
        name = ready.model.artifact.hash
        if name != self.model.artifact.hash:
            unearn(self.desk.standing)
        if name not in self.served:
            self.served.append(name)
        self.model, self.table = ready
        self.desk = attach_model(
            self.desk, self.instruments, ready, self.limits.warmup_events, self.served.index(name)
        )
        self._policy = policy_of(self.desk, self.model)
        if self._rule is not None:
            self._policy = self._policy._replace(rule=self._rule)
        if self._rule_owner is not None:
            self._rule_owner.serves(name)
        self._hold()

    def _hold(self) -> None:
        """Have the compiled step at hand for the desk and the policy as they are now."""
        self.held = hold((self.desk, self._policy, self._asked))
        self._run = entry_point(run_batch, self.held, NO_EVENTS, 0, NO_ROWS, NO_LAPS, NO_STATES)

    def attach_rule(self, rule: Any, owner: Any = None) -> None:
        """Decide by another rule, of a kind that `emp.decision.port` knows, whichever model serves.

        `owner` is kept alive as long as the rule: compiled code knows what it owns by address alone.
        """
        self._rule, self._rule_owner = rule, owner
        self._policy = self._policy._replace(rule=rule)
        self._hold()

    def attach_params(self, params: Any) -> None:
        """Let a model that needs more than its artifact (the dumb trader sees the engine's perception) have it."""
        self.model = self.model._replace(params=params)
        self._policy = self._policy._replace(model=params)
        self._hold()

    def check_model(self) -> None:
        """Raise what a model of the user's own has failed with: UsageError in one line."""
        if self.model.owner is not None:
            self.model.owner.check()

    def quarantined(self, i: int | None = None) -> Mapping[str, int]:
        """Events kept from perception, by reason; of one instrument, or of all."""
        totals = self.desk.quarantined.sum(axis=0) if i is None else self.desk.quarantined[i]
        return {reason.name.lower(): int(totals[reason]) for reason in Quarantine if totals[reason]}

    @property
    def policy(self) -> Policy:
        """Features, model and rule that the compiled step runs."""
        return self._policy

    @property
    def asked(self) -> list[int]:
        """What the compiled step asked for last: the ints of `engine.step.ask`."""
        return self._asked.tolist()

    # --- market data

    def process(self, events: Array) -> Output:
        """Process EVENT rows [n] in the compiled path, up to the first that needs a command, inclusive."""
        n = len(events)
        if events.dtype is not EVENT or not events.flags.c_contiguous:
            events = np.ascontiguousarray(events, EVENT)  # the compiled step takes nothing else
        valuations = self.positions.value(events) if self.positions.unvalued else []
        states = np.zeros(n, MARKET_STATE) if self.keep_states else NO_STATES
        done: list[tuple[Array, Array]] = [] if n else [(NO_ROWS, NO_LAPS)]
        at, result = 0, QUIET
        while at < n and result != COMMAND:
            part = events[at : at + ROWS_AT_ONCE] if at or n > ROWS_AT_ONCE else events
            rows, laps = self._rows.take(len(part))
            wanted = states[at:] if at else states
            consumed, written, result = self._run(self.held, part, 0, rows, laps, wanted)
            self._rows.written(len(part), written)
            done.append((rows, laps) if written == len(rows) else (rows[:written], laps[:written]))
            at += consumed
            if result == CALENDAR:
                self.extend_calendar(int(events["ts"][at]), int(events["ts"][at:].max()))
        rows, laps = (
            done[0] if len(done) == 1 else (joined([r for r, _ in done]), joined([x for _, x in done]))
        )
        if self.keep_states and at < n:
            states = states[:at]
        output = Output(consumed=at, rows=rows, laps=laps, states=states, valuations=valuations)
        if result == COMMAND:
            self.act(output, self.asked)
        return output

    def extend_calendar(self, first_ns: int, last_ns: int) -> None:
        """Lay out the trading calendars so that they cover the events to come."""
        if last_ns < self._calendar_end_ns:
            return
        self.desk = lay_out_calendar(self.desk, self.instruments, first_ns, last_ns)
        self._calendar_end_ns = last_ns + CALENDAR_DAYS * DAY_NS
        self._hold()

    def act(self, output: Output, asked: Sequence[int]) -> None:
        """Turn an approved action into commands; `asked` are the ints of `engine.step.ask`."""
        i, ts, seq, action, why, side, px, qty = asked
        reason = REASONS[why]
        if action in (CROSS, POST):
            order = NewOrder(
                cl_ord_id=self.next_id(),
                instrument=self.instruments[i].name,
                side=side,
                qty=qty,
                px=px,
                immediate=action == CROSS,
                ts=ts,
                reason=reason,
                decision_seq=seq,
            )
            output.commands.append(approved(self.desk.risk[i], order))
        elif action == REPLACE:
            output.commands += self._replacements(i, asked)
        elif action == CANCEL:
            output.commands += self.cancels(i, ts, reason)
        elif action == FLATTEN:
            name = self.instruments[i].name
            output.messages.append(limit_breach(self.desk, self.limits, i, name, reason, ts))
            self.flattening.add(i)
            output.commands += self.closing.commands(i, ts)
            if reason in BREACHES:
                others = [j for j in range(len(self.instruments)) if j != i]
                output.commands += self.flatten(reason, ts, others)

    def _approve_closing(self, i: int, order: NewOrder, held: int) -> Approved:
        return approved_closing(self.desk.risk[i], order, held)

    def _replacements(self, i: int, asked: Sequence[int]) -> list[Approved]:
        """Change the order that rests to the price asked for, and to that size for what has not filled yet."""
        _, ts, seq, _, why, _, px, qty = asked
        return [
            approved(
                self.desk.risk[i],
                Replace(
                    cl_ord_id=self.next_id(),
                    orig=order.command.cl_ord_id,
                    instrument=self.instruments[i].name,
                    side=order.command.side,
                    qty=order.filled + qty,
                    px=px,
                    ts=ts,
                    reason=REASONS[why],
                    decision_seq=seq,
                ),
                filled=order.filled,
            )
            for order in self.orders.open_orders(self.instruments[i].name)
            if order.working is WorkingState.RESTING and order.cancel is None
        ]

    def next_id(self) -> str:
        """The next client order id of this run."""
        self.sequence += 1
        return cl_ord_id(self.run, self.sequence, self.token)

    def cancels(self, i: int, ts: int, reason: Reason) -> list[CancelOrder]:
        """Withdraw every order of an instrument on which no cancel is under way, while the venue can hear it."""
        if self.closing.unheard(i):
            return []
        return [
            CancelOrder(
                cl_ord_id=self.next_id(),
                orig=order.command.cl_ord_id,
                instrument=self.instruments[i].name,
                ts=ts,
                reason=reason,
            )
            for order in self.orders.open_orders(self.instruments[i].name)
            if order.cancel is None and not order.command.immediate and order.may_cancel(ts)
        ]

    # --- reports, control inputs, timers, the kill switch

    def control(self, control: Control) -> Output:
        """Apply a control input that the ledger holds; see `core.contracts.Control` for what each means."""
        output = Output()
        chosen = self._chosen(control.instrument)
        if control.action == "degraded":
            for i in chosen:
                self._set_degraded(i, control.reason, active=control.value != 0.0)
        elif control.action == "context":
            self.desk.risk["context_mult"][list(chosen)] = control.value
        elif control.action == "bar":
            for i in chosen:
                self.bar(i, Reason[control.reason.upper()], active=control.value != 0.0)
        elif control.action == "differs":
            for i in chosen:
                self._differs(output, i, control)
        elif control.action == "confirmed":
            for i in chosen:
                self._confirmed(output, i, control)
        elif control.action == "rate":
            tell_rate(self.instruments, self.desk.exposure, control.reason, control.value, control.ts)
        elif control.action == "margin":
            state_margin(self.instruments, self.desk.portfolio, self.desk.exposure, control)
        elif control.action in FINANCING_ACTIONS:
            for i in chosen:
                output.received += self._finance(i, control)
        elif control.action == "planner":
            if self._rule_owner is not None:
                self._rule_owner.heard(on=control.value != 0.0)
        elif control.action == "resume":
            self._resume(chosen)
        elif control.action == "leave":
            self.stand_down()
        elif control.action == "halt":
            for i in chosen:
                if not self.desk.risk["halted"][i]:  # what was to be flat stays so
                    self._halt(i, Reason.HALTED)
                output.commands += self.cancels(i, control.ts, Reason.HALTED)
        elif control.action in ("flatten", "kill"):
            for i in chosen:
                self.closing.afresh(i)
            if control.action == "kill":
                output.messages.append(kill_breach(control))
            output.commands += self.flatten(Reason.KILL_SWITCH, control.ts, chosen)
        elif control.action == "timer":
            return self.on_timer(control.ts, control.instrument)
        return output

    def _finance(self, i: int, control: Control) -> list[Received]:
        """A roll, or what a venue states of rolls; the shadow pays and receives as we do."""
        desk = self.desk
        financing = desk.financing[i : i + 1]
        long, short = float(financing["long"][0]), float(financing["short"][0])
        lots = int(desk.account["position"][i])
        received = take_financing(financing, desk.account[i : i + 1], control)
        if control.action != "finance":
            return []
        book_roll(desk.shadow_account[i : i + 1], long, short)
        for standing in (desk.standing, desk.shadow_standing):
            standing["carry_buy"][i] = standing["carry_sell"][i] = 0.0
        return [Received(i, lots, received, control.ts)] if lots else []

    def _differs(self, output: Output, i: int, control: Control) -> None:
        """The venue holds lots beyond what our fills make. Orders that may still fill may have, unheard: they are
        asked for. Where there are none somebody else has traded on the account: what is held is what the venue says,
        and everything is closed. The lots cost what the venue says, where it does.
        """
        name, qty, ts = self.instruments[i].name, int(control.value), control.ts
        orders = self.orders.open_orders(name)
        output.commands += [o.query(ts) for o in orders if o.status is not OrderStatus.UNKNOWN]
        if orders:
            return
        output.valuations += self.positions.differ(i, qty, float(control.reason or 0.0), ts)
        output.messages.append(position_breach(name, qty, ts))
        output.commands += self.flatten(Reason.KILL_SWITCH, ts)

    def _confirmed(self, output: Output, i: int, control: Control) -> None:
        """The venue has said what of a claim it holds: that much is booked, and what is held is closed."""
        output.adjustments += self.positions.confirm(i, int(control.value))
        if self._must_close(i):
            output.commands += self.closing.commands(i, control.ts)

    def _chosen(self, instrument: str) -> Sequence[int]:
        """Indices that a control input speaks of."""
        names = [one.name for one in self.instruments]
        return range(len(names)) if not instrument else [names.index(instrument)]

    def _set_degraded(self, i: int, reason: str, *, active: bool) -> None:
        """While there is any reason no new order is decided."""
        reasons = self._degraded[i]
        if active:
            reasons.add(reason)
        else:
            reasons.discard(reason)
        if reason == TRADE_LINK:
            self.closing.hears(i, heard=not active)
        self.desk.risk["degraded"][i] = bool(reasons)

    def bar(self, i: int, reason: Reason, *, active: bool) -> None:
        """Let nothing be opened in instrument `i` while there is such a reason."""
        self.bars.put(self.desk.risk, i, reason, active=active)

    def _halt(self, i: int, reason: Reason) -> None:
        self.desk.risk["halted"][i] = True
        self.desk.risk["halt_reason"][i] = reason

    def _resume(self, chosen: Iterable[int]) -> None:
        """Trade again, where nothing is being closed any more."""
        for i in chosen:
            if is_flat(self.orders, self.instruments[i].name) and not self.positions.claims.doubted(i):
                self.flattening.discard(i)
            if i not in self.flattening:
                self.desk.risk["halted"][i] = False
                self.desk.risk["halt_reason"][i] = 0

    def restore_halt(self, i: int, reason: Reason) -> None:
        """A run that goes on was halted when it ended: it stays so, and closes what it still holds."""
        self._halt(i, reason)
        if reason not in (Reason.HALTED, Reason.LEASE):
            self.flattening.add(i)

    def stand_down(self) -> None:
        """Halt, and leave what is held and what rests to another engine, which has the lease on the account."""
        for i in range(len(self.instruments)):
            if not self.desk.risk["halted"][i]:  # a sterner reason stays: it enters the next run
                self._halt(i, Reason.LEASE)
        self._left = True
        self.flattening.clear()

    def sent(self, cleared: Cleared) -> None:
        """Note that a command is in the ledger and on its way."""
        command = command_of(cleared)
        self.orders.sent(command)

    def on_report(self, update: OrderUpdate) -> Output:
        """Apply an execution report; while flattening, ask for whatever is still left to close."""
        applied = self.orders.apply(update)
        output = Output(messages=[update])
        order = self.orders.order(update.clOrdID)
        i = order.index if order is not None else 0
        if order is not None and applied.changed and _refused_again(order, update):
            output.commands.append(order.query(update.ts))
        self.positions.hear(update, applied)
        if applied.alarm is not None:
            output.messages.append(order_breach(applied.alarm.reason, update))
            # only the venue can say what is true of it; where it says so again, the timer asks on
            if order is not None and not order.status.terminal and order.status is not OrderStatus.UNKNOWN:
                output.commands.append(order.query(update.ts))
            output.commands += self.flatten(Reason.KILL_SWITCH, update.ts)
        elif order is not None and self._must_close(i):
            output.commands += self.closing.after_report(order, update, filled=applied.fill is not None)
        return output

    def _must_close(self, i: int) -> bool:
        """Whether an instrument is being closed, by us."""
        if self._left:
            return False
        risk = self.desk.risk[i]
        to_be_flat = risk["halted"] and risk["halt_reason"] not in (Reason.HALTED, Reason.LEASE)
        return self.closing.goes_on(i, to_be_flat=to_be_flat)

    def touch(self, i: int) -> Touch:
        """The last believable best prices, at which a position can be closed."""
        p, seq = self.desk.perception[i], int(self.desk.state[i]["seq"])
        return Touch(int(p["bid"]), int(p["ask"]), seq) if p["ts"] else Touch(0, 0, seq)

    @property
    def flattening(self) -> set[int]:
        """Indices of the instruments that are being closed."""
        return self.closing.flattening

    def on_timer(self, now_ns: int, instrument: str = "") -> Output:
        """Do what time alone demands, in one instrument or in all: withdraw orders from a feed gone silent, or that the
        slow context bars, ask after unanswered ones, and go on flattening where that is under way. `now_ns` is in the
        market's time.
        """
        chosen = self._chosen(instrument)
        output = Output(commands=[*self._overdue(now_ns, chosen)])
        if self.orders.any_open and not self._left:
            self._withdraw_in_time(output, now_ns, chosen)
        for i in chosen:
            if self._must_close(i):
                output.commands += self.closing.commands(i, now_ns)
        return output

    def _withdraw_in_time(self, output: Output, now_ns: int, chosen: Sequence[int]) -> None:
        """Cancel what rests on a silent feed, or where nothing may be opened any more."""
        silent = (now_ns - self.desk.perception["ts_event"] > self.limits.stale_after_ns) & (
            self.desk.working["state"] == WorkingState.RESTING
        )
        barred = (self.desk.risk["context_mult"] <= 0.0) & (
            self.desk.working["state"] == WorkingState.RESTING
        )
        openers = resting_openers(self.desk.risk, self.desk.account, self.desk.working)
        due = [(int(i), Reason.STALE) for i in np.flatnonzero(silent)]
        due += [(int(i), Reason.CONTEXT) for i in np.flatnonzero(barred & ~silent)]
        due += [(i, reason) for i, reason in openers if not (silent[i] or barred[i])]
        for i, reason in due:
            if i in chosen:
                output.commands += self.cancels(i, now_ns, reason)

    def _overdue(self, now_ns: int, chosen: Sequence[int]) -> list[QueryOrder]:
        """Queries about orders whose answer is overdue, of those instruments whose venue can hear them."""
        due = self.orders.timeouts(now_ns, self.limits.order_timeout_ns)
        heard = {self.instruments[i].name for i in chosen if not self.closing.unheard(i)}
        return [query for query in due if query.instrument in heard]

    def flatten(self, reason: Reason, now_ns: int, chosen: Sequence[int] | None = None) -> list[Cleared]:
        """Pull the kill switch: halt, cancel everything, close every position, and keep at it until flat."""
        commands: list[Cleared] = []
        for i in range(len(self.instruments)) if chosen is None else chosen:
            self._halt(i, reason)
            if not self._left:
                self.flattening.add(i)
                commands += self.closing.commands(i, now_ns)
        return commands


def _refused_again(order: Order, update: OrderUpdate) -> bool:
    """Whether a cancel was refused once more of an order that we think works: its end may have been lost on its way."""
    refused = update.status is OrderStatus.REJECTED and order.cancels_refused >= ASKED_AFTER
    return refused and not order.status.terminal and order.status is not OrderStatus.UNKNOWN
