"""Accept a ledger that came back from a backup: it ends where the backup ended, and nobody remembers more.

A ledger on the machine that wrote it is held against the companion beside it (`high_water`), so that a lost end is
noticed. On another machine that companion is gone, or of an older time, and the end may truly be missing: what was
acknowledged in the last second before the old machine was lost. Going on is safe all the same: a start leaves out a
thousand client order ids, asks the venue for every open order, and takes positions from there.
"""

import os
import sqlite3
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from emp.core.errors import EmpError, JournalError
from emp.core.platform import say
from emp.journal.files import is_there, write_atomically
from emp.journal.high_water import Mark, mark_path, mark_text
from emp.journal.reader import LedgerReader


def accept_restored(path: Path) -> int:
    """Take a restored ledger's newest row for the last one that was acknowledged; returns its number.

    The whole chain is checked first. A ledger that has a companion is that of this machine and is not touched.

    Raises:
        JournalError: there is a companion, the file is no ledger, or a row of it is damaged.
    """
    companion = mark_path(path)
    if is_there(companion):
        raise JournalError(f"{companion} is there: this ledger was not restored, or was accepted before")
    write_atomically(companion, mark_text(_newest(path)))
    try:
        sealed, last = _checked(path)
    except BaseException:
        companion.unlink()
        raise
    if sealed:  # it ended in order, and needs none
        companion.unlink()
    return last


def _newest(path: Path) -> Mark:
    try:
        db = sqlite3.connect(f"file:{quote(os.fsencode(path.resolve()))}?mode=ro", uri=True)
        try:
            found = db.execute("SELECT seq, crc FROM events ORDER BY seq DESC LIMIT 1").fetchone()
        finally:
            db.close()
    except sqlite3.Error as error:
        raise JournalError(f"{path} is not a ledger: {error}") from error
    return Mark(0, 0) if found is None else Mark(*found)


def _checked(path: Path) -> tuple[bool, int]:
    """Read a ledger from its first row to its last; whether it is sealed, and its last number."""
    reader = LedgerReader(path)
    try:
        for _ in reader.events(0):
            pass
        return reader.sealed, reader.last_seq
    finally:
        reader.close()


def main(arguments: Sequence[str]) -> int:
    """Accept each ledger that is named; one line and exit code 1 where one cannot be accepted."""
    if not arguments:
        say("restored: name the ledgers that were brought back")
        return 2
    for name in arguments:
        try:
            say(f"restored: {name} ends at event {accept_restored(Path(name))}")
        except EmpError as error:
            say(f"restored: {error}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
