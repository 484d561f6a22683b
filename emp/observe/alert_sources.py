"""What alerts are about: a run, seen from inside by its board, or from outside by another process or machine."""

import socket
from collections.abc import Callable, Collection, Mapping
from typing import Any

import structlog

from emp.core.clock import Clock
from emp.observe.alerts import Alert, alerts_of
from emp.observe.board import Board
from emp.observe.receivers import Origin

CLOCK_STEP_S = 0.5
"""A jump of the wall clock beside the monotonic one, between two looks, that is worth telling."""

CLOCK_TOLD_S = 300.0
"""How long a step of the clock counts as a condition."""

GONE_AFTER_S = 10.0
"""How long an engine must not answer before it counts as gone."""

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


class OfEngine:
    """A run, seen from outside: what it last said of itself, and how long it has said nothing.

    `fetch` gives its `/snapshot`; None where it does not answer. An engine that has never answered is not gone.
    """

    def __init__(self, url: str, fetch: Callable[[], Mapping[str, Any] | None], clock: Clock) -> None:
        self._url, self._fetch, self._clock = url, fetch, clock
        self._newest: Mapping[str, Any] | None = None
        self._answered_s = 0.0
        self.state = "not seen yet"

    def holding(self, said: Collection[str]) -> list[Alert]:
        """That it is gone, or that it answers and its loop has stood still for as long."""
        now_s = self._clock.monotonic_ns() / 1e9
        found = self._fetch()
        if found is not None and found.get("run"):
            self._newest, self._answered_s, self.state = found, now_s, "answers"
            return []
        if self._newest is None:
            self.state = "not seen yet"
            return []
        silent_s = now_s - self._answered_s
        self.state = f"has not answered for {silent_s:.0f} s"
        return [self._gone(silent_s)] if silent_s >= GONE_AFTER_S else []

    def _gone(self, silent_s: float) -> Alert:
        newest = self._newest or {}
        held = [
            f"{one['name']} {one['position']:+d}" for one in newest.get("instruments", ()) if one["position"]
        ]
        what = f"it held {', '.join(held)} lots" if held else "it held nothing"
        return Alert(
            name="position_without_engine" if held else "engine_gone",
            severity="critical" if held else "warning",
            text=f"the engine at {self._url} has not answered for {silent_s:.0f} s; when it last did {what}",
        )

    def origin(self) -> Origin:
        """The run that was last seen there."""
        newest = self._newest or {}
        return Origin(run=newest.get("run", ""), mode=newest.get("mode", ""), host=socket.gethostname())

    def unreached(self, receiver: str, why: str) -> None:
        """Say it in the log: there is nowhere else."""
        if why:
            _log.warning("alerts do not arrive", receiver=receiver, why=why)
