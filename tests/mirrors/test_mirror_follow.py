"""What mirrors read of a run is what it journalled: each record once, in order, whatever the reader meets."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from emp.app.bench.mirrored.writer import Writer
from emp.core.errors import JournalError
from emp.core.records import fieldwise_bytes
from emp.engine.journal_tap import journalled_events, journalled_rows
from emp.journal.ledger import Ledger
from emp.journal.mirror.follow import NOWHERE, STREAMS, Batch, RunReader
from emp.journal.mirror.parts import TailSync
from emp.journal.reader import LedgerReader
from emp.journal.run import RunFolder, build_manifest
from tests.mirrors.growing import die, grow, new_parts, tear


class Mirror:
    """Keeps all that it reads."""

    def __init__(self, run: Path) -> None:
        self.run = run
        self.after = dict(NOWHERE)
        self.batches: list[Batch] = []
        self.reader = RunReader(run)

    def read(self, limit: int) -> int:
        batch = self.reader.read(self.after, limit)
        assert all(len(getattr(batch, stream)) <= limit for stream in STREAMS)
        if len(batch):
            self.batches.append(batch)
        self.after = batch.until
        return len(batch)

    def read_all(self, limit: int = 1000) -> None:
        while self.read(limit):
            pass

    def back(self, batches: int) -> None:
        """A service that had not taken the newest batches after all."""
        for batch in self.batches[max(0, len(self.batches) - batches) :]:
            self.after = min(self.after, dict(batch.after), key=lambda at: sum(at.values()))
        del self.batches[max(0, len(self.batches) - batches) :]

    def check(self) -> None:
        folder = RunFolder(self.run)
        events = np.concatenate([batch.market for batch in self.batches])
        rows = np.concatenate([batch.actions for batch in self.batches])
        journalled = list(journalled_events(folder))
        assert fieldwise_bytes(events) == fieldwise_bytes(np.concatenate(journalled))
        assert fieldwise_bytes(rows) == fieldwise_bytes(journalled_rows(folder))
        ledger = LedgerReader(folder.ledger)
        assert [one for batch in self.batches for one in batch.ledger] == list(ledger.events())
        ledger.close()
        for stream in ("monitor", "latency"):
            lines = (self.run / f"{stream}.jsonl").read_bytes().splitlines()
            found = [line for batch in self.batches for line in getattr(batch, stream)]
            assert [line.text for line in found] == [line.strip() for line in lines]
            assert [line.n for line in found] == list(range(1, len(lines) + 1))


STEPS = st.lists(
    st.tuples(st.sampled_from(["grow", "parts", "die", "read", "back", "again"]), st.integers(1, 60)),
    min_size=5,
    max_size=25,
)


@settings(max_examples=10, phases=(Phase.explicit, Phase.generate))
@given(steps=STEPS)
def test_each_record_is_read_once_and_in_order(tmp_path_factory: pytest.TempPathFactory, steps: list) -> None:
    run = tmp_path_factory.mktemp("runs") / "R"
    writer, mirror = Writer(run), None
    for what, n in steps:
        if what == "grow":
            grow(writer, n % 12)
        elif what == "parts":
            new_parts(writer)
        elif what == "die":
            die(writer)
            writer = Writer(run)
        else:
            mirror = mirror or Mirror(run)
            if what == "back":
                mirror.back(n % 3)
            if what == "again":
                mirror.reader = RunReader(run)
            mirror.read(n)
    grow(writer, 2)
    mirror = mirror or Mirror(run)
    mirror.read_all()
    mirror.check()
    writer.end()
    mirror.read_all(7)
    mirror.check()
    assert mirror.reader.ends() == mirror.after
    assert mirror.reader.finished


def test_a_torn_end_is_read_once_it_is_whole(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "R")
    grow(writer, 5)
    mirror = Mirror(tmp_path / "R")
    whole = (tmp_path / "R/tail.bin").read_bytes()
    tear(tmp_path / "R", 100)
    mirror.read_all()
    assert mirror.after["market"] < writer._tap.market.events
    (tmp_path / "R/tail.bin").write_bytes(whole)
    mirror.read_all()
    assert mirror.after["market"] == writer._tap.market.events
    mirror.check()
    writer.end()


def test_a_tail_that_is_being_begun_hides_nothing_and_invents_nothing(tmp_path: Path) -> None:
    """Between the truncation and the mark there is an empty file: parts may hold more than will stay."""
    writer = Writer(tmp_path / "R")
    grow(writer, 5)
    new_parts(writer)
    mirror = Mirror(tmp_path / "R")
    whole = (tmp_path / "R/tail.bin").read_bytes()
    (tmp_path / "R/tail.bin").write_bytes(b"")
    assert len(mirror.reader.read(mirror.after, 1000).market) == 0
    (tmp_path / "R/tail.bin").write_bytes(whole)
    mirror.read_all()
    mirror.check()
    writer.end()


def test_metrics_that_a_start_may_take_back_wait_for_their_events(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "R")
    grow(writer, 1)
    ahead = b'{"at": 1000000, "kind": "psi"}\n'
    with (tmp_path / "R/monitor.jsonl").open("ab") as file:
        file.write(ahead)
    mirror = Mirror(tmp_path / "R")
    mirror.read_all()
    assert ahead.strip() not in [line.text for batch in mirror.batches for line in batch.monitor]
    writer.end()


def test_a_mirror_that_is_ahead_of_the_journal_is_told_so(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "R")
    grow(writer, 1)
    reader = RunReader(tmp_path / "R")
    with pytest.raises(
        JournalError, match=r"market journal .* ends at \d+, and 1000000 rows were read of it"
    ):
        reader.read({**NOWHERE, "market": 1_000_000}, 10)
    with pytest.raises(JournalError, match="has no event 1000000"):
        reader.read({**NOWHERE, "ledger": 1_000_000}, 10)
    writer.end()


def test_a_replay_is_refused(tmp_path: Path) -> None:
    RunFolder.create(tmp_path / "R", {"run": "R", "mode": "replay", "instruments": [], "model_hashes": []})
    with pytest.raises(JournalError, match="is a replay"):
        RunReader(tmp_path / "R")


def test_the_ledger_is_read_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = Writer(tmp_path / "R")
    grow(writer, 30)
    mirror = Mirror(tmp_path / "R")
    mirror.read_all()
    mirror.read(10)
    opened = []
    connect = LedgerReader._connect
    monkeypatch.setattr(
        LedgerReader, "_connect", lambda self, mode: opened.append(mode) or connect(self, mode)
    )
    assert mirror.read(10) == 0
    assert not opened
    while writer._ledger.last_seq == mirror.after["ledger"]:
        grow(writer, 1)
    mirror.read_all()
    assert mirror.after["ledger"] == writer._ledger.last_seq
    assert opened
    writer.end()


def test_readers_of_one_process_share_the_syncs_of_a_tail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not synced is not believed, and what is synced is not synced again."""
    writer = Writer(tmp_path / "R")
    grow(writer, 3)
    synced = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(file) or sync(file))
    shared = TailSync(1e9)
    readers = [RunReader(tmp_path / "R", shared) for _ in range(3)]
    tails = [reader._tail for reader in readers]
    for tail in tails:
        tail.poll()
    assert len(synced) == 1
    had = tails[0].events
    assert {tail.events for tail in tails} == {had} == {writer._tap.market.events}
    grow(writer, 2)
    tails[0].poll()
    assert tails[0].events == had  # not durable yet
    new_parts(writer)
    grow(writer, 1)
    tails[0].poll()  # another tail
    assert tails[0].events == writer._tap.market.events
    writer.end()


def test_a_reader_never_keeps_the_ledger_from_being_sealed(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "R")
    grow(writer, 10)
    mirror = Mirror(tmp_path / "R")
    mirror.read_all()
    writer.end()
    assert not (tmp_path / "R/ledger.sqlite-wal").exists()
    assert Ledger(tmp_path / "R/ledger.sqlite").close() is None


@pytest.mark.parametrize(
    ("config", "origin"),
    [
        ({"access": {"connection_protocol": "fix", "host": "h"}}, ("observe", "fix", "h")),
        ({"access": {"connection_protocol": "kafka", "host": None}}, ("observe", "kafka", "")),
        ({}, ("observe", "", "")),
    ],
)
def test_a_run_says_how_it_came_to_its_market_data(tmp_path: Path, config: dict, origin: tuple) -> None:
    manifest = build_manifest(run="R", mode="observe", config=config, instruments=["A"], model_hashes=[])
    RunFolder.create(tmp_path / "R", manifest)
    assert RunReader(tmp_path / "R").origin == origin
