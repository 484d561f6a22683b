"""Whether a run's times are of the decisions that it made, and of all of them: what a day's latency is weighted by is
held against its rows.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from emp.core.errors import JournalError
from emp.core.records import Array
from emp.engine.contender import SAID, recorded_forecasts
from emp.engine.monitor_rerun import Journalled
from emp.journal.latency_log import HOUR_NS, LATENCY, read_latency
from emp.journal.run import RunFolder

TIMED = 0.99
"""Share of an hour's decisions of which there must be times: what is missing could all be above the p99."""

Decided = Counter[tuple[str, int]]
"""Decisions by model and hour since 1970."""


def refuse_more_times(folder: RunFolder, rows: Array, served: Sequence[str]) -> defaultdict[str, set[int]]:
    """Hours since 1970 of which times are missing, by model; raise JournalError where `latency.jsonl` times decisions
    that are not in the action log.

    Of the decisions from any hour on there are times of at most all: a crash loses times of an hour, and a batch counts
    into the hour in which its first event was received, or into an earlier one after a clock was set back.

    Args:
        folder: the run.
        rows: DECISION rows of the whole run.
        served: hashes of the models whose rows they are, in the order of `model_id`.
    """
    timed = Decided()
    for one in read_latency(folder.path):
        timed[one.model, one.hour] += one.n
    decided = decisions_by_hour(folder, rows, served)
    for model in dict.fromkeys(name for name, _ in timed):
        hours = sorted({hour for name, hour in (*timed, *decided) if name == model}, reverse=True)
        told = found = 0
        for hour in hours:
            told, found = told + timed[model, hour], found + decided[model, hour]
            if told > found:
                raise JournalError(
                    f"{folder.path / LATENCY}: tells of {told} decisions of model {model[:12]} from hour {hour} (since"
                    f" 1970) on; the action log has {found}"
                )
    return untimed(timed, decided)


def untimed(timed: Decided, decided: Decided) -> defaultdict[str, set[int]]:
    """Hours of which fewer than TIMED of the decisions are timed, by model. What an hour has more than its own is of
    the next: a batch counts into the hour of its first event.
    """
    found = defaultdict[str, set[int]](set)
    for model in dict.fromkeys(name for name, _ in decided):
        left = 0
        for hour in sorted({hour for name, hour in (*timed, *decided) if name == model}):
            left += timed[model, hour]
            if left < TIMED * decided[model, hour]:
                found[model].add(hour)
            left = max(left - decided[model, hour], 0)
    return found


def decisions_by_hour(folder: RunFolder, rows: Array, served: Sequence[str]) -> Decided:
    """How many of DECISION[n] rows each model made in each hour in which this machine received their events."""
    found = Decided()
    newest = 0
    for _, events, mine in Journalled(folder, rows).take(0, None):
        hours = np.maximum.accumulate(np.maximum(events["ts_recv"] // HOUR_NS, newest))
        newest = int(hours[-1])
        edges = [0, *(np.flatnonzero(np.diff(hours)) + 1).tolist(), len(events)]
        for begin, end in pairwise(edges):
            used = len(mine) if end == len(events) else _rows_of(events[begin:end], mine)
            for model, n in zip(*np.unique(mine["model_id"][:used], return_counts=True), strict=True):
                found[served[model], int(hours[begin])] += int(n)
            mine = mine[used:]
    return found


def _rows_of(events: Array, rows: Array) -> int:
    """How many of some rows the events led to."""
    return int(recorded_forecasts(events, rows, np.zeros(len(events), SAID)))
