"""The venue port of the compiled path: where events come from and commands go to, compiled for the kind at hand.

A kind of venue is a NamedTuple of arrays and five kernels, which speak in records of `core.messages`; `register` joins
them, as `emp.model.port` joins models. A compiled loop (`emp.engine.trade`) is compiled once per kind: a recording
whose orders wait in the paper queue (`emp.access.paper.market`), a simulated market (`emp.sim.world.venue`).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types
from numba.extending import overload

from emp.core.numba.inner import INNER

NO_EVENT, EVENT_CAME, NOTHING_SHOWN, NOTHING_LEFT = 0, 1, 2, 3
"""What `advance` says: no event until the time given; an event; something happened, and no event shows it; the market
is over."""


class Kernels(NamedTuple):
    """What a kind of venue does; the names are those of the port."""

    advance: Callable[..., Any]
    report: Callable[..., Any]
    send: Callable[..., Any]
    idle: Callable[..., Any]
    again: Callable[..., Any]


_KERNELS: dict[type, Kernels] = {}


def register(venue_type: type, kernels: Kernels) -> None:
    """Make the port run `kernels` for venues of `venue_type`."""
    _KERNELS[venue_type] = kernels


def advance(venue: Any, until_ns: int, event: Any) -> tuple[int, int]:
    """Let the market go on to its next event, or to `until_ns` (inclusive) where it has none by then.

    Args:
        event: EVENT[1], overwritten where an event came.

    Returns:
        (NO_EVENT, EVENT_CAME, NOTHING_SHOWN or NOTHING_LEFT, number of reports that reach us by then).
    """
    come, due = _KERNELS[type(venue)].advance(venue, until_ns, event)
    return int(come), int(due)


def report(venue: Any, k: int, message: Any) -> None:
    """Write the `k`-th of the reports that `advance` spoke of into a MESSAGE; each once, in order."""
    _KERNELS[type(venue)].report(venue, k, message)


def send(venue: Any, message: Any) -> bool:
    """Put a command on its way; False where the venue has no room for it, and then nothing was sent."""
    return bool(_KERNELS[type(venue)].send(venue, message))


def idle(venue: Any) -> bool:
    """Whether nothing of ours is on its way, at rest, or still to be told."""
    return bool(_KERNELS[type(venue)].idle(venue))


def again(venue: Any) -> bool:
    """Have the last event come once more, where it can (it is recorded), for time to pass before it; say whether."""
    return bool(_KERNELS[type(venue)].again(venue))


def _of(venue: Any) -> Kernels | None:
    known = isinstance(venue, types.NamedTuple | types.NamedUniTuple) and venue.instance_class in _KERNELS
    return _KERNELS[venue.instance_class] if known else None


@overload(advance, jit_options=INNER)
def _compiled_advance(venue: Any, until_ns: Any, event: Any) -> Any:
    kernels = _of(venue)
    if kernels is None:
        return None
    kernel = kernels.advance

    def run(venue: Any, until_ns: Any, event: Any) -> Any:
        return kernel(venue, until_ns, event)

    return run


@overload(report, jit_options=INNER)
def _compiled_report(venue: Any, k: Any, message: Any) -> Any:
    kernels = _of(venue)
    if kernels is None:
        return None
    kernel = kernels.report

    def run(venue: Any, k: Any, message: Any) -> Any:
        return kernel(venue, k, message)

    return run


@overload(send, jit_options=INNER)
def _compiled_send(venue: Any, message: Any) -> Any:
    kernels = _of(venue)
    if kernels is None:
        return None
    kernel = kernels.send

    def run(venue: Any, message: Any) -> Any:
        return kernel(venue, message)

    return run


@overload(idle, jit_options=INNER)
def _compiled_idle(venue: Any) -> Any:
    kernels = _of(venue)
    if kernels is None:
        return None
    kernel = kernels.idle

    def run(venue: Any) -> Any:
        return kernel(venue)

    return run


@overload(again, jit_options=INNER)
def _compiled_again(venue: Any) -> Any:
    kernels = _of(venue)
    if kernels is None:
        return None
    kernel = kernels.again

    def run(venue: Any) -> Any:
        return kernel(venue)

    return run
