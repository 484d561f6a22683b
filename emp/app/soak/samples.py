"""Looks at a run, one every few seconds: its process, its metrics, its folder."""

import http.client
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from emp.core.usage import usage_of
from emp.journal.retention import size_of

ANSWER_S = 2.0
LONGEST = 1 << 20


class Sample(NamedTuple):
    """One look. Counters run since the run's process began."""

    at_s: float  # since the first look
    cpu_s: float
    busiest_s: float  # CPU time of the busiest thread since the look before
    rss: int
    written: int
    descriptors: int
    folder: int  # bytes in the run's folder
    free: int  # bytes on its disk
    p99_ms: float  # of the model, last 4,096 decisions
    total_p99_ms: float  # of the whole decision
    lag_ms: float  # longest wait of an event since the snapshot before, of all instruments
    queue: int
    decisions: int
    drops: int
    overflows: int  # of the drops: merged because a queue was full
    healthy: bool
    why: str = ""  # what health said


class Probe:
    """Takes looks at one run."""

    def __init__(self, pid: int, url: str, folder: Path) -> None:
        self._pid, self._url, self._folder = pid, url.rstrip("/"), folder
        self._threads: dict[int, float] | None = None

    @property
    def ended(self) -> bool:
        """Whether the process is there no more."""
        return usage_of(self._pid) is None and usage_of(self._pid) is None

    def look(self, at_s: float) -> Sample | None:
        """The next one; None where the process has ended or does not answer."""
        usage = usage_of(self._pid)
        told = self._metrics()
        if usage is None or told is None:
            return None
        before = self._threads
        busiest = (
            max((s - before.get(t, 0.0) for t, s in usage.threads_s.items()), default=0.0) if before else 0.0
        )
        self._threads = usage.threads_s
        why = self._unhealthy()
        return Sample(
            at_s=at_s,
            cpu_s=usage.cpu_s,
            busiest_s=busiest,
            rss=usage.rss,
            written=usage.written,
            descriptors=usage.descriptors,
            folder=size_of(self._folder),
            free=shutil.disk_usage(self._folder).free,
            p99_ms=told.greatest("p99_infer_ms"),
            total_p99_ms=told.greatest("p99_total_ms"),
            lag_ms=told.greatest("event_lag_ms"),
            queue=int(told.sum("queue_depth")),
            decisions=int(told.sum("decisions_total")),
            drops=int(told.sum("drops_total")),
            overflows=int(told.sum("drops_total", reason="overflow")),
            healthy=not why,
            why=why,
        )

    def _metrics(self) -> "_Metrics | None":
        try:
            with urllib.request.urlopen(f"{self._url}/metrics", timeout=ANSWER_S) as answer:
                return _Metrics(answer.read().decode())
        except (OSError, http.client.HTTPException, ValueError):
            return None

    def _unhealthy(self) -> str:
        """The reasons that health gives where it is not well; "" where it is."""
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=ANSWER_S):
                return ""
        except urllib.error.HTTPError as error:
            with error:
                content = error.read(LONGEST)
            try:
                return "; ".join(json.loads(content)["reasons"]) or "unhealthy without a reason"
            except (ValueError, KeyError, TypeError):
                return f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            return f"no answer: {error}"


class _Metrics:
    """Samples of one scrape."""

    def __init__(self, text: str) -> None:
        self._found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(text):
            for one in family.samples:
                self._found.setdefault(one.name, []).append((one.labels, one.value))

    def _values(self, name: str, labels: dict[str, str]) -> Iterator[float]:
        for found, value in self._found.get(name, ()):
            if labels.items() <= found.items():
                yield value

    def sum(self, name: str, **labels: str) -> float:
        """Over everything with these labels."""
        return sum(self._values(name, labels))

    def greatest(self, name: str) -> float:
        """Of everything of that name; 0 where there is nothing."""
        return max(self._values(name, {}), default=0.0)


def as_rows(samples: list[Sample]) -> Iterator[list[Any]]:
    """A table of the samples, with its header, for csv."""
    yield list(Sample._fields)
    for one in samples:
        yield list(one)
