"""Bodies of what a FIX venue says: snapshots, changes and reports, made from rows and updates."""

from collections.abc import Mapping
from decimal import Decimal

import msgspec

from emp.access.fix.dialect import Dialect
from emp.access.fix.message import Message
from emp.access.fix.text import Scale, Stamp
from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import NewOrder, OrderUpdate, VenuePosition
from emp.core.records import Array

CODES: Mapping[OrderStatus, tuple[str, str]] = {
    OrderStatus.PENDING_NEW: ("A", "A"),
    OrderStatus.NEW: ("0", "0"),
    OrderStatus.PARTIALLY_FILLED: ("F", "1"),
    OrderStatus.FILLED: ("F", "2"),
    OrderStatus.PENDING_CANCEL: ("6", "6"),
    OrderStatus.CANCELED: ("4", "4"),
    OrderStatus.REPLACED: ("5", "5"),
    OrderStatus.REJECTED: ("8", "8"),
    OrderStatus.EXPIRED: ("C", "C"),
    OrderStatus.UNKNOWN: ("I", "A"),
    OrderStatus.PENDING_REPLACE: ("E", "E"),
}
"""ExecType (150) and OrdStatus (39) of a status."""

Level = tuple[int, int]


class Quote:
    """One instrument as one subscriber sees it: whole snapshots, or changes of entries named by id.

    A W of FIX 4.4 names no entries; only where changes follow, as at cTrader, does it carry their ids.
    """

    def __init__(self, scale: Scale, symbol: str, dialect: Dialect, request: str) -> None:
        self._scale = scale
        self._dialect = dialect
        self._stamp = Stamp(9)
        named = f"{dialect.symbol_tag}={symbol}\x01" + ("22=8\x01" if dialect.symbol_tag == 48 else "")
        self._symbol = named.encode()
        self._request = f"262={request}\x01".encode() if request else b""
        self._changes = dialect.incremental is True and dialect.name == "ctrader"
        self._entries: dict[tuple[int, int], tuple[int, int]] = {}  # (side, price) -> (id, size)
        self._next_id = 1
        self._begun = False

    def message(self, row: Array) -> tuple[bytes, bytes]:
        """(MsgType, body) that brings the subscriber to this row; an empty type when nothing changed."""
        if self._changes and self._begun:
            return self._change(row)
        self._begun = True
        return b"W", self._snapshot(row)

    def _snapshot(self, row: Array) -> bytes:
        sized = not row["flags"] & int(EventFlag.NO_SIZE)
        when = b""
        if self._dialect.entry_time:  # the first entry alone carries it
            stamp = self._stamp(int(row["ts"]))
            when = b"272=%s\x01273=%s\x01" % (stamp[:8], stamp[9:])
        entries: list[bytes] = []
        self._entries.clear()
        for side, px, size in _levels(row):
            text = b"269=%d\x01270=%s\x01" % (side, self._scale.px(px))
            if sized:
                text += b"271=%s\x01" % self._scale.qty(size)
            if not entries:
                text += when
            if self._changes:
                text += b"278=%d\x01" % self._next_id
            entries.append(text)
            self._entries[side, px] = self._next_id, size
            self._next_id += 1
        if self._dialect.aggressor_tag:
            entries += self._trades(row, b"" if entries else when)
        body = self._request + self._symbol
        if self._dialect.seq_tag:
            body += b"%d=%d\x01" % (self._dialect.seq_tag, row["seq"])
        return body + b"268=%d\x01" % len(entries) + b"".join(entries)

    def _trades(self, row: Array, when: bytes) -> list[bytes]:
        """The event's trade; the part of a sweep before its last price is told one tick better than that."""
        total, last = int(row["trade_qty"]), int(row["trade_qty_last"])
        if not row["flags"] & int(EventFlag.TRADE):
            return []
        side, px = (1 if total > 0 else 2), int(row["trade_px"])
        parts = [(px - (3 - 2 * side), abs(total) - last), (px, last)]
        return [
            b"269=2\x01270=%s\x01271=%s\x01%s%d=%d\x01"
            % (self._scale.px(at), self._scale.qty(qty), when, self._dialect.aggressor_tag, side)
            for at, qty in parts
            if qty > 0
        ]

    def _change(self, row: Array) -> tuple[bytes, bytes]:
        """New entries first, then deletes that name nothing but their id, as cTrader sends them."""
        wanted = {(side, px): size for side, px, size in _levels(row)}
        entries = []
        gone = [entry for key, entry in self._entries.items() if wanted.get(key) != entry[1]]
        kept = {key: entry for key, entry in self._entries.items() if wanted.get(key) == entry[1]}
        for (side, px), size in wanted.items():
            if (side, px) not in kept:
                entries.append(
                    b"279=0\x01269=%d\x01278=%d\x01%s270=%s\x01271=%s\x01"
                    % (side, self._next_id, self._symbol, self._scale.px(px), self._scale.qty(size))
                )
                kept[side, px] = self._next_id, size
                self._next_id += 1
        entries += [b"279=2\x01278=%d\x01%s" % (name, self._symbol) for name, _ in gone]
        self._entries = kept
        if not entries:
            return b"", b""
        return b"X", b"268=%d\x01" % len(entries) + b"".join(entries)


def _levels(row: Array) -> list[tuple[int, int, int]]:
    """(side, price, size) of every level, bids first."""
    bids = [(0, int(row["bid_px"][i]), int(row["bid_sz"][i])) for i in range(row["n_bid"])]
    return bids + [(1, int(row["ask_px"][i]), int(row["ask_sz"][i])) for i in range(row["n_ask"])]


