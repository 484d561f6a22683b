"""FIX messages for tests, framed and checked independently of the product's code."""

from collections.abc import Iterable

SOH = "\x01"


def framed(body: str, begin: str = "FIX.4.4") -> bytes:
    """The message whose body is `body`, with `|` for SOH; length and checksum are worked out here."""
    inner = body.replace("|", SOH).encode("latin-1")
    if not inner.endswith(b"\x01"):
        inner += b"\x01"
    head = f"8={begin}{SOH}9={len(inner)}{SOH}".encode()
    total = sum(head) + sum(inner)
    return head + inner + f"10={total % 256:03d}{SOH}".encode()


def raw(line: str) -> bytes:
    """A message as written, `|` for SOH, ends and all."""
    return line.replace("|", SOH).encode("latin-1")


def is_sound(message: bytes) -> bool:
    """Whether BeginString, BodyLength and CheckSum of one message are right, read the slow way."""
    if not message.startswith(b"8=FIX") or not message.endswith(b"\x01"):
        return False
    parts = message.split(b"\x01", 2)
    if len(parts) != 3 or not parts[1].startswith(b"9=") or not parts[1][2:].isdigit():
        return False
    rest = parts[2]
    if len(rest) < 7 or rest[-7:-4] != b"10=" or not rest[-4:-1].isdigit():
        return False
    return int(parts[1][2:]) == len(rest) - 7 and int(rest[-4:-1]) == sum(message[:-7]) % 256


def fields(message: bytes) -> list[tuple[int, str]]:
    """Tag and value of every field of a message without data fields."""
    pairs = (part.split(b"=", 1) for part in message.split(b"\x01")[:-1])
    return [(int(tag), value.decode("latin-1")) for tag, value in pairs]


def value(message: bytes, tag: int) -> str | None:
    """First value of a tag."""
    return next((v for t, v in fields(message) if t == tag), None)


def snapshot(entries: Iterable[str], symbol: str = "1", seq: int = 2, head: str = "") -> bytes:
    """A W with the given entries, each written `269=…|270=…|…`."""
    rows = list(entries)
    body = "".join(row if row.endswith("|") else row + "|" for row in rows)
    return framed(
        f"35=W|34={seq}|49=cServer|50=QUOTE|52=20230124-13:30:46.025|56=demo.broker.1|{head}"
        f"55={symbol}|268={len(rows)}|{body}"
    )


def incremental(entries: Iterable[str], seq: int = 3, head: str = "", sender: str = "cServer") -> bytes:
    """An X with the given entries, each written `279=…|269=…|…`."""
    rows = list(entries)
    body = "".join(row if row.endswith("|") else row + "|" for row in rows)
    return framed(
        f"35=X|34={seq}|49={sender}|50=QUOTE|52=20230124-13:30:46.130|56=demo.broker.1|{head}"
        f"268={len(rows)}|{body}"
    )
