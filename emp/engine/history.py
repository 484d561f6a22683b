"""The rows of a ledger that a start did not read, held against each other while trading goes on.

A start reads the newest checkpoint and what follows it. What is older says nothing of where the run is now, but a row
that somebody changed in it is no less a reason to trade no more: it is found here, some seconds or minutes later, and
noted, so that nobody goes on with that ledger.
"""

import asyncio
from contextlib import closing
from itertools import islice

from emp.core.errors import CorruptLedgerError
from emp.journal.ledger import Ledger
from emp.journal.reader import LedgerReader

CHUNK = 2_000
"""Rows that are read in one go, in some milliseconds of a thread's time."""

REST_S = 0.02
"""Between two of them."""


async def verify_history(ledger: Ledger) -> None:
    """Read the rows that opening the ledger has left out.

    Raises CorruptLedgerError where one was changed, which is noted first; JournalError where they cannot be read.
    """
    try:
        reader = await asyncio.to_thread(LedgerReader, ledger.path)
        with closing(reader):
            at = 0
            while at < ledger.unread:
                at = await asyncio.to_thread(_follow, reader, at)
                await asyncio.sleep(REST_S)
    except CorruptLedgerError as error:
        ledger.note_damage(error.what)
        raise


def _follow(reader: LedgerReader, after_seq: int) -> int:
    """Read the next rows; the number of the last of them."""
    rows = reader.events(after_seq)
    with closing(rows):
        return max((event.seq for event in islice(rows, CHUNK)), default=after_seq)
