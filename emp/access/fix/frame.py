"""Bytes into checked FIX frames: BeginString, BodyLength and CheckSum verified, garbage skipped.

A frame leaves only when `8=FIX…`, `9=` and `10=` stand where they must, the length is exact and the sum of
bytes modulo 256 is right. Whatever else arrives is skipped and counted, and the search goes on at the next
`8=FIX`. Nothing here raises, and a scan is resumed where it stopped, so feeding byte by byte costs the same.

A frame whose ends are right and whose sum is wrong is dropped whole, so that a message inside its data fields
cannot come out by itself. A frame whose length is wrong is noticed as soon as a second `8=` or `9=` or an early
`10=` stands where a field begins, not when the claimed length has arrived; so garbage costs linear time.
"""

from collections.abc import Iterator
from typing import Final, Protocol

import numpy as np

from emp.access.fix.decode import scan_market
from emp.access.fix.scan import scan_bytes
from emp.access.fix.wire import (
    BAD_CHECKSUM,
    BAD_LENGTH,
    BEGIN_AT,
    BEGIN_LEN,
    COMP_ID,
    DATA,
    FRAME,
    LIMIT,
    MAX_FRAME,
    POS,
    SENDER_AT,
    SENDER_LEN,
    SKIPPED,
    START,
    TARGET_AT,
    TARGET_LEN,
    TOO_LONG,
    WIRE,
)
from emp.core.records import Array

Frame = tuple[int, int, int, int, int, int, int, int, int, int]
"""(status, start, end, n, type, seq, flags, sending_ns) of `next_frame`, then (rows, result) of `decode`.

`rows` is -1 where the frame was not decoded as market data.
"""


def kind_of(msg_type: str) -> int:
    """The number that `next_frame` returns for a MsgType."""
    return int.from_bytes(msg_type.encode(), "big")


class Books(Protocol):
    """Books and the rows they make, as bytes (uint8 views of BOOK and EVENT arrays of one length)."""

    raw_books: Array
    raw_rows: Array


SMALL: Final = 131_072
"""Bytes of the buffer in use while no frame needs more, so that it stays in the processor's cache."""


class Framer:
    """Owns the buffer of one connection and finds the frames in it.

    `write` takes bytes in, `next` gives one frame at a time; both never raise. Memory is at most two longest
    frames and the places of their fields; only a long frame makes it use more than the first SMALL bytes.
    """

    def __init__(
        self,
        begin: bytes = b"",
        sender: bytes = b"",
        target: bytes = b"",
        max_frame: int = MAX_FRAME,
        market: Books | None = None,
    ) -> None:
        self.wire: Array = np.zeros(WIRE.itemsize, np.uint8)
        whole = self.wire.view(WIRE)[0]
        self.buffer: Array = whole["buf"]
        self.fields: Array = whole["fields"]
        self._state: Array = whole["s"]
        self._books = market.raw_books if market is not None else None
        self._rows = market.raw_rows if market is not None else None
        self._memory = memoryview(self.buffer)
        self._limit = SMALL
        self._start = DATA
        self._filled = DATA
        self._moved = 0
        self._state[START] = self._state[POS] = DATA
        self._state[LIMIT] = min(max_frame, MAX_FRAME)
        for value, at, room, slot in (
            (begin, BEGIN_AT, 16, BEGIN_LEN),
            (sender, SENDER_AT, COMP_ID, SENDER_LEN),
            (target, TARGET_AT, COMP_ID, TARGET_LEN),
        ):
            word = value.upper()[:room]
            self.buffer[at : at + len(word)] = np.frombuffer(word, np.uint8)
            self._state[slot] = len(word)

    def write(self, data: bytes) -> bytes:
        """Take bytes in; returns what found no room: call `next` until MORE, then write that."""
        if self._start == self._filled:
            self._moved += self._start - DATA
            self._start = self._filled = DATA
            self._limit = SMALL
        end = self._filled + len(data)
        if end > self._limit:
            return self._squeeze(data)
        self._memory[self._filled : end] = data
        self._filled = end
        return b""

    def _squeeze(self, data: bytes) -> bytes:
        """Move what is kept to the front, take in what then fits, return the rest."""
        kept = self._filled - self._start
        self._memory[DATA : DATA + kept] = self._memory[self._start : self._filled]
        self._moved += self._start - DATA
        self._start = DATA
        self._filled = DATA + kept
        while 2 * kept > self._limit - DATA and self._limit < len(self._memory):
            self._limit = min(2 * self._limit, len(self._memory))
        room = self._limit - self._filled
        taken = data[:room]
        self._memory[self._filled : self._filled + len(taken)] = taken
        self._filled += len(taken)
        return data[room:]

    def next(self, expected: int = -1, now_ns: int = 0) -> Frame:
        """The next frame, or one whose first element is MORE.

        With a `market` attached, market data that carries the sequence number `expected` is decoded at once.
        """
        if expected < 0 or self._books is None:
            frame = scan_bytes(self.wire, self._filled, self._moved)
        else:
            frame = scan_market(
                self.wire, self._filled, self._moved, expected, now_ns, self._books, self._rows
            )
        self._moved = 0
        self._start = frame[2] if frame[0] == FRAME else frame[1]
        return frame

    def frames(self, data: bytes) -> Iterator[Frame]:
        """Feed `data` and yield its frames; each is valid until the next is asked for."""
        while data:
            data = self.write(data)
            while (frame := self.next())[0] == FRAME:
                yield frame

    def bytes_of(self, frame: Frame) -> bytes:
        """The frame's bytes, from `8=` to the last SOH."""
        return bytes(self._memory[frame[1] : frame[2]])

    @property
    def refused(self) -> dict[str, int]:
        """What was not taken: bytes skipped, and frames by what was wrong with them."""
        slots = {
            "skipped": SKIPPED,
            "bad_length": BAD_LENGTH,
            "bad_checksum": BAD_CHECKSUM,
            "too_long": TOO_LONG,
        }
        return {name: int(self._state[slot]) for name, slot in slots.items()}
