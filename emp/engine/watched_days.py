"""What a recorded run says of the model that served, day by day: from its journal, its monitor and its times.

Days are those of UTC at which this machine received events, so that nothing but the passing of real days makes more of
them. Each is summed up by model: how the inputs lay in the deciles of the training, how sure the model was and how
often it was right, what one lot on its forecasts brought beside the dumb trader's, and what the monitor had to say.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from emp.core.codes import EventFlag
from emp.core.instrument import Instrument
from emp.core.records import HORIZONS, Array
from emp.engine.contender import SAID, recorded_forecasts
from emp.engine.inputs import InputStream, reference_of
from emp.engine.load import LoadedModel
from emp.engine.monitor import BEHIND, DRIFT, EARNED, FAILED, gather, head_of
from emp.engine.monitor_rerun import Journalled, Stretch, stretches
from emp.engine.rerun import Closed, Terms
from emp.engine.reversion import NAME
from emp.journal.latency_log import HOUR_NS, Hour, read_latency
from emp.journal.monitor_log import read_monitor
from emp.journal.run import RunFolder
from emp.model.artifact import trained_on
from emp.model.scoring import BINS as CONFIDENCE_BINS
from emp.model.scoring import SEEN, clear, new_scoring, score_all
from emp.observe.drift import count_rows
from emp.observe.psi import BINS
from emp.perception.normalise import CORE

DAY_NS = 24 * HOUR_NS


@dataclass
class InstrumentDay:
    """Sums of one instrument."""

    instrument: Instrument
    trained: bool  # whether the model was trained on it
    looks: int = 0
    hours: set[int] = field(default_factory=set)  # of the day, in which the monitor looked
    counts: Array = field(
        default_factory=lambda: np.zeros((CORE, BINS), np.int64)
    )  # of inputs; 0 without a reference
    outcomes: Array = field(default_factory=lambda: np.zeros(HORIZONS, np.int64))
    brier: Array = field(default_factory=lambda: np.zeros(HORIZONS))
    top: Array = field(default_factory=lambda: np.zeros((HORIZONS, CONFIDENCE_BINS, 3)))
    value: float = 0.0  # ticks that one lot brought
    dumb: float = 0.0  # and that of the dumb trader
    log_evidence: Mapping[str, float | None] = field(
        default_factory=dict
    )  # of every comparison of the lineup, at the last look
    rows: list[tuple[Array, Array, Array]] = field(default_factory=list)  # ts, bid, ask of visible events
    closed: Array = field(
        default_factory=lambda: np.zeros(3)
    )  # lots, ticks times lots expected of them, and brought


@dataclass
class WatchedDay:
    """What is known of one model on one day."""

    day: int  # since 1970
    model: str
    instruments: dict[str, InstrumentDay] = field(default_factory=dict)
    alarms: list[str] = field(default_factory=list)
    earned: Mapping[str, Any] = field(
        default_factory=dict
    )  # the line that says that the challenger of the lineup has proved better
    lineup: Mapping[str, Any] = field(default_factory=dict)  # the line that says who was compared last
    contests: int = 0  # lineups with a challenger that the run has had so far
    hours: list[Hour] = field(default_factory=list)  # times
    unsigned: list[int] = field(default_factory=list)  # its hours of which nothing was signed as they went by
    untimed: list[int] = field(default_factory=list)  # its hours of which times are missing
    end: int = 0  # events of the run up to its last
    over: bool = False  # whether events of a later day came, and the monitor has told of what came after it


class _Watcher:
    """Sums up one instrument while one model serves, as the monitor sees it."""

    def __init__(self, model: LoadedModel, instrument: Instrument, inputs: InputStream) -> None:
        artifact = model.artifact
        head = head_of(artifact, instrument)
        self.instrument = instrument
        self.trained = instrument.name in trained_on(artifact.manifest)
        self._warmup = artifact.manifest.warmup_events
        self._inputs = inputs
        self._reference = reference_of(artifact, head)
        self._scoring = new_scoring(np.array([artifact.manifest.thresholds[head]]), artifact.manifest.k_sigma)

    def take(self, events: Array, said: Array, into: InstrumentDay) -> None:
        """Take EVENT[n] of the instrument and what was said of them, SAID[n]."""
        rows, ages = self._inputs.take(np.ascontiguousarray(events))
        if self._reference is not None:
            count_rows(into.counts, rows[ages[:, 1] > self._warmup], self._reference.edges)
        places = np.flatnonzero(said["made"] & (said["state_events"] > self._warmup))
        seen = np.zeros(len(places), SEEN)
        chosen = events[places]
        seen["at"], seen["ts"] = places, chosen["ts"]
        seen["bid"], seen["ask"] = chosen["bid_px"][:, 0], chosen["ask_px"][:, 0]
        gather(said, places, seen, 0)
        s = self._scoring[0]
        score_all(s, seen)
        into.outcomes += s["outcomes"]
        into.brier += s["brier"]
        into.top += s["top"]
        clear(s)
        visible = (events["flags"] & EventFlag.VISIBLE) != 0
        shown = events[visible]
        into.rows.append((shown["ts"].copy(), shown["bid_px"][:, 0].copy(), shown["ask_px"][:, 0].copy()))


def watched_days(
    folder: RunFolder, rows: Array, terms: Callable[[int], Terms], model: Callable[[str], LoadedModel]
) -> list[WatchedDay]:
    """Every day of a run by every model that served on it, in order; what the monitor did not see is left out.

    Args:
        rows: DECISION rows of the whole run.
        terms: those of the process before whose trading the run had so many events.
        model: the artifact of a hash.
    """
    found: dict[tuple[int, str], WatchedDay] = {}
    market = Journalled(folder, rows)
    inputs: list[InputStream] = []
    instruments: Sequence[Instrument] = ()
    newest = contests = 0
    for one in stretches(folder):
        contests += bool(one.told["challenger"])
        if one.told["fresh"]:
            instruments, _, _ = terms(one.first)
            inputs = [InputStream(each) for each in instruments]
        serving = model(one.told["serving"])
        watchers = [_Watcher(serving, each, seen) for each, seen in zip(instruments, inputs, strict=True)]
        lines = _Lines(one)
        before: WatchedDay | None = None
        for first, events, mine in market.take(one.first, one.end):
            said = np.zeros(len(events), SAID)
            recorded_forecasts(events, mine, said)
            days = np.maximum.accumulate(np.maximum(events["ts_recv"] // DAY_NS, newest))
            newest = int(days[-1])
            for begin, end in _pieces(days):
                day = int(days[begin])
                into = found.setdefault((day, serving.artifact.hash), WatchedDay(day, serving.artifact.hash))
                _take(watchers, events[begin:end], said[begin:end], into)
                into.end, into.contests = first + end, contests
                if into.lineup is not one.told:
                    _enter(one.told, before, into)
                before = into
                for told in lines.until(first + end):
                    at = int(told["at"]) - first - 1
                    _note(told, int(events["ts_recv"][max(at, 0)]) % DAY_NS // HOUR_NS, into)
    told_of = max((told["at"] for _, told in read_monitor(folder.path)), default=0)
    for each in found.values():
        each.over = each.day < newest and each.end < told_of
    for hour in read_latency(folder.path):
        known = found.get((hour.hour // 24, hour.model))
        if known is not None:
            known.hours.append(hour)
    return [found[key] for key in sorted(found)]


def add_closed(days: Sequence[WatchedDay], closed: Closed) -> None:
    """Say of every day which lots were closed on it (`emp.engine.rerun`)."""
    for day in days:
        for name, one in day.instruments.items():
            one.closed = closed.get((day.day, day.model, name), one.closed)


def _take(watchers: Sequence[_Watcher], events: Array, said: Array, into: WatchedDay) -> None:
    """Let every instrument's watcher take its part of EVENT[n] and SAID[n], all of one day."""
    for i, watcher in enumerate(watchers):
        mine = events["instrument"] == i
        name = watcher.instrument.name
        summed = into.instruments.setdefault(name, InstrumentDay(watcher.instrument, watcher.trained))
        watcher.take(events[mine], said[mine], summed)


