"""What the account of a world loses and holds over all its instruments, in its own money, by the venue's books."""

from emp.app.chaos.life import Life
from emp.app.chaos.losses import SLACK, Losses, Since, Told
from emp.app.chaos.scene import Scene
from emp.core.contracts import NewOrder, Replace
from emp.sim.chaos.pit import Pit

DRIFT = 0.01
"""Share by which prices may carry an exposure beyond a limit that an order was held to: the waves are smaller."""


class AccountLosses:
    """The losses of each instrument, and of all together."""

    def __init__(self, world: Scene, told: Told) -> None:
        self._world, self._told = world, told
        self._pits = world.exchange.pits
        self.each = [Losses(world, told, pit) for pit in self._pits]
        self.breached_ns = 0  # when the account's loss of the day had been beyond its limit for a while
        self._losing = Since()

    @property
    def lost(self) -> float:
        """Of the day, in money: the least that it can be."""
        return sum(pit.unit * one.certain for pit, one in zip(self._pits, self.each, strict=True))

    def mark(self, life: Life | None) -> None:
        """Add up what is lost."""
        for one in self.each:
            one.mark(life)
        limit, now = self._world.plan.account_loss, self._world.loop.now_ns
        slack = SLACK * sum(pit.unit for pit in self._pits)
        lasts = self._losing.lasts(now, beyond=bool(limit) and self.lost > limit + slack)
        self.breached_ns = self.breached_ns or now * lasts

    def look_at_kept(self, life: Life) -> None:
        """Nothing is kept beyond a limit."""
        for one in self.each:
            one.look_at_kept(life, account=bool(self.breached_ns))

    def look_at_held(self) -> None:
        """Something has filled: what is held is within the account's gross limit, but for what others have done.

        Net exposure may be beyond its limit: closing one side of what offsets each other is never barred.
        """
        if "wrong_feed" in self._world.befalls.counts:
            return  # what was opened at wrong prices is closed at the market's
        limit = self._world.plan.max_gross
        held = sum(abs(self._value(pit, pit.position)) for pit in self._pits)
        if limit and held > limit * (1 + DRIFT) + self._others():
            self._told.violated("exposure", f"gross {held:.0f}, {limit:.0f} is allowed")

    def look_at_order(self, command: NewOrder | Replace) -> None:
        """An order leaves: what it opens takes the net of what is held no further than its limit."""
        limit, pit = self._world.plan.max_net, self._world.exchange.pit(command.instrument)
        side, now = command.side, self._world.loop.now_ns
        if not all(one.shows_itself(now) for one in self._pits):
            return
        opens = min(
            command.qty, command.qty + side * pit.position - pit.others
        )  # others' lots may not be known yet
        if not limit or opens <= 0:
            return
        net = sum(self._value(one, one.position) for one in self._pits if one is not pit)
        net += self._value(pit, pit.position + side * command.qty)
        if side * net > limit * (1 + DRIFT) + self._others():
            self._told.violated("exposure", f"{command.cl_ord_id}: net {net:.0f}, {limit:.0f} is allowed")

    def _others(self) -> float:
        return sum(self._value(pit, pit.others) for pit in self._pits)

    @staticmethod
    def _value(pit: Pit, lots: int) -> float:
        """In money, at the newest mid."""
        return lots * pit.mid * pit.unit if lots else 0.0

    def look(self, life: Life) -> None:
        """Where do a process's limits measure from?"""
        for one in self.each:
            one.look(life)

    def begin(self, life: Life) -> None:
        """A process begins to trade."""
        for one in self.each:
            one.begin(life)

    def end(self, life: Life) -> None:
        """A process dies, or has ended."""
        for one in self.each:
            one.end(life)
