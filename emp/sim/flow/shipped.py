"""The flow models that come with the package, by name; the first is what the built-in market runs by default."""

import difflib
from functools import cache
from pathlib import Path

from emp.core.errors import UsageError
from emp.core.records import Array
from emp.sim.flow.params import Source, load_params
from emp.sim.flow.zi import zi_params

SHIPPED = {path.stem: path for path in sorted((Path(__file__).parent / "models").glob("*.npz"))}
DEFAULT = "goog"


@cache
def _read() -> tuple[Array, Source]:
    return load_params(SHIPPED[DEFAULT])


def shipped_flow() -> Array:
    """A copy of the shipped FLOW record: queue-reactive, estimated from one day of a liquid share."""
    return _read()[0].copy()


def shipped_note() -> str:
    """What it was estimated from."""
    return _read()[1].note


def flow_file(name: str) -> Path:
    """The file that a model's name stands for: one that comes with the package, or a path."""
    path = SHIPPED.get(name, Path(name))
    if not path.exists():
        known = ["zi", *SHIPPED]
        near = difflib.get_close_matches(name, known, 1)
        meant = f"did you mean {near[0]}? else " if near else ""
        raise UsageError(
            f"no flow model file {name}: {meant}estimate one with `emp sim calibrate RECORDING --out {name}`, "
            f"or use --model with one of {', '.join(known)}"
        )
    return path


def named_flow(name: str) -> Array:
    """The FLOW record that a name stands for: "zi", a model of the package, or a file of `emp sim calibrate`."""
    return zi_params() if name == "zi" else load_params(flow_file(name))[0]
