"""A contest on live events as a gate reads it: a challenger beside the model that served, by sequential evidence.

The evidence of one contest is at most 1 on average while the challenger is no better, so it reaches 1 / level with
probability `level` at most, ever, whenever one looks (`emp.observe.sequential`). Of several contests the best counts,
divided by how many there were (Bonferroni): a contest that is left out earns nothing, since it was counted by its file.
Wherever the monitor of a run begins anew a contest does too, so a run has had as many as its evidence says at most.
"""

import math
from collections.abc import Mapping, Sequence

from emp.governance.bounds import Bounds
from emp.governance.evidence import Evidence, Record
from emp.governance.foreign import played_again

MOST = 1 << 32
"""Contests of a run that are counted at most: so many leave nothing of any evidence."""


def counts(one: Evidence, champion: str) -> bool:
    """Whether evidence of a contest is one with this champion ("": with whichever), on a live market."""
    beaten = one.reference == champion if champion else one.reference != one.model
    return beaten and not played_again(one)


def best_contest(read: Sequence[tuple[str, Record]]) -> list[tuple[str, Record]]:
    """The record with the most evidence, alone."""
    return [max(read, key=lambda one: (max(one[1].blocks, default=0.0), one[0]))]


def of_contests(name: str, record: Record, evidence: Mapping[str, Evidence]) -> tuple[Bounds | None, str]:
    """The evidence of the best contest, shared among all that its model ever had, and in words; None where it is no
    number.
    """
    mine = evidence[name]
    runs: dict[str, int] = {}
    for one in evidence.values():
        if one.kind == "contest" and one.model == mine.model:
            run = str(one.config.get("run"))
            runs[run] = max(runs.get(run, 1), _had(one))
    if not _had(mine):
        return None, f"it does not say how many contests there were: of run {mine.config.get('run')}"
    if len(record.blocks) != 1 or not math.isfinite(record.blocks[0]):
        return None, f"not a number: of run {mine.config.get('run')}"
    n = sum(runs.values())
    value = record.blocks[0] / n
    return Bounds(value, value, value), f"best of {n} contests, beside {mine.reference[:12]}"


def _had(one: Evidence) -> int:
    """How many contests its run had had when it was told of; 0 where it does not say."""
    n = one.config.get("contests")
    return min(n, MOST) if type(n) is int and n > 0 else 0
