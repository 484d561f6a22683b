"""How likely an order at rest is filled within a time, learned online from orders that are never sent (D.2).

    r = lots expected to trade into the side within the time / (lots ahead + own size)
    log odds of a fill = level + slope log r + behind log(1 + ticks behind the touch / spread)

Before anything is known level is 0, slope 1 and behind 0: P = r / (1 + r), which is r where r is small. What a ratio
has meant on this market is learned: at the touch of a share the price has often gone before the volume comes.

*Lessons.*  Virtual lots stand in the book: by turns one joins the touch of a side, one is a tick before it, one that
was not filled goes on from where it stands. Each is watched, filled or not, until the longest time to live has passed,
and teaches whether it was filled within 1, 4, 16, ... events. Events are the clock, as in a burst more comes of
everything; a time to live has as many as come in it on average. Trades and shown sizes fill it as they fill the shadow
(`queue`). A break of the stream ends them: what they had not lasted yet stays unlearned.

*Learning.*  There is a logistic regression for each of these numbers of events; between them, and as far as one more
would be beyond the last, weights lie on straight lines of its logarithm. Each keeps a normal approximation of its
posterior (the dynamic generalized linear model of West, Harrison and Migon, JASA 80, 1985) with the prior
N((0, 1, 0), 1); a step goes to the mode that one more outcome leaves, so it cannot overshoot, and what is older than
MEMORY lessons fades into the prior. An event costs at most a lesson an order.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import HORIZON_EVENTS, HORIZON_NS, Array
from emp.decision.queue import lots_ahead, reached, shown_at

WEIGHTS = 3  # level, slope, behind
AGES = 8
OCTAVES = 2  # from one age to the next: 1, 4, 16, ... events
ORDERS = 4
MEMORY = 512.0
"""Lessons over which the weights run."""

STEPS, CLOSE = 32, 1e-9
"""Of the search for a mode: steps at most, and what is near enough."""

FARTHEST = 8.0
LEAST = float(np.exp(-FARTHEST))
"""Bound of log r, and of r: where nothing trades at all it is no number."""

NEVER = -1e4
"""Log odds of what is not to be expected at all: a chance of 0."""

EMPTY, WATCHED, STANDS = 0, 1, 2
"""States of a virtual order: none; watched; not filled in its time, to be watched again."""

TURNS = 6
"""Of as many orders that begin two join, two improve, and the last two go on."""

LEARNED = np.dtype(
    [
        ("weights", "f8", (WEIGHTS,)),
        ("information", "f8", (WEIGHTS, WEIGHTS)),  # inverse of their covariance
    ],
    align=True,
)
"""The regression of one age."""

VIRTUAL = np.dtype(
    [
        ("state", "i4"),
        ("side", "i4"),
        ("again", "?"),  # watched for a second time
        ("age", "i4"),  # index of the next lesson
        ("last", "i4"),  # index of the last one
        ("px", "i8"),
        ("ahead", "i8"),
        ("since", "i8"),  # FILLS.events
        ("filled", "i8"),  # after so many events; -1 not yet
        ("rate", "f8"),  # r of one event
        ("behind", "f8"),
    ],
    align=True,
)
"""An order that is never sent."""

FILLS = np.dtype(
    [
        ("learned", LEARNED, (AGES,)),
        ("orders", VIRTUAL, (ORDERS,)),
        ("events", "i8"),  # visible ones
        ("begun", "i8"),  # orders
        ("due", "f8"),  # events until the next one
    ],
    align=True,
)
"""What fills have taught."""


def forget_fills(fills: Array) -> None:
    """FILLS[n] as before anything is known."""
    fills[:] = np.zeros((), FILLS)
    fills["learned"]["weights"][..., 1] = 1.0
    fills["learned"]["information"] = np.eye(WEIGHTS)


@kernel
def age_events(k: int) -> int:
    """Events of the k-th age."""
    return 1 << (OCTAVES * k)


@kernel
def last_age(elapsed_ns: float) -> int:
    """The first age that no time to live of an order is beyond, as far as there are ages."""
    events = float(HORIZON_EVENTS[-1])
    if elapsed_ns > 0.0:
        events = max(events, HORIZON_NS[-1] / elapsed_ns)
    k = 0
    while k < AGES - 1 and age_events(k) < events:
        k += 1
    return k


@kernel
def bounded(ratio: float) -> float:
    """log r."""
    return min(FARTHEST, np.log(ratio)) if ratio > LEAST else -FARTHEST


@kernel
def log_ratio(volume: float, elapsed_ns: float, lots: float, time_ns: float) -> float:
    """log r of a time: `volume` lots an event, `lots` ahead and our own."""
    return bounded(volume * time_ns / (elapsed_ns * lots)) if elapsed_ns > 0.0 else -FARTHEST


@kernel
def behind_touch(event: Any, side: int, px: int) -> float:
    """How far a price is behind the touch of its side: log(1 + ticks / spread), 0 at and before it."""
    touch = event.bid_px[0] if side > 0 else event.ask_px[0]
    ticks = side * (touch - px)
    if ticks <= 0:
        return 0.0
    return np.log1p(ticks / max(1.0, float(event.ask_px[0] - event.bid_px[0])))


@kernel
def odds_weights(fills: Any, elapsed_ns: float, time_ns: float, traded: bool, learned: bool) -> Any:
    """(level, slope, behind) of a time, as 32 bits of a row hold them.

    Where nothing has `traded` nothing is hoped for: quotes that come beyond a price would fill it, but nobody shows
    that he takes, and what a fill costs is estimated from trades. Where nothing `learned` is to count, they are what
    they were at first. In less time than events are apart the odds are those of one event times the share of it: the
    slope was learned over queues, and says nothing of time. Beyond the last age the last line goes on as
    far as one more age; from there on they stay.
    """
    if not traded:
        return NEVER, 0.0, 0.0
    if not learned:
        return 0.0, 1.0, 0.0
    x, less = 0.0, 0.0
    if elapsed_ns > 0.0 and time_ns > elapsed_ns:
        x = np.log2(time_ns / elapsed_ns) / OCTAVES
    elif elapsed_ns > 0.0 and time_ns > 0.0:
        less = np.log(time_ns / elapsed_ns)
    k = min(int(x), last_age(elapsed_ns) - 1)
    part = min(x - k, 2.0)
    a, b = fills.learned[k].weights, fills.learned[k + 1].weights
    slope = a[1] + part * (b[1] - a[1])
    return (
        float(np.float32(a[0] + part * (b[0] - a[0]) + (1.0 - slope) * less)),
        float(np.float32(slope)),
        float(np.float32(a[2] + part * (b[2] - a[2]))),
    )


@kernel
def chance(level: float, slope: float, weight: float, log_r: float, behind: float) -> float:
    """P(fill) by the weights of a time."""
    return 1.0 / (1.0 + np.exp(-(level + slope * log_r + weight * behind)))


@kernel
def chance_error(fills: Any, k: int, log_r: float, behind: float) -> float:
    """Standard error of P(fill) at the k-th age, by the delta method."""
    w = fills.learned[k].weights
    p = chance(w[0], w[1], w[2], log_r, behind)
    s = _solved(fills.learned[k].information, log_r, behind)
    return float(p * (1.0 - p) * np.sqrt(s[0] + s[1] * log_r + s[2] * behind))


@kernel
def follow_orders(fills: Any, event: Any) -> None:
    """Carry the virtual orders over an event."""
    for k in range(ORDERS):
        order = fills.orders[k]
        if order.state != EMPTY and order.filled < 0 and reached(order, order.side, order.px, event):
            order.filled = fills.events - order.since


@kernel
def learn_fills(fills: Any, event: Any, volume_bid: float, volume_ask: float, elapsed_ns: float) -> None:
    """Carry what is learned over one visible event.

    Args:
        fills: FILLS record.
        event: EVENT record.
        volume_bid, volume_ask: lots an event that trade into the side.
        elapsed_ns: mean time between events.
    """
    fills.events += 1
    follow_orders(fills, event)
    for k in range(ORDERS):
        order = fills.orders[k]
        if order.state == WATCHED:
            _learn_next(fills, order)
        elif order.state == STANDS and order.filled >= 0:
            order.state = EMPTY
    fills.due -= 1.0
    if fills.due <= 0.0:
        _begin_one(fills, event, volume_bid, volume_ask, elapsed_ns)


@kernel
def break_off(fills: Any) -> None:
    """The stream has broken: nothing stands in the book."""
    for k in range(ORDERS):
        fills.orders[k].state = EMPTY


@kernel
def _learn_next(fills: Any, order: Any) -> None:
    """Learn what the order says of the next age, once it has it."""
    events = age_events(order.age)
    if fills.events - order.since < events:
        return
    filled = 0 <= order.filled <= events
    learn(fills.learned[order.age], bounded(order.rate * events), order.behind, filled)
    order.age += 1
    if order.age > order.last:
        order.state = EMPTY if order.again or order.filled >= 0 else STANDS


@kernel
def _room(fills: Any, again: bool) -> int:
    """Where an order may begin: one that stands is taken first where it is to go on, else last; -1 nowhere."""
    empty, stands = -1, -1
    for k in range(ORDERS):
        if fills.orders[k].state == EMPTY:
            empty = k
        elif fills.orders[k].state == STANDS:
            stands = k
    first, other = (stands, empty) if again else (empty, stands)
    return first if first >= 0 else other


@kernel
def _begin_one(fills: Any, event: Any, volume_bid: float, volume_ask: float, elapsed_ns: float) -> None:
    """Let the next order begin, where there is room."""
    turn = fills.begun % TURNS
    k = _room(fills, turn >= TURNS - 2)
    if k < 0:
        return
    order = fills.orders[k]
    order.again = order.state == STANDS and turn >= TURNS - 2
    if not order.again:
        _place(order, event, 1 if (turn // 2 + fills.begun // TURNS) & 1 else -1, turn & 1 == 1)
    order.state, order.filled, order.since = WATCHED, -1, fills.events
    order.age, order.last = 0, last_age(elapsed_ns)
    lots = float(lots_ahead(event, order.side, order.px, order.ahead)) + 1.0
    order.rate = (volume_bid if order.side > 0 else volume_ask) / lots
    order.behind = behind_touch(event, order.side, order.px)
    fills.begun += 1
    fills.due = age_events(order.last) / ORDERS


@kernel
def _place(order: Any, event: Any, side: int, before: bool) -> None:
    """Place the order at the end of the touch of a side, or a tick before it where there is room."""
    order.side = side
    order.px = event.bid_px[0] if side > 0 else event.ask_px[0]
    if before and event.ask_px[0] - event.bid_px[0] > 1:
        order.px += side
    order.ahead = shown_at(event, side, order.px)


@kernel
def learn(one: Any, log_r: float, behind: float, filled: bool) -> None:
    """Carry a LEARNED record over one outcome.

    With s = covariance x and v = x s the mode lies at weights + s (y - p'), where the log odds o' = o + v (y - p').
    """
    keep = 1.0 - 1.0 / MEMORY
    info = one.information
    for i in range(WEIGHTS):
        for j in range(WEIGHTS):
            info[i, j] *= keep
        info[i, i] += 1.0 - keep
    s = _solved(info, log_r, behind)
    v = s[0] + s[1] * log_r + s[2] * behind
    odds = one.weights[0] + one.weights[1] * log_r + one.weights[2] * behind
    off = _surprise(odds, v, 1.0 if filled else 0.0)
    one.weights[0] += s[0] * off
    one.weights[1] += s[1] * off
    one.weights[2] += s[2] * off
    p = 1.0 / (1.0 + np.exp(-(odds + v * off)))
    weight = p * (1.0 - p)
    x = (1.0, log_r, behind)
    for i in range(WEIGHTS):
        for j in range(WEIGHTS):
            info[i, j] += weight * x[i] * x[j]


@kernel
def _surprise(odds: float, v: float, y: float) -> float:
    """The root u of u = y - p(odds + v u): by Newton's method, halving what is left where that would leave it."""
    p = 1.0 / (1.0 + np.exp(-odds))
    low, high = min(0.0, y - p), max(0.0, y - p)
    u = (y - p) / (1.0 + v * p * (1.0 - p))
    for _ in range(STEPS):
        p = 1.0 / (1.0 + np.exp(-(odds + v * u)))
        off = u - y + p
        if off > 0.0:
            high = u
        else:
            low = u
        step = off / (1.0 + v * p * (1.0 - p))
        u = u - step if low < u - step < high else 0.5 * (low + high)
        if abs(step) < CLOSE:
            break
    return u


@kernel
def _solved(m: Any, log_r: float, behind: float) -> Any:
    """m^-1 (1, log_r, behind) of a symmetric positive definite 3 x 3 matrix, by Cholesky's method."""
    a = np.sqrt(m[0, 0])
    b, c = m[1, 0] / a, m[2, 0] / a
    d = np.sqrt(m[1, 1] - b * b)
    e = (m[2, 1] - b * c) / d
    f = np.sqrt(m[2, 2] - c * c - e * e)
    p = 1.0 / a
    q = (log_r - b * p) / d
    r = (behind - c * p - e * q) / f
    z = r / f
    y = (q - e * z) / d
    return (p - b * y - c * z) / a, y, z
