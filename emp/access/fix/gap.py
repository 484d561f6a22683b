"""What of the peer's numbers is missing: asked for once and in chunks, while live messages wait their turn.

Pure bookkeeping of one connection: no bytes are sent here and nobody is called.
"""

import heapq
from typing import Final, NamedTuple

CHUNK: Final = 2_500
"""Numbers asked for with one ResendRequest; the last one asks for all that follow (EndSeqNo 0)."""

TRIES: Final = 3
"""Requests without any progress after which the session is given up."""

HELD_MESSAGES: Final = 4_096
HELD_BYTES: Final = 16 << 20
"""Live messages kept while a gap is open; what finds no room is asked for again later."""


class Held(NamedTuple):
    """A message that arrived before its turn."""

    raw: bytes
    answered: bool  # acted on already, only its number has still to be taken


class Gap:
    """The open gap, if there is one: between the expected number and the highest that was seen."""

    def __init__(self) -> None:
        self.highest = 0  # number seen of the peer
        self.asked_from = 0  # the range of the last request, kept after it was answered
        self.asked_to = 0
        self.asked_ns = -1  # when it was made or last made progress, -1: nothing is awaited
        self.tries = 0
        self._expected = 0  # the number expected when there was progress last
        self._held: dict[int, Held] = {}
        self._order: list[int] = []  # a heap of their numbers, and of some that are kept no more
        self._bytes = 0

    @property
    def awaited(self) -> bool:
        """Whether a request is open."""
        return self.asked_ns >= 0

    def hold(self, seq: int, raw: bytes, *, answered: bool = False) -> bool:
        """Keep a message for its turn; False where there is no room."""
        self.highest = max(self.highest, seq)
        if seq in self._held:
            return True
        if len(self._held) >= HELD_MESSAGES or self._bytes + len(raw) > HELD_BYTES:
            return False
        self._held[seq] = Held(raw, answered)
        heapq.heappush(self._order, seq)
        self._bytes += len(raw)
        return True

    def take(self, seq: int) -> Held | None:
        """The message kept under a number, which is then no longer kept."""
        held = self._held.pop(seq, None)
        if held is not None:
            self._bytes -= len(held.raw)
        return held

    def first_held(self, below: int) -> int:
        """The lowest number kept below a bound, or the bound."""
        while self._order and self._order[0] not in self._held:
            heapq.heappop(self._order)
        return min(self._order[0], below) if self._order else below

    def resent(self, seq: int) -> bool:
        """Whether a number lies in what was asked for, so that it may arrive a second time."""
        return self.asked_from <= seq <= self.asked_to

    def request(self, expected: int, now_ns: int) -> tuple[int, int]:
        """The (BeginSeqNo, EndSeqNo) to ask for; EndSeqNo is 0 for all that follow."""
        last = expected + CHUNK - 1
        end = 0 if last >= self.highest else last
        self.tries = self.tries + 1 if self.awaited else 1
        self._expected = self.asked_from = expected
        self.asked_to = end or self.highest
        self.asked_ns = now_ns
        return expected, end

    def progress(self, expected: int, now_ns: int) -> bool:
        """Note that the expected number has moved; True where the next chunk has to be asked for."""
        if not self.awaited:
            return expected <= self.highest
        if expected == self._expected:
            return False
        self._expected = expected
        self.tries = 1
        if expected <= self.asked_to:
            self.asked_ns = now_ns
            return False
        self.asked_ns = -1
        return expected <= self.highest
