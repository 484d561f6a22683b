"""A small exchange in plain Python that writes LOBSTER files: an oracle for the readers, and their input."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from emp.core.ids import generator

TICK_UNITS = 100  # LOBSTER price units per tick
MIDDLE = 50_000  # ticks
OPEN_NS = 34_200 * 1_000_000_000
NAME = "GOOG_2012-06-21_34200000_57600000_{}.csv"


@dataclass
class SmallMarket:
    """Orders that rest, messages and books as LOBSTER writes them."""

    seed: int
    levels: int = 10
    orders: dict[int, list[int]] = field(default_factory=dict)  # id -> [side, ticks, lots], in order of time
    messages: list[str] = field(default_factory=list)
    books: list[str] = field(default_factory=list)
    sweeps: list[list[int]] = field(default_factory=list)  # rows that are one event each

    def __post_init__(self) -> None:
        self.rng = generator(self.seed, "small market")
        self.now = OPEN_NS
        self.next_id = 1

    def run(self, steps: int) -> "SmallMarket":
        """Let so many things happen."""
        for side in (1, -1):
            for away in range(1, 6):
                self.add(side, MIDDLE - side * away, 5)
        for _ in range(steps):
            self.now += int(self.rng.integers(1, 1_000_000))
            what = self.rng.random()
            side = int(self.rng.choice((1, -1)))
            if what < 0.5 or self.thin():
                best = self.best(-side)
                away = int(self.rng.integers(1, 8))
                self.add(side, best - side * away, int(self.rng.integers(1, 9)))
            elif what < 0.75:
                self.cancel(int(self.rng.choice(list(self.orders))))
            elif what < 0.95:
                self.take(side, int(self.rng.integers(1, 14)), int(self.rng.integers(0, 3)))
            else:
                self.row(5, 0, 3, self.best(side), side, [len(self.messages)])
        return self

    def thin(self) -> bool:
        return any(sum(1 for o in self.orders.values() if o[0] == side) < 6 for side in (1, -1))

    def best(self, side: int) -> int:
        return max((o[1] * side for o in self.orders.values() if o[0] == side), default=-MIDDLE) * side

    def add(self, side: int, px: int, qty: int, sweep: list[int] | None = None) -> None:
        self.orders[self.next_id] = [side, px, qty]
        self.row(1, self.next_id, qty, px, side, sweep)
        self.next_id += 1

    def cancel(self, key: int) -> None:
        side, px, qty = self.orders[key]
        part = int(self.rng.integers(1, qty + 1))
        if part == qty:
            del self.orders[key]
        else:
            self.orders[key][2] -= part
        self.row(3 if part == qty else 2, key, part, px, side)

    def take(self, side: int, qty: int, through: int) -> None:
        """A buy (side 1) or sell order for `qty`, limited `through` ticks beyond the touch; its rest stays."""
        limit = self.best(-side) + side * through
        sweep: list[int] = []
        while qty and not self.thin():
            queue = [(o[1] * side, key) for key, o in self.orders.items() if o[0] == -side]
            price, key = min(queue)
            if price * side * side > limit * side:
                break
            done = min(qty, self.orders[key][2])
            px = self.orders[key][1]
            self.orders[key][2] -= done
            if not self.orders[key][2]:
                del self.orders[key]
            qty -= done
            self.row(4, key, done, px, -side, sweep)
        if qty and self.best(-side) * side > limit * side:
            self.add(side, limit, qty, sweep if sweep else None)

    def row(self, kind: int, key: int, qty: int, px: int, side: int, sweep: list[int] | None = None) -> None:
        sweep = sweep if sweep is not None else []
        if not sweep:
            self.sweeps.append(sweep)
        sweep.append(len(self.messages))
        seconds = f"{self.now // 1_000_000_000}.{self.now % 1_000_000_000:09d}"
        self.messages.append(f"{seconds},{kind},{key},{qty},{px * TICK_UNITS},{side}")
        self.books.append(self.book_line())

    def ladder(self, side: int) -> list[tuple[int, int]]:
        sizes: dict[int, int] = {}
        for s, px, qty in self.orders.values():
            if s == side:
                sizes[px] = sizes.get(px, 0) + qty
        return sorted(sizes.items(), key=lambda level: -side * level[0])[: self.levels]

    def book_line(self) -> str:
        bids, asks = self.ladder(1), self.ladder(-1)
        fields = []
        for level in range(self.levels):
            for ladder, none in ((asks, 9_999_999_999), (bids, -9_999_999_999)):
                px, qty = ladder[level] if level < len(ladder) else (0, 0)
                fields += [str(px * TICK_UNITS if qty else none), str(qty)]
        return ",".join(fields)

    def write(self, folder: Path, book: bool = True) -> Path:
        """Write the pair of files; return the message file."""
        message = folder / NAME.format(f"message_{self.levels}" if book else "message")
        message.write_text("\n".join(self.messages) + "\n")
        if book:
            (folder / NAME.format(f"orderbook_{self.levels}")).write_text("\n".join(self.books) + "\n")
        return message


def truth(line: str, levels: int = 10) -> tuple[np.ndarray, ...]:
    """bid_px, bid_sz, ask_px, ask_sz of an orderbook line in ticks and lots, as an EVENT row has them."""
    values = np.array([int(v) for v in line.split(",")]).reshape(-1, 4)[:10]
    out = [np.zeros(10, np.int64) for _ in range(4)]
    for i, (ask, ask_sz, bid, bid_sz) in enumerate(values):
        if ask_sz:
            out[2][i], out[3][i] = ask // TICK_UNITS, ask_sz
        if bid_sz:
            out[0][i], out[1][i] = bid // TICK_UNITS, bid_sz
    return tuple(out)
