"""Files as users keep them, and files that are not what they should be: one clear line each."""

import gzip
import subprocess
import sys
import zipfile
from pathlib import Path

import msgspec
import numpy as np
import pytest
import zstandard

from emp.access.recordings import open_recording
from emp.core.errors import DataError
from emp.core.ids import generator
from emp.core.instrument import find
from emp.core.records import Array
from tests.access.small_market import NAME, SmallMarket

GOOG = find("GOOG")
MESSAGE, BOOK = NAME.format("message_10"), NAME.format("orderbook_10")


def read(*paths: Path) -> Array:
    return np.concatenate(list(open_recording(list(paths), GOOG).batches()))


@pytest.fixture
def market(tmp_path: Path) -> Path:
    """The folder of a small plain recording."""
    SmallMarket(7).run(400).write(tmp_path)
    return tmp_path


def zst(data: bytes) -> bytes:
    half = len(data) // 2
    pack = zstandard.ZstdCompressor(write_checksum=True).compress
    return pack(data[:half]) + pack(data[half:])  # two frames, as concatenated files have


def gz(data: bytes) -> bytes:
    half = len(data) // 2
    return gzip.compress(data[:half]) + gzip.compress(data[half:])


PACKINGS = {".gz": gz, ".zst": zst}


@pytest.mark.parametrize("suffix", PACKINGS)
def test_packed_files_read_like_plain_ones(market: Path, suffix: str) -> None:
    plain = read(market / MESSAGE)
    for name in (MESSAGE, BOOK):
        (market / (name + suffix)).write_bytes(PACKINGS[suffix]((market / name).read_bytes()))
        (market / name).unlink()
    assert (read(market / (MESSAGE + suffix)) == plain).all()
    # what a file is stands in its bytes, not in its name
    (market / (MESSAGE + suffix)).rename(market / MESSAGE)
    assert (read(market / MESSAGE) == plain).all()


def test_an_archive_is_a_folder_with_both_files(market: Path) -> None:
    plain = read(market / MESSAGE)
    archive = market / "sample.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("LOBSTER_ReadMe.txt", "This is not a recording.\n")
        file.write(market / MESSAGE, MESSAGE)
        file.write(market / BOOK, BOOK)
    assert (read(archive) == plain).all()


def test_a_seven_zip_is_a_folder_with_both_files(market: Path) -> None:
    py7zr = pytest.importorskip("py7zr")
    plain = read(market / MESSAGE)
    archive = market / "sample.7z"
    with py7zr.SevenZipFile(archive, "w") as file:
        file.write(market / MESSAGE, MESSAGE)
        file.write(market / BOOK, BOOK)
    assert (read(archive) == plain).all()
    archive.write_bytes(archive.read_bytes()[:-200])
    assert "damaged or cut off" in refused(archive)


def test_line_ends_and_a_missing_last_one_do_not_matter(market: Path) -> None:
    plain = read(market / MESSAGE)
    for name in (MESSAGE, BOOK):
        text = (market / name).read_text().rstrip("\n").replace("\n", "\r\n\r\n")
        (market / name).write_bytes(text.encode())
    assert (read(market / MESSAGE) == plain).all()


def test_progress_reaches_the_stored_size(market: Path) -> None:
    seen: list[tuple[int, int]] = []
    source = open_recording(market / MESSAGE, GOOG, progress=lambda done, total: seen.append((done, total)))
    for _ in source.batches():
        pass
    total = (market / MESSAGE).stat().st_size + (market / BOOK).stat().st_size
    assert seen == sorted(seen)
    assert seen[-1] == (total, total)


def refused(*paths: Path) -> str:
    """The one line with which reading ends."""
    with pytest.raises(DataError) as error:
        read(*paths)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


