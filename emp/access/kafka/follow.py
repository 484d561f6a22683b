"""From records of the topic to EVENT rows: which run is followed, what is missing, and what is not believed.

Several runs may tell of one instrument: a second recorder, a recorder's next start, an engine that is mirrored
itself. Recorders alone are followed, one at a time: an engine's mirror tells what it was told, as if it were new.
Another recorder takes its place once it alone has told of later market time for HOLD_NS and the one followed has told
nothing in between. Each row is a whole book, so what is missing needs no snapshot: the next row
carries GAP.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import structlog

from emp.access.kafka.port import Taken
from emp.access.port import QuarantinedRow, ReadCounts
from emp.core.book import ACCEPTED, JUDGE, filled, judge
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.market_topic import Cursor, MarketRecord, decode_market, put_book
from emp.core.numba.jit import kernel
from emp.core.records import Array, empty_events

HOLD_NS: Final = 5_000_000_000
"""How long another run must have told of later market time, by Kafka's clock, before it is followed."""

AHEAD_NS: Final = 60_000_000_000
"""A time so far ahead of our clock is none: nothing that came later would be believed."""

RECEIVED_AHEAD_NS: Final = 1_000_000_000
"""So far clocks of machines may differ; a time of receipt further ahead would make whatever is old look fresh."""

LAST_SEQ: Final = 2**63 - 1

_STATE: Final = int(EventFlag.HALT | EventFlag.RESUME)

log = structlog.get_logger("emp.access.kafka")

_BROKEN: Final = np.uint32(EventFlag.GAP | EventFlag.VISIBLE)
_GAP: Final = np.uint32(EventFlag.GAP)
_STATES: Final = np.uint32(_STATE)


class Part(NamedTuple):
    """Rows that arrived one after another, and how old the oldest of them was by then."""

    rows: Array  # EVENT [n]
    age_ns: int


class _Source:
    """What is known of one instrument's records."""

    def __init__(self) -> None:
        self.run = ""
        self.n = 0  # number of the last record of the run
        self.seq = 0  # of the last row that was made
        self.base = 0  # what is added to the run's own numbers, so that ours only grow
        self.ts = 0  # of the last record, ns
        self.alone = False  # the run has no other instrument, so that its numbers have no holes
        self.rivals: dict[
            str, int
        ] = {}  # other recorders that tell of later market time: since when, by Kafka's clock
        self.gap = False
        self.state = 0  # HALT or RESUME that was told last, by a row that was refused


