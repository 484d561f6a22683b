"""What the looks at a run say: what it takes, how much room is left, and what grows.

Growth is the median of all slopes between two looks (Theil 1950, Sen 1968), with Sen's 95 % interval from Kendall's
statistic. Looks that follow each other tell the same thing twice, so it is taken over the medians of BLOCKS blocks; the
first fifth is left out, in which caches fill and kernels are loaded.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from emp.app.soak.samples import Sample
from emp.core.records import Array

Verdict = Literal["ok", "warn", "bad", "short"]

BLOCKS = 40
LEAST_S = 600.0
"""Seconds below which growth is too short to say."""

WARM_UP = 0.2
Z95 = 1.96
DAY_S = 86_400.0

HORIZON_DAYS = 14.0
"""Days for which what grows must find room: the two weeks on paper that live trading asks for."""

BUSY = 0.8
"""Share of a core above which the busiest thread has no headroom: at 0.8 a queue is four times as long as the work."""


class Limits(NamedTuple):
    """What a run must stay below."""

    p99_ms: float
    total_p99_ms: float
    memory: int  # bytes of the machine
    descriptors: int  # 0: not known


class Line(NamedTuple):
    """One thing that was measured."""

    verdict: Verdict
    what: str
    found: str
    limit: str = ""


class Growth(NamedTuple):
    """Change in a day, with its 95 % interval."""

    a_day: float
    low: float
    high: float


class Judged(NamedTuple):
    """What came of a soak."""

    lines: list[Line]
    figures: dict[str, float | None]

    @property
    def verdict(self) -> Verdict:
        """The worst of all lines; `short` where nothing is wrong but growth could not be told."""
        found = {line.verdict for line in self.lines}
        return next((one for one in ("bad", "warn", "short") if one in found), "ok")


def growth(at_s: Array, values: Array) -> Growth | None:
    """Growth in a day of what was seen at times [n] in s; None where the looks span less than LEAST_S."""
    kept = at_s >= at_s[0] + WARM_UP * (at_s[-1] - at_s[0]) if len(at_s) else at_s
    if len(at_s) < 2 or at_s[-1] - at_s[0] < LEAST_S or kept.sum() < BLOCKS:
        return None
    parts = np.array_split(np.flatnonzero(kept), BLOCKS)
    t = np.array([at_s[part].mean() for part in parts])
    y = np.array([np.median(values[part]) for part in parts])
    i, j = np.triu_indices(BLOCKS, 1)
    slopes = np.sort((y[j] - y[i]) / (t[j] - t[i])) * DAY_S
    half = Z95 * math.sqrt(BLOCKS * (BLOCKS - 1) * (2 * BLOCKS + 5) / 18.0) / 2.0
    low = max(0, math.floor(len(slopes) / 2.0 - half))
    high = min(len(slopes) - 1, math.ceil(len(slopes) / 2.0 + half))
    return Growth(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))


def judge(samples: Sequence[Sample], limits: Limits) -> Judged:
    """Every line of the page; at least two looks."""
    columns = {
        name: np.array([getattr(one, name) for one in samples]) for name in Sample._fields if name != "why"
    }
    found = _Lines(columns, limits)
    for part in (found.speed, found.cpu, found.memory, found.disk, found.descriptors, found.events):
        part()
    found.health([one.why for one in samples if not one.healthy])
    return Judged(found.lines, found.figures)


class _Lines:
    """Builds the lines from columns of samples [n]."""

    def __init__(self, columns: dict[str, Array], limits: Limits) -> None:
        self._c, self._limits = columns, limits
        self._span_s = float(columns["at_s"][-1] - columns["at_s"][0])
        self.lines: list[Line] = []
        self.figures: dict[str, float | None] = {"hours": self._span_s / 3600.0}

    def _add(self, verdict: Verdict, what: str, found: str, limit: str = "", **figures: float | None) -> None:
        self.lines.append(Line(verdict, what, found, limit))
        self.figures |= figures

    def speed(self) -> None:
        """Worst and middle p99 of model and decision."""
        for what, name, limit in (
            ("p99 of the model", "p99_ms", self._limits.p99_ms),
            ("p99 of a decision", "total_p99_ms", self._limits.total_p99_ms),
        ):
            worst, middle = float(self._c[name].max()), float(np.median(self._c[name]))
            room = "" if not worst else f"; headroom {limit / worst:,.0f} times"
            self._add(
                "ok" if worst <= limit else "bad",
                what,
                f"{middle * 1e3:,.1f} us in the middle, {worst * 1e3:,.1f} us at worst{room}",
                f"{limit * 1e3:,.0f} us",
                **{f"{name}_middle": middle, f"{name}_worst": worst},
            )
        lag, queue = float(self._c["lag_ms"].max()), int(self._c["queue"].max())
        self._add(
            "ok", "longest wait of an event", f"{lag:,.1f} ms; longest queue {queue:,}", lag_ms_worst=lag
        )

    def cpu(self) -> None:
        """Cores that the process takes, and how busy its busiest thread is."""
        seconds = np.maximum(np.diff(self._c["at_s"]), 1e-9)
        busiest = self._c["busiest_s"][1:] / seconds
        cores = float(self._c["cpu_s"][-1] - self._c["cpu_s"][0]) / max(self._span_s, 1e-9)
        high = float(np.quantile(busiest, 0.99))
        self._add(
            "ok" if high <= BUSY else "bad",
            "processor",
            f"{cores:.2f} cores; the busiest thread {busiest.mean():.0%}, {high:.0%} at the 99th percentile",
            f"{BUSY:.0%} of a core",
            cores=cores,
            busiest_mean=float(busiest.mean()),
            busiest_p99=high,
        )

    def memory(self) -> None:
        """Bytes in memory, and whether they grow."""
        rss = self._c["rss"]
        grown = growth(self._c["at_s"], rss)
        now = f"{rss[-1] / 1e6:,.0f} MB"
        limit = f"{self._limits.memory / 1e9:,.0f} GB in {HORIZON_DAYS:.0f} days"
        self._growing("memory", now, limit, grown, float(rss[-1]), self._limits.memory)
        self.figures |= {"rss": float(rss[-1]), "rss_a_day": None if grown is None else grown.a_day}

    def disk(self) -> None:
        """What the run's folder gains in a day, and for how long the disk has room."""
        folder, free = self._c["folder"], float(self._c["free"][-1])
        grown = growth(self._c["at_s"], folder)
        written = float(self._c["written"][-1] - self._c["written"][0]) / max(self._span_s, 1e-9)
        self.figures |= {"folder_a_day": None if grown is None else grown.a_day, "written_a_second": written}
        what = f"{folder[-1] / 1e6:,.1f} MB in the run's folder, {written / 1e3:,.0f} kB/s written"
        if grown is None:
            self._add("short", "disk", f"{what}; growth: too short to say")
            return
        days = free / grown.high if grown.high > 0 else math.inf
        room = f"room for {days:,.0f} days" if days < 10_000 else "room for years"
        self._add(
            "ok" if days >= HORIZON_DAYS else "bad",
            "disk",
            f"{what}, {grown.a_day / 1e6:,.0f} MB a day, {room}",
            f"room for {HORIZON_DAYS:.0f} days",
            disk_days=min(days, 1e6),
        )

    def descriptors(self) -> None:
        """Open files and sockets, and whether they grow."""
        seen = self._c["descriptors"]
        grown = growth(self._c["at_s"], seen)
        limit = self._limits.descriptors
        words = f"{limit:,} in {HORIZON_DAYS:.0f} days" if limit else ""
        self._growing(
            "descriptors", f"{int(seen[-1])}", words, grown, float(seen[-1]), limit or math.inf, unit=1.0
        )
        self.figures |= {"descriptors": float(seen[-1])}

    def _growing(
        self,
        what: str,
        now: str,
        limit: str,
        grown: Growth | None,
        last: float,
        most: float,
        *,
        unit: float = 1e6,
    ) -> None:
        """What must not fill up: it warns where growth is beyond doubt, and is bad where two weeks of it do not fit."""
        if grown is None:
            self._add("short" if last <= most else "bad", what, f"{now}; growth: too short to say", limit)
            return
        name = " MB" if unit > 1 else ""
        interval = (
            f"{grown.a_day / unit:+,.1f}{name} a day [{grown.low / unit:+,.1f}, {grown.high / unit:+,.1f}]"
        )
        fits = last + HORIZON_DAYS * max(grown.low, 0.0) <= most
        self._add(
            "bad" if not fits else "warn" if grown.low > 0.0 else "ok", what, f"{now}, {interval}", limit
        )

    def events(self) -> None:
        """Decisions, and what did not reach the engine."""
        first, last = ({name: int(column[at]) for name, column in self._c.items()} for at in (0, -1))
        decided = last["decisions"] - first["decisions"]
        lost = last["overflows"] - first["overflows"]
        dropped = last["drops"] - first["drops"]
        rate = decided / max(self._span_s, 1e-9)
        self._add(
            "ok" if decided else "bad",
            "decisions",
            f"{decided:,}, {rate:,.1f} a second"
            if decided
            else "none: no market, or it was warming up all the time",
            decisions=float(decided),
            decisions_a_second=rate,
        )
        self._add(
            "ok" if not lost else "bad",
            "events not taken as they came",
            f"{lost:,} merged by full queues, {dropped - lost:,} put in quarantine",
            "none merged",
            merged=float(lost),
            quarantined=float(dropped - lost),
        )

    def health(self, why: Sequence[str]) -> None:
        """Looks at which health was not well, and what it said most often."""
        share = 1.0 - len(why) / len(self._c["at_s"])
        most = Counter(why).most_common(1)
        said = f"; most often: {most[0][0][:200]}" if most else ""
        self._add("ok" if not why else "warn", "health", f"well at {share:.1%} of looks{said}", healthy=share)
