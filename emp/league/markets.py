"""Markets that leagues are played in, and leagues on local processes."""

from collections.abc import Iterator

from emp.core.processes import in_processes
from emp.league.generations import SeedResult, Setting, play_league

MARKETS = {
    one.name: one
    for one in (
        Setting("small-tick", "goog", size=5, limit=50, parent=100, turnover=100.0, variance=50.0),
        Setting(
            "large-tick", "zi", size=1, limit=10, parent=20, turnover=20.0, variance=0.5, instrument="ES"
        ),
    )
}
"""A share whose spread is some thirty ticks, and a market one to two ticks wide with queues of a few lots."""


def sweep(jobs: list[tuple[Setting, int]], processes: int) -> Iterator[SeedResult]:
    """Play leagues, (setting, seed), on local processes and yield them as they end."""
    if processes == 1 or len(jobs) == 1:
        for setting, seed in jobs:
            yield play_league(setting, seed)
        return
    for _, result in in_processes(_play, jobs, processes):
        yield result


def _play(job: tuple[Setting, int]) -> SeedResult:
    setting, seed = job
    return play_league(setting, seed)
