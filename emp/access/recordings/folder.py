"""The owner of a fold: batches of raw rows in, events out, every row accounted for."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from emp.access.port import QuarantinedRow, ReadCounts
from emp.access.recordings.fold import FOLD, NO_TIME, check_rows, check_time, fold
from emp.core.book import same_book
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import SESSION, Array, empty_events
from emp.core.sessions import DAY_NS, session_table


class Folder:
    """Turns batches of raw rows into events and accounts for every row."""

    def __init__(self, instrument: Instrument, counts: ReadCounts) -> None:
        """`counts` is filled as rows pass."""
        self.counts = counts
        self._instrument = instrument
        self._label = ""
        self._flags = 0
        self._rows_before = 0
        self._bad_before: Counter[Quarantine] = Counter()
        self._held = empty_events(2)
        self._state: Array = np.zeros(1, FOLD)
        self._state["last_ts"] = NO_TIME
        self._state["sweep"] = -1
        self._sessions: Array = np.zeros(0, SESSION)
        self._sessions_end = NO_TIME
        self._out = empty_events(0)

    @property
    def sub_lot_levels(self) -> int:
        """Levels left out of books so far because they held less than one lot."""
        return int(self._state["judge"]["sub_lot"][0])

    def open_file(self, label: str, flags: int) -> None:
        """Rows of another file follow: `flags` are set on its events, and time may jump forward to it."""
        self._label = label
        self._flags = flags
        self._rows_before = self.counts.rows
        self._bad_before = Counter(self.counts.quarantined)
        self._state["fresh"] = 1

    def push(self, raw: Array, kind: Array, status: Array, text: Callable[[int], str]) -> Array:
        """Fold a batch; `text(i)` is row i as read, for the samples. Returns complete EVENT rows."""
        state = self._state[0]
        first_row = int(state["row"])
        low, high = check_time(raw, status, state)
        if high >= low:
            self._cover(int(low), int(high))
            no_size = bool(self._flags & EventFlag.NO_SIZE)
            check_rows(raw, kind, status, self._sessions, state, no_size)
        if len(self._out) < len(raw) + 1:
            self._out = empty_events(len(raw) + 1)
        before = int(state["merged"])
        n = int(fold(raw, kind, status, self._held, state, self._flags, self._out))
        self.counts.rows += len(raw)
        self.counts.events += n
        self.counts.merged += int(state["merged"]) - before
        self._account(status, first_row, text)
        self._refuse_nonsense(at_least=100)
        return self._out[:n].copy()

    def close_file(self) -> None:
        """The file has ended: refuse it where it was mostly nonsense."""
        self._refuse_nonsense(at_least=1)

    def finish(self) -> Array:
        """Return the event that still waits; refuse a source of which nothing can be used."""
        state = self._state[0]
        if not state["pending"]:
            found = ", ".join(f"{n} {r.name.lower()}" for r, n in self.counts.quarantined.most_common())
            raise DataError(
                f"{self._label}: none of {self.counts.rows} rows is a usable book of "
                f"{self._instrument.name}: {found or 'no rows'}"
            )
        event = self._held[:1].copy()
        if not state["has_book"] or not same_book(event[0], self._held[1]):
            event["flags"] |= int(EventFlag.VISIBLE)
        state["pending"] = 0
        self.counts.events += 1
        return event

    def _cover(self, low: int, high: int) -> None:
        """Let the session table reach over the batch."""
        if high > self._sessions_end:
            self._sessions = session_table(self._instrument, low, high)
            self._sessions_end = high + DAY_NS
            self._state["cursor"] = 0

    def _account(self, status: Array, first_row: int, text: Callable[[int], str]) -> None:
        counts = self.counts
        found = np.bincount(status, minlength=len(Quarantine))
        for code in np.flatnonzero(found):
            reason = Quarantine(int(code))
            if reason is Quarantine.ACCEPTED:
                continue
            room = max(0, ReadCounts.SAMPLES - counts.quarantined[reason])
            for i in np.flatnonzero(status == code)[:room]:
                counts.samples.append(QuarantinedRow(first_row + int(i), reason, text(int(i))))
            counts.quarantined[reason] += int(found[code])

    def _refuse_nonsense(self, *, at_least: int) -> None:
        """Raise where most rows are bad in the same way: the file is not what it claims."""
        rows = self.counts.rows - self._rows_before
        if rows < at_least:
            return
        for reason, meaning in _NONSENSE.items():
            n = self.counts.quarantined[reason] - self._bad_before[reason]
            if 2 * n > rows:
                raise DataError(f"{self._label}: {n} of {rows} rows {meaning.format(self._instrument)}")


_NONSENSE = {
    Quarantine.MALFORMED: "cannot be read; is the file what its first lines say?",
    Quarantine.BACKWARDS: "go back in time; the file is not in order of time: sort it, or fetch it again",
    Quarantine.ABSURD_PRICE: (
        "have prices that {0.name} cannot have (tick {0.tick:g}); is this the right instrument?"
    ),
}
