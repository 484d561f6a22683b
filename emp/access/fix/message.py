"""Messages outside the hot path: a read view of one that arrived, and the frame around one that leaves."""

from collections.abc import Iterator
from zlib import adler32

from emp.access.fix.frame import Frame, Framer
from emp.access.fix.scan import AT, END, POSS_DUP, TAG

SECRET = frozenset({96, 554, 925, 1402, 1404})
"""Tags whose values never show: RawData of a logon, Password, NewPassword, and their encrypted forms."""


def masked(message: bytes) -> str:
    """A message as one readable line, `|` for SOH, with secret values as `***`."""
    shown = []
    for part in message.split(b"\x01"):
        tag, equals, value = part.partition(b"=")
        secret = tag.isdigit() and int(tag[:9]) in SECRET
        text = "***" if secret and equals else value.decode("latin-1")
        shown.append(tag.decode("latin-1") + equals.decode() + text)
    return "|".join(shown)


class Message:
    """One message that arrived: type, number, flags, sending time, and its fields in order."""

    __slots__ = ("fields", "flags", "kind", "raw", "sent_ns", "seq")

    def __init__(self, framer: Framer, frame: Frame) -> None:
        _, _, _, n, _, self.seq, self.flags, self.sent_ns = frame[:8]
        self.raw = framer.bytes_of(frame)
        memory, start = self.raw, frame[1]
        self.fields: list[tuple[int, bytes]] = [
            (row[TAG], memory[row[AT] - start : row[END] - start]) for row in framer.fields[:n].tolist()
        ]
        self.kind = self.fields[0][1].decode("latin-1")

    @property
    def poss_dup(self) -> bool:
        """Whether this was sent before (43=Y)."""
        return bool(self.flags & POSS_DUP)

    def get(self, tag: int) -> bytes | None:
        """First value of a tag, None where absent."""
        for found, value in self.fields:
            if found == tag:
                return value
        return None

    def text(self, tag: int, default: str = "") -> str:
        """First value of a tag as text."""
        value = self.get(tag)
        return default if value is None else value.decode("latin-1")

    def integer(self, tag: int, default: int = -1) -> int:
        """First value of a tag as a non-negative integer; `default` where it is none."""
        value = self.get(tag)
        return int(value) if value is not None and value.isdigit() and len(value) < 18 else default

    def group(self, count: int) -> Iterator[dict[int, bytes]]:
        """Entries of the repeating group that `count` announces; the last may hold what follows the group."""
        tags = [tag for tag, _ in self.fields]
        if count not in tags or tags.index(count) + 1 == len(tags):
            return
        first = tags.index(count) + 1
        entry: dict[int, bytes] = {}
        for tag, value in self.fields[first:]:
            if tag == tags[first] and entry:
                yield entry
                entry = {}
            entry.setdefault(tag, value)
        yield entry

    def __repr__(self) -> str:
        return masked(self.raw)


def checksum(data: bytes) -> int:
    """Sum of bytes modulo 256. Adler-32's low half is 1 + that sum for a piece too short to wrap at 65,521."""
    if len(data) <= _PIECE:
        return ((adler32(data) & 0xFFFF) - 1) & 0xFF
    return sum((adler32(data[i : i + _PIECE]) & 0xFFFF) - 1 for i in range(0, len(data), _PIECE)) & 0xFF


_PIECE = 256


class Composer:
    """Puts begin, length, header and checksum around bodies for one session."""

    def __init__(self, begin: str, sender: str, target: str, sender_sub: str, target_sub: str) -> None:
        self._begin = f"8={begin}\x019=%d\x01%s".encode()
        who = f"49={sender}\x0156={target}\x01"
        who += f"50={sender_sub}\x01" if sender_sub else ""
        who += f"57={target_sub}\x01" if target_sub else ""
        self._inner = b"35=%s\x01" + who.replace("%", "%%").encode() + b"34=%d\x0152=%s\x01%s%s"

    def frame(self, kind: bytes, seq: int, sending: bytes, body: bytes, extra: bytes = b"") -> bytes:
        """A whole message; `extra` are further header fields, `body` the fields after the header, both with SOH."""
        inner = self._inner % (kind, seq, sending, extra, body)
        data = self._begin % (len(inner), inner)
        return b"%s10=%03d\x01" % (data, checksum(data))
