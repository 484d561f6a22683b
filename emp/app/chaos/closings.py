"""Orders that close, as they leave: at a price of the market, not too many, and seldomer the more the venue refuses."""

from collections import deque

from emp.app.chaos.feeds import Feed
from emp.app.chaos.scene import Judge, Scene
from emp.core.contracts import NewOrder, OrderUpdate, Replace
from emp.sim.chaos.pit import Pit

MS = 1_000_000
S = 1_000_000_000
FIRST_NS, LONGEST_NS = 25 * MS, 5 * S
LEAST_NS = 200 * MS
"""Pauses shorter than this are not held against anybody: the engine's tick in a world is 50 ms."""


BELIEVED_NS = 5_000_000_000
"""For so long after a wild book a close may stand at its price: the very first that is seen has to be believed."""


class Closings:
    """Watches what one engine after another sends to get flat in one instrument."""

    def __init__(self, world: Scene, told: Judge, pit: Pit, feed: Feed) -> None:
        self._world, self._told, self._pit, self._feed = world, told, pit, feed
        self._left: deque[int] = deque()  # when, in the last minute
        self._names: set[str] = set()  # closing orders whose end is to be told
        self._refused = 0  # in a row
        self._tried_ns = 0
        self._early = 0  # in a row

    def on_send(self, command: NewOrder | Replace) -> None:
        """One leaves."""
        now, mid, name = self._world.loop.now_ns, self._pit.mid, command.cl_ord_id
        wild = now - self._pit.wild_ns < BELIEVED_NS and abs(command.px - 3 * mid) < 0.6 * mid
        misled = self._feed.has_misled() or (
            wild and len(self._world.lives) == 1  # else somebody knows where the market was
        )
        if mid != mid or (abs(command.px - mid) > 0.2 * mid and not misled):
            self._told.violated("closing_price", f"{name} at {command.px}, the market is at {mid}")
        self._left.append(now)
        while self._left[0] < now - 60 * S:
            self._left.popleft()
        if len(self._left) > 62:
            self._told.violated("closing_rate", f"{len(self._left)} in a minute")
        pause = 0 if self._refused < 2 else min(LONGEST_NS, FIRST_NS << min(self._refused - 2, 16))
        steady = "clock_step" not in self._world.befalls.counts  # a clock that went back makes a try due
        waited = (now - self._tried_ns) // MS
        early = steady and pause >= LEAST_NS and now - self._tried_ns < pause // 2
        self._early = self._early + 1 if early else 0
        if self._early > 1:  # one may be: the market's time jumps where a feed goes on after a silence
            self._told.violated("closing_pace", f"{name}, {waited} ms after {self._refused} refusals")
        self._tried_ns = now
        self._names.add(name)

    def on_report(self, update: OrderUpdate) -> None:
        """What became of one of them."""
        if update.clOrdID not in self._names:
            return
        if update.filled:
            self._refused = 0
        elif update.status.terminal:
            self._refused += 1
        if update.status.terminal:
            self._names.discard(update.clOrdID)

    def afresh(self) -> None:
        """Another process, another state of the link, a failure or the owner's word: the next try is due at once."""
        self._refused = 0
        self._names.clear()
