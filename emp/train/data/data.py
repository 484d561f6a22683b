"""Training data: series of recordings, seen by the perception that trades, labelled, and split by time.

    series = parse_series("GOOG=lobster/GOOG_2012-06-21_34200000_57600000_message_10.csv.zst")
    data = load_dataset(series, k_sigma=0.5)

What perception saw is kept in the cache directory (`emp.train.data.store`) under hashes of the recordings' bytes, the
instrument's facts and every source file that has a part in it, so that a stale file cannot be used.
"""

import glob
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import numpy as np

from emp.access import recordings
from emp.access.recordings import open_recording
from emp.access.recordings.journalled import journalled_parts
from emp.core.errors import DataError, UsageError
from emp.core.instrument import Instrument, catalogue, find
from emp.core.numba.cache import cache_root
from emp.core.numba.jit import closure_hash
from emp.core.records import Array
from emp.perception.schema import schema_hash
from emp.perception.targets import Targets, segments, targets, thresholds, unit_ticks
from emp.train.data import fingerprint
from emp.train.data import table as seeing
from emp.train.data.store import load_or_compute
from emp.train.data.table import FeatureTable, extract_features, with_encoder, zero_encoder

WARMUP_EVENTS = 512
"""Visible events after a reset before a row is trained on, judged or traded: the roadmap's burn-in."""

TRAIN_SHARE, CALIBRATE_SHARE = 0.6, 0.1
TEST_SHARE = 1.0 - TRAIN_SHARE - CALIBRATE_SHARE

_SEEING, _READING = (Path(str(module.__file__)).resolve() for module in (seeing, recordings))
"""Sources whose code, with all that it reaches, a feature table depends on."""

_COMPANIONS = (("message", "orderbook"), ("orderbook", "message"), (r"book\d*", "trades"))

Progress = Callable[[int, int], None]
"""Called with stored bytes read and stored bytes in all."""

Part = Literal["train", "calibrate", "test"]


class Series(NamedTuple):
    """Recordings of one instrument on one feed, in order of time."""

    name: str
    instrument: str
    paths: tuple[Path, ...]


class Split(NamedTuple):
    """Where calibration and test begin, in ns; training comes before."""

    calibrate_ns: int
    test_ns: int
    whole_days: bool  # parts are of whole trading days


@dataclass(frozen=True)
class Dataset:
    """A series as the model sees it, with labels; n rows, one per visible event."""

    series: str
    instrument: Instrument
    files: tuple[dict[str, str], ...]  # name and sha256
    seen: FeatureTable
    unit: Array  # float64[n]: ticks per unit of delta_hat
    segment: Array  # int64[n]: unbroken stretch of the stream
    targets: Targets
    split: Split
    paths: tuple[Path, ...] = ()  # the recordings, where it was read from some
    own: Array | None = None  # float64[HORIZONS]: class thresholds of its own past; None: those of the head

    @property
    def domain(self) -> str:
        """Name of the head that serves the instrument."""
        return domain_name(self.instrument)

    @property
    def ts(self) -> Array:
        """Time of each row, ns."""
        return np.asarray(self.seen.states["ts"])

    @property
    def x(self) -> Array:
        """Model inputs, float32[n, INPUTS]."""
        return self.seen.x

    def part(self, which: Part) -> Array:
        """Row numbers of a part, without those before the warm-up is over."""
        start, end = self.span(which)
        return np.flatnonzero(
            (self.ts >= start) & (self.ts < end) & (self.seen.rows["since_reset"] >= WARMUP_EVENTS)
        )

    def span(self, which: Part) -> tuple[int, int]:
        """First instant of a part and first instant after it, ns."""
        edges = (int(self.ts[0]), self.split.calibrate_ns, self.split.test_ns, int(self.ts[-1]) + 1)
        place = ("train", "calibrate", "test").index(which)
        return edges[place], edges[place + 1]

    def delta_hat(self, which: Part, rows: Array) -> Array:
        """Labels of some rows of a part, NaN where they become known only after the part has ended."""
        known = self.targets.known_ns[rows]
        return np.where(known < self.span(which)[1], self.targets.delta_hat[rows], np.float32(np.nan))

    def edges(self, head: Array) -> Array:
        """Class thresholds by which its moves are labelled, where those of the head that serves it are `head`."""
        return head if self.own is None else self.own

    def sample(self, start_ns: int, end_ns: int) -> Array:
        """Hashes that stand for the rows of a span, by their content: uint64[m] (`emp.train.data.fingerprint`)."""
        return fingerprint.sample(*self._content(start_ns, end_ns))

    def rows_sha256(self, start_ns: int, end_ns: int) -> str:
        """Hash of the content of the rows of a span."""
        return fingerprint.rows_sha256(*self._content(start_ns, end_ns))

    def _content(self, start_ns: int, end_ns: int) -> tuple[Array, Array, Array]:
        inside = (self.ts >= start_ns) & (self.ts < end_ns)
        return self.ts[inside], self.seen.rows["bid"][inside], self.seen.rows["ask"][inside]

    def by_own_thresholds(self) -> "Dataset":
        """The same data, labelled by thresholds of its own training part whatever head serves it."""
        return replace(self, own=thresholds(self.delta_hat("train", self.part("train"))))

    def all_test(self) -> "Dataset":
        """The same data, all of which is the test part: of a series of which nothing was trained on."""
        first = int(self.ts[0])
        return replace(self, split=Split(first, first, self.split.whole_days))

    def encoded(self, encoder: Any) -> "Dataset":
        """The same data through another depth encoder."""
        return replace(self, seen=with_encoder(self.seen, encoder))


