"""Sequence numbers on disk, session hours and backoff."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from emp.access.fix.schedule import Backoff, Hours
from emp.access.fix.store import BLOCK, FileStore
from emp.access.fix.text import utc_ns
from emp.core.disk import MachineDisk, writes_to
from emp.core.errors import JournalError
from tests.fix.side import S


def test_hours_over_a_week_and_over_daylight_saving() -> None:
    week = Hours(start="17:00", end="17:00", days=("sun",), zone="America/New_York", length_days=5)
    friday = utc_ns(b"20240308-21:59:59")  # 16:59:59 in winter time
    assert week.session(friday) is not None
    assert week.session(friday + S) is None
    opening = week.next_start_ns(friday + S)
    assert opening == utc_ns(b"20240310-21:00:00")  # summer time began that Sunday
    assert week.session(opening) is not None
    assert week.session(opening - 1) is None


def test_backoff_grows_is_bounded_and_repeats() -> None:
    plan = Backoff()
    delays = [plan.delay_s(n) for n in range(1, 12)]
    assert delays == [plan.delay_s(n) for n in range(1, 12)]
    assert 0.3 < delays[0] < 0.7
    assert all(d <= 30 * 1.25 for d in delays)
    assert plan.delay_s(5, seed=1) != plan.delay_s(5, seed=2)


def test_numbers_survive_a_crash_and_are_never_given_twice(tmp_path: Path) -> None:
    path = tmp_path / "a.seq"
    store = FileStore(path)
    given = [store.take_out() for _ in range(BLOCK + 10)]
    store.next_in = 77
    store.keep()
    again = FileStore(path)  # the first was never closed
    assert again.next_in == 77
    assert again.take_out() > max(given)
    again.close()
    clean = FileStore(path)
    assert clean.next_out == 2 * BLOCK + 2
    assert clean.take_out() == 2 * BLOCK + 2


def test_torn_write_falls_back_to_the_record_before(tmp_path: Path) -> None:
    path = tmp_path / "a.seq"
    store = FileStore(path)
    store.take_out()
    for expected in (5, 6):
        store.next_in = expected
        store.keep()
    data = bytearray(path.read_bytes())
    newest = 64 if b"\x06" in data[64:80] else 0
    data[newest + 9] ^= 0xFF
    path.write_bytes(bytes(data))
    assert FileStore(path).next_in == 5
    path.write_bytes(b"\xff" * 128)
    with pytest.raises(JournalError, match="both records"):
        FileStore(path)


def test_full_disk_is_said_in_one_line() -> None:
    store = FileStore.__new__(FileStore)
    store.path = Path("/dev/full")
    store.next_in, store.next_out, store.created_ns, store._version, store._reserved = 1, 1, 0, 0, 1
    store._file = os.open("/dev/full", os.O_RDWR)
    with pytest.raises(JournalError, match="cannot write the FIX sequence numbers"):
        store.take_out()
    os.close(store._file)


class Tearing(MachineDisk):
    """A disk on which every write is torn in the middle, and fails."""

    def pwrite(self, file: int, data: bytes, at: int) -> int:
        super().pwrite(file, data[: len(data) // 2], at)
        raise OSError(errno.ENOSPC, "No space left on device")


def test_writes_that_fail_again_and_again_leave_the_newest_numbers_that_were_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.seq"
    store = FileStore(path)
    given = [store.take_out() for _ in range(3)]
    for seen in (76, 77):
        store.next_in = seen
        store.keep()
    with writes_to(Tearing()):
        for seen in (78, 79, 80):
            store.next_in = seen
            with pytest.raises(JournalError, match="No space left"):
                store.keep()
    left = FileStore(Path(shutil.copy(path, tmp_path / "left.seq")))
    assert left.next_in == 77
    assert left.take_out() > max(given)
    left.close()
    store.keep()
    assert FileStore(path).next_in == 80, "the disk has room again"
