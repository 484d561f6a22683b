"""The journal of a run as a tap: what it does when the disk fails it."""

import os
from pathlib import Path

import numpy as np
import pytest

from emp.core.clock import LiveClock
from emp.core.errors import JournalError
from emp.core.instrument import catalogue
from emp.core.records import DECISION, EVENT, MARKET_STATE
from emp.engine.journal_tap import JournalTap
from emp.engine.tap import Batch
from emp.journal.run import RunFolder


def one(k: int) -> Batch:
    return Batch(k, np.zeros(1, EVENT), np.zeros(1, MARKET_STATE), k, np.zeros(1, DECISION), np.zeros((1, 3)))


def test_a_new_tail_that_cannot_be_begun_closes_no_file_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a file that was closed is the next file's: a ledger's, or a connection's."""
    folder = RunFolder.__new__(RunFolder)
    folder.path, folder.actions, folder.market = tmp_path, tmp_path / "actions", tmp_path / "market"
    tap = JournalTap(folder, [catalogue()["BTCUSDT"]], ["model"], LiveClock(), flush_s=0.0)
    tap.on_batch(one(0))

    def full(_: JournalTap) -> int:
        raise JournalError("too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(JournalTap, "_begin_tail", full)
        with pytest.raises(JournalError, match="too many open files"):
            tap.on_tick(0)
    stranger = os.open(tmp_path / "stranger", os.O_WRONLY | os.O_CREAT)
    tap.close()
    os.fstat(stranger)
    os.close(stranger)
    assert tap.market.events == tap.actions.rows == 1
