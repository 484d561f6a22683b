"""Evidence of a paper run's days while it goes on: a process of its own, once a day is over.

A thread that mostly sleeps looks at the clock, and after midnight at the end of the journal. Where its newest event
lies on another day than at the last time, `emp gates observe RUN` is started, which replays the run from a copy and
gives way to all else that the machine has to do. The trading process does nothing more than start it, and ends it where
the run ends first.

Every hour, in another thread, since days take long to replay, `emp gates observe RUN --reached` signs how far the
journal has come, so that a run that is cut, or that is signed as told while it trades on, is noticed. So it does as
soon as the monitor has told of an alarm and the journal holds it for good: what makes a day red is the first to be cut
off. A process that goes on with a run begins with it: of the one before it, up to an hour is not signed.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from emp.app.wiring.heads import durable_events
from emp.core.clock import Clock, LeaseClock
from emp.core.errors import EmpError, JournalError
from emp.core.platform import exists
from emp.engine.monitor import DRIFT
from emp.engine.watched_days import DAY_NS, is_alarm
from emp.governance.heads import HEAD_S, LOOK_S
from emp.journal.monitor_log import MONITOR
from emp.journal.run import RunFolder
from emp.journal.tail import TAIL, read_tail

_log = structlog.get_logger(__name__)

AWAKE_S = 10.0
"""Between two looks at whether it is time to sign."""

FAILS = (EmpError, OSError, subprocess.SubprocessError, ValueError, LookupError)
"""What a look can fail by; the next one may not."""

Observe = Callable[[Path, Path, threading.Event], dict[str, Any]]
"""Writes the evidence of a run's days into a registry; ends early where the event is set."""


class _Looking(threading.Thread):
    """Does something again and again, until `stop`."""

    def __init__(self, name: str, look_s: float) -> None:
        super().__init__(name=name, daemon=True)
        self._look_s = look_s
        self._ended = threading.Event()

    def run(self) -> None:
        """Look, until `stop`."""
        while not self._ended.wait(self._look_s):
            self.look()

    def look(self) -> None:
        """Do what is due; what goes wrong is logged and tried again at the next look."""
        raise NotImplementedError

    def stop(self) -> None:
        """End, and whatever was started with it: what is not written is written at the end of the run."""
        self._ended.set()
        self.join()


