"""What alerts are about: a run, seen from inside by its board, or from another machine by its heartbeat."""

import socket
from collections.abc import Collection

import structlog

from emp.core.clock import Clock
from emp.observe.alerts import Alert, alerts_of
from emp.observe.board import Board
from emp.observe.heartbeat import Beat
from emp.observe.receivers import Origin

CLOCK_STEP_S = 0.5
"""A jump of the wall clock beside the monotonic one, between two looks, that is worth telling."""

CLOCK_TOLD_S = 300.0
"""How long a step of the clock counts as a condition."""

_log = structlog.get_logger(__name__)


class OfBoard:
    """A run, seen by itself."""

    def __init__(self, board: Board, clock: Clock) -> None:
        self._board, self._clock = board, clock
        self._offset_ns: int | None = None
        self._stepped: tuple[float, float] | None = None  # monotonic s at which, s by how much

    def holding(self, said: Collection[str]) -> list[Alert]:
        """What the board says, and whether the wall clock has jumped lately."""
        return [*alerts_of(self._board, said), *self._clock_step()]

    def origin(self) -> Origin:
        """The run."""
        view = self._board.view
        return Origin(run=view.run if view else "", mode=view.mode if view else "", host=socket.gethostname())

    def unreached(self, receiver: str, why: str) -> None:
        """Make it an alarm: /health and the page show it, and other receivers are told."""
        if why:
            self._board.raise_alarm(f"alerts {receiver}", f"alerts do not reach the {receiver}: {why}")
        else:
            self._board.clear_alarm(f"alerts {receiver}")

    def _clock_step(self) -> list[Alert]:
        """Stamps and sessions follow the wall clock."""
        monotonic_ns = self._clock.monotonic_ns()
        offset_ns = self._clock.now_ns() - monotonic_ns
        before, self._offset_ns = self._offset_ns, offset_ns
        if before is not None and abs(offset_ns - before) > CLOCK_STEP_S * 1e9:
            self._stepped = monotonic_ns / 1e9, (offset_ns - before) / 1e9
        if self._stepped is None or monotonic_ns / 1e9 - self._stepped[0] > CLOCK_TOLD_S:
            return []
        text = f"the wall clock was set by {self._stepped[1]:+.1f} s"
        return [Alert(name="clock", severity="warning", text=text)]


class OfHeartbeat:
    """A run, seen from another machine by its heartbeat, which has fallen silent or is heard: what it last said."""

    def __init__(self, last: Beat, silent_s: float, *, lives: bool = False) -> None:
        self._last, self._silent_s, self._lives = last, silent_s, lives

    def holding(self, said: Collection[str]) -> list[Alert]:
        """That it is gone, and what it leaves behind; nothing while it lives."""
        if self._lives:
            return []
        last = self._last
        held = ", ".join(f"{name} {lots:+d}" for name, lots in last.held.items())
        left = [f"it held {held} lots"] * bool(held) + [f"{last.orders} orders worked"] * bool(last.orders)
        return [
            Alert(
                name="position_without_engine" if left else "engine_gone",
                severity="critical" if left else "warning",
                text=f"run {last.run} has been silent for {self._silent_s:g} s;"
                f" when it last spoke {' and '.join(left) or 'it held nothing'}",
            )
        ]

    def origin(self) -> Origin:
        """The run that was heard, and this machine, which did."""
        return Origin(run=self._last.run, mode="watch", host=socket.gethostname())

    def unreached(self, receiver: str, why: str) -> None:
        """Say it in the log: there is nowhere else."""
        if why:
            _log.warning("alerts do not arrive", receiver=receiver, why=why)
