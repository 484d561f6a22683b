"""Messages kept to be sent again, and what a ResendRequest gets: those, and gap fills for all others."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Kept(NamedTuple):
    """A message as it was sent."""

    kind: bytes
    body: bytes
    sending: bytes


class Sent:
    """The last `limit` messages of the kinds that may be repeated; orders are not among them."""

    def __init__(self, kinds: Iterable[str], limit: int) -> None:
        self.kinds = frozenset(kind.encode() for kind in kinds)
        self._limit = limit
        self._kept: dict[int, Kept] = {}

    def keep(self, seq: int, message: Kept) -> None:
        """Remember a message, and forget the oldest where there are too many."""
        self._kept[seq] = message
        if len(self._kept) > self._limit:
            del self._kept[next(iter(self._kept))]

    def clear(self) -> None:
        """Numbers have begun anew."""
        self._kept.clear()

    def again(self, begin: int, end: int) -> Iterator[tuple[int, Kept | int]]:
        """Numbers `begin` to `end` in order: (number, message), or (first, number after the gap).

        Costs what is kept, however wide the range.
        """
        fill = begin
        for seq, kept in list(self._kept.items()):
            if begin <= seq <= end:
                if fill < seq:
                    yield fill, seq
                yield seq, kept
                fill = seq + 1
        if fill <= end:
            yield fill, end + 1
