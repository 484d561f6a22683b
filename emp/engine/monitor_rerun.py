"""What the monitor of a recorded run found, found again from the run's journal, and held against its own lines."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from emp.core.contracts import Control
from emp.core.errors import JournalError
from emp.core.records import Array, empty_events
from emp.engine.contender import SAID, recorded_forecasts
from emp.engine.journal_tap import journalled_events
from emp.engine.load import LoadedModel
from emp.engine.monitor import Lineup, Monitor
from emp.engine.monitor_tap import ROLLS, line_of_finding, roll_of
from emp.engine.rerun import Terms
from emp.journal.monitor_log import LINEUP, MONITOR, chained, read_monitor
from emp.journal.run import RunFolder, other_release

AT_ONCE = 4_096
"""Events taken at once."""


class Stretch(NamedTuple):
    """What one lineup saw without a break."""

    first: int  # event
    end: int | None  # event behind the last; None: to the end of the journal
    told: Mapping[str, Any]  # the line that begins it
    lines: list[tuple[int, bytes]]  # with how many events came before what each tells
    rolls: list[tuple[int, Control]]  # with how many events came before each, in order
    torn: bool  # the process may have died before it wrote all, or before the journal had what it had seen


def stretches(folder: RunFolder) -> list[Stretch]:
    """What the lines of a run fall into; none where nothing watched it.

    Raises JournalError where the beginning of the file is missing, or a whole stretch.
    """
    found: list[Stretch] = []
    begun = 0
    for number, (line, told) in enumerate(read_monitor(folder.path), 1):
        begins = told["kind"] == LINEUP
        if (begins and told.get("before", begun) != begun) or not (begins or found):
            raise JournalError(f"{folder.path / MONITOR}: what stood before line {number} is missing")
        if begins:
            begun = chained(line, begun)
            if found:
                found[-1] = found[-1]._replace(end=told["since"], torn=told["fresh"])
            torn = not (folder.path / "summary.json").exists()
            found.append(Stretch(told["at"], None, told, [], [], torn))
        elif told["kind"] in ROLLS:
            found[-1].rolls.append((told["at"], roll_of(told)))
        else:
            found[-1].lines.append((told["at"], line))
    return found


def verify_monitor(
    folder: RunFolder,
    rows: Array,
    terms: Callable[[int], Terms],
    model: Callable[[str], LoadedModel],
    served: Sequence[str] = (),
) -> int:
    """Find again what the monitor of a run found; return how many lines that is.

    Args:
        rows: DECISION rows of the whole run.
        terms: those of the process before whose trading the run had so many events.
        model: the artifact of a hash.
        served: hashes of the models whose rows they are, in the order of `model_id`; nobody asks where there are none.

    Raises:
        JournalError: a line differs, is missing, or was never found, or tells of a model that did not serve.
    """
    market = Journalled(folder, rows)
    monitor: Monitor | None = None
    checked = 0
    for one in stretches(folder):
        if one.told["fresh"]:
            monitor = None
            instruments, limits, _ = terms(one.first)
        beside = [model(name) if (name := one.told[role]) else None for role in Lineup._fields[1:]]
        lineup, kept = Lineup(model(one.told["serving"]), *beside), one.told.get("kept", False)
        monitor = Monitor(instruments, limits, lineup, monitor, kept=kept)
        lines: list[bytes] = []
        rolls = deque(one.rolls)
        ends = sorted({at for at, _ in rolls if one.first < at and (one.end is None or at < one.end)})
        for begin, end in zip([one.first, *ends], [*ends, one.end], strict=True):
            while rolls and rolls[0][0] <= begin:
                monitor.finance(rolls.popleft()[1])
            for first, events, mine in market.take(begin, end):
                _refuse_others(folder, one, mine, served)
                lines += [line_of_finding(found) for found in monitor.take(first, events, mine)]
        for _, roll in rolls:
            monitor.finance(roll)
        checked += _compare(folder, one, lines, market.at)
    return checked


def _refuse_others(folder: RunFolder, one: Stretch, rows: Array, served: Sequence[str]) -> None:
    """Raise JournalError where rows are of another model than the one that a stretch says it watched: what they are
    worth would be told of a model that has not said it.
    """
    theirs = {served[k] for k in np.unique(rows["model_id"])} if served else set()
    if theirs - {one.told["serving"]}:
        raise JournalError(
            f"{folder.path / MONITOR}: says that model {one.told['serving'][:12]} served behind event {one.first}: it"
            " did not"
        )


def _compare(folder: RunFolder, one: Stretch, again: list[bytes], journalled: int) -> int:
    """How many lines were held against those that were found again."""
    recorded = [line for at, line in one.lines if at <= journalled or not one.torn]
    if again == recorded or (one.torn and again[: len(recorded)] == recorded):
        return len(recorded)
    pairs = zip(again, recorded, strict=False)
    same = next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(again), len(recorded)))
    raise JournalError(
        f"{folder.path / MONITOR}: behind event {one.first} line {same + 1} of what the monitor found is not what is"
        f" found again{other_release(folder.manifest)}"
    )


class Journalled:
    """Events with the rows that they led to, read forward once."""

    def __init__(self, folder: RunFolder, rows: Array) -> None:
        self._parts = journalled_events(folder)
        self._part = empty_events(0)
        self._rows = rows
        self.at = 0  # number of the part's first event

    def take(self, first: int, end: int | None) -> Iterator[tuple[int, Array, Array]]:
        """Events [first, end) and their rows, after the events before were passed over."""
        for _ in self._until(first):
            pass
        yield from self._until(end)

    def _until(self, end: int | None) -> Iterator[tuple[int, Array, Array]]:
        while end is None or self.at < end:
            if not len(self._part):
                part = next(self._parts, None)
                if part is None:
                    return
                self._part = np.ascontiguousarray(part)
                continue
            n = min(len(self._part), AT_ONCE) if end is None else min(len(self._part), AT_ONCE, end - self.at)
            events, self._part = self._part[:n], self._part[n:]
            used = int(recorded_forecasts(events, self._rows, np.zeros(n, SAID)))
            rows, self._rows = self._rows[:used], self._rows[used:]
            self.at += n
            yield self.at - n, events, rows
