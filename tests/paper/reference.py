"""A second paper venue, slow and plain: each price has an explicit line of people, us among them."""

from dataclasses import dataclass, field
from typing import Any

import msgspec

from emp.core.codes import EventFlag, OrderStatus
from emp.core.contracts import CancelOrder, Command, NewOrder, OrderUpdate, Replace
from emp.core.instrument import Instrument

S = OrderStatus
UNSEEN = 10**15


@dataclass
class Mine:
    order: NewOrder
    place: int
    filled: int = 0
    last: int = 0
    status: OrderStatus = S.PENDING_NEW

    @property
    def left(self) -> int:
        return self.order.qty - self.filled


@dataclass
class Line:
    """A queue at one price: strangers' lots (int) and our orders, front first."""

    places: list[Any] = field(default_factory=list)

    def strangers_before(self, mine: Mine) -> int:
        total = 0
        for place in self.places:
            if place is mine:
                return total
            total += place if isinstance(place, int) else 0
        raise AssertionError

    def join(self, mine: Mine, strangers: int) -> None:
        known = sum(p for p in self.places if isinstance(p, int))
        self.places += [max(0, strangers - known), mine]
        self.limit(strangers)

    def limit(self, strangers: int) -> None:
        for i, place in enumerate(self.places):
            if isinstance(place, int):
                self.places[i] = min(place, strangers)
                strangers -= self.places[i]

    def trade(self, lots: int) -> dict[str, int]:
        got: dict[str, int] = {}
        for i, place in enumerate(self.places):
            eaten = min(lots, place if isinstance(place, int) else place.left)
            lots -= eaten
            if isinstance(place, int):
                self.places[i] = place - eaten
            elif eaten:
                got[place.order.cl_ord_id] = eaten
        return got


