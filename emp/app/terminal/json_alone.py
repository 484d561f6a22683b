"""Under `--json` the object stands alone on stdout, whatever else a command says there goes to stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO


class JsonAlone:
    """A stdout of which the lines that begin an object are kept; it is the stream below in everything else."""

    def __init__(self, out: TextIO, words: TextIO) -> None:
        self._out, self._words = out, words
        self._begun = ""

    def write(self, text: str) -> int:
        """Take text; lines go on once they are whole."""
        *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            self._pass(line + "\n")
        return len(text)

    def flush(self) -> None:
        """Let whole lines out."""
        self._out.flush()

    def end(self) -> None:
        """Let out what has no end of line, too."""
        begun, self._begun = self._begun, ""
        if begun:
            self._pass(begun)
        self.flush()

    def _pass(self, line: str) -> None:
        if line.startswith("{"):
            self._out.write(line)
            return
        with suppress(OSError, ValueError):  # words may be lost, the object may not
            self._words.write(line)
            self._words.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._out, name)


@contextmanager
def json_alone(asked: bool) -> Iterator[None]:
    """Keep stdout for objects while the block lasts."""
    if not asked:
        yield
        return
    before = sys.stdout
    alone = JsonAlone(before, sys.stderr)
    sys.stdout = alone  # what the rest asks of it is passed on
    try:
        yield
        alone.end()
    finally:
        sys.stdout = before
