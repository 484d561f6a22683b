"""Taps: whatever watches a run. None of them can slow it or stop it.

The engine's loop copies each batch into preallocated rings and goes on. Every tap has a thread and a cursor of its
own: it polls, copies out what is new, and works on the copy. One that falls behind by more than the rings hold is told
how much it missed. A journal must miss nothing, so `room` says when it is so far behind that the loop should
leave further events in the bus, where back-pressure is seen and acted on; one that is overrun all the same has failed.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import structlog

from emp.access.port import LinkState
from emp.core.background import background
from emp.core.contracts import Control, Message, OrderUpdate
from emp.core.errors import JournalError
from emp.core.records import DECISION, EVENT, MARKET_STATE, Array

EVENTS = 1 << 14
"""Events, rows and messages that the rings hold: at a thousand a second, a quarter of a minute."""

POLL_S = 0.005

_LAP = np.dtype([("ns", "i4", (3,))])

_log = structlog.get_logger(__name__)


class Batch(NamedTuple):
    """What the engine did with some events, in the order of processing, copied: all that has come since the tap last
    looked, as long as nothing else came between.
    """

    first: int  # how many events of the run came before
    events: Array  # EVENT[n]
    states: Array  # MARKET_STATE[n]: the state after each event; as it was before where the event made none
    first_row: int
    rows: Array  # DECISION[m]: the rows that the events led to, in order
    laps: Array  # int32[m, 3]: ns in adapter, model and in all, a line per row
    wait_ms: float = 0.0  # how long the oldest of the events had waited for the engine


class Tap:
    """What a tap may override; each method is called from the tap's own thread, in the order of happening."""

    name = "tap"
    lossless = False  # whether the loop must wait for it rather than overwrite what it has not read

    def on_batch(self, batch: Batch) -> None:
        """The engine has processed events."""

    def on_report(self, update: OrderUpdate, at: int) -> None:
        """A report was recorded and applied, after `at` events."""

    def on_control(self, control: Control, at: int) -> None:
        """A control input was recorded and applied, after `at` events."""

    def on_message(self, message: Message) -> None:
        """The engine or the bus has something to tell: a breach, a degraded mode."""

    def on_link(self, state: LinkState) -> None:
        """A connection came up or went down."""

    def on_tick(self, now_ns: int) -> None:
        """Time passes; `now_ns` is the market's."""

    def on_idle(self) -> None:
        """Everything so far has been seen; more may come."""

    def on_missed(self, messages: int) -> None:
        """So many batches, reports, controls and ticks were overwritten before this tap came to read them."""

    def close(self) -> None:
        """The run has ended and everything has been seen."""


class _Entry(NamedTuple):
    """One thing that happened: a batch's places in the rings, or a message itself."""

    call: Callable[..., None] | None  # None: a batch
    arguments: tuple[object, ...]
    first: int = 0
    n: int = 0
    first_row: int = 0
    rows: int = 0
    wait_ms: float = 0.0


class _Reader:
    """A tap's thread and cursor."""

    def __init__(self, tap: Tap, taps: "Taps") -> None:
        self.tap = tap
        self.cursor = taps.written
        self.missed = 0
        self.error: Exception | None = None
        self._taps = taps
        self._thread = background().every(POLL_S, self._poll, f"tap {tap.name}")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._thread.stop()

    def _poll(self, last: bool) -> bool:
        try:
            if self._catch_up():
                self.tap.on_idle()
        except Exception as error:
            self.error = error
            _log.error("a tap failed and watches no more", tap=self.tap.name, error=str(error))
            last = True
        if last:
            self._close()
        return not last

    def _close(self) -> None:
        try:
            self.tap.close()
        except Exception as error:
            self.error = self.error or error
            _log.error("a tap could not end in order", tap=self.tap.name, error=str(error))

    def _catch_up(self) -> bool:
        """Deal with everything written so far; whether there was anything."""
        found = False
        while self.cursor < self._taps.written:
            found = True
            entry, passed = self._taps.read(self.cursor)
            self.cursor += passed
            if entry is None:
                self.missed += passed
                if self.tap.lossless:
                    raise JournalError(
                        f"the {self.tap.name} could not keep up: what it had not read was overwritten"
                    )
                self.tap.on_missed(passed)
            elif isinstance(entry, Batch):
                self.tap.on_batch(entry)
            else:
                entry.call(self.tap, *entry.arguments)  # type: ignore[misc]
        return found


