"""LOB-Bench's samples and responses written as loops over rows, from the definitions: slow, and easy to read."""

import math
from fractions import Fraction
from itertools import pairwise

from emp.sim.facts.scores import Stretch

Samples = dict[str, list[float]]


def plain_samples(s: Stretch) -> Samples:
    """Every sample of one sequence, in the order its values arise."""
    out: Samples = {}

    def put(name: str, x: float) -> None:
        out.setdefault(name, []).append(x)

    n = len(s.ts)
    books = [[int(x) for x in row] for row in s.book]
    mids = [(row[0] + row[2]) / 2 for row in books]
    for t in range(n):
        b = books[t]
        put("spread", b[0] - b[2])
        both = b[3] + b[1]
        put("orderbook_imbalance", (b[3] - b[1]) / both if both else math.nan)
        put("ask_volume_touch", b[1])
        put("bid_volume_touch", b[3])
        put("ask_volume", sum(b[4 * k + 1] for k in range(10)))
        put("bid_volume", sum(b[4 * k + 3] for k in range(10)))
        if t > 0:
            gap = int(s.ts[t] - s.ts[t - 1]) / 1e6
            put("log_inter_arrival_time", math.log(gap if gap else 1e-9))
        kind, px = int(s.kind[t]), int(s.px[t])
        what = {1: ("limit", "order"), 2: ("cancel", ""), 3: ("cancel", "")}.get(kind, ("", ""))[0]
        if not what:
            continue
        d = px - mids[t]
        names = (
            ("limit_ask_order", "limit_bid_order")
            if what == "limit"
            else ("ask_cancellation", "bid_cancellation")
        )
        if d > 0:
            put(f"{names[0]}_depth", d)
        if d < 0:
            put(f"{names[1]}_depth", -d)
        if what == "cancel" and t == 0:
            continue
        seen = b if what == "limit" else books[t - 1]
        for k in range(10):
            if seen[4 * k] == px:
                put(f"{names[0]}_levels", k + 1)
            if seen[4 * k + 2] == px:
                put(f"{names[1]}_levels", k + 1)
    _lives(s, put)
    _volumes(s, put)
    _flow(books, mids, put)
    return out


def _lives(s: Stretch, put) -> None:  # type: ignore[no-untyped-def]
    told: dict[int, list[int]] = {}
    arrived = set()
    for ts, kind, order in zip(s.ts, s.kind, s.order, strict=True):
        if kind in (1, 2, 3):
            told.setdefault(int(order), []).append(int(ts))
        if kind == 1:
            arrived.add(int(order))
    for order in sorted(arrived):
        if len(told[order]) > 1:
            life = (told[order][1] - told[order][0]) / 1e9
            put("log_time_to_cancel", math.log(life if life else 1e-9))


