"""A recorded run again: the events of its market journal and the entries of its ledger, in the order they came.

    rerun = Rerun(folder, terms, model)
    for rows in rerun.rows(log.know): ...          # DECISION rows, equal to the run's own

What the engine was told is all there: events in the order of processing, and in the ledger every report and control
input with the number of events that came before it. What the engine asked for is made again and compared with the
intents that the ledger holds, so a replay that would take another way says where it parts. A run of several processes
(a crash and a restart) is replayed process by process, each from what the ledger held when it began.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from emp.core.approval import command_of
from emp.core.contracts import CancelOrder, Command, Control, NewOrder, OrderUpdate, QueryOrder, Replace
from emp.core.errors import JournalError
from emp.core.instrument import Instrument
from emp.core.records import Array, empty_events
from emp.engine.engine import FAILURE, Engine, Output
from emp.engine.journal_tap import journalled_events
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.own import Rule
from emp.engine.rebuild import begin
from emp.engine.serving import allocate
from emp.journal.reader import LedgerReader
from emp.journal.records import LedgerEvent, Note
from emp.journal.run import RunFolder, other_release
from emp.journal.swaps import MODEL_SWAP, Swap

_DAY_NS = 86_400_000_000_000
_COMMANDS = NewOrder | CancelOrder | QueryOrder | Replace
NEVER = int(np.iinfo(np.int64).max)
AT_ONCE = 4_096
"""Events processed between two looks at progress."""


class Terms(NamedTuple):
    """What the owner had settled when a process of a run began."""

    instruments: Sequence[Instrument]
    limits: EngineLimits
    rule: Rule | None = None  # of the user's own


Closed = dict[tuple[int, str, str], Array]
"""By day since 1970, model and instrument: lots closed, ticks times lots expected of them, and brought: float64[3]."""


class Process:
    """What one process of a run left in the ledger."""

    def __init__(self, first: int, token: int) -> None:
        self.first = first  # events of the run before it
        self.token = token  # of the lease under which it traded; 0: there was none
        self.last: int | None = None  # and after it; None where it is the newest
        self.started: int | None = None  # sequence number of the entry that says that trading begins
        self.entries: list[LedgerEvent] = []  # after that


def processes(ledger: LedgerReader) -> list[Process]:
    """Divide a ledger into the processes that wrote it."""
    found: list[Process] = []
    for event in ledger.events():
        body = event.body
        if isinstance(body, Control) and body.action == "begin":
            if found:
                found[-1].last = event.at
            found.append(Process(event.at, int(body.reason or 0)))
        elif isinstance(body, Control) and body.action == "start" and found:
            found[-1].started = event.seq
        elif found and found[-1].started is not None:
            found[-1].entries.append(event)
    return found


class Rerun:
    """See the module's docstring.

    Raises JournalError where the run was not journalled (an older release), or is damaged, or where the engine now
    asks for something else than it did then.
    """

    def __init__(
        self,
        folder: RunFolder,
        terms: Callable[[int], Terms],
        model: Callable[[str], LoadedModel],
    ) -> None:
        """`terms` are those of the process whose trading began with a sequence number of the ledger, `model` gives
        the artifact of a hash that has served in the run.
        """
        self._folder = folder
        self.terms = terms
        self._model = model
        self._ledger = LedgerReader(folder.ledger)
        self._run = self._ledger.meta("run")
        self.processes = processes(self._ledger)
        if not self.processes:
            raise JournalError(
                f"{folder.path}: an older release made this run, without journalling its market data"
            )
        self.events = 0
        self.commands = 0
        self.engine: Engine | None = None
        self._know: Callable[[str], None] = lambda _: None
        self.closed: Closed = {}

    def note(self, day: int, engine: Engine, closed: Array) -> None:
        """Add up what was closed on a day on which events were received: float64[instruments, 3]."""
        model = engine.model.artifact.hash
        for instrument, sums in zip(engine.instruments, closed, strict=True):
            key = day, model, instrument.name
            self.closed[key] = self.closed.get(key, np.zeros(3)) + sums

    @property
    def models(self) -> list[str]:
        """Hashes of the models that served, in the order in which they came."""
        notes = self._ledger.notes(MODEL_SWAP)
        found = [self._folder.manifest["model_hashes"][0], *(Swap.of(note).after for note in notes)]
        return list(dict.fromkeys(found))

    def rows(self, know: Callable[[str], None], until: int = NEVER) -> Iterator[Array]:
        """Yield the DECISION rows of the whole run, in parts; `know` is told of each model before its first row.

        It ends before event `until` of the run, with everything applied that came before that event.
        """
        market = _Market(self._folder)
        self._know = know
        for process in self.processes:
            if process.started is None:
                continue  # it ended before trading began
            yield from _Replayed(self, process, market).rows(until)
            if process.last is None or process.last > until:
                break
        self._ledger.close()

    def new_engine(self, process: Process) -> Engine:
        """An engine as it was when a process began to trade."""
        assert process.started is not None
        before = [
            Swap.of(event.body).after
            for event in self._ledger.events()
            if event.seq <= process.started and isinstance(event.body, Note) and event.body.kind == MODEL_SWAP
        ]
        served = list(dict.fromkeys([self._folder.manifest["model_hashes"][0], *before]))
        serving = before[-1] if before else served[0]
        instruments, limits, rule = self.terms(process.started)
        engine = Engine(instruments, self._model(serving), limits, self._run, served)
        engine.token = process.token
        if rule is not None:
            rule.attach(engine)
        begin(self._ledger, engine, process.started)
        for name in served:
            self._know(name)
        self.engine = engine
        return engine

    def swap(self, engine: Engine, note: Note) -> None:
        """Let the model of a note take over, once for all instruments: the first one's note comes first. Its states
        begin at zero, whether it is another model or the same one again.
        """
        if note.instrument != engine.instruments[0].name:
            return
        after = Swap.of(note).after
        self._know(after)
        engine.install(allocate(self._model(after), len(engine.instruments)))

    def differs(self, at: int, why: str) -> JournalError:
        """The replay has parted from the run."""
        return JournalError(
            f"{self._folder.path}: after event {at} the engine does something else than in the run"
            f"{other_release(self._folder.manifest)}: {why}"
        )


class _Market:
    """Events of the journal by their number, read forward once."""

    def __init__(self, folder: RunFolder) -> None:
        self._parts = journalled_events(folder)
        self._part = empty_events(0)
        self._first = 0  # number of the part's first event

    def take(self, first: int, last: int) -> Array:
        """Some of events [first, last): those of one part, at least one; none where the journal ends before."""
        while first >= self._first + len(self._part):
            self._first += len(self._part)
            part = next(self._parts, None)
            if part is None:
                self._part = empty_events(0)
                return self._part
            self._part = part
        at = first - self._first
        return self._part[at : min(last - self._first, at + AT_ONCE)]


class _Replayed:
    """One process of a run, again."""

    def __init__(self, rerun: Rerun, process: Process, market: _Market) -> None:
        self._rerun, self._process, self._market = rerun, process, market
        self._engine = rerun.new_engine(process)
        self._entries = deque(process.entries)
        self._at = process.first

    def rows(self, until: int) -> Iterator[Array]:
        """Process events and entries in their order, up to event `until`."""
        end = self._process.last
        while end is None or self._at < end:
            limit = min(self._apply_due(), until)
            if self._at >= until:
                return
            if end is not None:
                limit = min(limit, end)
            events = self._market.take(self._at, limit)
            if not len(events):
                return
            events = events[: _same_day(events)]
            before = self._closed()
            output = self._engine.process(events)
            self._rerun.note(int(events["ts_recv"][0]) // _DAY_NS, self._engine, self._closed() - before)
            self._at += output.consumed
            self._rerun.events += output.consumed
            self._sent(output)
            yield output.rows

    def _closed(self) -> Array:
        """Of every instrument the lots closed so far, ticks times lots expected of them, and brought."""
        lots = self._engine.desk.lots
        return np.stack([lots["lots"], lots["believed"], lots["brought"]], axis=1).astype(float)

    def _apply_due(self) -> int:
        """Apply every entry that came before the next event; return after how many events the next one came."""
        while self._entries and self._entries[0].at <= self._at:
            self._apply(self._entries.popleft())
        return self._entries[0].at if self._entries else NEVER

    def _apply(self, entry: LedgerEvent) -> None:
        body = entry.body
        if isinstance(body, OrderUpdate):
            self._sent(self._engine.on_report(body))
        elif isinstance(body, Control):
            self._sent(self._engine.control(body))
        elif isinstance(body, Note):
            if body.kind == MODEL_SWAP:
                self._rerun.swap(self._engine, body)
        elif isinstance(body, CancelOrder):  # sent from outside the engine, at an orderly end
            self._engine.sent(body)
        else:
            raise self._rerun.differs(self._at, f"it asks for nothing, then for {body}")

    def _sent(self, output: Output) -> None:
        """Hold what the engine asks for against the intents of the ledger, and note them as sent."""
        for cleared in output.commands:
            command = command_of(cleared)
            recorded = self._next_intent()
            if recorded is None:
                if not self._has_ended():
                    raise self._rerun.differs(self._at, f"it asks for {command}, and nothing was sent")
                return
            if recorded != command:
                raise self._rerun.differs(self._at, f"it asks for {command}, then for {recorded}")
            self._rerun.commands += 1
            self._engine.sent(cleared)

    def _next_intent(self) -> Command | None:
        """The next intent of this very moment. Breaches told on the way are passed over; reports too, which were
        recorded together and are applied one after the other: what the first asked for stands behind the last.
        """
        for k, entry in enumerate(self._entries):
            body = entry.body
            if entry.at > self._at:
                return None
            if isinstance(body, _COMMANDS):
                del self._entries[k]
                return body
            if not _is_told(body):
                return None
        return None

    def _has_ended(self) -> bool:
        """Whether the process came no further: its ledger could not be written any more, or it died before what it had
        recorded last was applied; or what was to be sent failed, and it has only closed what it held.
        """
        for entry in self._entries:
            if isinstance(entry.body, Control) and entry.body.reason == FAILURE:
                return entry.at <= self._at
            if entry.at > self._at or not _is_told(entry.body):
                return False
        return True


def _same_day(events: Array) -> int:
    """How many of EVENT[n] were received on the day of the first."""
    days = events["ts_recv"] // _DAY_NS
    return int(np.argmax(days != days[0])) or len(events)


def _is_told(body: object) -> bool:
    """Whether an entry only tells: it may stand between a report and what the report asks for."""
    return isinstance(body, OrderUpdate) or (isinstance(body, Note) and body.kind != MODEL_SWAP)
