"""The same with hftbacktest, in its way: books of LOBSTER to its events, its loop, its records.

Arguments: message file, orderbook file, plot. It has no reader of LOBSTER, so there is one here: levels that differ
from the row before.
"""

import sys

import numpy as np
import polars as pl
from hftbacktest import (
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    GTX,
    LIMIT,
    LOCAL_EVENT,
    SELL_EVENT,
    TRADE_EVENT,
    BacktestAsset,
    Recorder,
    ROIVectorMarketDepthBacktest,
)
from hftbacktest.types import event_dtype
from matplotlib.figure import Figure
from numba import njit

MIDNIGHT = 1_340_236_800_000_000_000 + 4 * 3_600_000_000_000  # 2012-06-21 in New York


@njit
def to_events(ts, kind, size, price, direction, book, out):
    n = 0
    bids, asks = {-1: 0.0}, {-1: 0.0}
    for k in range(len(ts)):
        if kind[k] == 4 or kind[k] == 5:
            side = SELL_EVENT if direction[k] == 1 else BUY_EVENT  # the resting order's is the other
            n = put(out, n, TRADE_EVENT | side, ts[k], price[k], size[k])
        for side, known in ((0, asks), (2, bids)):
            flag = SELL_EVENT if side == 0 else BUY_EVENT
            gone = set(known.keys())
            for level in range(10):
                px, qty = book[k, 4 * level + side], book[k, 4 * level + side + 1]
                if px <= 0 or px >= 9_999_999_999:
                    continue
                if px in gone:
                    gone.remove(px)
                if px not in known or known[px] != qty:
                    known[px] = float(qty)
                    n = put(out, n, DEPTH_EVENT | flag, ts[k], px, qty)
            for px in gone:
                if px > 0:
                    del known[px]
                    n = put(out, n, DEPTH_EVENT | flag, ts[k], px, 0)
    return n


@njit
def put(out, n, flags, ts, px, qty):
    out[n].ev = EXCH_EVENT | LOCAL_EVENT | flags
    out[n].exch_ts = out[n].local_ts = ts
    out[n].px, out[n].qty = px / 10_000, qty
    return n + 1


@njit
def lean(hbt, recorder):
    name, placed = 1, 0
    while hbt.wait_next_feed(False, 10_000_000_000) in (0, 2, 3):
        hbt.clear_inactive_orders(0)
        depth, position, orders = hbt.depth(0), hbt.position(0), hbt.orders(0)
        if depth.best_bid_tick < 0 or depth.best_ask_tick > 10**9:
            continue
        recorder.record(hbt)
        if len(orders):
            order = orders.get(name)
            if hbt.current_timestamp - placed > 2_000_000_000 and order is not None and order.cancellable:
                hbt.cancel(0, name, False)
            continue
        bid, ask = depth.bid_qty_at_tick(depth.best_bid_tick), depth.ask_qty_at_tick(depth.best_ask_tick)
        imbalance = (bid - ask) / (bid + ask)
        side = 0
        if position != 0:
            side = -1 if position > 0 else 1
        elif abs(imbalance) > 0.5:
            side = 1 if imbalance > 0 else -1
        if side == 0:
            continue
        name, placed = name + 1, hbt.current_timestamp
        if side > 0:
            hbt.submit_buy_order(0, name, depth.best_bid, max(1.0, abs(position)), GTX, LIMIT, False)
        else:
            hbt.submit_sell_order(0, name, depth.best_ask, max(1.0, abs(position)), GTX, LIMIT, False)


seconds, kind, _, size, price, direction = pl.read_csv(sys.argv[1], has_header=False).to_numpy().T
book = pl.read_csv(sys.argv[2], has_header=False).to_numpy()
ts = MIDNIGHT + (seconds * 1e9).astype(np.int64)
events = np.zeros(30 * len(ts), event_dtype)
events = events[: to_events(ts, kind, size, price, direction, book, events)]
asset = (
    BacktestAsset()
    .data([events])
    .linear_asset(1.0)
    .constant_order_latency(10_000_000, 10_000_000)
    .log_prob_queue_model2()
    .no_partial_fill_exchange()
    .flat_per_trade_fee_model(0.005, 0.005)
    .tick_size(0.01)
    .lot_size(1.0)
    .roi_lb(0.0)
    .roi_ub(2_000.0)
)
hbt = ROIVectorMarketDepthBacktest([asset])
recorder = Recorder(1, 2_000_000)
lean(hbt, recorder.recorder)
hbt.close()
record = recorder.get(0)
worth = record["balance"] + record["position"] * record["price"] - record["fee"]
print(
    f"GOOG: {worth[-1] / 0.01:+,.1f} ticks after fees of {record['fee'][-1] / 0.01:,.1f},"
    f" {record['num_trades'][-1]:,} fills, position {record['position'][-1]:+.0f}"
)
figure = Figure(figsize=(9.6, 6.4))
price_axes, worth_axes = figure.subplots(2, 1, sharex=True)
price_axes.plot(record["timestamp"], record["price"])
worth_axes.plot(record["timestamp"], worth / 0.01)
figure.savefig(sys.argv[3])