class Alarms:
    """What a run's monitor has told that makes its day red, read on as its file grows.

    Inputs that have drifted are named again at every look until the day ends: of an instrument's day it is once that
    the same ones are new.
    """

    def __init__(self, run: Path, clock: Clock) -> None:
        self._run, self._clock, self._read = run, clock, 0
        self._known = set[tuple[object, ...]]()  # drifts by day, instrument and inputs
        self._newest: int | None = None  # events up to the newest alarm that is not signed

    def lasting(self) -> int | None:
        """Events up to the newest alarm that is not signed, once the journal holds them whatever happens; else None."""
        for line in self._new_lines():
            try:
                told = json.loads(line)
                if is_alarm(told) and self._is_new(told):
                    self._newest = int(told["at"])
            except (ValueError, LookupError, TypeError):
                _log.warning("a line of the monitor cannot be read", line=line[:80])
        lasts = self._newest is not None and durable_events(RunFolder(self._run)) >= self._newest
        return self._newest if lasts else None

    def signed(self, at: int | None) -> None:
        """An alarm, where it is one, was signed."""
        if at is not None and at == self._newest:
            self._newest = None

    def _is_new(self, told: Mapping[str, Any]) -> bool:
        if told["kind"] != DRIFT:
            return True
        now = self._clock.now_ns()
        day = now // DAY_NS
        drift = (day, told["instrument"], *told["drifted"])
        known = drift in self._known
        if (now - int(LOOK_S * 1e9)) // DAY_NS == day:  # soon after midnight it can be of the day before
            self._known.add(drift)
        return not known

    def _new_lines(self) -> list[bytes]:
        path = self._run / MONITOR
        if not exists(path):
            return []
        with path.open("rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read += len(whole)
        return whole.splitlines()


class Hourly(_Looking):
    """Signs how far the journal has come.

    Its clock's monotonic time goes on while the machine sleeps, as events' times do. Its thread's does not: it looks
    often, so that a machine that is awake for a moment at a time signs too.
    """

    def __init__(
        self, run: Path, registry: Path, clock: Clock, sign: Observe | None = None, look_s: float = AWAKE_S
    ) -> None:
        super().__init__("heads", look_s)
        self._run, self._registry, self._clock = run, registry, clock
        self._sign = sign or sign_apart
        self._alarms = Alarms(run, clock)
        continued = any((run / "market").glob("part-*"))
        self._due = clock.monotonic_ns() + (0 if continued else int(HEAD_S * 1e9))
        self._not_before = clock.monotonic_ns()  # for an alarm

    def run(self) -> None:
        """Sign what an earlier process has left, then every hour, until `stop`."""
        self.look()
        super().run()

    def look(self) -> None:
        """Sign, where it is time; where that fails, it is time again after `LOOK_S`."""
        now = self._clock.monotonic_ns()
        try:
            alarm = self._alarms.lasting()
            if now < self._due and (alarm is None or now < self._not_before):
                return
            self._due = self._not_before = now + int(LOOK_S * 1e9)
            self._sign(self._run, self._registry, self._ended)
            self._alarms.signed(alarm)
        except FAILS as error:
            if not self._ended.is_set():
                _log.warning("how far the journal has come is not signed", why=str(error))
            return
        self._due, self._not_before = now + int(HEAD_S * 1e9), now


class Daily(_Looking):
    """Writes the evidence of days that are over."""

    def __init__(
        self,
        run: Path,
        registry: Path,
        clock: Clock,
        observe: Observe | None = None,
        look_s: float = LOOK_S,
    ) -> None:
        super().__init__("days", look_s)
        self._run, self._registry, self._clock = run, registry, clock
        self._observe = observe or observe_apart
        self._done = -1  # the day on which the newest event lay when all days before it were told

    def look(self) -> None:
        """Write what is due; what goes wrong is logged and tried again at the next look."""
        if self._clock.now_ns() // DAY_NS <= self._done:
            return  # no event can be of a later day
        try:
            day = newest_day(self._run)
            if day is None or day <= self._done:
                return
            found = self._observe(self._run, self._registry, self._ended)
        except FAILS as error:
            if not self._ended.is_set():
                _log.warning("no evidence of days that are over", why=str(error))
            return
        for one in found["days"]:
            _log.info("a day of paper trading is over", **one)
        if not found["open"]:
            self._done = day


def newest_day(run: Path) -> int | None:
    """The day of the newest event that a run's tail holds, since 1970; None where it holds none."""
    units = [unit for unit in read_tail(run / TAIL) if len(unit.events)]
    return int(units[-1].events["ts_recv"].max()) // DAY_NS if units else None


def sign_apart(run: Path, registry: Path, ended: threading.Event) -> dict[str, Any]:
    """`emp gates observe --reached` in a process of its own, as `observe_apart`."""
    return observe_apart(run, registry, ended, "--reached")


def observe_apart(run: Path, registry: Path, ended: threading.Event, *more: str) -> dict[str, Any]:
    """`emp gates observe` in a process of its own.

    Raises:
        JournalError: it failed; its last line says why.
    """
    words = ["gates", "observe", str(run), "--registry", str(registry), "--give-way", "--json", *more]
    with (
        tempfile.TemporaryDirectory(
            prefix="emp-day-"
        ) as scratch,  # ours: one that is killed leaves nothing behind
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "emp", *words],
            env={**os.environ, "TMPDIR": scratch},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        while True:
            try:
                out, err = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                if ended.is_set():
                    process.kill()
    if process.returncode != 0:
        raise JournalError((err.strip().splitlines() or ["it was ended"])[-1])
    found: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return found


@contextmanager
def telling_days(run: Path, registry: Path | None, clock: Clock) -> Iterator[None]:
    """Write evidence of days that are over while the block lasts; without a registry nothing happens."""
    if registry is None:
        yield
        return
    threads = Daily(run, registry, clock), Hourly(run, registry, LeaseClock())
    for one in threads:
        one.start()
    try:
        yield
    finally:
        for one in threads:
            one.stop()
