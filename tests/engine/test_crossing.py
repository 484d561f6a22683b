"""Crossing to open has to be earned: by the shadow, in the same compiled step, on whatever market comes."""

from pathlib import Path

import numpy as np
import pytest

from emp.access.paper.venue import PaperVenue
from emp.core.codes import Action, Reason
from emp.core.instrument import find
from emp.core.records import Array
from emp.engine.engine import Engine
from emp.engine.replay import Backtest
from emp.journal.actionlog import read_actions
from emp.journal.run import RunFolder, build_manifest
from tests.kit.events import random_events
from tests.kit.models import LOOSE, Events, eager_model

pytestmark = [pytest.mark.usefixtures("compiled_engine"), pytest.mark.earns]


def bold(folder: Path) -> Engine:
    """An engine whose model believes in order flow so much that it would cross all the time."""
    return Engine([find("GOOG")], eager_model(folder / "model", strength=8.0), LOOSE, "TESTRUN0")


def traded(tmp_path: Path, e: Engine, seed: int) -> Array:
    manifest = build_manifest(
        run="TESTRUN0", mode="replay", config={}, instruments=["GOOG"], model_hashes=[e.model.artifact.hash]
    )
    folder = RunFolder.open_or_create(tmp_path / f"run{seed}", manifest)
    events = Events(random_events(6_000, seed), e.instruments[0], 500)
    Backtest(events, e, PaperVenue(e.instruments[0], entry_ns=50_000_000), folder).run()
    return read_actions(folder.actions)


def opened_by_crossing(rows: Array) -> Array:
    return (rows["action"] == Action.CROSS) & (rows["inventory"] * rows["side"] >= 0)


@pytest.mark.parametrize("seed", range(3))
def test_nothing_is_opened_by_crossing_before_it_is_earned(tmp_path: Path, seed: int) -> None:
    e = bold(tmp_path)
    rows = traded(tmp_path, e, seed)
    assert e.desk.standing["crossed_trips"][0] > 20, "the shadow crosses all the while"
    assert not (opened_by_crossing(rows) & ~rows["may_cross"]).any()
    assert (rows["action"] == Action.POST).sum() > 10
    assert not (rows["reason_code"] == Reason.CHASE).any()


def test_once_it_is_earned_crossings_open_until_they_bring_nothing(tmp_path: Path) -> None:
    """The shadow had earned it before; on this market nothing is to be earned, and it finds that out."""
    e = bold(tmp_path)
    standing = e.desk.standing[0]
    standing["crossed"]["sum"], standing["crossed"]["squares"], standing["may_cross"] = 20.0, 20.0, True
    standing["n"] = -1e12  # gains count for what they say
    rows = traded(tmp_path, e, 1)
    assert opened_by_crossing(rows).any()
    lost = np.flatnonzero(~rows["may_cross"])
    assert len(lost), "it is lost again"
    assert not opened_by_crossing(rows[lost]).any()