def domain_name(instrument: Instrument) -> str:
    """Name of an instrument's domain: "asset_class/venue"."""
    return f"{instrument.asset_class.name.lower()}/{instrument.venue.name.lower()}"


def parse_series(text: str) -> Series:
    """Read `[INSTRUMENT=]PATH[,PATH...]`; a path may hold wildcards, an instrument may stand in the file name.

    A path may also be the folder of a run or of the market data that it journalled.
    """
    left, equals, right = text.partition("=")
    patterns = (right if equals else left).split(",")
    named = [Path(p) for pattern in patterns for p in sorted(glob.glob(pattern)) or [pattern]]
    paths: list[Path] = []
    for path in named:
        found = journalled_parts([path]) if path.is_dir() else [path]
        if not found or not all(one.is_file() for one in found):
            raise DataError(f"{path}: no such recording")
        paths += found
    more = f"+{len(named) - 1}" if len(named) > 1 else ""
    first = named[0].parent if named[0].name == "market" else named[0]
    name = first.name.split(".")[0] + more
    if equals:
        return Series(name, find(left).name, tuple(paths))
    guess = paths[0].name.split("_")[0]
    if guess not in catalogue():
        raise UsageError(
            f"{text}: the file name does not begin with a known instrument: write INSTRUMENT={text}"
        )
    return Series(name, guess, tuple(paths))


def load_dataset(series: Series, k_sigma: float, progress: Progress | None = None) -> Dataset:
    """Perceive a series (or take it from the cache), label it and split it by time.

    Raises:
        DataError: a recording cannot be read, is not in order, or is too short to be split.
    """
    instrument = find(series.instrument)
    files = tuple({"name": path.name, "sha256": _sha256(path)} for path in _with_companions(series.paths))
    code = (closure_hash(_SEEING), closure_hash(_READING))
    seen = load_or_compute(
        cache_root() / "features",
        _hash(files),
        _hash(msgspec.to_builtins(instrument), schema_hash(), code),
        lambda: features_of_recordings(series, instrument, progress),
    )
    return replace(label(series.name, instrument, files, seen, k_sigma), paths=tuple(series.paths))


def features_of_recordings(series: Series, instrument: Instrument, progress: Progress | None) -> FeatureTable:
    """Process all recordings of a series."""
    source = open_recording(series.paths, instrument, progress=progress)
    return extract_features(source.batches(), instrument, zero_encoder())


def label(
    name: str, instrument: Instrument, files: tuple[dict[str, str], ...], seen: FeatureTable, k_sigma: float
) -> Dataset:
    """Make a dataset of what was seen."""
    rows, ts = seen.rows, seen.states["ts"]
    unit = unit_ticks(seen.states["spread_ticks"], rows["sigma_ticks"], k_sigma)
    segment = segments(rows["since_reset"])
    split = split_by_time(name, ts, rows["day"])
    labels = targets(rows["bid"] + rows["ask"], ts, unit, segment)
    return Dataset(name, instrument, files, seen, unit, segment, labels, split)


def split_by_time(name: str, ts: Array, day: Array) -> Split:
    """Split into train, calibrate and test: by trading days where there are three or more, else by events.

    A day of few events (a Sunday evening) counts as one; every part has at least one day.
    """
    n = len(ts)
    if n < 10:
        raise DataError(f"{name}: {n} visible events are too few to train, calibrate and test on")
    days, first = np.unique(day, return_index=True)
    if len(days) >= 3:
        test = max(1, round(TEST_SHARE * len(days)))
        calibrate = max(1, round(CALIBRATE_SHARE * len(days)))
        return Split(int(ts[first[-test - calibrate]]), int(ts[first[-test]]), whole_days=True)
    calibrate_ns, test_ns = (int(ts[int(n * a)]) for a in (TRAIN_SHARE, TRAIN_SHARE + CALIBRATE_SHARE))
    return Split(calibrate_ns, test_ns, whole_days=False)


def _with_companions(paths: tuple[Path, ...]) -> list[Path]:
    """The named files and the second files of pairs that a reader finds beside them."""
    found = list(paths)
    for path in paths:
        for mine, other in _COMPANIONS:
            beside = path.with_name(re.sub(mine, other, path.name))
            if beside not in found and beside.is_file():
                found.append(beside)
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
