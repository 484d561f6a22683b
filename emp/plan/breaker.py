"""The planner's time limit, with hysteresis: it goes off by itself when its budget is broken, and on again by itself.

Closed, every search counts; `BREACHES` over the budget within the last `WINDOW` open it. Open, nothing is searched for
`pause` decisions; then one search probes. `PROBES` in a row within half the budget close it; a probe that takes longer
doubles the pause, up to `LONGEST`. So a machine that hovers around the budget does not flip it on and off. What it does
depends on the durations alone, in decisions and never in time.
"""

from typing import Any

import numpy as np

from emp.core.numba.jit import kernel

WINDOW = 1_000
BREACHES = 3
PAUSE = 1_000
LONGEST = 64_000
PROBES = 20

BREAKER = np.dtype(
    [
        ("budget_ns", "i8"),
        ("open", "i8"),  # 1 while the rule decides alone
        ("seen", "i8"),  # searches since it closed
        ("breach", "i8", (BREACHES,)),  # `seen` at the last breaches
        ("breaches", "i8"),  # of them, since it closed
        ("waiting", "i8"),  # decisions until the next probe
        ("pause", "i8"),
        ("good", "i8"),  # probes in a row within half the budget
        ("opened", "i8"),  # how often it went off
    ],
    align=True,
)


def new_breaker(budget_ns: int) -> Any:
    """A closed breaker, BREAKER[1].

    Raises:
        ValueError: the budget is not positive.
    """
    if budget_ns <= 0:
        raise ValueError(f"a budget of {budget_ns} ns: more than 0")
    made = np.zeros(1, BREAKER)
    made["budget_ns"], made["pause"] = budget_ns, PAUSE
    return made


@kernel
def may_search(b: Any) -> bool:
    """Whether this decision is searched; counts the pause down where the breaker is open."""
    if b.open == 0:
        return True
    if b.waiting > 0:
        b.waiting -= 1
        return False
    return True


@kernel
def count_search(b: Any, took_ns: int) -> int:
    """Tell how long a search took; returns 1 where that opened the breaker, -1 where it closed it, else 0.

    What a probe finds while the breaker is open is not acted upon.
    """
    if b.open:
        if 2 * took_ns > b.budget_ns:
            b.good = 0
            b.pause = min(2 * b.pause, LONGEST)
            b.waiting = b.pause
            return 0
        b.good += 1
        if b.good < PROBES:
            return 0
        b.open, b.good, b.seen, b.breaches = 0, 0, 0, 0
        b.pause = PAUSE
        return -1
    b.seen += 1
    if took_ns <= b.budget_ns:
        return 0
    slot = b.breaches % BREACHES
    b.breach[slot] = b.seen
    b.breaches += 1
    if b.breaches >= BREACHES and b.seen - b.breach[(slot + 1) % BREACHES] < WINDOW:
        b.open, b.waiting, b.good = 1, b.pause, 0
        b.opened += 1
        return 1
    return 0
