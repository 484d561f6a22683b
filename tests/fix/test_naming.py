"""Our books beside a venue that keeps the truth, in every way of naming an entry."""

import os

import msgspec
import pytest

from emp.access.fix.dialect import PLAIN
from tests.fix.desk import EURUSD, Screen, levels
from tests.fix.naming import KEYING, SYMBOLS, WAYS, TruthfulVenue, message

STEPS = int(os.environ.get("EMP_FIX_STEPS", "20000"))
"""Messages per way of naming; 1,000,000 takes minutes."""


@pytest.mark.parametrize("way", WAYS)
def test_our_book_is_the_venues_throughout(way: str) -> None:
    venue = TruthfulVenue(way, 1)
    screen = Screen(msgspec.structs.replace(PLAIN, keying=KEYING[way]), (EURUSD, EURUSD), SYMBOLS)
    seen = {}
    for symbol in SYMBOLS:
        [row] = screen.show(message("W", 2, venue.snapshot(symbol)))
        seen[int(row["instrument"])] = row
    for step in range(STEPS):
        if step % 5_000 == 4_999:
            for symbol in SYMBOLS:
                [row] = screen.show(message("W", 2, venue.snapshot(symbol)))
        said = venue.step()
        for row in screen.show(message("X", 3, said)):
            seen[int(row["instrument"])] = row
        if step % 7 == 0:
            for at, symbol in enumerate(SYMBOLS):
                assert levels(seen[at]) == venue.levels(symbol), (step, said)
    assert not screen.market.quarantined
    assert screen.market.books["whole"].all()
