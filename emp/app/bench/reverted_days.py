"""Simulated days of `emp bench revert` over the cores of a machine, kept in a folder that a later run goes on with.

folder/drill.json     what the days are of: messages, seed, sources
folder/serving/, folder/standby/     the two trained models
folder/days.jsonl     a line for each day that was looked at, in whatever order they ended
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from emp.core.code_version import code_version
from emp.core.disk import make_folders
from emp.core.errors import UsageError
from emp.core.processes import in_processes

if TYPE_CHECKING:
    from emp.app.bench.reverted import Drill

CALM = ""
"""The fault of an undisturbed day."""


class Told(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was found on one day."""

    day: int
    fault: str  # CALM, or what is broken half-way
    alarms: dict[str, int]  # event of the first alarm of each kind, on an undisturbed day
    gate: str  # what the model failed by, on an undisturbed day
    delay: int | None  # events from the fault to the verdict


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What days must share to be counted together."""

    events: int
    seed: int
    code: str
    sharper: float


class Days:
    """The days of one drill."""

    def __init__(self, folder: Path, events: int, seed: int, train: Callable[["Drill", Path], float]) -> None:
        """Open the folder, or train the models into it: `train` saves them and returns how much sharper the first must
        speak to be worse.

        Raises:
            UsageError: the folder holds days of another drill.
        """
        from emp.app.bench.reverted import Drill

        self._folder = folder
        path = folder / "drill.json"
        if path.exists():
            self.terms = msgspec.json.decode(path.read_bytes(), type=Terms)
            wanted = msgspec.structs.replace(self.terms, events=events, seed=seed, code=code_version())
            if self.terms != wanted:
                raise UsageError(
                    f"{folder}: holds days of other sources, of another seed or of another length"
                )
            return
        make_folders(folder)
        sharper = train(Drill(events, seed), folder)
        self.terms = Terms(events, seed, code_version(), sharper)
        path.write_bytes(msgspec.json.encode(self.terms))

    def told(self) -> list[Told]:
        """Days that were looked at; a line torn by a crash is left out."""
        try:
            lines = (self._folder / "days.jsonl").read_bytes().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        return [msgspec.json.decode(line, type=Told) for line in lines if line.endswith(b"\n")]

    def look(self, wanted: Iterable[tuple[int, str]], jobs: int) -> Iterator[Told]:
        """Look at days, each with its fault, that were not looked at before; yield each as it ends."""
        known = {(one.day, one.fault) for one in self.told()}
        missing = [one for one in wanted if one not in known]
        if not missing:
            return
        jobs, given = min(jobs, len(missing)), (str(self._folder), self.terms)
        with self._log() as file:
            for _, found in in_processes(_look, missing, jobs, prepare=_prepare, given=given):
                file.write(msgspec.json.encode(found) + b"\n")
                file.flush()
                yield found

    def _log(self) -> BinaryIO:
        """The file of days, without a torn end, to be added to."""
        path = self._folder / "days.jsonl"
        whole = b"".join(msgspec.json.encode(one) + b"\n" for one in self.told())
        path.write_bytes(whole)
        return path.open("ab")


_drill: "Drill | None" = None


def _prepare(folder: str, terms: Terms) -> None:
    """Load the models, once in each process, which gives way to whatever else the machine has to do."""
    global _drill
    from emp.app.bench.reverted import Drill

    os.nice(10)
    _drill = Drill(terms.events, terms.seed)
    _drill.load(Path(folder), terms.sharper)


def _look(wanted: tuple[int, str]) -> Told:
    day, fault = wanted
    assert _drill is not None
    if fault != CALM:
        return Told(day, fault, {}, "", _drill.delay(day, fault))
    alarms, gate = _drill.day(day)
    return Told(day, fault, alarms, gate, None)
