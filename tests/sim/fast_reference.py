"""The reference book with one queue per price: still plain Python, quick enough for millions."""

from reference_book import Order, ReferenceBook

from emp.sim.book import book as eb


class Shelf(dict[int, Order]):
    """The orders by tag, with a queue per side and price beside them."""

    def __init__(self) -> None:
        super().__init__()
        self.queues: tuple[dict[int, dict[int, Order]], dict[int, dict[int, Order]]] = ({}, {})

    def __setitem__(self, tag: int, order: Order) -> None:
        super().__setitem__(tag, order)
        self.queues[order.side].setdefault(order.px, {})[tag] = order

    def __delitem__(self, tag: int) -> None:
        order = self[tag]
        super().__delitem__(tag)
        queue = self.queues[order.side][order.px]
        del queue[tag]
        if not queue:
            del self.queues[order.side][order.px]


class FastReference(ReferenceBook):
    """`ReferenceBook` with other look-ups and the same rules."""

    def __init__(self, lo: int, hi: int, stp: int, replace_rule: int) -> None:
        super().__init__(lo, hi, stp, replace_rule)
        self.shelf = Shelf()
        self.orders = self.shelf

    def queue(self, side: int) -> list[Order]:
        levels = self.shelf.queues[side]
        return [o for px in sorted(levels, reverse=side == eb.BUY) for o in levels[px].values()]

    def best(self, side: int) -> int:
        levels = self.shelf.queues[side]
        if side == eb.BUY:
            return max(levels, default=self.lo)
        return min(levels, default=self.hi)

    def reachable(self, side: int, px: int) -> list[Order]:
        levels = self.shelf.queues[1 - side]
        if side == eb.BUY:
            prices = sorted(p for p in levels if p <= px)
        else:
            prices = sorted((p for p in levels if p >= px), reverse=True)
        return [o for p in prices for o in levels[p].values()]
