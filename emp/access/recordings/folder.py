"""The owner of a fold: batches of raw rows in, events out, every row accounted for."""

from collections import Counter
from collections.abc import Callable

import numpy as np

from emp.access.port import QuarantinedRow, ReadCounts
from emp.access.recordings import losses
from emp.access.recordings.fold import FOLD, NO_TIME, check_rows, check_time, fold
from emp.core.book import same_book
from emp.core.codes import EventFlag, Quarantine
from emp.core.errors import DataError
from emp.core.instrument import Instrument
from emp.core.records import SESSION, Array, empty_events
from emp.core.sessions import DAY_NS, session_table

_EARLY_ROWS = 2_000
"""Before the end of a file, so many rows must have been read before it is given up."""


class Folder:
    """Turns batches of raw rows into events and accounts for every row."""

    def __init__(self, instrument: Instrument, counts: ReadCounts, *, accept_losses: bool = False) -> None:
        """`counts` is filled as rows pass; `accept_losses` lets a file go on of which much cannot be used."""
        self.counts = counts
        self._accept_losses = accept_losses
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
        """Rows of another file follow: `flags` are set on its events."""
        self._label = label
        self._flags = flags
        self._rows_before = self.counts.rows
        self._bad_before = Counter(self.counts.quarantined)

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
        if self.counts.rows - self._rows_before >= _EARLY_ROWS:
            self._refuse_losses(early=True)
        return self._out[:n].copy()

    def close_file(self, explain: str = "") -> None:
        """The file has ended: refuse it where more of it was lost than `losses.LIMITS` allow.

        `explain` is what its reader knows of why rows could not be used.
        """
        self._refuse_losses(early=False, explain=explain)

    def finish(self, explain: str = "") -> Array:
        """Return the event that still waits; refuse a source of which nothing can be used."""
        state = self._state[0]
        if not state["pending"]:
            raise DataError(losses.nothing_usable(self._label, self._instrument, self.counts, explain))
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

    def _refuse_losses(self, *, early: bool, explain: str = "") -> None:
        """Raise where too much of the file cannot be used; `early` asks for a file that is hopeless."""
        if self._accept_losses:
            return
        lost = Counter(self.counts.quarantined)
        lost.subtract(self._bad_before)
        rows = self.counts.rows - self._rows_before
        problem = losses.refusal(self._label, self._instrument, rows, lost, self.counts.samples, early=early)
        if problem:
            raise DataError(f"{problem}; {explain}" if explain and not early else problem)
