"""Tests in real time on a machine that others load too: made anew where the clock, not the subject, was wrong."""

import functools
from collections.abc import Callable
from typing import ParamSpec

P = ParamSpec("P")

TIMES = 3


def in_real_time(test: Callable[P, None]) -> Callable[P, None]:
    """The best of three: what is wrong is wrong each time, a machine that stood still is not."""

    @functools.wraps(test)
    def repeated(*args: P.args, **kwargs: P.kwargs) -> None:
        for _ in range(TIMES - 1):
            try:
                return test(*args, **kwargs)
            except AssertionError:
                continue
        return test(*args, **kwargs)

    return repeated
