"""Messages outside the hot path: a read view of one that arrived, and the frame around one that leaves."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from zlib import adler32

from emp.access.fix.frame import Frame, Framer
from emp.access.fix.wire import AT, END, POSS_DUP, POSS_RESEND, TAG

SECRET = frozenset({96, 554, 925, 1402, 1404})
"""Tags whose values never show: RawData of a logon, Password, NewPassword, and their encrypted forms."""


SHOWN = 4_096
"""Bytes of a message that are shown; what a peer says in words is cut to a quarter of that."""


def masked(message: bytes, secrets: Iterable[bytes] = ()) -> str:
    """A message as one readable line, `|` for SOH, with secret values as `***`, wherever a peer repeats them."""
    shown = []
    for part in message[:SHOWN].split(b"\x01"):
        tag, equals, value = part.partition(b"=")
        secret = tag.isdigit() and int(tag[:9]) in SECRET
        text = "***" if secret and equals else readable(value, secrets)
        shown.append(tag.decode("latin-1") + equals.decode() + text)
    cut = f"… ({len(message)} bytes)" if len(message) > SHOWN else ""
    return "|".join(shown) + cut


def readable(value: bytes, secrets: Iterable[bytes] = ()) -> str:
    """What a peer says as text of one line: our secrets hidden, control characters as spaces, cut to a bound."""
    for secret in secrets:
        value = value.replace(secret, b"***")
    text = value[: SHOWN // 4].decode("latin-1")
    return text if text.isprintable() else "".join(c if c.isprintable() else " " for c in text)


class Message:
    """One message that arrived: type, number, flags, sending time, and its fields in order.

    `secrets` are values that `words` and `repr` hide: a peer may repeat a password in what it says.
    """

    def __init__(self, framer: Framer, frame: Frame, secrets: tuple[bytes, ...] = ()) -> None:
        _, self._start, _, n, _, self.seq, self.flags, self.sent_ns = frame[:8]
        self.raw = framer.bytes_of(frame)
        self.count = n
        self._index = framer.fields[:n].copy()
        self._secrets = secrets

    @cached_property
    def fields(self) -> list[tuple[int, bytes]]:
        """(tag, value) in order; the tag is -1 where there is none, and -tag where the value is empty."""
        return self.head(self.count)

    def head(self, n: int) -> list[tuple[int, bytes]]:
        """The first `n` of `fields`: of a message that may be too long to be read as a whole."""
        raw, start = self.raw, self._start
        return [(row[TAG], raw[row[AT] - start : row[END] - start]) for row in self._index[:n].tolist()]

    @cached_property
    def kind(self) -> str:
        """The MsgType."""
        first, start = self._index[0], self._start
        return self.raw[first[AT] - start : first[END] - start].decode("latin-1")

    @property
    def poss_dup(self) -> bool:
        """Whether this was sent before (43=Y)."""
        return bool(self.flags & POSS_DUP)

    @property
    def poss_resend(self) -> bool:
        """Whether the peer may have sent the same under another number (97=Y)."""
        return bool(self.flags & POSS_RESEND)

    def get(self, tag: int) -> bytes | None:
        """First value of a tag, None where absent or empty."""
        for found, value in self.fields:
            if found == tag:
                return value
        return None

    def text(self, tag: int, default: str = "") -> str:
        """First value of a tag as text of one line: a name or a code, as it came, for a secret may be part of one."""
        value = self.get(tag)
        return default if value is None else readable(value)

    def words(self, tag: int, default: str = "") -> str:
        """First value of a tag as text of one line to be shown, secrets hidden."""
        value = self.get(tag)
        return default if value is None else readable(value, self._secrets)

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
        return masked(self.raw, self._secrets)


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