class Follower:
    """Records of some instruments; rows carry their place in the order given as `instrument`."""

    def __init__(self, instruments: Sequence[Instrument], host: str | None = None) -> None:
        """`host` is that of the venue whose recorders are followed; None: any."""
        self._host = host
        self.counts = ReadCounts()
        self.newest: dict[Quarantine, str] = {}  # what was quarantined last, and why
        self._instruments = tuple(instruments)
        self._place = {one.name.encode(): i for i, one in enumerate(self._instruments)}
        self._sources = [_Source() for _ in self._instruments]
        self._judges = np.zeros(len(self._instruments), JUDGE)
        self._cursors: dict[str, Cursor | None] = {}
        self._named: set[str] = set()  # runs of which the log says why they are not followed
        self._known = (0,) * len(self._instruments)

    @property
    def quarantined(self) -> Counter[Quarantine]:
        """Records that became no event, by reason."""
        return self.counts.quarantined

    def begin_after(self, known: Sequence[int]) -> None:
        """Of each instrument, rows of market time up to `known` (ns) are known: none of them is told again."""
        self._known = tuple(known) or self._known

    def knows(self, run: str) -> bool:
        """Whether it is known what a run counts in, or that nobody says."""
        return run in self._cursors

    def learn(self, run: str, cursor: Cursor | None) -> None:
        """What a mirror has said of a run; None: nothing, and it is not followed."""
        self._cursors[run] = cursor

    def forget_unsaid(self) -> None:
        """Runs of which nobody said what they count in may be asked for again."""
        self._cursors = {run: one for run, one in self._cursors.items() if one is not None}

    def read(self, messages: Sequence[Taken]) -> list["_Read"]:
        """What records of our instruments say, in order; the others of their partitions are left out."""
        found = []
        for message in messages:
            i = self._place.get(message.key or b"", -1)
            if i >= 0 or message.key is None:
                found.append(_read(message, i))
        return found

    def fresh_runs(self, read: Sequence["_Read"]) -> list[str]:
        """Runs of which it is not known what they count in, each once."""
        runs = dict.fromkeys(one.record.run for one in read if one.record is not None)
        return [run for run in runs if run not in self._cursors]

    def invalidate(self, places: Sequence[int]) -> None:
        """Something of these instruments was missed: their next row carries GAP."""
        for i in places:
            self._sources[i].gap = self._sources[i].run != ""

    def filled(self, instrument: str, px: int) -> None:
        """An order of ours has filled at `px` ticks: books far from it are not believed (`emp.core.book.filled`)."""
        filled(px, self._judges[self._place[instrument.encode()]])

    def take(self, read: Sequence["_Read"], now_ns: int, limit_ns: int) -> list[Part]:
        """Rows of what was read, in order; those older than `limit_ns` and the others in parts of their own."""
        rows = empty_events(len(read))
        gaps: Array = np.zeros(len(read), np.bool_)
        states: Array = np.zeros(len(read), np.uint32)
        ages: Array = np.zeros(len(read), np.int64)
        n = 0
        for one in read:
            if one.record is None or not self._admit(one.place, one.record, one.at_ns or now_ns, now_ns):
                self._refuse(one)
                continue
            source = self._sources[one.place]
            gaps[n], source.gap = source.gap, False
            states[n], source.state = source.state, 0
            ages[n] = max(0, now_ns - one.record.ts_recv, now_ns - (one.at_ns or now_ns))
            _put(one.record, one.place, source.seq, now_ns, rows[n])
            n += 1
        rows, ages, faults = rows[:n], ages[:n], np.zeros(n, np.int8)
        gaps, states = gaps[:n], states[:n]
        judge_rows(rows, gaps, states, self._judges, faults, len(self._sources))
        for k in np.flatnonzero(faults).tolist():
            self._quarantine(Quarantine(int(faults[k])), f"book of event {int(rows['seq'][k])}")
            source = self._sources[int(rows["instrument"][k])]
            source.gap |= bool(gaps[k])
            source.state = int(states[k]) or source.state
        good = faults == ACCEPTED
        self.counts.events += int(good.sum())
        self.counts.gaps += int((rows["flags"][good] & np.uint32(EventFlag.GAP) > 0).sum())
        return _parts(rows[good], ages[good], limit_ns)

    def _refuse(self, one: "_Read") -> None:
        """Count what says nothing; what an instrument has missed with it, nobody knows."""
        if one.record is not None:
            return
        self.counts.rows += 1
        self._quarantine(Quarantine.MALFORMED, one.why)
        if one.place >= 0:
            self.invalidate([one.place])

    def _admit(self, i: int, record: MarketRecord, at_ns: int, now_ns: int) -> bool:
        """Whether a record is the next of its instrument, as far as is known of it."""
        if record.ts <= self._known[i]:
            return False
        self.counts.rows += 1
        source = self._sources[i]
        if record.ts - now_ns > AHEAD_NS or record.ts_recv - now_ns > RECEIVED_AHEAD_NS:
            times = f"ts {record.ts}, ts_recv {record.ts_recv}"
            self._quarantine(Quarantine.AHEAD, f"{record.run} {record.n}: {times}")
            if record.run == source.run:
                source.gap = True
                source.state = record.flags & _STATE or source.state
            return False
        if record.run == source.run:
            return self._goes_on(source, record)
        return self._follows(i, record) and self._takes_over(i, source, record, at_ns)

    def _goes_on(self, source: _Source, record: MarketRecord) -> bool:
        """A record of the run that is followed."""
        if record.n <= source.n:
            reason = Quarantine.DUPLICATE if record.n == source.n else Quarantine.BACKWARDS
            self._quarantine(reason, f"{record.run} {record.n} after {source.n}")
            return False
        if source.alone and record.n != source.n + 1:
            source.gap = True
        if record.seq + source.base > LAST_SEQ:
            self._quarantine(Quarantine.MALFORMED, f"{record.run} {record.n}: seq {record.seq}")
            source.gap = True
            return False
        if record.seq + source.base <= source.seq:  # the run's process began anew, and counts from 1
            source.base = source.seq + 1 - record.seq
            source.gap = True
        self._note(source, record)
        return True

    def _follows(self, i: int, record: MarketRecord) -> bool:
        """Whether a run may be followed for an instrument."""
        cursor = self._cursors.get(record.run)
        one = self._instruments[i]
        if cursor is None or one.name not in cursor.grids:
            self._quarantine(Quarantine.MALFORMED, f"no mirror says what run {record.run} counts in")
            return False
        why = self._strange(cursor)
        if why:
            self.counts.merged += 1
            if record.run not in self._named:
                self._named.add(record.run)
                log.warning(f"run {record.run} {why}: it is not followed")
            return False
        found = cursor.grids[one.name]
        if not np.isclose([found.tick, found.lot], [one.tick, one.lot], rtol=1e-12, atol=0.0).all():
            counts = (
                f"run {record.run} counts {one.name} in ticks of {found.tick:g} and lots of {found.lot:g}"
            )
            self._quarantine(Quarantine.ABSURD_PRICE, counts)
            return False
        return True

    def _strange(self, cursor: Cursor) -> str:
        """Why a run is none to follow, whatever it counts in; empty: it may be."""
        if not cursor.origin.recorder:
            return "is no recorder"
        if self._host is not None and cursor.host != self._host:
            return f"records {cursor.host or 'an unnamed host'}, not {self._host}"
        return ""

    def _takes_over(self, i: int, source: _Source, record: MarketRecord, at_ns: int) -> bool:
        """A record of another recorder than the one that is followed."""
        if source.run:
            if not self._waited(source, record, at_ns):
                self.counts.merged += 1
                return False
            source.gap = True
        cursor = self._cursors[record.run]
        assert cursor is not None
        told = {"instrument": self._instruments[i].name, "run": record.run, "host": cursor.host}
        if source.run:
            log.warning("taken over", before=source.run, **told)
        else:
            log.info("followed", **told)
        source.run, source.alone = record.run, len(cursor.instruments) == 1
        source.base = max(0, source.seq + 1 - record.seq)
        self._note(source, record)
        return True

    @staticmethod
    def _waited(source: _Source, record: MarketRecord, at_ns: int) -> bool:
        """Whether the record's run by itself has told of later market time for HOLD_NS."""
        if record.ts <= source.ts:
            return False
        return at_ns - source.rivals.setdefault(record.run, at_ns) >= HOLD_NS

    def _note(self, source: _Source, record: MarketRecord) -> None:
        source.n, source.seq = record.n, record.seq + source.base
        source.ts = max(source.ts, record.ts)
        source.rivals.clear()

    def _quarantine(self, reason: Quarantine, text: str) -> None:
        counts = self.counts
        counts.quarantined[reason] += 1
        self.newest[reason] = text
        if counts.quarantined[reason] <= ReadCounts.SAMPLES:
            counts.samples.append(QuarantinedRow(counts.rows - 1, reason, text[:200]))


