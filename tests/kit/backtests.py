"""A backtest over given events, and one that is killed on its way and started again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from emp.access.paper.venue import PaperVenue
from emp.core.records import Array
from emp.engine.context import SlowContext
from emp.engine.engine import Engine
from emp.engine.replay import Backtest, Planned
from emp.journal.run import RunFolder, build_manifest
from tests.kit.models import Events

TIMINGS = {"adapter_us", "model_us", "total_us"}


def backtest(
    folder: Path,
    engine: Engine,
    events: Array,
    run: str = "run",
    *,
    batch: int = 500,
    swaps: Sequence[Planned] = (),
    context: SlowContext | None = None,
) -> Backtest:
    """The engine over `events`, in batches, against a paper venue 50 ms away; the run lies in `folder`/`run`."""
    manifest = build_manifest(
        run="TESTRUN0",
        mode="replay",
        config={},
        instruments=["GOOG"],
        model_hashes=[engine.model.artifact.hash],
    )
    journal = RunFolder.open_or_create(folder / run, manifest)
    venue = PaperVenue(engine.instruments[0], entry_ns=50_000_000)
    return Backtest(
        Events(events, engine.instruments[0], batch), engine, venue, journal, list(swaps), context=context
    )


class _Killed(BaseException):
    """What no handler of errors catches."""


def kill(running: Backtest, after: int) -> None:
    """Run a backtest and let it die when it reports progress for the `after`-th time."""
    seen = 0

    def progress(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == after:
            raise _Killed

    with pytest.raises(_Killed):
        running.run(progress)
    assert running.journal is not None
    running.journal.ledger.close()


def differences_after_a_kill(make: Callable[[str], Backtest], after: int) -> set[str]:
    """Entries of the summary, timings aside, in which a run that died and went on differs from a whole one."""
    whole = make("whole").run()
    kill(make("dying"), after)
    again = make("dying").run()
    return {name for name in whole if whole[name] != again.get(name)} - TIMINGS
