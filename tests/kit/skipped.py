"""What a run of the tests has skipped, in one line, which the gate looks for."""

from collections import Counter
from collections.abc import Iterable


def skipped_line(reasons: Iterable[str]) -> str:
    """Each reason once, with how many tests it kept from running; empty where there is none."""
    counts = Counter(reason.removeprefix("Skipped: ") for reason in reasons)
    found = "; ".join(f"{n} ({why})" for why, n in counts.most_common())
    return f"skipped: {found}" if found else ""
