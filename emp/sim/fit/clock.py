"""When the next event comes: what foretells a gap, and the gaps that followed each forecast."""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel
from emp.core.records import Array
from emp.sim.fit.samples import quantile_table, recent_hits, what_came
from emp.sim.flow.params import BURSTS, LASTS, PACE_LOGS, PACES, PAUSES
from emp.sim.flow.qr import take_gap
from emp.sim.flow.tables import LOG_SHIFT_NS

SMOOTH_NS = 30_000_000_000
HALF_LIVES = (0.0, 1.0, 4.0, 32.0)  # of the averages of log gaps, in events
LONG = 0.95  # a long gap is longer than this share


@kernel
def _paces(log_gap: Any, decay: Any, start: float) -> Any:
    out = np.zeros((len(log_gap), PACE_LOGS))
    pace = np.full(PACE_LOGS, start)
    for i in range(len(log_gap)):
        out[i] = pace
        take_gap(pace, decay, log_gap[i])
    return out


def usual_gaps(ts: Array) -> Array:
    """Gaps (n - 1,) as they would be at the recording's mean rate, by the number of events half a minute around."""
    around = np.searchsorted(ts, ts + SMOOTH_NS) - np.searchsorted(ts, ts - SMOOTH_NS)
    usual = len(ts) / (ts[-1] - ts[0]) * 2 * SMOOTH_NS
    return np.asarray(np.maximum(1.0, np.diff(ts) * (around[:-1] / usual)))


def fit_clock(p: Array, obs: Array) -> None:
    """Forecasts of the log gap and of a long gap, linear by least squares, and the gaps by both."""
    gap = usual_gaps(obs["ts"])
    x = np.log(gap + LOG_SHIFT_NS)
    decay = np.array([0.5 ** (1.0 / h) if h else 0.0 for h in HALF_LIVES])
    p["pace_start"], p["pace_decay"] = x.mean(), decay
    last = np.eye(LASTS)[what_came(obs)[:-1]]
    hits = recent_hits(obs)[1:]  # the one before a gap included
    design = np.column_stack([_paces(x, decay, x.mean()), hits, last])
    ridge = 1e-6 * len(x) * np.eye(design.shape[1])
    wanted = np.column_stack([x, gap > np.quantile(gap, LONG)])
    beta = np.linalg.solve(design.T @ design + ridge, design.T @ wanted).T
    p["pace_weight"], p["pace_burst"], p["pace_last"] = np.split(
        beta, [PACE_LOGS, PACE_LOGS + BURSTS], axis=1
    )
    pace, pause = beta @ design.T
    p["pace_edges"] = np.quantile(pace, np.arange(1, PACES) / PACES)
    row = np.searchsorted(p["pace_edges"][0], pace, side="right")
    for i in range(PACES):
        among = row == i if (row == i).any() else np.full(len(row), True)
        p["pause_edges"][0, i] = np.quantile(pause[among], np.arange(1, PAUSES) / PAUSES)
        column = np.searchsorted(p["pause_edges"][0, i], pause[among], side="right")
        for k in range(PAUSES):
            here = gap[among][column == k]
            p["gap_ns"][0, i, k] = np.maximum(1, quantile_table(here if len(here) else gap[among], 256))
