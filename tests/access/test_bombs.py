"""Small files that unpack to more than a machine has: one line, and memory that is bounded whatever they hold."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import zstandard

from emp.access.recordings import container, packing
from emp.core.errors import DataError


def zstd(path: Path, head: bytes, fill: bytes, times: int) -> Path:
    """A file that unpacks to `head`, and `fill` so many times."""
    packer = zstandard.ZstdCompressor(level=3)
    with path.open("wb") as file, packer.stream_writer(file) as writer:
        writer.write(head)
        for _ in range(times):
            writer.write(fill)
    return path


@pytest.mark.parametrize("fill", [b"\0", b"\n", b"1"])
def test_what_comes_out_at_a_time_is_bounded(tmp_path: Path, fill: bytes) -> None:
    """183 KB of zstd took 11.9 GB: a few bytes of it stand for 128 KiB each."""
    path = zstd(tmp_path / "x.zst", b"34200.1,1,2,3,4,5\n" * 50_000, fill * (1 << 20), 600)
    assert path.stat().st_size < 200_000
    pieces: list[int] = []
    with path.open("rb") as file, pytest.raises(DataError, match="unpacks to more than"):
        pieces.extend(sizes(packing.unpacked(file, "x.zst", lambda _: None)))
    assert max(pieces) <= 100 << 20


def sizes(stream: packing.Stream) -> Iterator[int]:
    """Bytes of each piece that comes out."""
    while data := stream.read():
        yield len(data)


def test_an_archive_of_countless_files_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for k in range(container.MAX_MEMBERS + 1):
            archive.writestr(f"{k}.csv", "")
    with pytest.raises(DataError, match=r"has 2,001 files in it, and 2,000 are looked at at most") as refused:
        container.items(path)
    assert "\n" not in str(refused.value)
