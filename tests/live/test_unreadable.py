"""A disk that cannot be read for a moment, and links where files should be: one line, and nothing is lost."""

import asyncio
import builtins
import errno
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from emp.access.ctrader.settings import Credentials
from emp.app.wiring.examples import default_config
from emp.app.wiring.live import Running
from emp.app.wiring.tokens import TokenFile
from emp.core.config.secrets import Secret
from emp.core.errors import EmpError, JournalError
from emp.journal.files import is_there, listed
from emp.journal.ledger import Ledger
from emp.journal.run import RunFolder
from tests.live.test_account import gone, later, run, settings, started
from tests.live.world import Venue

_CALLS = ("stat", "lstat", "scandir", "listdir", "open")
_OPENS_TO_WRITE = os.O_CREAT | os.O_WRONLY | os.O_RDWR


class Unreadable:
    """Looks at a folder, one of which fails, and all later ones at the same path."""

    def __init__(self, folder: Path, failing: int = 0) -> None:
        self.looks, self._folder, self._failing = 0, str(folder), failing
        self._bad = ""

    def look(self, path: Any) -> None:
        if isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self._folder):
            self.looks += 1
            if self.looks == self._failing:
                self._bad = os.fspath(path)
            if os.fspath(path) == self._bad:
                raise OSError(errno.EIO, os.strerror(errno.EIO), os.fspath(path))


@contextmanager
def seen_by(disk: Unreadable) -> Iterator[None]:
    """What is read goes through `disk`; and what Path says of a file that cannot be looked at is Python 3.14's: no."""

    def looking(call: Callable[..., Any]) -> Callable[..., Any]:
        def looked(path: Any, *rest: Any, **more: Any) -> Any:
            writes = bool(rest) and (
                (isinstance(rest[0], int) and rest[0] & _OPENS_TO_WRITE)
                or (isinstance(rest[0], str) and set(rest[0]) & set("wax+"))
            )
            if not writes:
                disk.look(path)
            return call(path, *rest, **more)

        return looked

    def forgiving(call: Callable[..., Any], other: Any) -> Callable[..., Any]:
        def forgiven(*rest: Any, **more: Any) -> Any:
            try:
                found = call(*rest, **more)
                return found if isinstance(found, bool) else iter([*found])
            except OSError:
                return other

        return forgiven

    with pytest.MonkeyPatch.context() as patch:
        for name in _CALLS:
            patch.setattr(os, name, looking(getattr(os, name)))
        patch.setattr(io, "open", looking(io.open))
        patch.setattr(builtins, "open", io.open)
        for name in ("exists", "is_file", "is_dir"):
            patch.setattr(Path, name, forgiving(getattr(Path, name), False))
        patch.setattr(Path, "glob", forgiving(Path.glob, iter(())))
        yield


def at(running: Running) -> tuple[str, int, int]:
    return running.engine.run, running.journal.market.events, running.journal.actions.rows


def test_a_path_that_cannot_be_read_costs_one_start_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, saved, venue = tmp_path / "home", tmp_path / "saved", Venue()
    monkeypatch.setenv("EMP_STATE", str(home / "state"))
    config = settings(home / "runs", journal={"flush_seconds": 0.05})
    ledgers: list[Ledger] = []
    opened = Ledger.__init__

    def remembered(self: Ledger, *rest: Any, **more: Any) -> None:
        opened(self, *rest, **more)
        ledgers.append(self)

    monkeypatch.setattr(Ledger, "__init__", remembered)

    async def crashes(running: Running, venue: Venue) -> None:
        for seen in (30, 40):  # parts of the journal, and a tail behind them
            venue.tick(seen - running.journal.market.events)
            while running.journal.market.events < seen:
                await asyncio.sleep(0.01)
            while not listed(running.folder.actions, "part-*"):
                venue.tick(0)
                await asyncio.sleep(0.01)
        running.live._upkeep.look(connected=True)
        # without what is known of the account, which would miss a run that nobody finds
        shutil.copytree(home, saved, ignore=shutil.ignore_patterns("*.sock", "state"))

    run(config, venue, crashes)

    def start(disk: Unreadable) -> tuple[str, int, int]:
        shutil.rmtree(home)
        shutil.copytree(saved, home)
        with seen_by(disk):
            running = started(config, later(venue, "p-"))
        found = at(running)
        gone(running)
        return found

    whole = Unreadable(home)
    known = start(whole)
    assert known[1:] == (40, 40)
    for failing in range(1, whole.looks + 1):
        with suppress(EmpError):
            assert start(Unreadable(home, failing)) == known
        for ledger in ledgers:
            ledger.close()  # as the end of the process does
        again = started(config, later(venue, "q-"))
        assert at(again) == known, f"after look {failing}"
        gone(again)
        ledgers.clear()


