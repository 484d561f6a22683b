"""A run's journal read by cursor while another process writes it: what every mirror carries on."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from emp.core.errors import JournalError
from emp.core.records import DECISION, EVENT, Array
from emp.journal.latency_log import LATENCY
from emp.journal.mirror.parts import Rows, Tail
from emp.journal.monitor_log import MONITOR
from emp.journal.reader import LedgerReader
from emp.journal.records import LedgerEvent
from emp.journal.run import RunFolder
from emp.journal.swaps import read_swaps
from emp.journal.tail import TAIL

STREAMS = ("ledger", "market", "actions", "monitor", "latency")
"""What a run journals; a cursor counts the records of one that a mirror has."""

Positions = Mapping[str, int]
"""Cursor by stream."""

NOWHERE: Positions = dict.fromkeys(STREAMS, 0)


class Line(NamedTuple):
    """A line of `monitor.jsonl` or `latency.jsonl`."""

    n: int  # 1, 2, 3 …
    text: bytes  # JSON


class Batch(NamedTuple):
    """Records behind the positions `after`, in order in each stream."""

    after: Positions
    ledger: list[LedgerEvent]
    market: Array  # EVENT[n]
    actions: Array  # DECISION[m]
    monitor: list[Line]
    latency: list[Line]
    models: tuple[str, ...]  # hashes that `model_id` of the actions indexes

    def __len__(self) -> int:
        return sum(len(getattr(self, stream)) for stream in STREAMS)

    @property
    def until(self) -> dict[str, int]:
        """Positions once all of it is carried over."""
        return {stream: self.after[stream] + len(getattr(self, stream)) for stream in STREAMS}

    def numbers(self, stream: str) -> range:
        """Numbers of its records of a stream: 1 for the first that the run ever wrote."""
        return range(self.after[stream] + 1, self.until[stream] + 1)


class Instrument(NamedTuple):
    """What a number in a record counts."""

    name: str
    tick: float
    lot: float


class RunReader:
    """Reads one run of `emp run`, live or ended; nothing is held open or locked between two calls."""

    def __init__(self, path: Path) -> None:
        self.folder = RunFolder(path)
        manifest = self.folder.manifest
        if manifest.get("mode") == "replay":
            raise JournalError(
                f"{path} is a replay: its journal is made again at will, and no mirror follows it"
            )
        self.run = str(manifest["run"])
        self.mode = str(manifest["mode"])
        self.instruments = tuple(str(one) for one in manifest["instruments"])
        self.grids = [Instrument(f["name"], f["tick"], f["lot"]) for f in manifest.get("facts", [])]
        self._models = [str(one) for one in manifest["model_hashes"]][:1]
        self._tail = Tail(self.folder.path / TAIL)
        self._carried = (0, 0)
        self._market = Rows(self.folder.market, self._tail, market=True)
        self._actions = Rows(self.folder.actions, self._tail, market=False)

    @property
    def finished(self) -> bool:
        """Whether the run has ended in order: nothing comes any more."""
        return self.folder.finished

    def read(self, after: Positions, limit: int) -> Batch:
        """What comes behind these positions, at most `limit` records of each stream.

        Raises JournalError where the journal cannot be read, or ends before them.
        """
        ledger = self._ledger(after["ledger"], limit)
        if after["market"] < self._carried[0] or after["actions"] < self._carried[1]:
            self._tail.rewind()  # what was let go of is asked for again
        self._carried = after["market"], after["actions"]
        self._tail.poll()
        market = self._market.read(after["market"], limit)
        actions = self._actions.read(after["actions"], limit)
        end = self._market.end
        if len(actions) and int(actions["model_id"].max()) >= len(self._models):
            self._learn_models()
        monitor = [
            line
            for line in self._lines(MONITOR, after["monitor"], limit)
            if msgspec.json.decode(line.text)["at"] <= end  # a start takes back what tells of later events
        ]
        latency = list(self._lines(LATENCY, after["latency"], limit))
        self._tail.forget(after["market"], after["actions"])
        models = tuple(self._models)
        return Batch(dict(after), ledger, market, actions, monitor, latency, models)

    def ends(self) -> dict[str, int]:
        """How many records there are of each stream now."""
        self._tail.poll()
        found = {"ledger": 0, "market": self._market.end, "actions": self._actions.end}
        if self.folder.ledger.exists():
            with closing(LedgerReader(self.folder.ledger, whole=False)) as ledger:
                found["ledger"] = ledger.last_seq
        for stream, name in (("monitor", MONITOR), ("latency", LATENCY)):
            found[stream] = sum(1 for _ in self._lines(name, 0, 1 << 62))
        return found

    def _ledger(self, after: int, limit: int) -> list[LedgerEvent]:
        if not self.folder.ledger.exists() and not after:
            return []
        with (
            closing(LedgerReader(self.folder.ledger, whole=False)) as ledger,
            closing(ledger.events(after)) as events,
        ):
            return list(islice(events, limit))

    def _learn_models(self) -> None:
        with closing(LedgerReader(self.folder.ledger, whole=False)) as ledger:
            for swap in read_swaps(ledger):
                if swap.after not in self._models:
                    self._models.append(swap.after)

    def _lines(self, name: str, after: int, limit: int) -> Iterator[Line]:
        """Whole lines, durable."""
        try:
            with (self.folder.path / name).open("rb") as file:
                data = file.read()
                os.fsync(file.fileno())
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(f"cannot read {self.folder.path / name}: {error.strerror}") from error
        for n, line in enumerate(data.splitlines(keepends=True)[after : after + limit], after + 1):
            if not line.endswith(b"\n"):
                return
            yield Line(n, line.strip())


def empty_batch(after: Positions) -> Batch:
    """A batch without records."""
    return Batch(dict(after), [], np.zeros(0, EVENT), np.zeros(0, DECISION), [], [], ())
