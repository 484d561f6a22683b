"""Every code that appears in a record: flags, sessions, actions, reasons.

The integers are part of the file formats: append, never renumber. Each name is the word a reader sees in
the action log, in `/metrics` and in a quarantine report.
"""

from enum import IntEnum, IntFlag, StrEnum


class EventFlag(IntFlag):
    """Bits of `EVENT.flags`."""

    VISIBLE = 1  # the visible book changed: this event is a step of an event horizon
    TRADE = 2  # trade_* fields are set
    HALT = 4  # trading stopped with this event
    RESUME = 8  # trading resumed with this event
    GAP = 16  # events before this one are missing: states must be reset, the book here is whole
    NO_SIZE = 32  # sizes are unknown: the best price of each side alone, sizes 0
    NO_DEPTH = 64  # only the best level is known (spot FX)
    AUCTION = 128  # printed by an auction (cross)


class Quarantine(IntEnum):
    """Why a row or event did not reach perception."""

    ACCEPTED = 0
    MALFORMED = 1  # cannot be parsed: missing column, not a number, not a time
    CROSSED = 2  # best bid above best ask
    LOCKED = 3  # best bid equals best ask
    BACKWARDS = 4  # time or sequence number before one already seen
    DUPLICATE = 5  # same {ts, seq} as one already seen
    ABSURD_PRICE = 6  # not on the tick grid, beyond all bounds, or too far off the last good mid
    ABSURD_SIZE = 7  # negative or impossibly large; of a trade, also zero
    CLOSED_HOURS = 8  # outside the instrument's trading hours
    ONE_SIDED = 9  # a side of the book is empty: there is no mid
    UNKNOWN_ORDER = 10  # refers to an order the book has never seen (rebuilt books only)
    OVERFLOW = 11  # conflated away by a full queue
    AHEAD = 12  # a time stamp far ahead of the rows that follow it
    OTHER_INSTRUMENT = 13  # of another instrument in the same file


class Session(IntEnum):
    """`MarketState.session_id`."""

    ASIA = 0
    LONDON = 1
    NY = 2
    AUCTION_OPEN = 3
    AUCTION_CLOSE = 4
    HALT = 5
    CLOSED = 6


class Liquidity(IntEnum):
    """`MarketState.liquidity_id`: terciles of L1 size over spread, fixed on previous days."""

    LOW = 0
    MID = 1
    HIGH = 2


class AssetClass(IntEnum):
    """Context token B.2.1."""

    EQUITY = 0
    FX_FUT = 1  # exchange-traded futures with a central book
    FX_SPOT = 2
    CRYPTO = 3


class Venue(IntEnum):
    """Context token B.2.1: kind of market place, `MarketState.venue_id`."""

    NASDAQ = 0
    GLOBEX = 1
    SPOT_AGG = 2
    CRYPTO_CLOB = 3
    SGX = 4


class Action(IntEnum):
    """What the decision asks for."""

    HOLD = 0
    CROSS = 1  # take the visible price now, immediate-or-cancel
    POST = 2  # rest a new limit order
    CANCEL = 3  # withdraw the resting order
    FLATTEN = 4  # cancel everything and close the position (risk only)
    REPLACE = 5  # move or resize the resting order in one step


class Reason(IntEnum):
    """`reason_code` of an action-log row: why this action, or why not more."""

    NO_EDGE = 0  # no action has a positive edge after costs
    CROSS_EDGE = 1  # crossing pays after half spread, slip, fees and adverse selection
    POST_EDGE = 2  # resting pays after fees and adverse selection, weighted by the fill probability
    CHASE = 3  # the resting order is moved: the touch has left it
    CANCEL_TTL = 4  # the resting order outlived its time
    CANCEL_EDGE_GONE = 5  # the edge that justified the resting order is gone
    KEEP_RESTING = 6  # a resting order is still justified
    IN_FLIGHT = 7  # an order or cancel is on its way; nothing may be sent before its report
    INVENTORY = 8  # inventory pressure turned or cancelled the trade
    WARMUP = 9  # the model's state has not seen its burn-in since it began at zero
    STALE = 10  # no trustworthy book
    DEGRADED = 11  # back-pressure: size is 0 until the queue has recovered
    CONTEXT = 12  # the slow context multiplies size by 0
    SESSION = 13  # halted, in an auction, or closed
    POSITION_LIMIT = 14
    ORDER_RATE = 15
    TURNOVER_CAP = 16
    DAILY_LOSS = 17
    DRAWDOWN = 18
    KILL_SWITCH = 19
    TOO_SMALL = 20  # the size after all scaling is below one lot
    HALTED = 21  # risk has halted trading; only flattening is allowed
    COOL_DOWN = 22  # not enough events since a halt, a gap, a pause or a flip of the session
    MOVE_EDGE = 23  # the resting order outlived its time and is worth more at another price
    WITHDRAWN = 24  # resting would pay only at a price that was withdrawn from, and nothing but noise is new
    NOT_EARNED = 25  # size 0: lots brought less than was believed of them; the shadow must earn it back
    OWN_RULE = 26  # what a rule of the user's own asked for, be it nothing
    REJECTS = 27  # the venue refused so many orders that nothing is opened for a while
    LATENCY = 28  # decisions or the venue's answers come too late: nothing is opened for a while
    NO_RATE = 29  # no conversion rate that may be trusted: nothing is opened
    GROSS_EXPOSURE = 30  # over all instruments, in the account's currency
    NET_EXPOSURE = 31
    ACCOUNT_LOSS = 32  # of the day, over all instruments, in the account's currency
    MARGIN = 33  # the venue's free margin leaves no room, or its margin level is below the limit
    MODEL = 34  # the model that serves has failed, and nothing stands by: nothing is opened
    LEASE = 35  # the lease on the account is in doubt, or lost to another engine: nothing is opened
    PLANNED = 36  # the planner has looked ahead and chosen this, be it to wait


class WorkingState(IntEnum):
    """`WORKING.state`: what is known of our working order."""

    NONE = 0
    IN_FLIGHT = 1  # sent, not acknowledged
    RESTING = 2
    CANCELLING = 3  # a cancel is on its way
    UNKNOWN = 4  # the venue has not answered in time: nothing new until it has
    REPLACING = 5  # a replacement is on its way


class OrderStatus(StrEnum):
    """Life of an order, in FIX terms. UNKNOWN: sent, and the venue has not answered in time."""

    PENDING_NEW = "pending_new"
    NEW = "new"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    PENDING_CANCEL = "pending_cancel"
    CANCELED = "canceled"
    REPLACED = "replaced"
    REJECTED = "rejected"
    EXPIRED = "expired"
    UNKNOWN = "unknown"
    PENDING_REPLACE = "pending_replace"

    @property
    def terminal(self) -> bool:
        """Whether no further fill can follow."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {
        OrderStatus.FILLED,
        OrderStatus.CANCELED,
        OrderStatus.REPLACED,
        OrderStatus.REJECTED,
        OrderStatus.EXPIRED,
    }
)
