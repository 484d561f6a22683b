"""What faults and checks know of the world that they belong to."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from emp.app.chaos.doors import Door
from emp.app.chaos.life import Life
from emp.core.config.config import SystemConfig
from emp.sim.chaos.beside import VirtualClock
from emp.sim.chaos.disk import SimDisk
from emp.sim.chaos.exchange import Exchange
from emp.sim.chaos.loop import Process, VirtualLoop
from emp.sim.chaos.plan import Plan
from emp.sim.chaos.vfs import SqliteFiles


class Befallen(Protocol):
    """What has befallen a world."""

    flipped: bool
    tampered: bool

    @property
    def counts(self) -> Mapping[str, int]:
        """How often each kind has."""

    def on_events(self, life: Life) -> None:
        """Market data reach an engine."""


class Judge(Protocol):
    """Who notes what must not be."""

    def violated(self, check: str, what: str) -> None:
        """Something is not as it must be."""


class Scene(Protocol):
    """A world, seen from inside; see `emp.app.chaos.world.World`."""

    plan: Plan
    loop: VirtualLoop
    home: Path
    disk: SimDisk
    sqlite: SqliteFiles
    clock: VirtualClock
    venue_process: Process
    exchange: Exchange
    door: Door
    config: SystemConfig
    most_position: int
    lives: list[Life]
    timeline: list[tuple[int, str, str]]
    start_at_ns: int | None
    refused: str
    power_fails_at_io: bool
    unlit: bool  # the box has lost its power, and no engine was started since

    @property
    def befalls(self) -> Befallen:
        """What has befallen it."""

    @property
    def checks(self) -> Judge:
        """Who notes what must not be."""

    @property
    def life(self) -> Life | None:
        """The newest process of the engine."""

    def note(self, who: str, what: str) -> None:
        """Put something into the timeline."""

    def die(self, process: Process, *, power: bool) -> None:
        """End a process of the engine without a word."""

    def ask(self, action: Any) -> str:
        """The owner asks something of the engine that runs."""

    def assemble(self, life: Life) -> None:
        """Put an engine together and let it run."""

    def let_go(self, life: Life) -> None:
        """Close what a dead process had open."""

    def use_other_limits(self) -> None:
        """The owner writes another configuration."""