@pytest.mark.parametrize("suffix", PACKINGS)
def test_half_a_packed_file(market: Path, suffix: str) -> None:
    data = PACKINGS[suffix]((market / MESSAGE).read_bytes())
    path = market / (MESSAGE + suffix)
    (market / MESSAGE).unlink()
    for length in (len(data) - 1, len(data) * 3 // 4, len(data) // 4):
        path.write_bytes(data[:length])
        assert "cut off" in refused(path)
    path.write_bytes(data[:100] + b"\xff" * 50 + data[150:])
    assert "damaged" in refused(path)


def test_half_a_zip(market: Path) -> None:
    archive = market / "sample.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.write(market / MESSAGE, MESSAGE)
    archive.write_bytes(archive.read_bytes()[:-100])
    assert "sample.zip: the zip is damaged or cut off" in refused(archive)


def test_files_that_are_no_recording(tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(b"")
    assert refused(path) == f"{path}: the file is empty"
    path.write_bytes(b"\n\n  \n")
    assert "empty" in refused(path)
    path.write_bytes(gzip.compress(b""))
    assert "empty" in refused(path)
    path.write_text("Dear reader,\nthis is a letter, and no market.\n" * 50)
    assert "not a recording that is known (it starts with 'Dear reader,')" in refused(path)
    path.write_bytes(bytes(generator(1, "noise").integers(0, 256, 100_000, dtype=np.uint8)))
    assert "not a recording" in refused(path)
    path.write_text("a,b,c\n1,2,3\n")
    assert "a table with the columns a, b, c, which no known format has" in refused(path)
    path.write_text("1,2,3\n4,5,6\n")
    assert "not a recording that is known (it starts with '1,2,3')" in refused(path)
    assert "no such file" in refused(tmp_path / "nothing.csv")
    assert "is a folder" in refused(tmp_path)
    with pytest.raises(DataError, match="no recording was named"):
        open_recording([], GOOG)


def test_swapped_message_and_orderbook(market: Path) -> None:
    (market / MESSAGE).rename(market / "aside")
    (market / BOOK).rename(market / MESSAGE)
    (market / "aside").rename(market / BOOK)
    for path in (market / MESSAGE, market / BOOK):
        assert "the names are swapped" in refused(path)


def test_mislabelled_partners(market: Path) -> None:
    (market / BOOK).write_bytes((market / MESSAGE).read_bytes())
    assert "mislabelled" in refused(market / MESSAGE)
    (market / BOOK).write_text("Dear reader,\n")
    assert "not a recording" in refused(market / MESSAGE)


def test_an_orderbook_without_its_messages(market: Path) -> None:
    (market / MESSAGE).unlink()
    assert "the file of LOBSTER messages must lie beside it" in refused(market / BOOK)


def test_a_name_without_date(market: Path) -> None:
    (market / MESSAGE).rename(market / "GOOG_message_10.csv")
    assert "the name carries no date" in refused(market / "GOOG_message_10.csv")


def test_shuffled_rows(market: Path) -> None:
    messages = (market / MESSAGE).read_text().splitlines(keepends=True)
    order = generator(2, "shuffle").permutation(len(messages))
    (market / MESSAGE).write_text("".join(messages[i] for i in order))
    assert "rows go back in time; the file is not in order of time" in refused(market / MESSAGE)


def test_an_instrument_whose_grid_does_not_fit(market: Path) -> None:
    odd = msgspec.structs.replace(GOOG, name="ACME", tick=0.15, symbols=("GOOG",))
    source = open_recording(market / MESSAGE, odd)
    with pytest.raises(DataError, match=r"prices that ACME cannot have .*; is this the right instrument"):
        list(source.batches())
    with pytest.raises(DataError, match="holds GOOG, not GC"):
        open_recording(market / MESSAGE, find("GC"))


def test_a_recording_of_closed_hours_only(market: Path) -> None:
    saturday = market / MESSAGE.replace("06-21", "06-23")
    (market / MESSAGE).rename(saturday)
    (market / BOOK).rename(market / BOOK.replace("06-21", "06-23"))
    assert "lie outside the trading hours of GOOG" in refused(saturday)


def test_the_command_line_prints_one_line_and_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "emp", "instruments", "show", "GOGO"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("emp: unknown instrument 'GOGO' (did you mean GOOG")
    assert done.stderr.count("\n") == 1
