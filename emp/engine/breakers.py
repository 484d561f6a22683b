"""Breakers: what bars opening for a while because the venue or this machine does not keep up.

    rejects   the venue refused too many orders within a window: barred for a pause, or until the owner resumes
    answers   an order was not acknowledged in time: barred for a cool-down, then one order may try; where that one is
              answered in time trading goes on, else the next cool-down is twice as long
    decisions the 99th percentile of the newest decisions takes too long: barred for a cool-down, and for twice as long
              again while what is measured meanwhile is no better

None of them is a breach: closing goes on, and nothing is halted. A bar is a control input: recorded before it is
applied, so that a replay needs no breaker, and restored at a start, where its pause begins anew.
"""

from collections import deque
from collections.abc import Callable, Iterable

import msgspec
import numpy as np

from emp.core.codes import OrderStatus, Reason
from emp.core.contracts import UNSENT, OrderUpdate
from emp.core.records import Array

S = 1_000_000_000
MOST_DOUBLINGS = 3
"""After so many a cool-down grows no more: a venue that is well again is found out within eight of them."""

ENOUGH = 100
"""Decisions without which a 99th percentile says nothing."""


class BreakerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """When opening is barred; the owner's limits, for all instruments together."""

    rejects: int = 20  # that trip, within the window
    reject_window_ns: int = 60 * S
    reject_pause_ns: int = 300 * S
    answer_ns: int = 1 * S  # from an order to the venue's first word on it
    decision_ns: int = 5_000_000  # 99th percentile, book to row
    decisions: int = 1_000  # the newest, of which it is taken
    cool_down_ns: int = 10 * S