class Told(msgspec.Struct):
    """What a client has been told of one of its orders."""

    order: NewOrder
    venue_id: str
    filled: int = 0
    cost: int = 0  # ticks times lots
    status: OrderStatus = OrderStatus.PENDING_NEW
    market_id: str = ""  # the id that the market behind the venue knows it by
    cancel: str = ""  # id of the newest cancel
    replaced: str = ""  # id that it had before the newest replacement
    takes: bool = False  # it rests where it does not cross, and takes where it does
    taking: bool = False  # its leg at the market is an immediate one
    legs: int = 0  # legs that have ended
    before: int = 0  # lots that they have filled


def execution(
    told: Told, update: OrderUpdate, scale: Scale, symbol: str, dialect: Dialect, kind: str = ""
) -> bytes:
    """Body of an ExecutionReport; `told` moves on to what the update says. `kind` is its ExecType, if given."""
    order = told.order
    last = update.filled - told.filled
    usual, status = CODES[update.status]
    kind = kind or ("I" if usual == "F" and last <= 0 else usual)
    if update.correction:  # a trade is taken back, or was at another price: what stands is said
        kind, told.cost = "H" if last < 0 else "G", round(update.filled * update.average)
    told.cost += max(last, 0) * update.price
    # a report that comes behind a later one takes nothing back: what it had cost would be added up again
    told.filled = update.filled if update.correction else max(told.filled, update.filled)
    told.status = update.status
    named = order.cl_ord_id
    body = f"37={told.venue_id}|"
    if told.cancel and kind == "4":
        body += f"41={named}|"
        named = told.cancel
    elif kind == "5":
        body += f"41={told.replaced}|"
    body += f"11={named}|150={kind}|39={status}|{dialect.symbol_tag}={symbol}|54={'1' if order.side > 0 else '2'}|"
    if dialect.exec_id:
        body += f"17={update.execID}|"
    body += f"38={scale.qty(order.qty).decode()}|40=2|44={scale.px(order.px).decode()}|"
    body += f"14={scale.qty(update.filled).decode()}|151={scale.qty(update.leaves).decode()}|"
    body += f"6={_average(told, scale) if update.filled else 0}|"
    if last > 0:
        body += f"32={scale.qty(last).decode()}|"
        if dialect.exec_id:
            body += f"31={scale.px(update.price).decode()}|851={1 if update.maker else 2}|"
    if update.fee and dialect.fee_tag:
        body += f"{dialect.fee_tag}={Decimal(repr(update.fee)):f}|"
    elif update.fee and dialect.exec_id:
        money = update.fee * scale.instrument.tick * scale.instrument.point_value
        body += f"12={money:.12f}|13=3|"
    if dialect.queue_tag and update.queue_ahead >= 0:
        body += f"{dialect.queue_tag}={update.queue_ahead}|"
    if dialect.position_id:
        body += "721=1|"
    if update.text:
        body += f"58={update.text.replace('|', '/')}|"
    stamp = Stamp(dialect.stamp_digits)(update.ts)
    return body.replace("|", "\x01").encode() + b"60=%s\x01" % stamp


def refusal(message: Message, reason: int, text: str, number: int, dialect: Dialect, now: bytes) -> bytes:
    """Body of the ExecutionReport that refuses a new order; what the order lacks is filled in."""
    side = message.text(54)
    side = side if side in ("1", "2") else "7"  # 7: undisclosed
    body = f"37=NONE|11={message.text(11, 'NONE')}|17=R{number}|150=8|39=8|103={reason}|54={side}|"
    symbol = message.text(dialect.symbol_tag, "[N/A]")
    body += f"55={symbol}|" if dialect.symbol_tag == 55 else f"55=[N/A]|48={symbol}|22=8|"
    body += f"14=0|151=0|6=0|58={text.replace('|', '/')}|"
    return body.replace("|", "\x01").encode("latin-1") + b"60=%s\x01" % now


def change_refused(told: Told | None, update: OrderUpdate, orig: str, asked: int) -> bytes:
    """Body of 35=9; `asked` is CxlRejResponseTo (434): 1 a cancel, 2 a replacement."""
    status = "8" if told is None else CODES[told.status][1]
    venue_id = told.venue_id if told is not None else "NONE"
    why = 1 if told is None else 0
    text = update.text or "too late"
    return (
        f"37={venue_id}\x0111={update.clOrdID}\x0141={orig}\x0139={status}\x01434={asked}\x01102={why}\x0158={text}\x01"
    ).encode()


def _average(told: Told, scale: Scale) -> str:
    if told.filled == 0:
        return "0"
    return f"{told.cost / told.filled * scale.instrument.tick:.10f}"


def position(
    held: VenuePosition, scale: Scale, symbol: str, dialect: Dialect, request: str, total: int, day: str
) -> bytes:
    """Body of a PositionReport for one instrument."""
    body = f"710={request}|721={symbol}|727={total}|728=0|{dialect.symbol_tag}={symbol}|"
    average = f"{held.avg_px * scale.instrument.tick:.10f}"
    if dialect.full_positions:
        body += f"715={day}|453=1|448=ME|447=D|452=3|1=ME|581=1|730={average}|731=1|734={average}|"
    long, short = (scale.qty(max(q, 0)).decode() for q in (held.qty, -held.qty))
    body += f"702=1|{'703=TOT|' if dialect.full_positions else ''}704={long}|705={short}|"
    if dialect.full_positions:
        body += "753=1|707=FMTM|708=0|"
    else:
        body += f"730={average}|"
    return body.replace("|", "\x01").encode()
