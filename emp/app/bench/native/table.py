"""Rounds of native peers beside ours, and the table of both: best and median rates, ratios of like work."""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from emp.app.bench.native.like import Like
from emp.app.bench.native.programs import CaseRun, NotRunError, run_program

Expected = dict[str, list[float]]
"""Numbers that must stand in a case's note, by the name of `Like.expect`."""


class Rates(msgspec.Struct):
    """Events per second of one case, round by round, of wall time and of the thread's CPU time."""

    per_s: list[float] = []
    per_cpu_s: list[float] = []

    def add(self, per_s: float, per_cpu_s: float) -> None:
        """Take in one round."""
        self.per_s.append(per_s)
        self.per_cpu_s.append(per_cpu_s)


class Natives:
    """The peers of some rows of the table, run round by round on the stream files in `data`."""

    def __init__(
        self, folder: Path, data: Path, rows: Sequence[Like], stream: str, expected: Expected
    ) -> None:
        self.rows = rows
        self._folder, self._data, self._stream, self._expected = folder, data, stream, expected
        self._rates: dict[tuple[str, str], Rates] = {}
        self._not_run: dict[tuple[str, str], str] = {}

    def round(self) -> None:
        """Run every peer once; what gave no figure is not run again."""
        for call, rows in self._calls().items():
            left = [row for row in rows if _key(row) not in self._not_run]
            if not left:
                continue
            try:
                cases = run_program(self._folder, call[0], list(call[1:]), self._data)
            except NotRunError as reason:
                self._not_run.update((_key(row), str(reason)) for row in left)
                continue
            for row in left:
                self._take(row, cases.get(row.case))

    def _calls(self) -> dict[tuple[str, ...], list[Like]]:
        """Rows by the command that measures them: some programs name the case, others run all they have."""
        calls: dict[tuple[str, ...], list[Like]] = {}
        for row in self.rows:
            whole = row.program in ("barterpeer", "fixpeer")
            call = (row.program, "1") if whole else (row.program, self._stream, "1", row.case)
            calls.setdefault(call, []).append(row)
        return calls

    def _take(self, row: Like, run: CaseRun | None) -> None:
        if run is None:
            self._not_run[_key(row)] = "the program has no such case, or its result was wrong"
        elif fault := _fault(row, run.note, self._expected):
            self._not_run[_key(row)] = fault
        else:
            self._rates.setdefault(_key(row), Rates()).add(run.per_s, run.per_cpu_s)

    def compare(self, ours: dict[str, Rates]) -> list[dict[str, Any]]:
        """One object a row: the peer's rates, ours, and ours over the peer's; `not_run` says why there are none."""
        return [self._compared(row, ours) for row in self.rows]

    def _compared(self, row: Like, ours: dict[str, Rates]) -> dict[str, Any]:
        own = ours[row.ours]
        said: dict[str, Any] = {
            "program": row.program,
            "case": row.case,
            "per_cpu_s": None,
            "ours": row.ours,
            "ours_per_cpu_s": round(max(own.per_cpu_s)),
            "ours_median_per_cpu_s": round(median(own.per_cpu_s)),
            "ours_per_s": round(max(own.per_s)),
            "ratio": None,
            "peer_leaves_out": row.peer_omits,
            "ours_leaves_out": row.ours_omits,
        }
        if _key(row) in self._not_run:
            return {**said, "not_run": self._not_run[_key(row)]}
        peer = self._rates[_key(row)]
        return {
            **said,
            "per_cpu_s": round(max(peer.per_cpu_s)),
            "median_per_cpu_s": round(median(peer.per_cpu_s)),
            "per_s": round(max(peer.per_s)),
            "ratio": round(max(own.per_cpu_s) / max(peer.per_cpu_s), 3),
            "ratio_of_medians": round(median(own.per_cpu_s) / median(peer.per_cpu_s), 3),
            "wall_ratio": round(max(own.per_s) / max(peer.per_s), 3),
        }


def _key(row: Like) -> tuple[str, str]:
    return row.program, row.case


def _fault(row: Like, note: str, expected: Expected) -> str:
    """Why a run does not count: it ended early, or with another result than ours; empty where it counts."""
    if "ABORTED" in note or note.startswith("ERR"):
        return f"aborted: {note[:120]}"
    if row.expect == "end" and not note.startswith("to the end"):
        return f"did not come to the end: {note[:120]}"
    if row.expect == "checked" and note != "checked":
        return f"its result was not checked: {note[:120]}"
    if row.expect not in expected:
        return ""
    want = expected[row.expect]
    found = [float(word) for word in re.findall(r"-?\d+(?:\.\d+)?", note.split("refused")[0])]
    scaled = [[one * scale for one in want] for scale in (1.0, 0.01)]
    if any(_stands_in(numbers, found) for numbers in scaled):
        return ""
    return f"another result than ours, {want}: {note[:120]}"


def _stands_in(want: list[float], found: list[float]) -> bool:
    """Whether the numbers stand in this order, one after the other, among those found."""
    n = len(want)
    return any(
        all(abs(a - b) < 1e-6 for a, b in zip(want, found[i : i + n], strict=True))
        for i in range(len(found) - n + 1)
    )


def show_table(native: Iterable[dict[str, Any]], say: Callable[[str], None]) -> None:
    """Print the rows: ours, the peer, their ratio, what either leaves out. Rates in million a CPU second."""
    say(f"{'ours':<12} {'M/s':>7}  {'peer':<36} {'M/s':>7}  {'ratio':>6}  left out by the peer; by ours")
    for row in native:
        own = f"{row['ours']:<12} {row['ours_per_cpu_s'] / 1e6:7.3f}"
        if "not_run" in row:
            say(f"{own}  {row['case']:<36} not run: {row['not_run']}")
            continue
        say(
            f"{own}  {row['case']:<36} {row['per_cpu_s'] / 1e6:7.3f}  {row['ratio']:6.2f}  "
            f"{row['peer_leaves_out']}; {row['ours_leaves_out']}"
        )
