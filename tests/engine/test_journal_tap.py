"""The journal of a run as a tap: what it does when the disk fails it."""

import os
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from emp.core.clock import LiveClock
from emp.core.errors import JournalError
from emp.core.instrument import catalogue
from emp.core.records import DECISION, EVENT, MARKET_STATE
from emp.engine.journal_tap import JournalTap, known_until, newest_rows
from emp.engine.tap import Batch
from emp.journal.run import RunFolder, build_manifest
from emp.journal.tail import Unit, layout_head, pack_unit, read_tail


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


def test_a_tail_of_another_layout_is_brought_to_ours(tmp_path: Path) -> None:
    """A field that is new to us is zero, one that has gone is left out, and nothing else changes."""
    theirs = np.dtype(
        [(name, DECISION[name]) for name in DECISION.names or () if name != "sigma_ticks"] + [("gone", "f8")]
    )
    rows = np.zeros(3, theirs)
    rows["seq"], rows["p"], rows["gone"] = (1, 2, 3), 0.5, 9.0
    events = np.zeros(3, EVENT)
    events["bid_px"] = 7
    head = layout_head(EVENT, theirs)
    unit = pack_unit(Unit(0, events, 0, rows))
    (tmp_path / "tail.bin").write_bytes(head + unit + unit[:-1])
    (found,) = read_tail(tmp_path / "tail.bin")
    assert found.rows.dtype == DECISION
    assert found.rows["seq"].tolist() == [1, 2, 3]
    assert (found.rows["p"] == 0.5).all()
    assert not found.rows["sigma_ticks"].any()
    assert (found.events == events).all()


def test_a_tail_that_cannot_be_brought_to_ours_is_refused(tmp_path: Path) -> None:
    theirs = np.dtype([("ts", "i8"), ("seq", "i8"), ("p", "f4", (2,))])
    head = layout_head(EVENT, theirs)
    (tmp_path / "tail.bin").write_bytes(head + pack_unit(Unit(0, np.zeros(1, EVENT), 0, np.zeros(1, theirs))))
    with pytest.raises(JournalError, match=r"tail.bin: another release wrote it.*move it away"):
        read_tail(tmp_path / "tail.bin")


def test_a_start_does_not_grow_with_the_age_of_a_run(tmp_path: Path) -> None:
    """A week of parts, one a minute, is continued from the last of each journal."""
    folder = RunFolder.__new__(RunFolder)
    folder.path, folder.actions, folder.market = tmp_path, tmp_path / "actions", tmp_path / "market"
    first = JournalTap(folder, [catalogue()["BTCUSDT"]], ["model"], LiveClock())
    first.on_batch(one(0))
    first.close()
    minutes, told = 10_080, {}
    for journal in (folder.actions, folder.market):
        last = journal / "part-00000.parquet"
        for n in range(1, minutes):
            os.link(last, journal / f"part-{n:05d}.parquet")
        told[journal] = journal / f"part-{minutes - 1:05d}.parquet"
        table = pq.read_table(last)
        told[journal].unlink()
        facts = {**table.schema.metadata, b"emp.rows": b"15000000"}
        pq.write_table(table.replace_schema_metadata(facts), told[journal])
    began = time.process_time()
    again = JournalTap(folder, [catalogue()["BTCUSDT"]], ["model"], LiveClock())
    took = time.process_time() - began
    assert again.market.events == again.actions.rows == 15_000_000
    assert took < 2.5
    again.on_batch(one(15_000_000))
    again.close()
    assert sorted(folder.actions.iterdir())[-1].name == f"part-{minutes:05d}.parquet"


def test_the_newest_row_of_each_instrument_is_found_wherever_it_is(tmp_path: Path) -> None:
    folder = RunFolder.__new__(RunFolder)
    folder.path, folder.actions, folder.market = tmp_path, tmp_path / "actions", tmp_path / "market"
    named = [catalogue()["BTCUSDT"], catalogue()["GC"], catalogue()["EURUSD"]]
    tap = JournalTap(folder, named, ["model"], LiveClock(), flush_s=0.0)

    def decided(k: int, instrument: int) -> None:
        batch = one(k)
        batch.rows["instrument"], batch.rows["seq"] = instrument, k
        tap.on_batch(batch)

    decided(0, 1)
    decided(1, 0)
    tap.on_tick(0)  # into a part
    decided(2, 0)
    tap.on_idle()
    found = newest_rows(folder, 3)
    assert {i: int(row["seq"][0]) for i, row in found.items()} == {0: 2, 1: 0}
    tap.close()


def test_a_start_knows_what_was_journalled_of_each_instrument(tmp_path: Path) -> None:
    named = [catalogue()["BTCUSDT"], catalogue()["GC"], catalogue()["EURUSD"]]
    manifest = build_manifest(run="R", mode="live", config={}, instruments=["A", "B", "C"], model_hashes=[])
    folder = RunFolder.create(tmp_path / "R", manifest)
    tap = JournalTap(folder, named, ["model"], LiveClock(), flush_s=0.0)
    for k, i in enumerate((1, 0, 0)):
        batch = one(k)
        batch.rows["instrument"], batch.rows["ts"] = i, 100 + k
        tap.on_batch(batch)
        if k == 1:
            tap.on_tick(0)  # into a part
    tap.on_idle()
    assert known_until(folder.path, 3) == [102, 100, 0]
    assert known_until(None, 2) == [0, 0]
    tap.close()