class _Read(NamedTuple):
    """What a record says."""

    place: int  # of its instrument, -1: it names none
    record: MarketRecord | None  # None: nothing, for the reason `why`
    why: str
    at_ns: int  # when Kafka took it, UTC; 0: it does not say


def _read(message: Taken, place: int) -> _Read:
    try:
        if message.key is None or message.value is None:
            raise DataError("without a key" if message.key is None else "without a value")
        record = decode_market(message.value)
        if record.instrument.encode() != message.key:
            raise DataError(f"of {record.instrument}, under the key of another")
        if record.ts <= 0:
            raise DataError("without a time")
    except DataError as error:
        return _Read(place, None, f"partition {message.partition}, offset {message.offset}: {error}", 0)
    return _Read(place, record, "", max(0, message.at_ms) * 1_000_000)


def _put(record: MarketRecord, place: int, seq: int, now_ns: int, row: Any) -> None:
    """Write a record into a zeroed EVENT record."""
    row["ts"], row["seq"], row["ts_recv"], row["instrument"] = record.ts, seq, now_ns, place
    row["flags"], row["trade_px"] = record.flags, record.trade_px
    row["trade_qty"], row["trade_qty_last"] = record.trade_qty, record.trade_qty_last
    put_book(record, row)


def _parts(rows: Array, ages: Array, limit_ns: int) -> list[Part]:
    """Rows split where they change between old and not."""
    old = ages > limit_ns
    edges = [0, *(np.flatnonzero(old[1:] != old[:-1]) + 1).tolist(), len(rows)]
    return [
        Part(rows[a:b], int(ages[a:b].max()) if old[a] else 0) for a, b in itertools.pairwise(edges) if b > a
    ]


@kernel
def judge_rows(rows: Array, gaps: Array, states: Array, judges: Array, faults: Array, n: int) -> None:
    """Judge the books of EVENT rows [k] in order (`emp.core.book.judge`) by JUDGE records [n].

    `gaps` bool [k] says before which rows something is missing, `states` uint32 [k] before which HALT or RESUME was
    told by a row that was refused: the next good row of the instrument gets both, as of any row that is refused here.
    They are then set only at rows after which no good one came. `faults` int8 [k] receives codes.Quarantine.
    """
    waits = np.full(n, -1, np.int64)  # the refused row at which something waits for a good one
    broken = np.zeros(n, np.bool_)
    told = np.zeros(n, np.uint32)
    for k in range(len(rows)):
        i = rows[k].instrument
        broken[i] |= gaps[k]
        told[i] = states[k] if states[k] != 0 else told[i]
        gaps[k], states[k] = False, 0
        faults[k] = judge(rows[k], judges[i], rows[k].ts)
        state = rows[k].flags & _STATES
        if faults[k] != 0:
            broken[i] |= rows[k].flags & _GAP != 0
            told[i] = state if state != 0 else told[i]
            waits[i] = k
            continue
        if broken[i]:
            rows[k].flags |= _BROKEN
        if state == 0:
            rows[k].flags |= told[i]
        broken[i], told[i], waits[i] = False, 0, -1
    for i in range(n):
        if waits[i] >= 0:
            gaps[waits[i]], states[waits[i]] = broken[i], told[i]


def warm_up(instruments: int) -> None:
    """Compile what the hot path runs."""
    judges: Any = np.zeros(instruments, JUDGE)
    judge_rows(
        empty_events(0),
        np.zeros(0, np.bool_),
        np.zeros(0, np.uint32),
        judges,
        np.zeros(0, np.int8),
        instruments,
    )
    filled(0, judges[:1].copy()[0])