class Taps:
    """The rings, and whoever reads them. Written by the engine's loop alone."""

    def __init__(self, first_event: int = 0, first_row: int = 0, size: int = EVENTS) -> None:
        """`first_event` and `first_row` are what earlier processes of the run have journalled."""
        self.written = 0  # entries
        self._size = size
        self._entries: list[_Entry | None] = [None] * size
        self._events = _Ring(EVENT, size)
        self._states = _Ring(MARKET_STATE, size)
        self._rows = _Ring(DECISION, size)
        self._laps = _Ring(_LAP, size)
        self.event = first_event
        self.row = first_row
        self._readers: list[_Reader] = []

    def attach(self, tap: Tap) -> None:
        """Let a tap see everything from now on."""
        reader = _Reader(tap, self)
        self._readers.append(reader)
        reader.start()

    def close(self) -> None:
        """Wait until every tap has seen everything; raise what a lossless one failed with."""
        for reader in self._readers:
            reader.stop()
        if self.failure is not None:
            raise self.failure

    @property
    def failure(self) -> Exception | None:
        """What a lossless tap has failed with; the failure of any other only ends that one."""
        return next((r.error for r in self._readers if r.tap.lossless and r.error is not None), None)

    @property
    def room(self) -> bool:
        """Whether every lossless tap is near enough for a batch of up to a quarter of the rings."""
        for reader in self._readers:
            if reader.tap.lossless and reader.error is None and self.written > reader.cursor:
                entry = self._entries[reader.cursor % self._size]
                if self.written - reader.cursor > self._size // 2 or (
                    entry is not None
                    and max(self.event - entry.first, self.row - entry.first_row) > self._size // 2
                ):
                    return False
        return True

    # --- writing ------------------------------------------------------------------------------------------

    def batch(self, events: Array, states: Array, rows: Array, laps: Array, wait_ms: float = 0.0) -> None:
        """Copy what the engine did with at most a quarter of `size` EVENT rows; arguments as in `Batch`."""
        if len(events) > self._size // 4:
            raise ValueError(f"a batch holds at most {self._size // 4} events, not {len(events)}")
        entry = _Entry(None, (), self.event, len(events), self.row, len(rows), wait_ms)
        self._events.write(self.event, events)
        self._states.write(self.event, states)
        self._rows.write(self.row, rows)
        self._laps.write(self.row, laps)
        self.event += len(events)
        self.row += len(rows)
        self._put(entry)

    def report(self, update: OrderUpdate) -> None:
        """A report was applied."""
        self._put(_Entry(_call_report, (update, self.event), self.event, 0, self.row))

    def control(self, control: Control) -> None:
        """A control input was applied."""
        self._put(_Entry(_call_control, (control, self.event), self.event, 0, self.row))

    def message(self, message: Message) -> None:
        """Something was told."""
        self._put(_Entry(_call_message, (message,), self.event, 0, self.row))

    def link(self, state: LinkState) -> None:
        """A connection changed."""
        self._put(_Entry(_call_link, (state,), self.event, 0, self.row))

    def tick(self, now_ns: int) -> None:
        """Time passed."""
        self._put(_Entry(_call_tick, (now_ns,), self.event, 0, self.row))

    def _put(self, entry: _Entry) -> None:
        self._entries[self.written % self._size] = entry
        self.written += 1  # after the data: a reader that sees the number finds them

    # --- reading ------------------------------------------------------------------------------------------

    def read(self, cursor: int) -> tuple[Batch | _Entry | None, int]:
        """What stands at a cursor, and by how many entries to go on; None where those are lost."""
        entry = self._entries[cursor % self._size]
        assert entry is not None
        found, passed = (entry, 1) if entry.call is not None else self._joined(cursor, entry)
        # looked at after the copy: the writer takes its room before it writes
        ahead = max(self.event - entry.first, self.row - entry.first_row, self.written - cursor)
        if ahead > self._size - self._size // 4:  # `room` asks for more: ticks and reports come without it
            return None, max(1, (self.written - cursor) // 2)
        return found, passed

    def _joined(self, cursor: int, first: _Entry) -> tuple[Batch, int]:
        """The batches from a cursor on, up to anything else or a quarter of the rings, as one."""
        events, rows, wait_ms, n = first.n, first.rows, first.wait_ms, 1
        while cursor + n < self.written:
            entry = self._entries[(cursor + n) % self._size]
            if entry is None or entry.call is not None or max(events, rows) + entry.n > self._size // 4:
                break
            if entry.first != first.first + events:
                break  # overwritten meanwhile
            events, rows, wait_ms, n = events + entry.n, rows + entry.rows, max(wait_ms, entry.wait_ms), n + 1
        batch = Batch(
            first.first,
            self._events.read(first.first, events),
            self._states.read(first.first, events),
            first.first_row,
            self._rows.read(first.first_row, rows),
            self._laps.read(first.first_row, rows)["ns"],
            wait_ms,
        )
        return batch, n


def _call_report(tap: Tap, update: OrderUpdate, at: int) -> None:
    tap.on_report(update, at)


def _call_control(tap: Tap, control: Control, at: int) -> None:
    tap.on_control(control, at)


def _call_message(tap: Tap, message: Message) -> None:
    tap.on_message(message)


def _call_link(tap: Tap, state: LinkState) -> None:
    tap.on_link(state)


def _call_tick(tap: Tap, now_ns: int) -> None:
    tap.on_tick(now_ns)


class _Ring:
    """Records by their absolute number, the newest `size` of them; as plain bytes, since NumPy copies a record field by
    field, which takes ten times as long.
    """

    def __init__(self, dtype: np.dtype[Any], size: int) -> None:
        self._dtype = dtype
        self._item = dtype.itemsize
        self._size = size
        self._bytes = memoryview(bytearray(size * dtype.itemsize))

    def write(self, at: int, items: Array) -> None:
        """Write items [n] from number `at` on."""
        raw = items.tobytes()
        here = at % self._size * self._item
        room = len(self._bytes) - here
        if len(raw) <= room:
            self._bytes[here : here + len(raw)] = raw
        else:
            self._bytes[here:] = raw[:room]
            self._bytes[: len(raw) - room] = raw[room:]

    def read(self, at: int, n: int) -> Array:
        """Copy `n` items from number `at` on."""
        here = at % self._size * self._item
        raw = bytearray(self._bytes[here : here + n * self._item])
        raw += self._bytes[: n * self._item - len(raw)]
        return np.frombuffer(raw, self._dtype)
