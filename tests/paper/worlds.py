"""Small recorded markets for the tests of the paper venue."""

from collections.abc import Sequence

import numpy as np

from emp.core.codes import AssetClass, EventFlag, Venue
from emp.core.contracts import CancelOrder, NewOrder, QueryOrder, Replace
from emp.core.instrument import Instrument
from emp.core.records import Array, empty_events
from tests.kit.orders import cancel_order, new_order, query_order, replace_order

GOOG = Instrument(
    name="GOOG",
    tick=0.01,
    lot=1.0,
    venue=Venue.NASDAQ,
    asset_class=AssetClass.EQUITY,
    taker_fee=0.5,
    maker_fee=-0.25,
    fee_source="made up",
    sessions=(),
)

Side = Sequence[tuple[int, int]]


def event(
    ts: int,
    bids: Side,
    asks: Side,
    trade: tuple[int, int] | tuple[int, int, int] | None = None,
    flags: int = 0,
) -> Array:
    """One EVENT record: levels as (price, size), best first; trade as (price, signed quantity[, at that price])."""
    row = empty_events(1)[0]
    row["ts"] = row["seq"] = ts
    row["n_bid"], row["n_ask"] = len(bids), len(asks)
    for name, side in (("bid", bids), ("ask", asks)):
        for level, (px, size) in enumerate(side):
            row[f"{name}_px"][level], row[f"{name}_sz"][level] = px, size
    if trade is not None:
        row["trade_px"], row["trade_qty"] = trade[0], trade[1]
        row["trade_qty_last"] = trade[2] if len(trade) == 3 else abs(trade[1])
        flags |= int(EventFlag.TRADE)
    row["flags"] = flags | int(EventFlag.VISIBLE)
    return np.asarray(row)[()]


def order(name: str, side: int, qty: int, px: int, ts: int = 0, immediate: bool = False) -> NewOrder:
    return new_order(name, side, qty, px, instrument="GOOG", immediate=immediate, ts=ts, seq=ts)


def cancel(name: str, orig: str, ts: int) -> CancelOrder:
    return cancel_order(name, orig, instrument="GOOG", ts=ts)


def query(name: str, ts: int) -> QueryOrder:
    return query_order(name, instrument="GOOG", ts=ts)


def replace(name: str, orig: str, side: int, qty: int, px: int, ts: int) -> Replace:
    return replace_order(name, orig, side, qty, px, instrument="GOOG", ts=ts)
