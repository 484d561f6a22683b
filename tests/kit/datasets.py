"""Small markets with a known truth: the imbalance of the best level says where the mid goes next."""

from collections.abc import Iterator

import numpy as np

from emp.core.codes import EventFlag
from emp.core.instrument import find
from emp.core.records import Array, empty_events
from emp.train.data.data import Dataset, label
from emp.train.data.table import FeatureTable, extract_features, zero_encoder

START_NS = 1_340_285_400_000_000_000
GOOG = find("GOOG")


def market(n: int, seed: int, signal: float, levels: int = 3) -> Array:
    """`n` books; with probability `signal` the next mid moves towards the thin side, else at random or not."""
    rng = np.random.default_rng(seed)
    events = empty_events(n)
    events["ts"] = events["ts_recv"] = START_NS + np.cumsum(rng.exponential(4e7, n)).astype(np.int64) + 1
    events["seq"] = np.arange(1, n + 1)
    tilt = rng.uniform(-1.0, 1.0, n)
    moved = np.where(rng.random(n) < signal, np.sign(tilt) * (np.abs(tilt) > 0.5), rng.integers(-1, 2, n))
    bid = 50_000 + np.concatenate([[0], np.cumsum(moved[:-1])]).astype(np.int64)
    step = np.arange(levels)
    events["n_bid"] = events["n_ask"] = levels
    events["bid_px"][:, :levels], events["ask_px"][:, :levels] = bid[:, None] - step, bid[:, None] + 2 + step
    events["bid_sz"][:, :levels] = rng.integers(50, 150, (n, levels))
    events["ask_sz"][:, :levels] = rng.integers(50, 150, (n, levels))
    events["bid_sz"][:, 0], events["ask_sz"][:, 0] = 100 * (1.05 + tilt), 100 * (1.05 - tilt)
    events["flags"] = EventFlag.VISIBLE
    return events


def without_a_book(events: Array, at: int) -> Array:
    """The same, with four crossed books 17 s apart from `at` on: a minute breaks no stream, but a state dies of it."""
    events = events.copy()
    crossed = slice(at, at + 4)
    for name in ("ts", "ts_recv"):
        events[name][crossed] += np.arange(1, 5) * 17 * 10**9
        events[name][at + 4 :] += 70 * 10**9
    events["bid_px"][crossed] += 5
    return events


def seen(events: Array) -> FeatureTable:
    return extract_features([events], GOOG, zero_encoder())


def dataset(n: int = 6_000, seed: int = 0, signal: float = 0.5, name: str = "synthetic") -> Dataset:
    files = ({"name": f"{name}.csv", "sha256": f"{name}{seed}{n}{signal}"},)
    return label(name, GOOG, files, seen(market(n, seed, signal)), 0.5)


def write_quotes(events: Array, path: str) -> None:
    """The best level as a quote-tick file, in prices of GOOG's tick."""
    ts = events["ts"].astype("datetime64[ns]")
    with open(path, "w", encoding="utf-8") as file:
        file.write("ts_utc,bid,ask,bid_vol_m,ask_vol_m\n")
        for k, event in enumerate(events):
            bid, ask = event["bid_px"][0] / 100, event["ask_px"][0] / 100
            sizes = event["bid_sz"][0], event["ask_sz"][0]
            file.write(f"{ts[k]}Z,{bid:.2f},{ask:.2f},{sizes[0]},{sizes[1]}\n")


class InBatches:
    """A recording of nothing but times, in batches of whatever size."""

    instrument, counts = None, None

    def __init__(self, ts: Array, rng: np.random.Generator) -> None:
        self._ts, self._rng = ts, rng

    def batches(self) -> Iterator[Array]:
        at = 0
        while at < len(self._ts):
            n = int(self._rng.integers(1, 400))
            events = empty_events(len(self._ts[at : at + n]))
            events["ts"] = self._ts[at : at + n]
            at += n
            yield events
