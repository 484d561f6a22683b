"""How rate and level of a market wander: variances of their slow parts, by autocovariances of half minutes.

Counts and mean log spreads of half minutes are a slow part plus noise that is independent between windows, so
covariances at lags of one window and more are free of the noise. They are fitted by sums of three exponentials with
fixed scales: a cascade whose memory fades like a power between them.
"""

import numpy as np

from emp.core.records import Array
from emp.sim.flow.params import RATES

WINDOW_S = 30
TAU_S = (60.0, 300.0, 1800.0)
LAGS = (1, 2, 3, 5, 8, 12, 20, 30, 45, 60)
MAX_TIE = 0.95


def half_minutes(obs: Array) -> tuple[Array, Array]:
    """Log count and mean log spread of each window, less their means."""
    edges = np.arange(int(obs["ts"][0]), int(obs["ts"][-1]), WINDOW_S * 10**9)
    at = np.searchsorted(obs["ts"], edges)
    count = np.diff(at)
    total = np.concatenate([[0.0], np.cumsum(np.log(np.maximum(1, obs["ask"] - obs["bid"])))])
    mean = (total[at[1:]] - total[at[:-1]]) / np.maximum(1, count)
    mean[count == 0] = mean[count > 0].mean() if count.any() else 0.0
    log_count = np.log(np.maximum(count, 1.0))
    return log_count - log_count.mean(), mean - mean.mean()


def covariances(x: Array, y: Array) -> tuple[Array, Array]:
    """Lags in windows, and the mean cross-covariance of both directions at each."""
    lags = np.array([k for k in LAGS if k < len(x) // 4])
    both = [(x[k:] * y[:-k]).mean() + (y[k:] * x[:-k]).mean() for k in lags]
    return lags, np.array(both) / 2.0


def parts(lags: Array, cov: Array) -> Array:
    """Non-negative weights (RATES,) of exp(-lag / TAU_S) that come nearest to the covariances."""
    if len(lags) < RATES:
        return np.zeros(RATES)
    basis = np.exp(-lags[:, None] * WINDOW_S / np.array(TAU_S)[None, :])
    weight = np.full(RATES, max(float(cov[0]), 1e-3) / RATES)
    for _ in range(2000):  # multiplicative non-negative least squares
        weight = weight * np.maximum(basis.T @ cov, 0.0) / (basis.T @ (basis @ weight) + 1e-12)
    return np.asarray(weight)


def fit_wander(p: Array, obs: Array) -> None:
    """Write variances of the parts of log rate and log level, and their correlations."""
    count, spread = half_minutes(obs)
    lags, of_count = covariances(count, count)
    rate, level = parts(lags, of_count), parts(*covariances(spread, spread))
    p["rate_tau_s"], p["rate_var"], p["level_var"] = TAU_S, rate, level
    lags, cross = covariances(count, spread)
    tie = np.zeros(RATES)
    if len(lags) >= RATES and rate.sum() > 0 and level.sum() > 0:
        total = np.sqrt(rate * level)
        basis = np.exp(-lags[:, None] * WINDOW_S / np.array(TAU_S)[None, :]) @ total
        tie[:] = np.clip((basis @ cross) / (basis @ basis + 1e-12), -MAX_TIE, MAX_TIE)
    p["level_rate"] = tie


def local_level(p: Array, obs: Array) -> Array:
    """The level at each event (n,), mean of the logarithm 0: the best linear estimate from all half minutes.

    It uses what came later too: it serves to take recorded distances at the usual level, and is no feature.
    """
    _, spread = half_minutes(obs)
    n = len(spread)
    lag = np.arange(n) * float(WINDOW_S)
    cov = (np.exp(-lag[:, None] / np.array(TAU_S)) * p["level_var"][0]).sum(axis=1)
    noise = max(float(spread.var()) - float(cov[0]), 1e-6)
    matrix = cov[np.abs(np.subtract.outer(np.arange(n), np.arange(n)))]
    smooth = matrix @ np.linalg.solve(matrix + noise * np.eye(n), spread)
    middle = int(obs["ts"][0]) + (np.arange(n) + 0.5) * WINDOW_S * 1e9
    return np.asarray(np.exp(np.interp(obs["ts"].astype(float), middle, smooth - smooth.mean())))
