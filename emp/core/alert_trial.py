"""What became of the last test of everybody who is told of alerts: a small file, written by `emp alert`."""

from collections.abc import Mapping
from pathlib import Path

import msgspec

from emp.core.disk import make_folders
from emp.core.small_file import read_small

FILE = "alert-trial.json"


class Trial(msgspec.Struct, frozen=True):
    """The newest test."""

    at_ns: int  # wall time
    receivers: dict[str, str]  # by name: why it was not taken, "" where it was


def write_trial(state: Path, at_ns: int, receivers: Mapping[str, str]) -> None:
    """Remember a test in the folder of the user's state; raises OSError."""
    make_folders(state, 0o700)
    beside = state / f".{FILE}.tmp"
    beside.write_bytes(msgspec.json.encode(Trial(at_ns, dict(receivers))))
    beside.replace(state / FILE)


def read_trial(state: Path) -> Trial | None:
    """The newest test; None where there was none, or none that this release reads."""
    try:
        return msgspec.json.decode(read_small(state / FILE), type=Trial)
    except (OSError, msgspec.MsgspecError):
        return None
