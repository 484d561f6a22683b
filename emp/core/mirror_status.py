"""How the mirrors of a run are doing: a small file in the run's folder, written by them and read by whoever asks."""

import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

MIRRORS = "mirrors.json"


class MirrorStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One mirror of one run."""

    name: str  # kafka, timescale, redis
    address: str
    up: bool  # whether the service answered when it was last spoken to
    error: str = ""  # why not, in one line
    positions: dict[str, int] = {}  # records of each stream that the service has
    behind: dict[str, int] = {}  # records of each stream that it lacked when both were last looked at
    connects: int = 0  # times that it was connected to
    caught_up_ns: int = 0  # wall time at which it last had everything; 0 never
    done: bool = False  # the run has ended, and the mirror has all of it


_decode = msgspec.json.Decoder(list[MirrorStatus]).decode


def write_status(folder: Path, mirrors: Sequence[MirrorStatus]) -> None:
    """Replace the file; raises OSError. It need not outlive the machine: the services know how far they are."""
    beside = folder / f".{MIRRORS}.{os.getpid()}.tmp"
    beside.write_bytes(msgspec.json.encode(list(mirrors)))
    os.replace(beside, folder / MIRRORS)


def read_status(folder: Path) -> list[MirrorStatus]:
    """Every mirror that a run has had; none where there is no file, or none that this release reads."""
    try:
        return _decode((folder / MIRRORS).read_bytes())
    except (OSError, msgspec.MsgspecError):
        return []
