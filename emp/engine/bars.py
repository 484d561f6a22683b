"""What bars opening for a while: closing goes on, and what rests and would open is withdrawn."""

from collections.abc import Iterator

import numpy as np

from emp.core.codes import Reason, WorkingState
from emp.core.records import Array


class Bars:
    """Reasons for which nothing may be opened; the one that came first is the one that is told."""

    def __init__(self, instruments: int) -> None:
        self._reasons: list[list[Reason]] = [[] for _ in range(instruments)]

    def reasons(self, i: int) -> tuple[Reason, ...]:
        """What bars instrument `i` now."""
        return tuple(self._reasons[i])

    def every(self) -> tuple[Reason, ...]:
        """What bars any instrument now."""
        return tuple(dict.fromkeys(reason for reasons in self._reasons for reason in reasons))

    def everywhere(self, reason: Reason) -> bool:
        """Whether a reason bars all instruments now."""
        return all(reason in reasons for reasons in self._reasons)

    def put(self, risk: Array, i: int, reason: Reason, *, active: bool) -> None:
        """Let a reason bar instrument `i` from now on, or no longer; `risk` is RISK[n]."""
        reasons = self._reasons[i]
        if active and reason not in reasons:
            reasons.append(reason)
        elif not active and reason in reasons:
            reasons.remove(reason)
        risk["barred"][i] = reasons[0] if reasons else 0


def resting_openers(risk: Array, account: Array, working: Array) -> Iterator[tuple[int, Reason]]:
    """Instruments whose resting order could open something though that is barred, and why it is; arrays of RISK,
    ACCOUNT and WORKING.
    """
    why = np.where(risk["barred"] != 0, risk["barred"], risk["account_bar"])
    position = account["position"]
    closes = (working["side"] * position < 0) & (working["leaves"] <= np.abs(position))
    for i in np.flatnonzero((why != 0) & (working["state"] == WorkingState.RESTING) & ~closes):
        yield int(i), Reason(int(why[i]))
