"""Estimators behind the stylised facts: plain functions on arrays, each with its source."""

import itertools

import numpy as np

from emp.core.records import Array
from emp.sim.flow.observe import KINDS


def mids(obs: Array) -> Array:
    """Mid price in ticks before each event."""
    return np.asarray((obs["bid"] + obs["ask"]) / 2.0)


def on_grid(obs: Array, step_s: float, gap_limit_s: float = 3600.0) -> Array:
    """Mid on a regular time grid: the last known at each point."""
    ts = obs["ts"]
    grid = np.arange(int(ts[0]), int(ts[-1]), int(step_s * 1e9))
    at = np.searchsorted(ts, grid, side="right") - 1
    return mids(obs)[np.maximum(at, 0)]


def acf(x: Array, lags: int) -> Array:
    """Autocorrelation at lags 0..lags, by FFT."""
    x = np.asarray(x, float) - np.mean(x)
    n = len(x)
    size = 1 << int(np.ceil(np.log2(2 * n)))
    f = np.fft.rfft(x, size)
    c = np.fft.irfft(f * np.conj(f), size)[: lags + 1]
    return np.asarray(c / c[0]) if c[0] > 0 else np.zeros(lags + 1)


def power_law(lags: Array, values: Array) -> float:
    """Exponent a of values ~ lags**-a by least squares in logarithms over positive values, log-binned."""
    edges = np.unique(np.round(np.geomspace(lags[0], lags[-1] + 1, 16)).astype(int))
    x, y = [], []
    for a, b in itertools.pairwise(edges):
        inside = (lags >= a) & (lags < b)
        mean = values[inside].mean() if inside.any() else -1.0
        if mean > 0:
            x.append(np.log(lags[inside].mean()))
            y.append(np.log(mean))
    if len(x) < 3:
        return float("nan")
    return float(-np.polyfit(x, y, 1)[0])


def hill(x: Array, share: float = 0.05) -> float:
    """Tail index of the largest `share` of |x| (Hill 1975)."""
    a = np.sort(np.abs(x[x != 0]))[::-1]
    k = max(10, int(share * len(a)))
    if len(a) <= k or a[k] <= 0:
        return float("nan")
    excess = float(np.mean(np.log(a[:k] / a[k])))
    return 1.0 / excess if excess > 0 else float("nan")


def kurtosis(x: Array) -> float:
    """Excess kurtosis."""
    d = x - x.mean()
    v = (d**2).mean()
    return float((d**4).mean() / v**2 - 3.0) if v > 0 else float("nan")


