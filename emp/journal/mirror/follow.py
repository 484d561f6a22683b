"""A run's journal read by cursor while another process writes it: what every mirror carries on."""

import os
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import msgspec

from emp.core.errors import JournalError
from emp.core.market_topic import Origin
from emp.core.records import Array
from emp.journal.latency_log import LATENCY
from emp.journal.mirror.parts import Rows, Tail, TailSync
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


def _origin(mode: str, config: object) -> Origin:
    """How a run has come to its market data, by the configuration in its manifest."""
    access = config.get("access") if isinstance(config, dict) else None
    if not isinstance(access, dict):
        return Origin(mode)
    return Origin(mode, str(access.get("connection_protocol") or ""), str(access.get("host") or ""))


class RunReader:
    """Reads one run of `emp run`, live or ended; nothing is held open or locked between two calls."""

    def __init__(self, path: Path, sync: TailSync | None = None) -> None:
        """`sync` is shared by all that read the run in this process."""
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
        self.origin = _origin(self.mode, manifest.get("config"))
        self._models = [str(one) for one in manifest["model_hashes"]][:1]
        self._tail = Tail(self.folder.path / TAIL, sync or TailSync())
        self._carried = (0, 0)
        # How the ledger's files looked, and its end, when nothing was left; and how they looked at the time before: two
        # looks must agree, since the times of files are some milliseconds coarse.
        self._ledger_seen: tuple[object, int] = (None, 0)
        self._ledger_looked: object = None
        self._lines_seen: dict[str, tuple[int, int]] = {}  # bytes of a file, and its lines
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
        """How many records there are of each stream now; nothing that was read is kept."""
        self._tail.poll()
        found = {"ledger": self._ledger_end(), "market": self._market.end, "actions": self._actions.end}
        self._tail.forget(found["market"], found["actions"])
        for stream, name in (("monitor", MONITOR), ("latency", LATENCY)):
            list(self._lines(name, 0, 1 << 62))
            found[stream] = self._lines_seen.get(name, (0, 0))[1]
        return found

    def _ledger_end(self) -> int:
        looks = self._looks()
        if looks is None:
            return 0
        if looks == self._ledger_seen[0]:
            return self._ledger_seen[1]
        with closing(LedgerReader(self.folder.ledger, whole=False)) as ledger:
            end = ledger.last_seq
        self._remember(looks, end)
        return end

    def _remember(self, looks: object, end: int) -> None:
        """The files looked so before the ledger was found to end there."""
        if looks == self._ledger_looked:
            self._ledger_seen = looks, end
        self._ledger_looked = looks

    def _looks(self) -> object:
        """What changes with every write to the ledger; None where there is none."""
        try:
            files = [os.stat(self.folder.ledger)]
        except FileNotFoundError:
            return None
        with suppress(FileNotFoundError):
            files.append(os.stat(self.folder.ledger.with_name(self.folder.ledger.name + "-wal")))
        return [(one.st_ino, one.st_size, one.st_mtime_ns) for one in files]

    def _ledger(self, after: int, limit: int) -> list[LedgerEvent]:
        looks = self._looks()
        if (looks is None and not after) or (looks == self._ledger_seen[0] and after == self._ledger_seen[1]):
            return []
        with (
            closing(LedgerReader(self.folder.ledger, whole=False)) as ledger,
            closing(ledger.events(after)) as events,
        ):
            found = list(islice(events, limit))
        if not found:
            self._remember(looks, after)
        return found

    def _learn_models(self) -> None:
        with closing(LedgerReader(self.folder.ledger, whole=False)) as ledger:
            for swap in read_swaps(ledger):
                if swap.after not in self._models:
                    self._models.append(swap.after)

    def _lines(self, name: str, after: int, limit: int) -> Iterator[Line]:
        """Whole lines, durable; the file is not read again while it is as long as it was."""
        path = self.folder.path / name
        seen = self._lines_seen.get(name, (0, 0))
        try:
            if path.stat().st_size == seen[0] and after >= seen[1]:
                return
            with path.open("rb") as file:
                data = file.read()
                os.fsync(file.fileno())
        except FileNotFoundError:
            return
        except OSError as error:
            raise JournalError(f"cannot read {path}: {error.strerror}") from error
        lines = data.splitlines(keepends=True)
        if lines and not lines[-1].endswith(b"\n"):
            del lines[-1]
        self._lines_seen[name] = len(data), len(lines)
        for n, line in enumerate(lines[after : after + limit], after + 1):
            yield Line(n, line.strip())