def _volumes(s: Stretch, put) -> None:  # type: ignore[no-untyped-def]
    trades = [(int(t), int(q)) for t, k, q in zip(s.ts, s.kind, s.qty, strict=True) if k == 4]
    if not trades:
        return
    by_second: dict[int, float] = {}
    for t, q in trades:
        by_second[t // 10**9] = by_second.get(t // 10**9, 0) + q
    begin, end = (t % 10**9 // 1000 for t in (trades[0][0], trades[-1][0]))
    seconds = sorted(by_second)
    for second in seconds:
        v = by_second[second]
        if len(seconds) == 1:
            if trades[0][0] != trades[-1][0]:
                if end - begin < 100_000:
                    continue
                v = v * 1e6 / (end - begin)
        elif second == seconds[0]:
            if begin < 900_000:
                continue
            v = v / (1 - begin / 1e6)
        elif second == seconds[-1]:
            if end < 100_000:
                continue
            v = v * 1e6 / end
        put("vol_per_min", v * 60)


def _flow(books: list[list[int]], mids: list[float], put) -> None:  # type: ignore[no-untyped-def]
    e = [0]
    for was, b in pairwise(books):
        x = (b[3] if b[2] >= was[2] else 0) - (was[3] if b[2] <= was[2] else 0)
        x += (was[1] if b[0] >= was[0] else 0) - (b[1] if b[0] <= was[0] else 0)
        e.append(x)
    flow = {t: float(Fraction(sum(e[t - 99 : t + 1]), 100)) for t in range(100, len(books))}
    for t, value in flow.items():
        put("ofi", value)
        if t > 100:
            move = mids[t] - mids[t - 1]
            put("ofi_up" if move > 0 else "ofi_down" if move < 0 else "ofi_stay", flow[t - 1])


def plain_l1(real: list[float], made: list[float], edges: list[float]) -> float:
    """Half the sum of differences of shares, groups counted edge by edge."""
    shares: dict[int, float] = {}
    for values, sign in ((real, 1), (made, -1)):
        known = [x for x in values if not math.isnan(x)]
        for x in known:
            group = sum(edge <= x for edge in edges)
            shares[group] = shares.get(group, 0.0) + sign / len(known)
    return 0.5 * sum(abs(x) for x in shares.values())


def plain_w1(real: list[float], made: list[float]) -> float:
    """Area between the two distribution functions, over the standard deviation of all values."""
    pooled = [*real, *made]
    mean = sum(pooled) / len(pooled)
    spread = math.sqrt(sum((x - mean) ** 2 for x in pooled) / (len(pooled) - 1))
    points = sorted(set(pooled))
    area = 0.0
    for left, right in pairwise(points):
        p, q = (sum(x <= left for x in side) / len(side) for side in (real, made))
        area += abs(p - q) * (right - left)
    return area / spread


def plain_volatility(s: Stretch) -> float:
    """Standard deviation of log changes of the last mid of neighbouring tenths of a second."""
    last: dict[int, float] = {}
    for ts, row in zip(s.ts, s.book, strict=True):
        last[int(ts) // 10**8] = (int(row[0]) + int(row[2])) / 2
    moves = [
        math.log(mid) - math.log(last[cell - 1])
        for cell, mid in last.items()
        if cell - 1 in last and mid > 0 and last[cell - 1] > 0
    ]
    if len(moves) < 2:
        return 0.0
    mean = sum(moves) / len(moves)
    return math.sqrt(sum((x - mean) ** 2 for x in moves) / (len(moves) - 1))


def _plain_events(s: Stretch) -> list[tuple[str, int, int]]:
    """Class, sign and mid of each event at the touch."""
    events: list[tuple[str, int, int]] = []
    before: tuple[int, int, int, tuple[int, ...]] | None = (
        None  # ts, direction, price and touch of the row kept last
    )
    for t in range(len(s.ts)):
        touch = tuple(int(x) for x in s.book[t, :4])
        kind, side, px, ts = int(s.kind[t]), int(s.direction[t]), int(s.px[t]), int(s.ts[t])
        if 0 in touch or kind not in (1, 2, 3, 4):
            continue
        if t > 0 and touch == tuple(int(x) for x in s.book[t - 1, :4]):
            continue
        moved = before is None or (touch[0], touch[2]) != (before[3][0], before[3][2])
        name = {1: "LO", 4: "MO"}.get(kind, "CA") + f"_{int(moved)}"
        event = name, side if kind == 1 else -side, int((touch[0] + touch[2]) / 2)
        if before is not None and kind == 4 and before[1:3] == (side, px) and ts - before[0] <= 1000:
            events[-1] = event
        else:
            events.append(event)
        before = ts, side, px, touch
    return events


def plain_responses(sequences: list[Stretch], lags: list[int]) -> dict[str, list[float]]:
    """Mean signed move of the mid, ticks, by class and lag."""
    moves: dict[tuple[str, int], list[float]] = {}
    for s in sequences:
        events = _plain_events(s)
        for lag in set(lags):
            for i in range(1, len(events) - lag + 1):
                move = events[i][1] * (events[i + lag - 1][2] - events[i - 1][2]) / 100
                moves.setdefault((events[i][0], lag), []).append(move)
    names = [f"{kind}_{moved}" for kind in ("MO", "LO", "CA") for moved in (0, 1)]
    return {
        name: [sum(found) / len(found) if (found := moves.get((name, lag), [])) else math.nan for lag in lags]
        for name in names
    }
