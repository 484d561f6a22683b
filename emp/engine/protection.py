"""A stop at the venue behind every position, for the time when no engine runs: where the venue has such a thing.

It stands where the loss would pass the instrument's own loss limits, and beyond the furthest price that a closing
order of ours accepts: a running engine closes first, at its limits; the stop is what is left when it cannot. So no
distance is configured. It moves when what may still be lost does, and by steps, not with every tick.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from emp.core.clock import Clock
from emp.engine.closing import PROTECTION
from emp.engine.engine import Engine

LOOK_NS = 1_000_000_000
STEP = 0.05
"""Share of its distance from the market by which a stop must be off before it is moved."""

MISSED_NS = 10_000_000_000
"""How long a venue may take to say that a stop rests."""


@runtime_checkable
class Protects(Protocol):
    """An access whose venue keeps stops on positions: they close what is held, never more, and end with it."""

    def protect(self, instrument: str, side: int, px: int) -> None:
        """Keep a stop at `px` ticks on what is held of an instrument on one side (+1 bought, -1 sold), in place of any
        other; 0: none any more.
        """

    def protected(self, instrument: str) -> int:
        """Ticks at which the venue says that a stop rests for all that is held; 0 where it does not say so."""


def stop_price(engine: Engine, i: int) -> int:
    """Ticks at which a stop of instrument `i` belongs; 0 where none does.

    With cash c, fees f and q lots, pnl = c + q px - f reaches the floor that the loss limits set, the higher of
    day_start - max_daily_loss and peak - max_drawdown, at px = (floor + f - c) / q.
    """
    account, seen = engine.desk.account[i], engine.desk.perception[i]
    held = int(account["position"])
    bid, ask = int(seen["bid"]), int(seen["ask"])
    if not held or engine.positions.unvalued.lots(i) or not bid < ask or 0 in (bid, ask):
        return 0
    limits = engine.limits
    floor = max(
        float(account["day_start"]) - limits.max_daily_loss, float(account["peak"]) - limits.max_drawdown
    )
    at = (floor + float(account["fees"]) - float(account["financing"]) - float(account["cash"])) / held
    beyond = PROTECTION * (ask - bid)
    if held > 0:
        px = int(at // 1) - beyond
        return px if px < bid and (px > 0 or bid <= 0) else 0
    px = -int(-at // 1) + beyond
    return px if px > ask else 0


class Protection:
    """Keeps the stops of one engine's positions at one venue."""

    def __init__(
        self, engine: Engine, access: Protects, clock: Clock, note: Callable[[int, int], None]
    ) -> None:
        """`note` is told, before the venue is, at which price (ticks) instrument `i` is to be stopped."""
        self._engine, self._access, self._clock, self._note = engine, access, clock, note
        self._placed: dict[int, int] = {}  # by instrument
        self._held = [0 for _ in engine.instruments]
        self._looked_ns = 0
        self._missing_ns: dict[int, int] = {}  # since when no stop rests though one was asked for

    def look(self) -> None:
        """Move what has to be moved: at once after a change of position, else once a second."""
        now = self._clock.monotonic_ns()
        held = self._engine.desk.account["position"].tolist()
        if held == self._held and now - self._looked_ns < LOOK_NS:
            return
        self._held, self._looked_ns = held, now
        for i, one in enumerate(self._engine.instruments):
            self._renew(i, one.name)
            self._miss(i, one.name, now)

    def missing(self) -> list[str]:
        """Instruments that are held, and for which the venue has not said for a while that a stop rests."""
        now = self._clock.monotonic_ns()
        return [
            self._engine.instruments[i].name
            for i, since in self._missing_ns.items()
            if now - since >= MISSED_NS
        ]

    def _renew(self, i: int, name: str) -> None:
        wanted, placed = stop_price(self._engine, i), self._placed.get(i, 0)
        if not self._held[i]:
            if placed:
                self._place(i, name, 0)
            return
        mid = 0.5 * float(self._engine.desk.perception["bid"][i] + self._engine.desk.perception["ask"][i])
        if wanted and abs(wanted - placed) > STEP * abs(wanted - mid):
            self._place(i, name, wanted)

    def _place(self, i: int, name: str, px: int) -> None:
        self._placed[i] = px
        self._note(i, px)
        self._access.protect(name, 1 if self._held[i] > 0 else -1, px)

    def _miss(self, i: int, name: str, now: int) -> None:
        if self._held[i] and not self._access.protected(name):
            self._missing_ns.setdefault(i, now)
        else:
            self._missing_ns.pop(i, None)
