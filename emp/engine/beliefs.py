"""What was forecast and decided beside what came of it, for the eyes of a console: built from batches, past only.

A forecast's outcome is the move of the mid over its horizon, in ticks. An interruption of the market (halt, gap) ends
the wait of all of them, because no label may cross it.
"""

from collections import deque
from collections.abc import Mapping

import numpy as np

from emp.core.codes import Action, EventFlag
from emp.core.records import HORIZON_EVENTS, HORIZON_NAMES, HORIZON_NS, Array
from emp.observe.markout import mids_after
from emp.observe.trading_views import CalibrationView, HorizonView, OutcomeView

SAMPLE_NS = 100_000_000
"""Market time between two forecasts whose outcomes are awaited."""

LONGEST_NS = HORIZON_NS[-1]
MOST_WAITING = 4_096
OUTCOMES_SHOWN = 64
SETTLED = 512
"""Decisions whose outcome is remembered."""

_BROKEN = int(EventFlag.HALT | EventFlag.RESUME | EventFlag.GAP)
_LAST = len(HORIZON_NAMES) - 1


class Beliefs:
    """The forecasts of one instrument that wait for their outcome, and what is known of those that came."""

    def __init__(self) -> None:
        self.outcomes: deque[OutcomeView] = deque(
            maxlen=OUTCOMES_SHOWN
        )  # at the longest horizon, newest first
        self.forecast: dict[str, HorizonView] = {}
        self._ts: list[Array] = []  # of visible events
        self._mid: list[Array] = []
        self._newest = 0
        self._waiting: deque[Array] = deque()  # DECISION rows
        self._sampled_at = 0
        self._came: dict[int, float] = {}  # seq of a decision -> move in favour of its trade, ticks
        self._count = 0
        n = len(HORIZON_NAMES)
        self._known, self._inside, self._below = (np.zeros(n, np.int64) for _ in range(3))
        self._brier = np.zeros(n)

    def take(self, events: Array, rows: Array) -> None:
        """Take EVENT rows [n] of the instrument and the DECISION rows [m] that they led to."""
        if (events["flags"] & _BROKEN).any():
            self._waiting.clear()
            self._ts, self._mid = [], []
        seen = events[
            ((events["flags"] & EventFlag.VISIBLE) != 0) & (events["n_bid"] > 0) & (events["n_ask"] > 0)
        ]
        if len(seen):
            self._ts.append(seen["ts"].copy())
            self._mid.append(0.5 * (seen["bid_px"][:, 0] + seen["ask_px"][:, 0]))
            self._newest = int(seen["ts"][-1])
        if not len(rows):
            return
        self.forecast = _forecast(rows[-1])
        acts = (rows["action"] != Action.HOLD) & (rows["side"] != 0)
        for i in np.flatnonzero(acts | (rows["ts"] >= self._sampled_at + SAMPLE_NS)):
            row = rows[i]
            if int(row["ts"]) >= self._sampled_at + SAMPLE_NS:
                self._sampled_at = int(row["ts"])
            elif not acts[i]:
                continue
            if row["bid"] < row["ask"] and len(self._waiting) < MOST_WAITING:
                self._waiting.append(row.copy())

    def came_of(self, seq: int) -> float | None:
        """The move in favour of a decision's trade over its horizon, ticks; None until it is known."""
        return self._came.get(seq)

    def settle(self, threshold: Array, fills_since: int) -> None:
        """Compare what is due, and forget what nothing waits for.

        Args:
            threshold: float[HORIZONS], of delta_hat, beyond which a move counts as up or down.
            fills_since: ns, the oldest fill whose outcome is still awaited.
        """
        ts, mid = self._mids()
        due = 0
        while due < len(self._waiting) and int(self._waiting[due]["ts"]) + LONGEST_NS <= self._newest:
            due += 1
        if due:
            rows = np.array([self._waiting[i] for i in range(due)])
            at = np.searchsorted(ts, rows["ts"], side="right") - 1
            ready = int((at + HORIZON_EVENTS[-1] < len(ts)).sum())  # times rise, so the first of them
            if ready:
                self._compare(rows[:ready], mids_after(ts, mid, rows["ts"][:ready]), threshold)
                for _ in range(ready):
                    self._waiting.popleft()
        oldest = int(self._waiting[0]["ts"]) if self._waiting else self._newest
        keep = max(0, int(np.searchsorted(ts, min(oldest, fills_since), side="right")) - 1)
        self._ts, self._mid = [ts[keep:]], [mid[keep:]]

    def mid_after(self, ts: int) -> float | None:
        """The mid, ticks, at the longest horizon after a time; None until it is known, or where it is forgotten."""
        times, mids = self._mids()
        if not len(times) or not times[0] <= ts + LONGEST_NS <= self._newest:
            return None
        return float(mids[int(np.searchsorted(times, ts + LONGEST_NS, side="right")) - 1])

    def calibration(self) -> Mapping[str, CalibrationView]:
        """By horizon, how often what came lay where the quantiles said; empty before the first outcome."""
        found = {}
        for k, name in enumerate(HORIZON_NAMES):
            n = int(self._known[k])
            if n:
                inside, below = self._inside[k] / n, self._below[k] / n
                found[name] = CalibrationView(
                    outcomes=n,
                    inside=float(inside),
                    below=float(below),
                    above=float(1.0 - inside - below),
                    brier=float(self._brier[k] / n),
                )
        return found

    def _mids(self) -> tuple[Array, Array]:
        if len(self._ts) > 1:
            self._ts, self._mid = [np.concatenate(self._ts)], [np.concatenate(self._mid)]
        if not self._ts:
            return np.empty(0, np.int64), np.empty(0)
        return self._ts[0], self._mid[0]

    def _compare(self, rows: Array, later: Array, threshold: Array) -> None:
        """Take in what came; `later` is the mid at each horizon [n, HORIZONS]."""
        mid = 0.5 * (rows["bid"] + rows["ask"])
        moves = later - mid[:, None]
        quantiles = rows["q"].astype(float) * rows["unit_ticks"][:, None, None].astype(float)
        low, high = quantiles[:, :, 0], quantiles[:, :, 2]
        self._known += len(rows)
        self._inside += ((moves >= low) & (moves <= high)).sum(axis=0)
        self._below += (moves < low).sum(axis=0)
        self._brier += _brier(rows, moves, threshold)
        for i, row in enumerate(rows):
            if row["action"] != Action.HOLD and row["side"] != 0:
                self._came[int(row["seq"])] = float(row["side"] * moves[i, int(row["horizon"])])
            self._count += 1
            told = mid[i] + quantiles[i, _LAST]
            self.outcomes.appendleft(
                OutcomeView(
                    n=self._count,
                    ts=int(row["ts"]),
                    due=int(row["ts"]) + LONGEST_NS,
                    low=float(told[0]),
                    median=float(told[1]),
                    high=float(told[2]),
                    came=float(later[i, _LAST]),
                )
            )
        while len(self._came) > SETTLED:
            self._came.pop(next(iter(self._came)))


def _brier(rows: Array, moves: Array, threshold: Array) -> Array:
    """Sum over rows of the squared error of the class shares, mean over classes, by horizon [HORIZONS]."""
    units = np.maximum(rows["unit_ticks"].astype(float), 1e-9)[:, None]
    came = 1 + (moves > threshold * units).astype(int) - (moves < -threshold * units).astype(int)
    errors = rows["p"].astype(float) - np.eye(3)[came]
    squared: Array = (errors**2).mean(axis=2).sum(axis=0)
    return squared


def _forecast(row: Array) -> dict[str, HorizonView]:
    """The forecast behind one DECISION record, in ticks, by horizon."""
    unit = float(row["unit_ticks"])
    found = {}
    for k, name in enumerate(HORIZON_NAMES):
        low, median, high = (float(q) * unit for q in row["q"][k])
        down, flat, up = (float(p) for p in row["p"][k])
        found[name] = HorizonView(
            low=low, median=median, high=high, mean=float(row["mean"][k]) * unit, down=down, flat=flat, up=up
        )
    return found
