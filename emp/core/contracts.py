"""Every message that crosses a room boundary: frozen, typed, with the roadmap's field names.

Market data travels as EVENT rows (`emp.core.records`); these structs are for what happens a few times a
second at most: commands, reports, alarms, and the bus's view of one market data update.
Prices are in ticks, quantities in lots, `ts` in ns UTC.
"""

from typing import ClassVar, Literal

import msgspec

from emp.core.codes import OrderStatus, Reason
from emp.core.records import Array

Topic = Literal["market_data_update", "order_update", "risk_breach", "degraded_mode"]


class MarketDataUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """One change of the book: the raw payload of A.3.2 and the MarketState made from it."""

    topic: ClassVar[Topic] = "market_data_update"
    instrument: str
    bid: int
    ask: int
    bid_sz: int
    ask_sz: int
    depth: tuple[tuple[int, int, int, int], ...]  # (bid, bid_sz, ask, ask_sz) per level, best first
    ts: int
    seq: int
    state: Array | None = None  # one MARKET_STATE row, once perception has seen the event


class OrderUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """A venue's report on one of our orders. (clOrdID, execID) identifies it for ever."""

    topic: ClassVar[Topic] = "order_update"
    clOrdID: str  # noqa: N815  the roadmap's name
    execID: str  # noqa: N815
    status: OrderStatus
    filled: int  # cumulative lots
    price: int  # price of the last fill; the order's price where nothing filled
    ts: int
    instrument: str = ""
    side: int = 0  # +1 buy, -1 sell
    leaves: int = 0
    fee: float = 0.0  # of this fill, in ticks times lots; negative is a rebate
    maker: bool = False  # whether this fill rested
    queue_ahead: int = -1  # lots ahead of us when the fill began; -1 unknown
    text: str = ""
    # The venue took back or changed fills that it had told: `filled` is what stands, at `average` ticks a lot.
    correction: bool = False
    average: float = 0.0
    # Id of our `Replace` that is in force from this report on. `clOrdID` is the id that the order has at the venue
    # from now on: the replacement's, or still the old one where a venue keeps it.
    replacement: str = ""


class RiskBreach(msgspec.Struct, frozen=True, kw_only=True):
    """A hard limit was passed; risk has acted already."""

    topic: ClassVar[Topic] = "risk_breach"
    reason: str
    metric: str
    value: float
    limit: float
    ts: int
    instrument: str = ""


class DegradedMode(msgspec.Struct, frozen=True, kw_only=True):
    """A queue passed its bound or its age limit (`active`), or has recovered."""

    topic: ClassVar[Topic] = "degraded_mode"
    reason: str
    queue_depth: int
    lag_ms: float
    instrument: str = ""
    active: bool = True
    ts: int = 0


class NewOrder(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """An order: an intent until risk approves it (`emp.core.approval`). Limit always: a crossing order carries the
    worst price it accepts.
    """

    cl_ord_id: str
    instrument: str
    side: int  # +1 buy, -1 sell
    qty: int
    px: int
    immediate: bool  # True: immediate-or-cancel; False: rests, and must never take (post-only)
    ts: int
    reason: Reason
    decision_seq: int  # seq of the action-log row that asked for it


class CancelOrder(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Withdraw a resting order. `cl_ord_id` is the cancel's own id, `orig` the one that the order has now."""

    cl_ord_id: str
    orig: str
    instrument: str
    ts: int
    reason: Reason


class QueryOrder(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Ask the venue what became of an order whose outcome is unknown; never a blind resend."""

    cl_ord_id: str
    instrument: str
    ts: int


class Replace(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Change price and size of a resting order. A smaller size at the same price keeps its place in the queue;
    anything else takes it to the end, as exchanges do.

    `cl_ord_id` is the replacement's own id. It is refused where the order has ended, where no more than has filled
    would be left, and where it would take liquidity; the order then stays as it was, and the refusal (REJECTED)
    carries this id. From the venue's consent on (`OrderUpdate.replacement`) the order answers to it and to `orig`.
    """

    cl_ord_id: str
    orig: str  # the id that the order has now
    instrument: str
    side: int  # +1 buy, -1 sell: the order's
    qty: int  # lots in all, what has filled included
    px: int
    ts: int
    reason: Reason
    decision_seq: int


UNSENT = "unsent-"
"""How the execIDs of updates begin that tell of orders which did not leave: no venue has said that."""

OwnerAction = Literal["halt", "resume", "flatten", "kill", "stop", "reload"]
"""What the owner may ask of a running engine."""

ControlAction = Literal[
    OwnerAction,
    "degraded",
    "bar",
    "rate",
    "margin",
    "context",
    "differs",
    "confirmed",
    "terms",
    "roll",
    "finance",
    "timer",
    "swap",
    "compare",
    "begin",
    "start",
    "planner",
    "leave",
]


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """An input that can change a decision and is neither market data nor a report: recorded, then applied.

    halt      no new order, what rests is withdrawn, the position stays; until resume
    resume    trade again after halt, flatten or kill
    flatten   halt, and close every position
    kill      flatten, with a risk breach told
    stop, reload  the run ends in order; another model is fetched: recorded, the engine itself does nothing
    degraded  size 0 while `value` is 1, for the `reason` named
    bar       nothing may be opened while `value` is 1, for the `reason` named (of codes.Reason); closing goes on
    rate      a unit of the currency `reason` is worth `value` of the account's, as of `ts`
    margin    the venue states `value` in the account's currency: `reason` is `lot` (what one of the instrument asks),
              `equity`, or `used`, which completes a statement
    terms     the venue states a term of financing, `reason`: `long` or `short` (ticks a lot and night), `minute` (of
              the day in UTC at which it rolls), `triple` (weekday with three nights, Monday 0)
    roll      the next roll of an instrument is at `ts`; a lot held on the side `reason` (long, short) receives `value`
              ticks there
    finance   the roll that was told has come: what is held receives what it said
    context   the slow context multiplies size by `value`
    differs   the venue holds `value` lots, signed, beyond what our fills make: orders that may explain it are asked
              for; where none can, the difference is booked, at `reason` ticks where the venue says what the lots
              cost, and everything halted and closed
    confirmed the venue holds `value` lots, signed, of those that reports told and no order of ours explains: they are
              booked, the others are not, and what is held is closed
    swap      the model of hash `reason` serves from the next event on
    compare   the same model serves, and others are compared with it from the next event on
    timer     time alone asked for something (an overdue answer, a silent feed, a position still to close)
    begin     a process opened the ledger, and leaves out the next `value` client order ids; `reason` is the token of
              its lease, where it has one
    start     ledger and venue agree, trading begins
    planner   the planner decides while `value` is 1, else the rule alone: its searches took too long, or do no more
    leave     the lease is lost: nothing is opened, withdrawn or closed any more, whoever has it does that
    """

    action: ControlAction
    ts: int  # market time, ns UTC
    instrument: str = ""  # empty: all of them
    reason: str = ""
    value: float = 0.0


Message = MarketDataUpdate | OrderUpdate | RiskBreach | DegradedMode

Command = NewOrder | CancelOrder | QueryOrder | Replace


class VenuePosition(msgspec.Struct, frozen=True, kw_only=True):
    """What a venue says we hold: the truth that the ledger is reconciled with."""

    instrument: str
    qty: int  # lots, signed
    avg_px: float = 0.0  # ticks
