"""Mirrors as configuration names them, and the process that drives them."""

import importlib
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from emp.core.clock import Clock
from emp.core.config.addresses import carries_password
from emp.core.config.config import Mirrors
from emp.core.errors import EmpError, JournalError, UsageError
from emp.core.mirror_status import MirrorStatus, write_status
from emp.journal.mirror.drive import Followed, Mirror
from emp.journal.mirror.sink import MirrorError
from emp.journal.run import RunFolder

SINKS = {
    "kafka": ("emp.journal.mirror.kafka", "KafkaSink"),
    "timescale": ("emp.journal.mirror.timescale", "TimescaleSink"),
    "redis": ("emp.journal.mirror.redis_state", "RedisSink"),
}
"""Module and class by the name of a service; each is imported where it is named, since each needs an extra."""

LOOK_S = 0.5
"""Between two looks at how far everything is."""

END_S = 5.0


def build_mirrors(named: Mirrors, clock: Clock) -> list[Mirror]:
    """The mirrors that are named, not started; UsageError where none is."""
    found = []
    for name, (module, sink) in SINKS.items():
        address = getattr(named, name)
        if address is None:
            continue
        if carries_password(address):
            raise UsageError(
                f"mirrors.{name}: a password has no place in an address: docs/mirrors.md says where it goes"
            )
        found.append(Mirror(name, address, getattr(importlib.import_module(module), sink), clock))
    if not found:
        raise UsageError("name a mirror: --kafka, --timescale, --redis, or the section mirrors of --config")
    return found


def runs_to_follow(named: Sequence[Path], runs: Path) -> list[Path]:
    """The runs named, else all that there are and can be followed."""
    if named:
        return list(named)
    found = []
    for manifest in sorted(runs.glob("*/manifest.json")):
        try:
            mode = RunFolder(manifest.parent).manifest.get("mode")
        except EmpError:
            continue  # one that is being removed
        if mode != "replay":
            found.append(manifest.parent)
    return found


class Driven:
    """Mirrors that run until they are told to end, or have everything."""

    def __init__(self, mirrors: Sequence[Mirror], runs: Callable[[], Sequence[Path]]) -> None:
        self._mirrors = mirrors
        self._runs = runs
        self._end = threading.Event()
        self._followed: dict[Path, Followed] = {}

    def _follow(self) -> None:
        for folder in self._runs():
            if folder not in self._followed:
                self._followed[folder] = Followed(folder)
                for mirror in self._mirrors:
                    mirror.follow(self._followed[folder])

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """End in order on SIGTERM and SIGINT; whoever heard them before hears them again afterwards."""

        def stop(_: int, __: FrameType | None) -> None:
            self._end.set()

        before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, until_s: float | None, told: Callable[[MirrorStatus, str], None]) -> list[dict[str, Any]]:
        """Drive until a signal; with `until_s` until all there is has been carried, or MirrorError so long after.

        Returns what each mirror has of each run.
        """
        self._follow()
        for mirror in self._mirrors:
            mirror.start()
        looks, said = 0, dict[tuple[str, str], str]()
        while True:
            ended = self._end.wait(LOOK_S)
            looks += 1
            self._follow()
            self._look(told, said)
            whole = all(self._whole(mirror) for mirror in self._mirrors)
            late = until_s is not None and looks * LOOK_S > until_s
            if ended or late or (until_s is not None and whole):
                break
        for mirror in self._mirrors:
            mirror.stop(END_S)
        self._look(told, said)
        if late and not whole:
            raise MirrorError(f"not everything was carried within {until_s:g} s: {self._behind()}")
        return [{"run": run, **_builtins(status)} for run, status in self._states()]

    def _whole(self, mirror: Mirror) -> bool:
        return all(
            one.status.done
            or (one.status.caught_up_ns and not sum(one.status.behind.values()) and one.status.up)
            for one in mirror.carried
        )

    def _states(self) -> list[tuple[str, MirrorStatus]]:
        return [(one.folder.name, one.status) for mirror in self._mirrors for one in mirror.carried]

    def _look(self, told: Callable[[MirrorStatus, str], None], said: dict[tuple[str, str], str]) -> None:
        by_folder: dict[Path, list[MirrorStatus]] = {}
        ends = {folder: one.ends() for folder, one in self._followed.items()}
        for mirror in self._mirrors:
            for one in mirror.carried:
                one.look(ends[one.folder] or one.status.behind)
                status = one.status
                by_folder.setdefault(one.folder, []).append(status)
                words = (
                    "has everything" if status.done else status.error or ("up" if status.up else "connecting")
                )
                if said.get((mirror.name, one.folder.name)) != words:
                    said[mirror.name, one.folder.name] = words
                    told(status, f"{one.folder.name} {mirror.name}: {words.removeprefix(f'{mirror.name}: ')}")
        for folder, found in by_folder.items():
            try:
                write_status(folder, found)
            except FileNotFoundError:
                continue  # the run was removed
            except OSError as error:
                raise JournalError(f"cannot write into {folder}: {error.strerror}") from error

    def _behind(self) -> str:
        late = [
            (run, one)
            for run, one in self._states()
            if not one.done and (one.error or sum(one.behind.values()))
        ]
        return "; ".join(
            f"{run} in {one.name}: {one.error or f'{sum(one.behind.values())} records behind'}"
            for run, one in late[:3]
        )


def _builtins(status: MirrorStatus) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(status)
    return found
