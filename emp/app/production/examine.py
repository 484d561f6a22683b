"""The examination as a whole: areas in order, each with a score; what cannot be looked at counts as bad."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from emp.app.doctor import Finding
from emp.app.production import keeping, machine, system, trading
from emp.app.production.host import Host, UnseenError

Area = Callable[[Host], Iterator[Finding]]

AREAS: dict[str, Area] = {
    "units": system.units,
    "firewall": system.firewall,
    "logins": system.logins,
    "updates": system.updates,
    "kernel": system.kernel,
    "clock": machine.clock,
    "disk": machine.disk,
    "processor": machine.processor,
    "secrets": keeping.secrets,
    "backup": keeping.backups,
    "mirrors": keeping.mirrors,
    "engine": trading.engine,
    "alerts": trading.alerts,
    "paper": trading.paper,
}

WORTH = {"ok": 1.0, "warn": 0.5, "bad": 0.0}

CANNOT_LOOK = "cannot be looked at"


class Scored(NamedTuple):
    """An area and everything that was found there."""

    area: str
    findings: list[Finding]

    @property
    def score(self) -> float:
        """Share of what counts that is as it should be, doubtful by half: 0 to 100; 100 where nothing counts."""
        worth = [WORTH[one.verdict] for one in self.findings if one.verdict in WORTH]
        return 100.0 * sum(worth) / len(worth) if worth else 100.0

    @property
    def bad(self) -> list[str]:
        """What must be mended."""
        return [f"{self.area}: {one.what}" for one in self.findings if one.verdict == "bad"]


def examine_box(host: Host) -> Iterator[Scored]:
    """Every area, one after the other."""
    for name, look in AREAS.items():
        yield Scored(name, list(_whole(name, look, host)))


def _whole(name: str, look: Area, host: Host) -> Iterator[Finding]:
    try:
        yield from look(host)
    except UnseenError as error:
        fix = "look by hand, or run it as root on the box itself"
        yield Finding("bad", name, f"{CANNOT_LOOK}: {error}", fix)
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        # a program of the system that answers in other words than these lines know has not been understood
        said = f"{CANNOT_LOOK}: an answer was not understood ({type(error).__name__}: {error})"
        yield Finding("bad", name, said, "look by hand")


def total(scored: Sequence[Scored]) -> int:
    """The score of the box: the mean over areas, rounded down."""
    return int(sum(one.score for one in scored) / len(scored)) if scored else 0
