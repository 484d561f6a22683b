"""The flow model that comes with the package: what the built-in market and the environment run by default."""

from functools import cache
from pathlib import Path

from emp.core.records import Array
from emp.sim.flow.params import Source, load_params

SHIPPED = Path(__file__).parent / "models" / "goog.npz"


@cache
def _read() -> tuple[Array, Source]:
    return load_params(SHIPPED)


def shipped_flow() -> Array:
    """A copy of the shipped FLOW record: queue-reactive, estimated from one day of a liquid share."""
    return _read()[0].copy()


def shipped_note() -> str:
    """What it was estimated from."""
    return _read()[1].note
