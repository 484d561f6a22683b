"""Conversion rates that the owner keeps in a file: YAML of currency: what a unit of it is worth in the account's.

    JPY: 0.0067
    CNY: 0.139

The file is looked at every few seconds; a rate is as old as the file. What is read becomes a control input, so that a
replay needs no file. One that cannot be read tells nothing: its rates grow old, and then nothing is opened.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import structlog
import yaml

from emp.core.errors import ConfigError
from emp.core.small_file import read_small
from emp.core.strict_yaml import load_yaml

_log = structlog.get_logger(__name__)


class Rate(NamedTuple):
    """What a unit of a currency is worth in the account's, as of `ts`, ns UTC."""

    currency: str
    value: float
    ts: int


class RateFile:
    """What a file says of the rates that are needed, when it has changed."""

    def __init__(self, path: Path, needed: Sequence[str]) -> None:
        self._path, self._needed = path, tuple(needed)
        self._read_at: int | None = None  # when the file was written that was read last, ns
        self.problem = ""  # why nothing is told; "" where all is well

    def look(self) -> list[Rate]:
        """What is new since the last look: everything that is needed where the file was written again, else nothing."""
        try:
            written = self._path.stat().st_mtime_ns
            if written == self._read_at:
                return []
            found = read_rates(self._path, self._needed, written)
        except (OSError, ConfigError) as error:
            said = (
                f"rates: {self._path} cannot be read: {error.strerror}"
                if isinstance(error, OSError)
                else str(error)
            )
            if said != self.problem:
                _log.error("rates are not told", problem=said)
            self.problem = said
            return []
        self.problem, self._read_at = "", written
        return found


def read_rates(path: Path, needed: Sequence[str], ts: int) -> list[Rate]:
    """The rates that a file must have; ConfigError in one line where one is missing or none."""
    try:
        content = load_yaml(read_small(path))
    except (ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"rates: {path}: not valid YAML: {str(error).splitlines()[0]}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"rates: {path}: expected a line per currency, as in 'JPY: 0.0067'")
    for currency in needed:
        value = content.get(currency)
        number = value if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
        if not 0.0 < number < math.inf:
            raise ConfigError(f"rates: {path}: {currency}: expected a number above 0, got {value!r}")
    return [Rate(currency, float(content[currency]), ts) for currency in needed]