def dfa(x: Array) -> float:
    """Hurst exponent by detrended fluctuation analysis (Peng et al. 1994), order 1."""
    y = np.cumsum(np.asarray(x, float) - np.mean(x))
    sizes = np.unique(np.geomspace(16, max(32, len(y) // 8), 12).astype(int))
    xs, fs = [], []
    for n in sizes:
        m = len(y) // n
        if m < 4:
            continue
        rows = y[: m * n].reshape(m, n)
        t = np.arange(n) - (n - 1) / 2
        slope = rows @ t / (t @ t)
        rest = rows - rows.mean(1, keepdims=True) - slope[:, None] * t
        xs.append(np.log(n))
        fs.append(0.5 * np.log((rest**2).mean()))
    return float(np.polyfit(xs, fs, 1)[0]) if len(xs) >= 3 else float("nan")


def local_whittle(x: Array, power: float = 0.6) -> float:
    """Memory parameter d of a series by the local Whittle estimator (Robinson, Annals of Statistics 1995).

    Uses the lowest n ** power frequencies, so short-lived dependence does not enter; its standard error is
    0.5 * n ** (-power / 2). An autocorrelation that fades as lag ** -a has a = 1 - 2 d.
    """
    n = len(x)
    m = int(n**power)
    if m < 10:
        return float("nan")
    power_at = np.abs(np.fft.rfft(np.asarray(x, float) - np.mean(x)))[1 : m + 1] ** 2
    freq = 2.0 * np.pi * np.arange(1, m + 1) / n
    trial = np.linspace(-0.45, 0.95, 281)
    whitened = (power_at * freq ** (2.0 * trial[:, None])).mean(axis=1)
    return float(trial[np.argmin(np.log(whitened) - 2.0 * trial * np.log(freq).mean())])


def memory_exponent(x: Array) -> float:
    """Exponent a of an autocorrelation that fades as lag ** -a: 1 - 2 d, 1 where there is no long memory."""
    return 1.0 - 2.0 * local_whittle(x)


def branching(times_s: Array, window_s: float = 60.0) -> float:
    """Branching ratio from counts: 1 - sqrt(mean / variance) (Hardiman and Bouchaud, arXiv 1403.5227)."""
    if len(times_s) < 100:
        return float("nan")
    counts = np.histogram(times_s, np.arange(times_s[0], times_s[-1], window_s))[0]
    mean, var = counts.mean(), counts.var()
    return float(1.0 - np.sqrt(mean / var)) if var > mean else 0.0


def order_flow_imbalance(obs: Array) -> Array:
    """OFI of Cont, Kukanov and Stoikov (arXiv 1011.6402) between successive books, length n - 1."""
    bid, ask = obs["bid"], obs["ask"]
    qb, qa = obs["bid_sz"].astype(float), obs["ask_sz"].astype(float)
    e = np.where(bid[1:] >= bid[:-1], qb[1:], 0) - np.where(bid[1:] <= bid[:-1], qb[:-1], 0)
    e -= np.where(ask[1:] <= ask[:-1], qa[1:], 0) - np.where(ask[1:] >= ask[:-1], qa[:-1], 0)
    return np.asarray(e)


def ofi_regression(obs: Array, step_s: float = 10.0) -> tuple[float, float]:
    """Slope and R2 of the mid change on OFI over intervals, both standardised, winsorised at 1 %."""
    ts = obs["ts"][1:]
    edges = np.arange(int(ts[0]), int(ts[-1]), int(step_s * 1e9))
    at = np.searchsorted(ts, edges)
    flow = np.add.reduceat(np.append(order_flow_imbalance(obs), 0.0), at)[:-1]
    move = np.diff(mids(obs)[np.minimum(at, len(obs) - 1)])
    low, high = np.quantile(flow, (0.01, 0.99))
    flow = np.clip(flow, low, high)
    if flow.std() == 0 or move.std() == 0:
        return float("nan"), float("nan")
    r = float(np.corrcoef(flow, move)[0, 1])
    return r, r * r


def imbalance_signal(obs: Array, buckets: int = 5) -> tuple[float, float]:
    """Imbalance against the sign of the next mid move: area under the curve, and rank correlation of buckets."""
    mid = mids(obs)
    change = np.flatnonzero(np.diff(mid))
    nxt = np.searchsorted(change, np.arange(len(mid)))
    ok = nxt < len(change)
    up = np.diff(mid)[change[np.minimum(nxt, len(change) - 1)]] > 0
    imb = (obs["bid_sz"] - obs["ask_sz"]) / np.maximum(1, obs["bid_sz"] + obs["ask_sz"])
    imb, up = imb[ok], up[ok]
    order = np.argsort(imb, kind="stable")
    rank = np.empty(len(imb))
    rank[order] = np.arange(len(imb))
    ups = int(up.sum())
    auc = (rank[up].sum() - ups * (ups - 1) / 2) / max(1, ups * (len(up) - ups))
    parts = [up[part].mean() for part in np.array_split(order, buckets)]
    steps = np.diff(parts)
    return float(auc), float((steps > 0).mean())


def signature(obs: Array, near_s: float = 1.0, far_s: float = 500.0) -> float:
    """Variance of mid changes per second at the near horizon over that at the far one."""
    grid = on_grid(obs, near_s)
    k = int(far_s / near_s)
    if len(grid) < 4 * k:
        return float("nan")
    near = np.diff(grid).var()
    far = (grid[k:] - grid[:-k]).var() / k
    return float(near / far) if far > 0 else float("nan")


def responses(obs: Array, after: int = 20) -> dict[str, float]:
    """Mean signed mid change `after` events later, for market, limit and cancel, price-changing or not.

    The sign of an event is the direction in which it pushes: buys and bid limits up, bid cancels down. The
    six curves of LOB-Bench (arXiv 2502.09172), at one lag, in units of the mean spread.
    """
    mid = mids(obs)
    n = len(obs) - after - 1
    kind = obs["type"][:n] % KINDS
    side = np.where(obs["type"][:n] >= KINDS, -1.0, 1.0)
    push = np.where(kind >= 3, -side, side)
    jump = mid[1 : n + 1] != mid[:n]
    later = (mid[after + 1 : after + 1 + n] - mid[:n]) * push
    spread = float((obs["ask"] - obs["bid"]).mean())
    out = {}
    for name, kinds in (("market", (5,)), ("limit", (0, 1, 2)), ("cancel", (3, 4))):
        for moved in (True, False):
            pick = np.isin(kind, kinds) & (jump == moved)
            if moved or name == "market":
                pick &= np.isin(kind, kinds)
            else:
                pick &= np.isin(kind, (1, 3))
            label = f"{name}, {'moving' if moved else 'not moving'} the price"
            out[label] = float(later[pick].mean() / spread) if pick.sum() >= 30 else float("nan")
    return out


def markouts(obs: Array, horizons_s: tuple[float, ...] = (1.0, 10.0, 60.0)) -> list[float]:
    """A resting order's mean gain after a fill against it, in ticks per trade: half spread minus the move."""
    hits = np.flatnonzero(obs["sign"] != 0)
    mid, ts = mids(obs), obs["ts"]
    out = []
    for h in horizons_s:
        at = np.searchsorted(ts, ts[hits] + int(h * 1e9)) - 1
        ok = at < len(obs) - 1
        i, j = hits[ok], np.maximum(at[ok], hits[ok])
        price = np.where(obs["sign"][i] > 0, obs["ask"][i], obs["bid"][i])
        out.append(float((obs["sign"][i] * (price - mid[j])).mean()))
    return out
