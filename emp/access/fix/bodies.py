"""Bodies of what leaves about orders: new, cancel, replace, status, mass status, positions."""

from collections.abc import Mapping

from emp.access.fix.dialect import Dialect
from emp.access.fix.reports import Order
from emp.access.fix.text import Scale, Stamp
from emp.core.contracts import CancelOrder, NewOrder, QueryOrder, Replace


class Bodies:
    """Writes the fields after the header of each message; `known` is what has been told of the order it is about."""

    def __init__(
        self,
        scales: Mapping[str, Scale],
        symbols: Mapping[str, bytes],
        dialect: Dialect,
        account: str,
        sender: str,
    ) -> None:
        self._dialect = dialect
        self._scales = scales
        self._symbols = symbols
        self._party = account or sender
        self._account = f"1={account}\x01".encode() if account else b""
        self._stamp = Stamp(dialect.stamp_digits)
        self._templates = {
            (name, side, immediate): self._template(name, side, immediate)
            for name in scales
            for side in (1, -1)
            for immediate in (False, True)
        }

    def new(self, order: NewOrder) -> bytes:
        """35=D."""
        template, lot, step, unit = self._templates[order.instrument, order.side, order.immediate]
        name, stamp = order.cl_ord_id.encode(), self._stamp(order.ts)
        if unit and order.px >= 0:
            whole, rest = divmod(order.px * step, unit)
            return template % (name, stamp, order.qty * lot, whole, rest)
        return self._odd(order, name, stamp)

    def _odd(self, order: NewOrder, name: bytes, stamp: bytes) -> bytes:
        """35=D of an instrument whose lots have decimals, whose ticks have none, or at a price below zero."""
        scale = self._scales[order.instrument]
        text = self._text(order.instrument, order.side, order.immediate, b"%s", b"%s")
        return text % (name, stamp, scale.qty(order.qty), scale.px(order.px))

    def cancel(self, cancel: CancelOrder, known: Order | None) -> bytes:
        """35=F."""
        body = b"41=%s\x0111=%s\x01" % (cancel.orig.encode(), cancel.cl_ord_id.encode())
        if known is not None and known.venue_id:
            body += b"37=%s\x01" % known.venue_id.encode()
        if self._dialect.full_cancel:
            body += self._account + self._instrument(cancel.instrument)
            side, qty = (known.side, known.qty) if known is not None else (1, 0)
            quantity = self._scales[cancel.instrument].qty(qty)
            body += b"54=%c\x0160=%s\x0138=%s\x01" % (
                49 if side > 0 else 50,
                self._stamp(cancel.ts),
                quantity,
            )
        return body

    def replace(self, order: Replace, known: Order | None) -> bytes:
        """35=G."""
        scale = self._scales[order.instrument]
        body = b"41=%s\x0111=%s\x01" % (order.orig.encode(), order.cl_ord_id.encode())
        if known is not None and known.venue_id:
            body += b"37=%s\x01" % known.venue_id.encode()
        if self._dialect.full_cancel:
            side = 49 if order.side > 0 else 50
            body += self._account + self._instrument(order.instrument)
            body += b"54=%c\x0160=%s\x0140=2\x01" % (side, self._stamp(order.ts))
        return body + b"38=%s\x0144=%s\x01" % (scale.qty(order.qty), scale.px(order.px))

    def query(self, query: QueryOrder, known: Order | None) -> bytes:
        """35=H."""
        body = b"11=%s\x01" % query.cl_ord_id.encode()
        side = known.side if known is not None else 1
        if self._dialect.full_cancel:
            body += self._account + self._instrument(query.instrument)
        return body + b"54=%c\x01" % (49 if side > 0 else 50)

    def mass_status(self, request: str) -> bytes:
        """Body of an OrderMassStatusRequest for all our orders."""
        return f"584={request}\x01585=7\x01".encode()

    def positions(self, request: str, now_ns: int) -> bytes:
        """Body of a RequestForPositions."""
        body = f"710={request}\x01"
        if self._dialect.full_positions:
            stamp = self._stamp(now_ns).decode()
            body += f"724=0\x01453=1\x01448={self._party}\x01447=D\x01452=3\x011={self._party}\x01581=1\x01"
            body += f"715={stamp[:8]}\x0160={stamp}\x01"
        return body.encode()

    def _instrument(self, name: str) -> bytes:
        symbol = self._symbols[name]
        if self._dialect.symbol_tag == 55:
            return b"55=%s\x01" % symbol
        return b"55=[N/A]\x0148=%s\x0122=8\x01" % symbol

    def _template(self, name: str, side: int, immediate: bool) -> tuple[bytes, int, int, int]:
        """A NewOrderSingle of whole lots and of ticks with decimals, with room for its id, time, quantity, and the
        two parts of its price; also the units of a lot, the steps of a tick and of a whole price. All 0 for others.
        """
        scale = self._scales[name]
        if scale.lot_decimals or not scale.px_decimals:
            return b"", 0, 0, 0
        text = self._text(name, side, immediate, b"%d", b"%%d.%%0%dd" % scale.px_decimals)
        return text, scale.lot_step, scale.px_step, 10**scale.px_decimals

    def _text(self, name: str, side: int, immediate: bool, qty: bytes, px: bytes) -> bytes:
        """A NewOrderSingle with room for what differs between orders; `qty` and `px` are how those are written."""
        fixed = self._account + self._instrument(name) + (b"54=1\x01" if side > 0 else b"54=2\x01")
        body = b"11=%s\x01" + fixed.replace(b"%", b"%%")
        body += b"60=%s\x0138=" + qty + b"\x0140=2\x0144=" + px + b"\x01"
        if not immediate:
            body += self._dialect.post_only.replace("|", "\x01").encode()
        if self._dialect.time_in_force:
            body += b"59=3\x01" if immediate else b"59=1\x01"
        return body