def test_whether_something_is_there_is_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    assert is_there(tmp_path / "here")
    assert not is_there(tmp_path / "nowhere")
    assert listed(tmp_path) == [tmp_path / "here"]
    assert listed(tmp_path / "nowhere") == []
    (tmp_path / "link").symlink_to(tmp_path / "unmounted")
    for look in (is_there, listed):
        with pytest.raises(JournalError, match=r"is a link to .*unmounted, which is not there"):
            look(tmp_path / "link")
        with seen_by(Unreadable(tmp_path, 1)), pytest.raises(JournalError, match="error"):
            look(tmp_path / "here")


LINKED = ("actions", "market", "ledger.sqlite", "ledger.sqlite.mark", "tail.bin", "checkpoint")


def crashed(tmp_path: Path) -> tuple[Any, Venue, RunFolder]:
    config, venue = settings(tmp_path / "runs"), Venue()
    running = started(config, venue)
    folder = running.folder
    running.live.owner.control("halt", "operator")  # something to go on with
    running.live.owner.record_what_waits()
    gone(running)
    return config, venue, folder


@pytest.mark.parametrize("name", LINKED)
def test_a_link_to_what_is_not_there_is_no_run_that_never_was(tmp_path: Path, name: str) -> None:
    config, venue, folder = crashed(tmp_path)
    kept = tmp_path / "elsewhere"
    path = folder.path / name
    if path.exists():
        path.rename(kept)
    path.symlink_to(kept.with_name("unmounted"))
    with pytest.raises(JournalError, match=r"is a link to .*unmounted, which is not there"):
        started(config, venue)
    assert not (tmp_path / "unmounted").exists()
    assert len(list((tmp_path / "runs").iterdir())) == 1


@pytest.mark.parametrize("name", ["actions", "market"])
def test_a_link_into_another_run_is_refused(tmp_path: Path, name: str) -> None:
    config, venue, folder = crashed(tmp_path)
    other = RunFolder.create(tmp_path / "other", {"run": "OTHER"})
    (other.path / name).mkdir(exist_ok=True)
    shutil.rmtree(folder.path / name, ignore_errors=True)
    (folder.path / name).symlink_to(other.path / name)
    with pytest.raises(JournalError, match="into the folder of another run"):
        started(config, venue)
    assert list((other.path / name).iterdir()) == []


def test_a_journal_on_another_disk_is_gone_on_with(tmp_path: Path) -> None:
    config, venue, folder = crashed(tmp_path)
    (folder.path / "actions").rename(tmp_path / "big disk")
    (folder.path / "actions").symlink_to(tmp_path / "big disk")
    running = started(config, venue)
    assert running.folder.path == folder.path
    gone(running)


def test_another_name_of_an_unfinished_run_is_no_second_one(tmp_path: Path) -> None:
    config, venue, folder = crashed(tmp_path)
    (tmp_path / "runs" / "live-00000000").symlink_to(folder.path)
    running = started(config, venue)
    assert running.folder.path == folder.path
    gone(running)


def test_runs_that_are_a_link_to_what_is_not_there_are_not_begun_anew(tmp_path: Path) -> None:
    config, venue, _ = crashed(tmp_path)
    (tmp_path / "runs").rename(tmp_path / "disk")
    (tmp_path / "runs").symlink_to(tmp_path / "unmounted")
    with pytest.raises(JournalError, match="is a link to"):
        started(config, venue)


def test_an_account_that_is_a_link_to_what_is_not_there_has_not_lost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMP_STATE", str(tmp_path / "state"))
    config, venue, folder = crashed(tmp_path)
    shutil.rmtree(folder.path)
    running = started(config, venue)
    running.live._upkeep.write_account(is_open=True)
    account = running.live._account.path  # type: ignore[union-attr]
    gone(running)
    account.unlink()
    account.symlink_to(tmp_path / "unmounted")
    with pytest.raises(JournalError, match="is a link to"):
        started(config, venue)


def test_what_is_configured_and_cannot_be_read_is_not_what_was_never_configured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert default_config().name == "mock.yaml"
    Path("emp.yaml").symlink_to("/unmounted/emp.yaml")
    with pytest.raises(JournalError, match="is a link to"):
        default_config()
    given = Credentials(
        client_id=Secret("a"), client_secret=Secret("b"), access_token=Secret("c"), refresh_token=Secret("d")
    )
    kept = tmp_path / "tokens.json"
    kept.write_text("{}")
    kept.chmod(0o600)
    for failing, why in ((1, "cannot look at"), (3, "cannot read the kept tokens")):
        with seen_by(Unreadable(tmp_path, failing)), pytest.raises(EmpError, match=why):
            TokenFile(kept, given).newest()
