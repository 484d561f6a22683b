"""Keeps a lease while an engine trades: a thread renews it as long as the loop turns, the loop asks it before it sends.

A loop that hangs for half a term is followed: the thread stops renewing, and another engine takes over. Before anything
leaves, the lease is asked whether it is valid at that very moment: a process that was paused for a term sends nothing.
"""

from collections.abc import Sequence
from typing import Final

import structlog

from emp.core.background import background
from emp.core.clock import Clock
from emp.engine.lease import Lease
from emp.observe.board import Board
from emp.observe.lease_view import LeaseView

LOOKS: Final = 12
"""In a term: how often the thread sees whether the lease is to be renewed."""
RENEWALS: Final = 3
"""Of a lease in its term."""
_S: Final = 1e9

_log = structlog.get_logger(__name__)


class LeaseKeeper:
    """Of one lease that was taken; `start` renews it until `stop`."""

    def __init__(self, lease: Lease, clock: Clock, board: Board) -> None:
        """`clock` is that of the lease."""
        self._lease, self._clock, self._board = lease, clock, board
        self._states: Sequence[str] = ("",) * len(lease.names)
        self._stated_ns = 0
        self._beat_ns: int | None = None  # when the loop turned last; None before there is one
        self._renewed_ns = clock.monotonic_ns()
        self._said = ""
        self._thread = background().every(lease.terms.term_ns / LOOKS / _S, self._step, "lease")
        board.lease = self.view

    @property
    def token(self) -> int:
        """Of the lease."""
        return self._lease.token

    @property
    def left(self) -> dict[str, str]:
        """What the holder before has left, by instrument; "" where nothing is known."""
        return dict(zip(self._lease.names, self._lease.states, strict=True))

    def start(self) -> None:
        """Renew from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Renew no more, and let another engine take it at once."""
        self._thread.stop()
        if self._lease.give_back(self._states):
            _log.info("lease given back", token=self._lease.token)
        self._lease.close()
        self._board.clear_alarm("lease")

    # --- the loop

    def valid(self) -> bool:
        """Whether something may leave at this very moment."""
        return self._lease.valid()

    @property
    def lost(self) -> str:
        """Why it is lost for good, in words; "" while it is not."""
        return self._lease.lost

    @property
    def doubtful(self) -> bool:
        """Whether it was not renewed in time: what rests is to be withdrawn while it still may be."""
        return self._lease.left_s() * _S < self._lease.terms.term_ns / 3

    def beat(self) -> bool:
        """Say that the loop turns; whether it is time to `state`."""
        now = self._clock.monotonic_ns()
        self._beat_ns = now
        return now - self._stated_ns >= self._lease.terms.term_ns / 6

    def state(self, states: Sequence[str]) -> None:
        """What a successor must know, per instrument; written with the next renewal."""
        self._states, self._stated_ns = tuple(states), self._clock.monotonic_ns()

    # --- the thread

    def _step(self, last: bool) -> bool:
        if last or self._lease.lost:
            return False
        try:
            self._renew_in_time()
        except Exception as error:  # nobody would renew it any more
            self._lease.give_up(f"it cannot be renewed: {type(error).__name__}: {error}")
            self._say(hangs=False)
        return not self._lease.lost

    def _renew_in_time(self) -> None:
        now, term = self._clock.monotonic_ns(), self._lease.terms.term_ns
        hangs = self._beat_ns is not None and now - self._beat_ns > term / 2
        if not hangs and now - self._renewed_ns >= term / RENEWALS:
            self._lease.renew(self._states)
            if not self._lease.problem:
                self._renewed_ns = now
        if self._lease.over_s() * _S > term:
            # somebody else may have it, and need the venue's session that this process still has
            self._lease.give_up(f"it was not renewed for {self._lease.over_s() + term / _S:.1f} s")
        self._say(hangs=hangs)

    def _say(self, *, hangs: bool) -> None:
        """Keep the alarm, and log what is new."""
        lease = self._lease
        words = ""
        if lease.lost:
            words = f"the lease is lost: {lease.lost}"
        elif hangs:
            words = "the loop hangs: the lease is not renewed"
        elif lease.problem:
            may = (
                "until it is renewed nothing leaves"
                if not lease.valid()
                else f"{lease.left_s():.1f} s are left"
            )
            words = f"the lease cannot be renewed ({may}): {lease.problem}"
        if words:
            self._board.raise_alarm("lease", words)
        else:
            self._board.clear_alarm("lease")
        kind = "lost" if lease.lost else "hangs" if hangs else lease.problem
        if kind != self._said:
            self._said = kind
            _log.log(40 if kind else 20, "lease", token=lease.token, problem=words or "renewed again")

    def view(self) -> LeaseView:
        """For `/metrics`."""
        lease = self._lease
        return LeaseView(held=lease.valid(), token=lease.token, left_s=max(0.0, lease.left_s()))
