"""A catalogue of recorded markets: which recordings there are, of what, and which of them belong together.

    markets:
      GOOG: {instrument: GOOG, group: equity-lobster, paths: [lobster/GOOG_*_message_10.csv*]}

Paths lie below a folder and may hold wildcards. What cannot be read is left out and said, one line each.
"""

import glob
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import yaml

from emp.core.errors import ConfigError, EmpError
from emp.core.instrument import find
from emp.core.small_file import read_small
from emp.core.strict_yaml import load_yaml
from emp.train.data.data import Dataset, Progress, Series, load_dataset


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the catalogue says of a market."""

    instrument: str
    group: str  # markets of one group are left out of training together
    paths: list[str]


class _Catalogue(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    markets: dict[str, Entry]


class Market(NamedTuple):
    """A market that is at hand."""

    name: str
    group: str
    data: Dataset
    series: Series | None = None  # where it was read from

    @property
    def asset_class(self) -> str:
        """Its asset class, in lower case."""
        return self.data.instrument.asset_class.name.lower()


class Skipped(NamedTuple):
    """A market of the catalogue that is not at hand, and why."""

    market: str
    why: str


def read_catalogue(path: Path) -> dict[str, Entry]:
    """Markets by name, in the order of the file.

    Raises:
        ConfigError: the file cannot be read, is not of this form, or names no market.
    """
    try:
        found = msgspec.convert(load_yaml(read_small(path)), _Catalogue).markets
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{path}: not a catalogue of markets: {' '.join(str(error).split())}") from error
    if not found:
        raise ConfigError(f"{path}: names no market")
    return found


def load_markets(
    entries: dict[str, Entry],
    folder: Path,
    k_sigma: float,
    progress: Callable[[str], Progress] | None = None,
) -> tuple[list[Market], list[Skipped]]:
    """Perceive every market that can be read.

    Args:
        entries: of `read_catalogue`.
        folder: below which the recordings lie.
        k_sigma: of the unit of delta_hat.
        progress: called with a market's name, gives what is told of its bytes.
    """
    found: list[Market] = []
    skipped: list[Skipped] = []
    for name, entry in entries.items():
        try:
            paths = _paths(entry.paths, folder)
            series = Series(name, find(entry.instrument).name, paths)
            data = load_dataset(series, k_sigma, progress(name) if progress else None)
            found.append(Market(name, entry.group, data, series))
        except EmpError as error:
            skipped.append(Skipped(name, str(error)))
    return found, skipped


def _paths(patterns: Sequence[str], folder: Path) -> tuple[Path, ...]:
    paths = [Path(path) for pattern in patterns for path in sorted(glob.glob(str(folder / pattern)))]
    if not paths:
        raise ConfigError(f"no recording {', '.join(patterns)} below {folder}")
    return tuple(paths)
