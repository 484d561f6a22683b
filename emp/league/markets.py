"""Markets that leagues are played in, and leagues over workers."""

from collections.abc import Iterator

from emp.core.spread import Workers, spread
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


def sweep(jobs: list[tuple[Setting, int]], workers: Workers) -> Iterator[SeedResult]:
    """Play leagues, (setting, seed), and yield them as they end."""
    for _, result in spread(_play, jobs, workers):
        yield result


def _play(job: tuple[Setting, int]) -> SeedResult:
    setting, seed = job
    return play_league(setting, seed)
