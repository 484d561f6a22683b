"""What outcomes allow outlives its process: a stop, the evidence behind size and crossing, what gains have been worth.

It is recorded in the ledger as it changes, restored by every start of the run, and taken into the account's next run.
Else a start would open again what was stopped for bringing less than was believed of it.
"""

from collections.abc import Iterator, Mapping

from emp.core.records import Array
from emp.decision.standing import STANDING, unearn
from emp.journal.records import Note, Scalar

EARNED = "earned"
"""Kind of the ledger's note of what outcomes allow an instrument."""

MODEL = "model"
"""Name in its data of the model by whose forecasts that was earned: its hash."""

_KEPT = (
    "level",
    "slope",
    "error",
    "lots",
    "may_cross",
    "held_ns",
    "held",
    "n",
    "x",
    "xx",
    "y",
    "xy",
    "yy",
    "scale",
    "scaled",
    "earned",
    "short",
    "regained",
    "stops",
    "crossed",
    "crossed_scale",
    "crossed_trips",
)
"""Fields of STANDING that were learned; prices withdrawn from and the next roll are those of a moment."""


def earned_of(standing: Array, model: str) -> dict[str, Scalar]:
    """A STANDING record as a note keeps it, earned by a model's forecasts."""
    data: dict[str, Scalar] = {MODEL: model}
    for name, part in _fields():
        data[f"{name}.{part}" if part else name] = (standing[name][part] if part else standing[name]).item()
    return data


def earned_note(instrument: str, data: Mapping[str, Scalar], ts: int) -> Note:
    """The ledger's note of it."""
    return Note(kind=EARNED, ts=ts, instrument=instrument, data=dict(data))


def restore_earned(standings: Array, data: Mapping[str, Scalar], model: str) -> None:
    """Let STANDING[1] begin where `earned_of` left it; by another model's forecasts nothing was earned yet."""
    for name, part in _fields():
        value = data.get(f"{name}.{part}" if part else name)
        if value is not None:
            (standings[name][part] if part else standings[name])[0] = value
    if data.get(MODEL) != model:
        unearn(standings)


def _fields() -> Iterator[tuple[str, str]]:
    """Name and part of each number; part "" where a field is one."""
    for name in _KEPT:
        for part in STANDING[name].names or ("",):
            yield name, part
