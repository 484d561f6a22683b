"""A live run that died is found by account and venue: recovered, or refused with what to do; never passed over."""

import errno
import json
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emp.app.wiring.live import Running, assemble_live
from emp.app.wiring.unfinished import unfinished_run
from emp.core.clock import LiveClock
from emp.core.config.config import SystemConfig
from emp.core.errors import EmpError, JournalError, UsageError
from emp.core.instrument import catalogue
from emp.core.records import DECISION
from emp.engine.choose import load_model
from emp.engine.succession import Models
from emp.governance.registry import Registry
from emp.journal.actionlog import read_actions
from emp.journal.reader import LedgerReader
from emp.journal.run import CONTINUED
from emp.observe.board import Board
from tests.kit.journal import journal
from tests.kit.promoted import promote

from .world import Venue


def live(folder: Path, account: str = "7", names: tuple[str, ...] = ("GC",), **more: Any) -> SystemConfig:
    access = {"connection_protocol": "fix", "host": "broker.example", "account": account} | more.pop(
        "access", {}
    )
    return SystemConfig(mode="live", run_dir=folder, instruments={"names": names}, access=access, **more)


def started(config: SystemConfig, model: str = "linear") -> Running:
    clock = LiveClock()
    facts = [catalogue()[name] for name in config.instruments.names]
    return assemble_live(config, facts, Models(load_model(model)), Venue(), Board(clock), clock)


def died(config: SystemConfig, *, sealed: bool = False) -> Path:
    """The folder of a run that was killed, or has ended in order, after three decisions."""
    running = started(config)
    journal(running, np.zeros(3, DECISION))
    close(running, sealed=sealed)
    return running.folder.path


def close(running: Running, *, sealed: bool = False) -> None:
    running.live._taps.close()
    if sealed:
        running.live._ledger.seal()
    running.live._ledger.close()
    running.live._account.close()


def names(config: SystemConfig) -> list[str]:
    return list(config.instruments.names)


def aged(folder: Path) -> None:
    """What an older release wrote: other code, a setting that has gone, none of those that came since."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["code"] = "0.0.9+abcdef"
    manifest.pop("facts", None)
    manifest["config"]["risk"] = {"max_order_lots": 5, "gone_since": True}
    manifest["config"].pop("journal")
    path.write_text(json.dumps(manifest))


def test_it_is_recovered_by_another_release_other_limits_and_another_port(tmp_path: Path) -> None:
    first = died(live(tmp_path))
    aged(first)
    running = started(live(tmp_path, risk={"max_order_lots": 1}, access={"port": 5212}))
    close(running)
    assert running.folder.path == first
    assert len(read_actions(first / "actions")) == 3
    reader = LedgerReader(first / "ledger.sqlite")
    (note,) = reader.notes(CONTINUED)
    reader.close()
    assert note.data["code_before"] == "0.0.9+abcdef"
    changed = str(note.data["changed"]).split(", ")
    assert {"access.port", "journal", "risk.gone_since", "risk.max_order_lots"} <= set(changed)


def test_the_model_it_died_with_serves_again(tmp_path: Path) -> None:
    first = died(live(tmp_path))
    running = started(live(tmp_path), model="mamba2")
    close(running)
    assert running.folder.path == first
    assert running.engine.model.artifact.hash == load_model("linear").artifact.hash


def test_a_model_that_was_withdrawn_since_does_not_serve_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(tmp_path / "registry", LiveClock())
    for name in ("mamba2", "linear"):
        promote(registry, name)
    config = live(tmp_path, model={"registry": registry.home})
    first = died(config)
    running = started(config, model="mamba2")
    close(running)
    assert running.engine.model.artifact.manifest.kind == "linear", "it is the default"
    registry.rollback("it has lost")
    running = started(config, model="mamba2")
    close(running)
    assert running.folder.path == first
    assert running.engine.model.artifact.manifest.kind == "mamba2"
    assert "is not approved" in capsys.readouterr().err


@pytest.mark.parametrize("other", [{"account": "8"}, {"access": {"host": "another.example"}}])
def test_another_account_or_venue_is_another_run(tmp_path: Path, other: dict[str, Any]) -> None:
    died(live(tmp_path))
    config = live(tmp_path, **other)
    assert unfinished_run(config, names(config)) is None


def test_one_that_ended_in_order_is_left_alone_and_paper_is_never_continued(tmp_path: Path) -> None:
    died(live(tmp_path), sealed=True)
    assert unfinished_run(live(tmp_path), ["GC"]) is None
    died(live(tmp_path))
    paper = live(tmp_path).model_copy(update={"mode": "paper"})
    assert unfinished_run(paper, ["GC"]) is None


def refusal(config: SystemConfig, kind: type[EmpError]) -> str:
    with pytest.raises(kind) as refused:
        started(config)
    text = str(refused.value)
    assert "\n" not in text
    return text


def test_other_instruments_are_refused_with_what_to_do(tmp_path: Path) -> None:
    first = died(live(tmp_path))
    text = refusal(live(tmp_path, names=("EURUSD",)), UsageError)
    assert text.startswith(f"{first}: an unfinished live run of this account, in GC: start once with")


def test_a_ledger_of_another_schema_is_refused_and_named(tmp_path: Path) -> None:
    first = died(live(tmp_path))
    with closing(sqlite3.connect(first / "ledger.sqlite")) as db, db:
        db.execute("UPDATE meta SET value='0' WHERE key='schema_version'")
    text = refusal(live(tmp_path), JournalError)
    assert "use the release that wrote it" in text
    assert str(first) in text


def test_two_are_refused(tmp_path: Path) -> None:
    first = died(live(tmp_path))
    second = tmp_path / "live-COPY"
    second.mkdir()
    for name in ("manifest.json", "ledger.sqlite", "ledger.sqlite.mark"):
        (second / name).write_bytes((first / name).read_bytes())
    text = refusal(live(tmp_path), UsageError)
    assert str(first) in text
    assert str(second) in text


@pytest.mark.parametrize("name", ["ledger.sqlite", "ledger.sqlite-wal", "runs"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO], ids=["not ours", "a failing disk"])
def test_one_that_cannot_be_looked_at_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    config = live(tmp_path / "runs")
    died(config, sealed=name.endswith("-wal"))

    look = os.stat

    def stat(path: Path | str | int, **options: Any) -> os.stat_result:
        if not isinstance(path, int) and Path(path).name == name:
            raise OSError(number, os.strerror(number), str(path))
        return look(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    monkeypatch.setattr(
        Path, "exists", lambda self, **_: os.path.exists(self) and self.name != name
    )  # of 3.14

    listdir = os.listdir

    def names_in(folder: Path) -> list[str]:
        if folder.name == name:
            raise OSError(number, os.strerror(number), str(folder))
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", names_in)
    with pytest.raises(JournalError, match=os.strerror(number)):
        unfinished_run(config, names(config))
