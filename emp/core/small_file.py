"""Files that people write: never large, so that one that is, or has no end, is refused before it fills the memory."""

import errno
from pathlib import Path

MOST = 4 << 20
"""Bytes of the largest such file."""


def read_small(path: Path) -> bytes:
    """The bytes of a file; OSError (EFBIG) where it has more than MOST, as a device has that never ends."""
    with path.open("rb") as file:
        data = file.read(MOST + 1)
    if len(data) > MOST:
        raise OSError(errno.EFBIG, f"larger than {MOST >> 20} MiB: not a file that somebody wrote", str(path))
    return data