class SlowVenue:
    def __init__(self, instrument: Instrument, entry_ns: int, report_ns: int) -> None:
        self.instrument, self.entry, self.delay = instrument, entry_ns, report_ns
        self.coming: list[tuple[int, int, Command, str]] = []
        self.orders: dict[str, Mine] = {}  # by the first id
        self.ids: dict[str, str] = {}  # every id -> the first
        self.lines: dict[tuple[int, int], Line] = {}
        self.outbox: list[OrderUpdate] = []
        self.count = self.execs = 0
        self.halted = False
        self.met: dict[str, int] = {}

    def send(self, command: Command) -> None:
        self.count += 1
        if isinstance(command, NewOrder):
            self.ids[command.cl_ord_id] = command.cl_ord_id
        named = command.orig if isinstance(command, CancelOrder | Replace) else command.cl_ord_id
        first = self.ids.get(named, "")
        if isinstance(command, Replace) and first:
            self.ids[command.cl_ord_id] = first
        self.coming.append((command.ts + self.entry, self.count, command, first))

    def tell(
        self, name: str, mine: Mine | None, status: OrderStatus, ts: int, text: str = "", **more: Any
    ) -> None:
        self.execs += 1
        if mine is not None:
            mine.status = status
        fields: dict[str, Any] = {
            "clOrdID": name,
            "execID": f"P{self.execs}",
            "status": status,
            "filled": mine.filled if mine else 0,
            "price": (mine.last if mine.filled else mine.order.px) if mine else 0,
            "ts": ts,
            "instrument": self.instrument.name,
            "side": mine.order.side if mine else 0,
            "leaves": mine.left if mine and status in (S.NEW, S.PARTIALLY_FILLED) else 0,
            "text": text,
        }
        self.outbox.append(OrderUpdate(**(fields | more)))

    def fill(self, mine: Mine, lots: int, px: int, ts: int, maker: bool, ahead: int = -1) -> None:
        mine.filled += lots
        mine.last = px
        rate = self.instrument.maker_fee if maker else self.instrument.taker_fee
        status = S.PARTIALLY_FILLED if mine.left else S.FILLED
        shown = -1 if ahead >= UNSEEN // 2 else ahead
        self.tell(mine.order.cl_ord_id, mine, status, ts, fee=lots * rate, maker=maker, queue_ahead=shown)
        if not mine.left:
            self.leave(mine)

    def leave(self, mine: Mine) -> None:
        line = self.lines.get((mine.order.side, mine.order.px))
        if line and any(p is mine for p in line.places):
            line.places = [p for p in line.places if p is not mine]

    def arrive(self, ts: int, place: int, command: Command, first: str, book: Any) -> None:
        if isinstance(command, NewOrder):
            self.arrive_new(ts, place, command, book)
            return
        mine = self.orders.get(first)
        if not isinstance(command, CancelOrder | Replace):
            if mine is None:
                self.tell(command.cl_ord_id, None, S.REJECTED, ts, "unknown order")
            else:
                self.tell(mine.order.cl_ord_id, mine, mine.status, ts)
        elif mine is None or mine.status.terminal or mine.status is S.PENDING_NEW:
            self.refuse(command, "too late: the order has ended", ts)
        elif isinstance(command, Replace):
            self.arrive_replace(ts, place, command, mine, first, book)
        else:
            self.leave(mine)
            self.tell(mine.order.cl_ord_id, mine, S.CANCELED, ts)

    def refuse(self, command: CancelOrder | Replace, text: str, ts: int) -> None:
        if isinstance(command, Replace):
            self.ids.pop(command.cl_ord_id, None)
        side = command.side if isinstance(command, Replace) else 0
        self.tell(command.cl_ord_id, None, S.REJECTED, ts, text, side=side, price=getattr(command, "px", 0))

    def arrive_replace(
        self, ts: int, place: int, command: Replace, mine: Mine, first: str, book: Any
    ) -> None:
        old = mine.order
        if command.qty <= mine.filled:
            self.refuse(command, "too late: the order has ended", ts)
        elif self.halted:
            self.refuse(command, "the market is halted", ts)
        elif any(px * command.side <= command.px * command.side for px, _ in sides(book)[-command.side]):
            self.refuse(command, "post-only order would take", ts)
        else:
            keeps = command.px == old.px and command.qty <= old.qty
            if not keeps:
                self.leave(mine)
            changed = {"cl_ord_id": command.cl_ord_id, "px": command.px, "qty": command.qty}
            mine.order = msgspec.structs.replace(old, **changed)
            seen = seen_at(book, command.side, command.px)
            if keeps:
                ahead = self.lines[command.side, command.px].strangers_before(mine)
            else:
                ahead = UNSEEN if seen is None else seen
                mine.place = place
                self.met.pop(first, None)
                self.lines.setdefault((command.side, command.px), Line()).join(mine, ahead)
            status = S.PARTIALLY_FILLED if mine.filled else S.NEW
            shown = -1 if ahead >= UNSEEN // 2 else ahead
            self.tell(command.cl_ord_id, mine, status, ts, queue_ahead=shown, replacement=command.cl_ord_id)

    def arrive_new(self, ts: int, place: int, command: NewOrder, book: Any) -> None:
        mine = self.orders[command.cl_ord_id] = Mine(command, place)
        if self.halted:
            self.tell(command.cl_ord_id, mine, S.REJECTED, ts, "the market is halted")
            return
        levels = sides(book)[-command.side]
        reachable = [(px, sz) for px, sz in levels if px * command.side <= command.px * command.side]
        if command.immediate:
            for px, size in reachable:
                lots = mine.left if sizeless(book) else min(size, mine.left)
                if lots:
                    self.fill(mine, lots, px, ts, maker=False)
            if mine.left:
                self.tell(command.cl_ord_id, mine, S.CANCELED, ts, "immediate order: the rest is cancelled")
        elif reachable:
            self.tell(command.cl_ord_id, mine, S.REJECTED, ts, "post-only order would take")
        else:
            seen = seen_at(book, command.side, command.px)
            ahead = UNSEEN if seen is None else seen
            self.lines.setdefault((command.side, command.px), Line()).join(mine, ahead)
            self.tell(command.cl_ord_id, mine, S.NEW, ts, queue_ahead=-1 if seen is None else seen)

    def step(self, before: Any, event: Any) -> list[OrderUpdate]:
        now = int(event["ts"])
        for entry in sorted(c for c in self.coming if c[0] < now):
            self.coming.remove(entry)
            self.arrive(*entry, before)
        if event["flags"] & EventFlag.HALT:
            self.halted = True
        self.happen(before, event, now)
        if event["flags"] & EventFlag.RESUME:
            self.halted = False
        due = [u for u in self.outbox if u.ts + self.delay <= now]
        self.outbox = [u for u in self.outbox if u.ts + self.delay > now]
        return due

    def happen(self, before: Any, event: Any, now: int) -> None:
        """Strangers behind us at a swept price are gone with it, so a sweep needs no line: only who was before us."""
        sign = int(event["trade_qty"]) if event["flags"] & EventFlag.TRADE else 0
        still = bool(self.halted or event["flags"] & EventFlag.AUCTION)
        plan: dict[str, tuple[int, int]] = {}
        for (side, px), line in self.lines.items():
            mine_here = [p for p in line.places if not isinstance(p, int)]
            ahead = {m.order.cl_ord_id: line.strangers_before(m) for m in mine_here}
            got: dict[str, int] = {}
            if not still:
                against = sign * side < 0
                if against and int(event["trade_px"]) == px:
                    got = line.trade(int(event["trade_qty_last"]))
                swept = against and int(event["trade_px"]) * side < px * side
                first = 0
                for m in mine_here:
                    name = m.order.cl_ord_id
                    reach = self.quoted(self.ids[name], event, side, px, m.left) - (
                        0 if sizeless(event) else first
                    )
                    if swept:
                        better = sum(s for p, s in sides(before)[side] if p * side > px * side)
                        whole = abs(sign) - better - ahead[name]
                        reach = max(reach, max(int(event["trade_qty_last"]), whole) - first)
                    lots = min(m.left, max(reach, got.get(name, 0), 0))
                    if lots:
                        got[name] = lots
                    first += m.left
            plan |= {name: (lots, ahead[name]) for name, lots in got.items()}
            seen = seen_at(event, side, px)
            if seen is not None:
                line.limit(seen)
        for mine in sorted(self.orders.values(), key=lambda m: m.place):
            name = mine.order.cl_ord_id
            if name in plan:
                self.fill(mine, plan[name][0], mine.order.px, now, maker=True, ahead=plan[name][1])

    def quoted(self, name: str, event: Any, side: int, px: int, left: int) -> int:
        """Lots newly shown beyond our price on the other side; without sizes the quote is enough for all."""
        beyond = [s for p, s in sides(event)[-side] if p * side < px * side]
        if sizeless(event):
            return left if beyond else 0
        shown, had = sum(beyond), self.met.get(name, 0)
        self.met[name] = shown
        return max(0, shown - had)


def sides(event: Any) -> dict[int, list[tuple[int, int]]]:
    """Levels by side: +1 bids, -1 asks; best first."""
    bids, asks = int(event["n_bid"]), int(event["n_ask"])
    return {
        1: [(int(p), int(s)) for p, s in zip(event["bid_px"][:bids], event["bid_sz"][:bids], strict=True)],
        -1: [(int(p), int(s)) for p, s in zip(event["ask_px"][:asks], event["ask_sz"][:asks], strict=True)],
    }


def sizeless(event: Any) -> bool:
    return bool(event["flags"] & EventFlag.NO_SIZE)


def seen_at(event: Any, side: int, px: int) -> int | None:
    levels = sides(event)[side]
    if sizeless(event) or not levels or px * side < levels[-1][0] * side:
        return None
    return dict(levels).get(px, 0)
