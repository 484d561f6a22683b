"""A limit order book that is slow and obviously right: sorted scans over one list of orders."""

from dataclasses import dataclass, field

from emp.sim.book import book as eb


@dataclass
class Order:
    tag: int
    side: int
    px: int
    qty: int
    owner: int
    stamp: int


@dataclass
class ReferenceBook:
    lo: int
    hi: int
    stp: int
    replace_rule: int
    phase: int = eb.CONTINUOUS
    orders: dict[int, Order] = field(default_factory=dict)
    stamps: int = 0
    fills: list[tuple[int, ...]] = field(default_factory=list)

    def queue(self, side: int) -> list[Order]:
        """Orders of a side, best first: price, then time."""
        sign = -1 if side == eb.BUY else 1
        return sorted(
            (o for o in self.orders.values() if o.side == side), key=lambda o: (sign * o.px, o.stamp)
        )

    def best(self, side: int) -> int:
        prices = [o.px for o in self.orders.values() if o.side == side]
        if side == eb.BUY:
            return max(prices, default=self.lo)
        return min(prices, default=self.hi)

    def levels(self, side: int) -> list[tuple[int, int]]:
        sums: dict[int, int] = {}
        for o in self.queue(side):
            sums[o.px] = sums.get(o.px, 0) + o.qty
        return list(sums.items())

    def reachable(self, side: int, px: int) -> list[Order]:
        other = self.queue(1 - side)
        return [o for o in other if (o.px <= px if side == eb.BUY else o.px >= px)]

    def can_fill(self, side: int, px: int, qty: int, owner: int) -> bool:
        found = 0
        for o in self.reachable(side, px):
            own = owner != 0 and o.owner == owner and self.stp != eb.STP_NONE
            if own and self.stp != eb.STP_CANCEL_OLD:
                return False
            found += 0 if own else o.qty
            if found >= qty:
                return True
        return False

    def submit(self, side: int, px: int, qty: int, kind: int, owner: int, tag: int) -> tuple[int, int]:
        """Return (status, lots filled)."""
        auction = self.phase == eb.AUCTION
        if kind == eb.MARKET:
            px = self.hi - 1 if side == eb.BUY else self.lo + 1
        if qty <= 0:
            return eb.BAD_QTY, 0
        if not self.lo < px < self.hi:
            return eb.BAD_PRICE, 0
        if self.phase == eb.HALTED or (auction and kind in (eb.IOC, eb.FOK, eb.POST_ONLY)):
            return eb.BAD_PHASE, 0
        if not auction and kind == eb.POST_ONLY and self.reachable(side, px):
            return eb.BAD_POST, 0
        if not auction and kind == eb.FOK and not self.can_fill(side, px, qty, owner):
            return eb.BAD_FOK, 0
        if auction and kind == eb.MARKET:
            px = self.hi if side == eb.BUY else self.lo
        filled, left = 0, qty
        if not auction:
            filled, left = self.trade(side, px, qty, owner, tag)
        if left == 0:
            return (eb.OK_FILLED if filled == qty else eb.OK_EXPIRED), filled
        if not auction and kind not in (eb.LIMIT, eb.POST_ONLY):
            return eb.OK_EXPIRED, filled
        self.stamps += 1
        self.orders[tag] = Order(tag, side, px, left, owner, self.stamps)
        return eb.OK_RESTING, filled

    def trade(self, side: int, px: int, qty: int, owner: int, tag: int) -> tuple[int, int]:
        left, filled, level, ahead = qty, 0, None, 0
        for maker in self.reachable(side, px):
            if left == 0:
                break
            if maker.px != level:
                level, ahead = maker.px, 0
            if owner != 0 and maker.owner == owner and self.stp != eb.STP_NONE:
                if self.stp == eb.STP_CANCEL_NEW:
                    return filled, 0
                if self.stp == eb.STP_CANCEL_OLD:
                    del self.orders[maker.tag]
                    continue
                both = min(maker.qty, left)
                left -= both
                self.lower(maker, both)
                continue
            take = min(maker.qty, left)
            left -= take
            filled += take
            self.lower(maker, take)
            if owner or maker.owner:
                row = (maker.owner, maker.tag, owner, tag, side, maker.px, take, maker.qty, ahead)
                self.fills.append(row)
            ahead += take
        return filled, left

    def lower(self, order: Order, by: int) -> None:
        order.qty -= by
        if order.qty == 0:
            del self.orders[order.tag]

    def cancel(self, tag: int) -> tuple[int, int]:
        if tag not in self.orders:
            return eb.BAD_HANDLE, 0
        del self.orders[tag]
        return eb.OK_CANCELLED, 0

    def reduce(self, tag: int, by: int) -> tuple[int, int]:
        if by <= 0:
            return eb.BAD_QTY, 0
        if tag not in self.orders:
            return eb.BAD_HANDLE, 0
        gone = by >= self.orders[tag].qty
        self.lower(self.orders[tag], min(by, self.orders[tag].qty))
        return (eb.OK_CANCELLED if gone else eb.OK_REDUCED), 0

    def replace(self, tag: int, px: int, qty: int) -> tuple[int, int]:
        order = self.orders.get(tag)
        if order is None:
            return eb.BAD_HANDLE, 0
        if self.phase == eb.HALTED:
            return eb.BAD_PHASE, 0
        if qty <= 0:
            return eb.BAD_QTY, 0
        if not self.lo < px < self.hi:
            return eb.BAD_PRICE, 0
        if self.replace_rule == eb.REPLACE_KEEPS and px == order.px and qty <= order.qty:
            order.qty = qty
            return eb.OK_REDUCED, 0
        del self.orders[tag]
        return self.submit(order.side, px, qty, eb.LIMIT, order.owner, tag)

    def uncross(self, reference: int) -> tuple[int, int]:
        """Try every price; return (price, volume)."""
        best: tuple[tuple[int, ...], int, int] | None = None
        for px in range(self.lo + 1, self.hi):
            demand = sum(o.qty for o in self.orders.values() if o.side == eb.BUY and o.px >= px)
            supply = sum(o.qty for o in self.orders.values() if o.side == eb.SELL and o.px <= px)
            volume = min(demand, supply)
            if volume == 0:
                continue
            best_so_far = best[0] if best else None
            rank = (volume, -abs(demand - supply))
            if best_so_far is None or rank > best_so_far[:2]:
                best = (*[rank], px, demand - supply)  # type: ignore[assignment]
            elif rank == best_so_far[:2]:
                old = best[2]  # type: ignore[index]
                new = demand - supply
                both_buy, both_sell = old > 0 and new > 0, old < 0 and new < 0
                nearer = abs(px - reference) < abs(best[1] - reference)  # type: ignore[index]
                if both_buy or (not both_sell and nearer):
                    best = (rank, px, new)
        if best is None:
            self.phase = eb.CONTINUOUS
            self.drop_market_orders()
            return reference, 0
        px, volume = best[1], best[0][0]
        limits = any(self.lo < o.px < self.hi for o in self.orders.values())
        if not limits:
            px = reference
        for side in (eb.BUY, eb.SELL):
            left = volume
            for order in self.queue(side):
                take = min(left, order.qty)
                if take == 0:
                    break
                left -= take
                self.lower(order, take)
                if order.owner:
                    self.fills.append((order.owner, order.tag, 0, 0, 1 - side, px, take, order.qty, 0))
        self.phase = eb.CONTINUOUS
        self.drop_market_orders()
        return px, volume

    def drop_market_orders(self) -> None:
        for tag in [o.tag for o in self.orders.values() if o.px in (self.lo, self.hi)]:
            del self.orders[tag]