def _enter(lineup: Mapping[str, Any], before: WatchedDay | None, into: WatchedDay) -> None:
    """A lineup comes to a day, from the day before where it has been seen: what the one before it had found of its own
    comparisons says nothing of this one's.
    """
    into.lineup, into.earned = lineup, {}
    known = {} if before is None else before.instruments
    for name, one in into.instruments.items():
        one.log_evidence = known[name].log_evidence if name in known else {}


def _note(told: Mapping[str, Any], hour: int, into: WatchedDay) -> None:
    """Take in what a line of the monitor told in an hour of the day."""
    kind = told["kind"]
    one = into.instruments[told["instrument"]]
    if kind == "look":
        one.looks += 1
        one.hours.add(hour)
        one.value += told["value"]["serving"]
        one.dumb += told["value"][NAME]
        one.log_evidence = told["log_evidence"]
    elif kind == DRIFT and is_alarm(told):
        alarm = f"drift of {', '.join(told['drifted'])} on {told['instrument']}"
        if alarm not in into.alarms:
            into.alarms.append(alarm)
    elif kind == FAILED:
        into.alarms.append(f"{kind}: {told['gate']}")
    elif kind == BEHIND:
        into.alarms.append("behind the dumb trader")
    elif kind == EARNED:
        into.earned = told


def is_alarm(told: Mapping[str, Any]) -> bool:
    """Whether a line of the monitor makes its day red."""
    drifted = told["kind"] == DRIFT and bool(told["drifted"]) and bool(told["trained"])
    return drifted or told["kind"] in (FAILED, BEHIND)


class _Lines:
    """What the monitor told during a stretch, taken in order."""

    def __init__(self, one: Stretch) -> None:
        self._lines = [json.loads(line) for _, line in one.lines]
        self._next = 0

    def until(self, at: int) -> Iterator[Mapping[str, Any]]:
        """Yield those found up to event `at`."""
        while self._next < len(self._lines) and self._lines[self._next]["at"] <= at:
            self._next += 1
            yield self._lines[self._next - 1]


def _pieces(days: Array) -> Iterator[tuple[int, int]]:
    """Ends of the stretches of equal days in int[n] of days in order."""
    edges = [0, *(np.flatnonzero(np.diff(days)) + 1).tolist(), len(days)]
    yield from pairwise(edges)