class Breakers:
    """Watches orders, answers and decisions; times are monotonic, ns. One thread's.

    `put(reason, active, why)` records and applies a bar of every instrument.
    """

    def __init__(self, limits: BreakerLimits, put: Callable[[Reason, bool, str], None]) -> None:
        self._limits = limits
        self._put = put
        self._barred: dict[Reason, str] = {}
        self._rejected: deque[int] = deque(maxlen=limits.rejects)  # when
        self._pause_until = 0
        self._answers = _CoolDown(limits.cool_down_ns)
        self._waiting: dict[str, int] = {}  # orders that no answer has come to: when they left
        self._trial = ""  # the order that tries, after a cool-down
        self._late = np.zeros(limits.decisions, np.bool_)  # of the newest decisions, as a ring
        self._decided = 0  # of them so far, since the ring was emptied
        self._decisions = _CoolDown(limits.cool_down_ns)

    @property
    def barred(self) -> dict[Reason, str]:
        """What bars opening now, and why in words."""
        return dict(self._barred)

    # --- what happens

    def sent(self, cl_ord_id: str, now: int) -> None:
        """A new order that may open has left. After a cool-down it is the one that tries: no other one follows."""
        self._waiting[cl_ord_id] = now
        if self._answers.tries and not self._trial:
            self._trial = cl_ord_id
            self._bar_latency(
                f"one order tries whether the venue answers within {self._limits.answer_ns / S:g} s"
            )

    def answered(self, update: OrderUpdate, now: int) -> None:
        """An update of an order has come; a refusal of a new order counts, those of cancels and changes do not."""
        if update.status is OrderStatus.UNKNOWN:
            return  # nobody knows: no word of the venue
        left = self._waiting.pop(update.clOrdID, None)
        if left is None or update.execID.startswith(UNSENT):
            return
        if update.status is OrderStatus.REJECTED:
            self._refused(update.text, now)
        if now - left > self._limits.answer_ns:
            self._answer_is_late(now)
        elif self._trial in (update.clOrdID, ""):
            self._answer_in_time()

    def decided(self, laps: Array, now: int) -> None:
        """Decisions were made: int32[n, 3] ns, of which the last column is a decision's whole time."""
        late = laps[-len(self._late) :, 2] > self._limits.decision_ns
        places = (self._decided + np.arange(len(late))) % len(self._late)
        self._late[places] = late
        self._decided += len(late)
        if not self._decisions.ends_at and self._too_many_late(len(self._late)):
            self._decisions_too_slow(now)

    def look(self, now: int) -> None:
        """Time has passed."""
        if Reason.REJECTS in self._barred and now >= self._pause_until:
            self._lift(Reason.REJECTS)
        if any(now - left > self._limits.answer_ns for left in self._waiting.values()):
            self._answer_is_late(now)
        if self._answers.has_ended(now):
            self._lift_latency()
        if self._decisions.has_ended(now):
            if self._too_many_late(ENOUGH):
                self._decisions_too_slow(now)
            else:
                self._decisions.close()
                self._lift_latency()

    def resumed(self) -> None:
        """The owner lets trade again: refusals so far are forgotten."""
        self._rejected.clear()
        self._lift(Reason.REJECTS)

    def restore(self, reasons: Iterable[Reason], now: int) -> None:
        """Take over what barred opening when the last process ended; every pause begins anew."""
        for reason in reasons:
            if reason is Reason.REJECTS:
                self._barred[reason] = "before this start the venue refused too many orders"
                self._pause_until = now + self._limits.reject_pause_ns
            elif reason is Reason.LATENCY:
                self._barred[reason] = "before this start answers or decisions came too late"
                self._answers.begin(now)

    # --- what follows

    def _refused(self, text: str, now: int) -> None:
        self._rejected.append(now)
        full = len(self._rejected) == self._limits.rejects
        if full and now - self._rejected[0] <= self._limits.reject_window_ns:
            limit, window = self._limits.rejects, self._limits.reject_window_ns / S
            self._rejected.clear()
            self._pause_until = now + self._limits.reject_pause_ns
            self._bar(
                Reason.REJECTS,
                f"the venue refused {limit} orders within {window:g} s, the last with {text!r}: nothing is opened for"
                f" {self._limits.reject_pause_ns / S:g} s, or until resume",
            )

    def _answer_is_late(self, now: int) -> None:
        """Begin a cool-down, unless one is under way: what has not been answered by its end is left to recovery."""
        self._waiting.clear()
        if self._answers.ends_at:
            return
        self._trial = ""
        self._answers.begin(now)
        self._bar_latency(
            f"the venue did not answer within {self._limits.answer_ns / S:g} s: nothing is opened for"
            f" {self._answers.length / S:g} s, then one order tries"
        )

    def _answer_in_time(self) -> None:
        if self._answers.tries:
            self._trial = ""
            self._answers.close()
            self._lift_latency()

    def _decisions_too_slow(self, now: int) -> None:
        self._late[:] = False
        self._decided = 0
        self._decisions.begin(now)
        self._bar_latency(
            f"more than 1 in 100 decisions took longer than {self._limits.decision_ns / 1e6:g} ms: nothing is opened"
            f" for {self._decisions.length / S:g} s"
        )

    def _too_many_late(self, least: int) -> bool:
        """Whether the 99th percentile of the newest decisions, at least so many, is above its limit."""
        n = min(self._decided, len(self._late))
        return n >= min(least, len(self._late)) and int(np.count_nonzero(self._late)) * 100 > n

    def _bar_latency(self, why: str) -> None:
        self._bar(Reason.LATENCY, why)

    def _lift_latency(self) -> None:
        """Answers and decisions share a reason: lifted when neither bars."""
        if not self._answers.ends_at and not self._decisions.ends_at and not self._trial:
            self._lift(Reason.LATENCY)

    def _bar(self, reason: Reason, why: str) -> None:
        known = reason in self._barred
        self._barred[reason] = why
        if not known:
            self._put(reason, True, why)

    def _lift(self, reason: Reason) -> None:
        why = self._barred.pop(reason, None)
        if why is not None:
            self._put(reason, False, why)


class _CoolDown:
    """closed -> open until `ends_at` -> trying (`tries`) -> closed, or open for twice as long."""

    def __init__(self, first_ns: int) -> None:
        self._first = first_ns
        self._doublings = 0
        self.ends_at = 0  # 0: none is under way
        self.length = first_ns
        self.tries = False

    def begin(self, now: int) -> None:
        """Open; for twice as long where the one before has not helped."""
        if self.tries:
            self._doublings = min(self._doublings + 1, MOST_DOUBLINGS)
        self.tries = False
        self.length = self._first << self._doublings
        self.ends_at = now + self.length

    def has_ended(self, now: int) -> bool:
        """Whether one that was under way is over; said once."""
        if not self.ends_at or now < self.ends_at:
            return False
        self.ends_at, self.tries = 0, True
        return True

    def close(self) -> None:
        """What was tried went well."""
        self._doublings, self.ends_at, self.tries = 0, 0, False
