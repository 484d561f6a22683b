"""Carries runs to a service: connects, asks how far it is, brings the rest, and begins again after any failure."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from emp.core.clock import Clock
from emp.core.errors import EmpError
from emp.core.market_topic import Origin
from emp.core.mirror_status import MirrorStatus, read_status
from emp.journal.mirror.follow import NOWHERE, Instrument, RunReader
from emp.journal.mirror.parts import TailSync
from emp.journal.mirror.sink import MirrorError, Sink

BATCH = 4_000
"""Records of each stream in one transaction, at most."""

POLL_S = 0.1
SYNC_S = 0.5
"""Between two syncs of a run's tail, which all mirrors of it share."""

BACK_OFF_S = (0.25, 0.5, 1.0, 2.0)
"""Pauses after failures one after the other; the last one for ever."""

Connect = Callable[[str, str, Sequence[str], Sequence[Instrument], Origin], Sink]
"""A sink of (address, run, instruments, grids, origin)."""

_log = structlog.get_logger(__name__)


class Followed:
    """A run that mirrors follow."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sync = TailSync(SYNC_S)
        self._reader: RunReader | None = None

    def ends(self) -> dict[str, int] | None:
        """How many records there are; None where that cannot be read now, which the mirrors tell."""
        try:
            self._reader = self._reader or RunReader(self.folder, self.sync)
            return self._reader.ends()
        except EmpError:
            self._reader = None
            return None


class Carried:
    """One run on its way to one service."""

    def __init__(self, name: str, address: str, connect: Connect, followed: "Followed", clock: Clock) -> None:
        self.folder = folder = followed.folder
        self._sync = followed.sync
        self._name, self._address, self._connect, self._clock = name, address, connect, clock
        self._reader: RunReader | None = None
        self._sink: Sink | None = None
        self._positions: dict[str, int] = dict(NOWHERE)
        self._behind: dict[str, int] = {}
        self._error, self._connects, self._failures = "", 0, 0
        self._caught_up_ns = self._not_before_ns = 0
        before = [one for one in read_status(folder) if (one.name, one.address) == (name, address)]
        self.done = any(one.done for one in before)
        if before:
            self._positions, self._caught_up_ns = before[0].positions, before[0].caught_up_ns

    @property
    def status(self) -> MirrorStatus:
        """As it was last."""
        return MirrorStatus(
            name=self._name,
            address=self._address,
            up=self._sink is not None or self.done,
            error=self._error,
            positions=dict(self._positions),
            behind=dict(self._behind),
            connects=self._connects,
            caught_up_ns=self._caught_up_ns,
            done=self.done,
        )

    def step(self) -> bool:
        """Carry one batch; False where there was nothing to do, or it is not time to try again."""
        if self.done or self._clock.monotonic_ns() < self._not_before_ns:
            return False
        try:
            return self._carry()
        except MirrorError as error:
            self._fail(str(error))
        except EmpError as error:
            self._reader = None
            self._fail(str(error))
        except Exception as error:  # a mirror never ends for what it met: it tells, and begins again
            self._reader = None
            _log.exception("mirror failed", mirror=self._name, run=self.folder.name)
            self._fail(f"{self._name}: {type(error).__name__}: {error}")
        return False

    def _carry(self) -> bool:
        if self._reader is None:
            self._reader = RunReader(self.folder, self._sync)
        if self._sink is None:
            self._open(self._reader)
        assert self._sink is not None
        finished = self._reader.finished
        batch = self._reader.read(self._positions, BATCH)
        if len(batch):
            self._sink.write(batch)
            self._positions = batch.until
        else:
            self._caught_up_ns = self._clock.now_ns()
            self.done = finished
        if self.done:
            self.close()
        self._error, self._failures = "", 0
        return len(batch) > 0

    def _open(self, reader: RunReader) -> None:
        self._sink = self._connect(self._address, reader.run, reader.instruments, reader.grids, reader.origin)
        self._positions = self._sink.positions()
        self._connects += 1
        _log.info("mirror connected", mirror=self._name, run=reader.run, **self._positions)

    def look(self, ends: dict[str, int]) -> None:
        """See how much is left to be carried of what there is."""
        self._behind = {stream: max(0, end - self._positions.get(stream, 0)) for stream, end in ends.items()}

    def _fail(self, why: str) -> None:
        if why != self._error:
            _log.warning("mirror is behind", mirror=self._name, run=self.folder.name, why=why)
        self._error = why
        pause = BACK_OFF_S[min(self._failures, len(BACK_OFF_S) - 1)]
        self._failures += 1
        self._not_before_ns = self._clock.monotonic_ns() + int(pause * 1e9)
        self.close()

    def close(self) -> None:
        """Let go of the service."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.close()


class Mirror:
    """One service, in a thread of its own: whatever it does, the others go on."""

    def __init__(self, name: str, address: str, connect: Connect, clock: Clock) -> None:
        self.name = name
        self._address, self._connect, self._clock = address, connect, clock
        self._carried: dict[Path, Carried] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"mirror-{name}", daemon=True)

    def follow(self, followed: Followed) -> None:
        """Carry this run, too."""
        made = Carried(self.name, self._address, self._connect, followed, self._clock)
        self._carried = {**self._carried, followed.folder: made}

    @property
    def carried(self) -> list[Carried]:
        """The runs that are followed."""
        return list(self._carried.values())

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            moved = [one.step() for one in self.carried]
            if not any(moved):
                self._stop.wait(POLL_S)
        for one in self.carried:
            one.close()

    def stop(self, wait_s: float) -> None:
        """End after the batch at hand, or without it: what is not committed was never carried."""
        self._stop.set()
        self._thread.join(wait_s)
