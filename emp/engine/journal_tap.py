"""The journal of a run as a tap: market data and action log, and a tail of what no part holds yet.

Parquet parts are made once in a while. Between them everything goes, as bytes, to the end of one tail file, batch by
batch, each with its events and its rows together: when the process is killed, what the parts lack is read from there,
and events and rows still belong to each other. The tail begins with the layout of its records, so that another release
can read it, and a mark of what the parts held when it was begun.
"""

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np

from emp.core.clock import Clock
from emp.core.contracts import Control
from emp.core.disk import disk, write_all
from emp.core.errors import JournalError
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.engine.hourly_latency import HourlyLatency
from emp.engine.tap import Batch, Tap
from emp.journal.actionlog import ActionLog, newest_first, read_actions
from emp.journal.latency_log import LatencyLog
from emp.journal.market import MarketJournal, read_market
from emp.journal.run import RunFolder
from emp.journal.tail import TAIL, Unit, pack_mark, pack_unit, read_tail


class JournalTap(Tap):
    """Writes the market journal and the action log of a live run; continues what an earlier process left."""

    name = "journal"
    lossless = True

    def __init__(
        self,
        folder: RunFolder,
        instruments: Sequence[Instrument],
        model_hashes: Sequence[str],
        clock: Clock,
        flush_s: float = 60.0,
    ) -> None:
        """`model_hashes` are the models of the run so far, in the order in which they came to serve; a row waits
        `flush_s` at most for its part.
        """
        folder.refuse_links()
        self.market = MarketJournal(folder.market, instruments)
        self.actions = ActionLog(
            folder.actions, [one.name for one in instruments], model_hashes[:1], resumable=True
        )
        self._clock = clock
        self._flush_ns = int(flush_s * 1e9)
        self._flushed_at = clock.monotonic_ns()
        self._path = folder.path / TAIL
        self._resume(model_hashes)
        self._tail = self._begin_tail()
        self._pending: list[bytes] = []
        self._latency = HourlyLatency(LatencyLog(folder.path), model_hashes[-1])

    def _resume(self, models: Sequence[str]) -> None:
        """Bring both journals to the last batch that the tail, or the parts, hold whole."""
        units = read_tail(self._path)
        if not units:
            self.actions.truncate_to(self.actions.rows_in_parts())
            return
        self.market.truncate_to(units[0].first)
        self.actions.truncate_to(units[0].first_row)
        for unit in units:
            for model in models[: int(unit.rows["model_id"].max(initial=-1)) + 1]:
                self.actions.know(model)
            self.market.append(unit.events)
            self.actions.append(unit.rows)
        self._flush_parts()
        for model in models:
            self.actions.know(model)

    def _begin_tail(self) -> int:
        try:
            tail = disk().open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
        except OSError as error:
            raise self._failed(error) from error
        try:
            write_all(tail, self._mark())
            disk().sync(tail)
        except OSError as error:
            disk().close(tail)
            raise self._failed(error) from error
        return tail

    def _mark(self) -> bytes:
        return pack_mark(self.market.events, self.actions.rows)

    # --- the tap ------------------------------------------------------------------------------------------

    def on_batch(self, batch: Batch) -> None:
        """Take events and rows in."""
        if not len(batch.events):
            return
        self.market.append(batch.events)
        self.actions.append(batch.rows)
        self._latency.add(batch.events, batch.laps)
        self._pending.append(
            pack_unit(Unit(batch.first, batch.events, batch.first_row, batch.rows)),
        )
        if len(self._pending) > 64:
            self.on_idle()

    def on_control(self, control: Control, at: int) -> None:
        """Rows of another model may follow a swap."""
        if control.action == "swap":
            self.actions.know(control.reason)
            self._latency.serve(control.reason)

    def on_tick(self, now_ns: int) -> None:
        """Make parts where it is time."""
        now = self._clock.monotonic_ns()
        if now - self._flushed_at >= self._flush_ns:
            self._flushed_at = now
            self._flush()

    def on_idle(self) -> None:
        """Write the tail on."""
        data, self._pending = b"".join(self._pending), []
        try:
            write_all(self._tail, data)
        except OSError as error:
            raise self._failed(error) from error

    def _flush_parts(self) -> None:
        self.market.flush()
        self.actions.flush()

    def _flush(self) -> None:
        self.on_idle()
        self._flush_parts()
        before, self._tail = self._tail, self._begin_tail()
        disk().close(before)
        self._latency.write()

    def close(self) -> None:
        """Everything into parts; the tail goes."""
        lasting = False
        try:
            self.on_idle()
            lasting = True
        finally:
            try:
                self.market.close()
            finally:
                try:
                    self.actions.close()
                finally:
                    self._latency.close(lasting=lasting)
        disk().close(self._tail)
        disk().unlink(self._path)

    def _failed(self, error: OSError) -> JournalError:
        return JournalError(f"cannot write {self._path}: {error.strerror}")


def journalled_events(folder: RunFolder) -> Iterator[Array]:
    """Yield every EVENT row that a run has journalled, in order: its parts, then what only the tail holds."""
    units = read_tail(folder.path / TAIL)
    left = units[0].first if units else None
    for events in read_market(folder.market):
        yield events if left is None else events[:left]
        left = left if left is None else max(0, left - len(events))
    for unit in units:
        if len(unit.events):
            yield unit.events


def journalled_rows(folder: RunFolder) -> Array:
    """Every DECISION row that a run has logged, likewise."""
    units = read_tail(folder.path / TAIL)
    rows = read_actions(folder.actions)
    if units:
        rows = rows[: units[0].first_row]
    return np.concatenate([rows, *(unit.rows for unit in units)])


def known_until(folder: Path | None, instruments: int) -> list[int]:
    """By instrument the market time, ns UTC, up to which a run has journalled its events; 0 where it has none."""
    rows = {} if folder is None else newest_rows(RunFolder(folder), instruments)
    return [int(rows[i]["ts"][0]) if i in rows else 0 for i in range(instruments)]


def newest_rows(folder: RunFolder, instruments: int) -> dict[int, Array]:
    """The newest DECISION row [1] of each instrument that has any, by index; read from the end, as far as need be."""
    found: dict[int, Array] = {}
    tail = (unit.rows for unit in reversed(read_tail(folder.path / TAIL)))
    for rows in chain(tail, newest_first(folder.actions)):
        for i in range(instruments):
            mine = np.flatnonzero(rows["instrument"] == i)
            if len(mine) and i not in found:
                found[i] = rows[mine[-1:]]
        if len(found) == instruments:
            break
    return found
