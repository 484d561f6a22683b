"""A run's folder that is gone, replaced, read-only or full is noticed before the next order."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from emp.core.contracts import NewOrder
from emp.core.errors import JournalError
from emp.journal import place as places
from emp.journal.place import LEAST_FILES, LEAST_FREE, RESERVED, Place
from tests.live.test_live import bought, invested
from tests.live.world import World, play


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ledger.sqlite").write_bytes(b"rows")
    return tmp_path


def place(folder: Path) -> Place:
    return Place(folder, folder / "ledger.sqlite")


def disk(
    monkeypatch: pytest.MonkeyPatch,
    *,
    free: int = 1 << 40,
    flag: int = 0,
    files: int = 1 << 20,
    of: int = 1 << 24,
) -> None:
    """Let the disk look so."""

    class Room:
        f_bavail, f_frsize, f_flag = free // 4096, 4096, flag
        f_favail, f_files = files, of

    monkeypatch.setattr(places.os, "statvfs", lambda _: Room)


def test_nothing_is_said_of_a_folder_that_is_well(folder: Path) -> None:
    found = place(folder)
    found.check()
    assert (folder / "reserve.bin").stat().st_blocks * 512 >= RESERVED, (
        "room that is only promised is no room"
    )
    found.release()
    assert not (folder / "reserve.bin").exists()


def test_a_folder_that_is_gone_or_replaced(folder: Path) -> None:
    found = place(folder)
    with (folder / "ledger.sqlite").open("rb"):  # its inode is not given out again
        (folder / "ledger.sqlite").unlink()
        with pytest.raises(JournalError, match="is gone"):
            found.check()
        (folder / "ledger.sqlite").write_bytes(b"rows")
        with pytest.raises(JournalError, match="is another file now"):
            found.check()


def test_a_disk_that_is_full_or_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(folder)
    disk(monkeypatch, free=LEAST_FREE)
    found.check()
    disk(monkeypatch, free=LEAST_FREE - 4096)
    with pytest.raises(JournalError, match="less than 16 MiB left"):
        found.check()
    assert not (folder / "reserve.bin").exists(), "what was kept is there for the end"
    disk(monkeypatch, flag=getattr(os, "ST_RDONLY", 1))
    with pytest.raises(JournalError, match="read-only now"):
        found.check()


def test_a_disk_that_takes_no_more_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(folder)
    disk(monkeypatch, files=LEAST_FILES)
    found.check()
    assert f"takes {LEAST_FILES} more files; at {LEAST_FILES} trading ends" in found.alarm()
    disk(monkeypatch, files=LEAST_FILES - 1)
    with pytest.raises(JournalError, match=f"takes less than {LEAST_FILES} more files"):
        found.check()
    disk(monkeypatch, files=0, of=0)  # as btrfs, which counts none
    found.check()
    assert found.alarm() == ""


def test_a_start_without_room_ends_in_one_line(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(places.os, "posix_fallocate", full, raising=False)
    with pytest.raises(JournalError, match=r"cannot keep 8 MiB in .*No space left"):
        place(folder)


def test_somebody_is_told_before_it_is_too_late(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = place(folder)
    disk(monkeypatch, free=2 << 30)
    assert found.alarm() == ""
    disk(monkeypatch, free=700 << 20)
    assert "700 MiB left" in found.alarm()


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.parametrize("lost", ["deleted", "full", "no more files"])
def test_no_order_leaves_once_it_could_not_be_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    """What is held is closed, and, where there is room, the ledger says how."""
    world = World(tmp_path, socket=True)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await bought(world, 2)
        if lost == "deleted":
            world.ledger_path.rename(tmp_path / "elsewhere")
        else:
            disk(monkeypatch, **({"free": 1 << 20} if lost == "full" else {"files": 3}))
        world.venue.commands.clear()
        for _ in range(100):
            world.venue.tick()
            await asyncio.sleep(0.01)
            if world.live._failure is not None:
                break

    said = {"deleted": "is gone", "full": "less than 16 MiB", "no more files": "less than 64 more files"}
    with pytest.raises(JournalError, match=said[lost]):
        play(world, script)
    orders = [c for c in world.venue.commands if isinstance(c, NewOrder)]
    assert [(o.side, o.qty) for o in orders] == [(-1, 2)], "only what closes"
    assert world.position == world.venue.position == 0
    if lost != "deleted":
        assert sum(f.side * f.qty for f in world.recorded().fills()) == 0


@pytest.mark.usefixtures("compiled_engine")
def test_the_disk_is_looked_at_while_nothing_is_wrong(tmp_path: Path) -> None:
    world = World(tmp_path, socket=True)
    play(world, invested)
    assert not (tmp_path / "reserve.bin").exists()
    assert "disk" not in world.board._alarms
