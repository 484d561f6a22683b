"""The first start on a machine: half of what a run compiles is compiled by a second process meanwhile.

Compilation holds Python's lock, so one process keeps one core busy for a minute or more. The run itself compiles the
engine; the process beside it what watches the models, and the built-in market. Each finds in the cache what the other
has compiled by then.
"""

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from emp.app.wiring.assembly import engine_limits
from emp.app.wiring.governed import load_models
from emp.app.wiring.mock_market import open_mock
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.instrument import find
from emp.core.numba.jit import can_be_kept, is_kept
from emp.core.platform import usable_cores
from emp.engine.apart import LONGEST_S, command_apart, environment_apart
from emp.engine.monitor import Lineup, Monitor
from emp.engine.step import run_batch


def compiles_first() -> bool:
    """Whether nothing of the engine is compiled yet, a cache can hand on what is, and there is a core for it."""
    return can_be_kept(run_batch) and not is_kept(run_batch) and usable_cores() > 1


@contextmanager
def compiled_beside(source: Path) -> Iterator[None]:
    """Let a process compile what the run of a configuration needs beside its engine; leave when it is over, however it
    ends: what it has not compiled, whoever needs it does. It ends with this process.
    """
    try:
        process = subprocess.Popen(
            command_apart(__name__, source.resolve()),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment_apart(),
        )
    except OSError:  # no room for another process: this one compiles it all
        yield
        return
    with process:
        try:
            with _collecting_nothing():
                yield
            with suppress(subprocess.TimeoutExpired):
                process.wait(LONGEST_S)
        finally:
            process.kill()


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """The compiler leaves no more garbage than it keeps, and each look for some goes through all that it has made."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _end_with_parent() -> None:
    """End where the other end of standard input is closed: nobody needs this any more."""
    while os.read(0, 4096):
        pass
    os._exit(0)


def main(source: Path) -> None:
    """What the process does: what the engine needs as well comes first, it is looked for soonest."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.disable()
    config = SystemConfig.load(source)
    instruments = [find(name, config.instruments.catalogue) for name in config.instruments.names]
    models = load_models(config)
    if config.model.monitor:
        lineup = Lineup(models.serving, models.standby, models.challenger, models.linear)
        Monitor(instruments, engine_limits(config), lineup)
    if config.access.connection_protocol == "mock":
        open_mock(config, instruments, LiveClock())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
