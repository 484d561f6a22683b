"""Small synthetic markets for tests: random books that a real feed could have sent."""

import numpy as np

from emp.core.codes import EventFlag, Session
from emp.core.records import LEVELS, SESSION, Array, empty_events
from emp.perception.depth import ENCODER

START_NS = 1_340_285_400_000_000_000


def open_all_day(session: Session = Session.NY) -> Array:
    """A calendar that is always in one session of one day."""
    table = np.zeros(1, SESSION)
    table["session_id"], table["day"] = session, 1
    return table


def random_encoder(seed: int = 0) -> Array:
    """An encoder with random weights."""
    rng = np.random.default_rng(seed)
    encoder = np.zeros(1, ENCODER)
    for name in ENCODER.names or ():
        encoder[name] = rng.normal(0.0, 0.7, encoder[name].shape)
    return encoder


def random_events(n: int, seed: int, levels: int = 5, trades: float = 0.2, hidden: float = 0.05) -> Array:
    """`n` events of a book that wanders: visible changes, trades that cause them, trades that show nothing."""
    rng = np.random.default_rng(seed)
    events = empty_events(n)
    bid = 10_000
    ts = START_NS
    for k in range(n):
        ts += int(rng.exponential(2e8)) + 1
        event = events[k]
        event["ts"] = event["ts_recv"] = ts
        event["seq"] = k + 1
        traded = rng.random() < trades
        if k and rng.random() < hidden:
            event["bid_px"], event["bid_sz"] = events[k - 1]["bid_px"], events[k - 1]["bid_sz"]
            event["ask_px"], event["ask_sz"] = events[k - 1]["ask_px"], events[k - 1]["ask_sz"]
            event["flags"] = EventFlag.TRADE
            traded = True
        else:
            bid += int(rng.integers(-2, 3))
            ask = bid + int(rng.integers(1, 5))
            down = np.concatenate(([0], np.cumsum(rng.integers(1, 4, levels - 1))))
            up = np.concatenate(([0], np.cumsum(rng.integers(1, 4, levels - 1))))
            event["bid_px"][:levels], event["ask_px"][:levels] = bid - down, ask + up
            event["bid_sz"][:levels] = rng.integers(1, 500, levels)
            event["ask_sz"][:levels] = rng.integers(1, 500, levels)
            event["flags"] = EventFlag.VISIBLE | (EventFlag.TRADE if traded else 0)
        event["n_bid"] = event["n_ask"] = min(levels, LEVELS)
        if traded:
            sign = 1 if rng.random() < 0.5 else -1
            event["trade_qty"] = sign * int(rng.integers(1, 300))
            event["trade_qty_last"] = abs(int(event["trade_qty"]))
            event["trade_px"] = event["ask_px"][0] if sign > 0 else event["bid_px"][0]
    return events
