"""A recording written as LOBSTER's pair of files: messages, and the book after each."""

from pathlib import Path

import numpy as np

from emp.access.recordings.container import Item
from emp.access.recordings.lobster import midnight_ns
from emp.access.recordings.scan import ABSENT
from emp.core.errors import UsageError
from emp.core.records import Array
from emp.core.sessions import DAY_NS
from emp.sim.book.book import BUY
from emp.sim.tape.recording import Recording

UNITS = 1e4
"""LOBSTER's prices are whole 1/10,000 of the currency."""

_SECOND = 10**9


def opening_ns(messages: Path, second: int = 34_200) -> int:
    """UTC ns of a second of the New York day that the message file's name tells (half past nine).

    Raises `UsageError` where the name cannot be a message file's, `DataError` where it carries no date.
    """
    if "message" not in messages.name:
        raise UsageError(f"{messages}: a LOBSTER file is named like XYZ_2024-01-02_message_10.csv")
    return midnight_ns(Item(messages)) + second * _SECOND


def save_lobster(made: Recording, messages: Path) -> Path:
    """Write the message file, and the orderbook file beside it (`message` in its name replaced); return that path.

    Columns and units are those of LOBSTER's read-me: time in s after midnight with nine decimals, price in 1/10,000,
    direction of the resting order, levels as ask price, ask size, bid price, bid size; a level that does not exist has
    the price 9999999999 (ask) or -9999999999 (bid) and the size 0.
    """
    if made.book is None:
        raise UsageError(f"{made.name}: has no book to write beside its messages")
    since = made.msgs["ts"] - opening_ns(messages, 0)
    if len(since) and not 0 <= since.min() <= since.max() < DAY_NS:
        raise UsageError(f"{messages}: the messages do not lie within one day: ask for fewer events")
    unit = round(made.tick * UNITS)
    book = made.book.copy()
    px = book[:, 0::2]
    gone = px == 0
    px *= unit
    px[gone] = np.broadcast_to(np.tile([ABSENT, -ABSENT], px.shape[1] // 2), px.shape)[gone]
    direction = np.where(made.msgs["side"] == BUY, 1, -1)
    whole, rest = np.divmod(since, _SECOND)
    rows = zip(
        whole.tolist(),
        rest.tolist(),
        made.msgs["kind"].tolist(),
        made.msgs["handle"].tolist(),
        made.msgs["qty"].tolist(),
        (made.msgs["px"] * unit).tolist(),
        direction.tolist(),
        strict=True,
    )
    messages.parent.mkdir(parents=True, exist_ok=True)
    with messages.open("w") as file:
        file.writelines(f"{s}.{ns:09d},{k},{o},{q},{p},{d}\n" for s, ns, k, o, q, p, d in rows)
    beside = messages.with_name(messages.name.replace("message", "orderbook"))
    _save_table(book, beside)
    return beside


def _save_table(table: Array, path: Path) -> None:
    with path.open("w") as file:
        file.writelines(",".join(map(str, row)) + "\n" for row in table.tolist())
