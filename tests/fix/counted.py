"""The numbers of one direction: what a peer is told, and what it still waits for by what it has been told."""

from tests.fix.wire import is_sound


def number(frame: bytes, tag: int) -> int:
    """First value of a tag as a number, 0 where absent."""
    at = frame.find(b"\x01%d=" % tag)
    if at < 0:
        return 0
    text = frame[frame.index(b"=", at) + 1 :].split(b"\x01", 1)[0]
    return int(text) if text.isdigit() else 0


class Expects:
    """The number that a peer takes next, and those that it keeps until their turn comes."""

    def __init__(self) -> None:
        self.next = 1
        self._early: set[int] = set()

    @property
    def gap(self) -> bool:
        """Whether something is missing before what it has."""
        return bool(self._early)

    def connected(self) -> None:
        """A new connection: what was kept is forgotten."""
        self._early.clear()

    def asked_from(self, first: int) -> None:
        """The peer asks to be sent again all from this number."""
        self.next = first
        self._early = {early for early in self._early if early >= first}

    def told(self, data: bytes) -> None:
        """This is written to it: a whole message, or something that it cannot take."""
        if not is_sound(data):
            return
        seq, kind = number(data, 34), data.split(b"\x0135=", 1)[1].split(b"\x01", 1)[0]
        if kind == b"A" and b"\x01141=Y\x01" in data:
            self.next = seq
            self._early.clear()
        if kind == b"4" and b"\x01123=Y\x01" not in data:
            self.next = max(self.next, number(data, 36))
        elif seq > self.next:
            self._early.add(seq)
        elif seq == self.next:
            self.next = number(data, 36) if kind == b"4" else seq + 1
        while self.next in self._early:
            self._early.discard(self.next)
            self.next += 1


class Numbers:
    """What one side calls its messages, and what the other is told: shifted, with the proxy's own in between."""

    def __init__(self) -> None:
        self.base = 0
        self.own: list[int] = []  # numbers told that are the proxy's own
        self.last = 0  # highest told
        self.first = 1  # lowest that is told since the numbers began anew
        self.expects = Expects()  # what the side that is told has taken

    def told(self, number: int) -> int:
        number += self.base
        for own in self.own:
            number += own <= number
        return number

    def meant(self, told: int) -> int:
        return told - self.base - sum(own < told for own in self.own)

    def add(self, *told: int) -> None:
        self.own = sorted([*self.own, *told])

    def begin(self, number: int, told: int) -> None:
        """From now on `number` is told as `told`."""
        self.base, self.own, self.last, self.first = told - number, [], told - 1, told
