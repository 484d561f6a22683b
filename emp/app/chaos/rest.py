"""What must hold once faults are over: it trades again or says why not, and it knows what the venue knows."""

from typing import Protocol

from emp.app.chaos.life import Life
from emp.app.chaos.scene import Scene
from emp.core.codes import Reason
from emp.core.contracts import Control
from emp.sim.chaos.pit import Pit

S = 1_000_000_000


class Seen(Protocol):
    """What was seen of the world so far."""

    halted: bool
    arrivals: dict[tuple[int, int], int]
    cuts: int

    def violated(self, check: str, what: str) -> None:
        """Note the first violation of a check."""


class Rest:
    """Looks at one world at its end."""

    def __init__(self, world: Scene, checks: Seen) -> None:
        self._world, self._checks, self._pits = world, checks, world.exchange.pits
        self._rest_ns = 0
        self._alive: set[str] = set()  # instruments of which an order has arrived since faults are over
        self.ended = ""

    def arrived(self, instrument: str) -> None:
        """An order of an instrument reaches the venue."""
        self._alive.add(instrument)

    def begin(self) -> None:
        """Faults are over."""
        self._rest_ns = self._world.loop.now_ns
        self._alive.clear()

    def is_alive(self) -> bool:
        """Whether it trades again, or is flat and says why."""
        life = self._world.life
        if life is None or not life.trading:
            return False
        each = {self._how_alive(life, pit) for pit in self._pits}
        if "" in each:
            return False
        self.ended = next(how for how in ("trading", "watching", "barred", "halted") if how in each)
        return True

    def _how_alive(self, life: Life, pit: Pit) -> str:
        """What it does in an instrument: trading | watching | halted, or "" for nothing that it should."""
        if pit.instrument.name in self._alive and not self._checks.halted:
            return "trading"
        risk = life.running.engine.desk.risk[pit.index]
        now = self._world.loop.now_ns
        rested = now - self._rest_ns > 30 * S and now - life.began_ns > 30 * S
        newest_ns = life.newest_ns.get(pit.index, 0)
        fresh = now - newest_ns < 3 * S and not risk["degraded"] and life.links.get("trade", True)
        may_trade = not risk["halted"] and not risk["barred"] and not self._checks.halted
        if rested and fresh and may_trade and self._processed(life, pit):
            return "watching"  # it may trade, and sees no edge: outcomes have taught it, or it is spent
        if risk["halted"] and not self._checks.halted and self.is_settled() and pit.position == 0:
            return "halted"
        if rested and self._world.plan.watched and Reason.MODEL in life.running.engine.bars.every():
            return "barred"  # the model was found to do worse than it must
        return ""

    def _processed(self, life: Life, pit: Pit) -> bool:
        """Whether the newest market data of an instrument have been decided on."""
        newest = list(self._checks.arrivals)[-8 * len(self._pits) ** 2 :]
        return (pit.index, int(life.running.engine.desk.state[pit.index]["ts"])) in newest

    def at_rest(self) -> None:
        """It must be alive by now."""
        if self._world.befalls.tampered and not self._world.refused:
            self._checks.violated("tampered", "the run goes on")
        if self._world.refused:
            self.ended = "refused"
        elif not self.is_alive():
            life = self._world.life
            assert life is not None
            state = "over" if life.over else "trading" if life.trading else "starting"
            why = ""
            if life.running is not None:
                stuck = next((pit for pit in self._pits if not self._how_alive(life, pit)), self._pits[0])
                risk = life.running.engine.desk.risk[stuck.index]
                why = (
                    f", {stuck.instrument.name} halted {bool(risk['halted'])}, barred {int(risk['barred'])},"
                    f" degraded {bool(risk['degraded'])}, links {life.links}"
                )
            self._checks.violated("liveness", f"{state}: {life.said}{why}")

    def is_settled(self) -> bool:
        """Whether nothing is on its way between engine and venue."""
        life = self._world.life
        if life is None or not life.trading:
            return False
        manager, exchange = life.running.engine.orders, self._world.exchange
        return not manager.open_orders() and not exchange.working() and self._fresh(life)

    def agrees(self) -> bool:
        """Whether the engine's position is the venue's."""
        life = self._world.life
        if life is None or not life.trading:
            return False
        orders = life.running.engine.orders
        return all(orders.position(pit.instrument.name) == pit.position for pit in self._pits)

    def _fresh(self, life: Life) -> bool:
        """Whether the engine's books are among the newest that the venue showed."""
        return all(self._is_fresh(life, pit) for pit in self._pits)

    def _is_fresh(self, life: Life, pit: Pit) -> bool:
        return tuple(life.running.engine.touch(pit.index))[:2] in pit.books_shown

    def when_settled(self) -> None:
        """The engine runs, is halted, and nothing is under way: what it knows is what the venue knows."""
        world = self._world
        life, exchange = world.life, world.exchange
        if life is None or not life.trading:
            return
        orders = life.running.engine.orders
        if orders.open_orders() or exchange.working():
            open_ = len(orders.open_orders())
            self._checks.violated("working", f"{open_} here, {exchange.working()} at the venue")
        heard = not UNHEARD & world.befalls.counts.keys() and self._checks.cuts == 0 and len(world.lives) == 1
        told = heard or not _CORRECTED & world.befalls.counts.keys()
        one_run = len({one.run for one in world.lives if one.run}) == 1
        comparable = one_run and told and not self._adjusted(life)
        for pit in self._pits:
            name, ours = pit.instrument.name, orders.position(pit.instrument.name)
            if ours != pit.position:
                self._checks.violated("position", f"{name} {ours:+d}, the venue has {pit.position:+d}")
            if not self._is_fresh(life, pit):
                touch = life.running.engine.touch(pit.index)[:2]
                self._checks.violated(
                    "book", f"{name} {touch}, the venue showed {list(pit.books_shown)[-2:]}"
                )
            if comparable:
                self._compare_money(life, pit, fees_too=world.door.tells_fees and heard)

    def _compare_money(self, life: Life, pit: Pit, *, fees_too: bool) -> None:
        account = life.running.engine.desk.account[pit.index]
        name, cash, fees = pit.instrument.name, float(account["cash"]), float(account["fees"])
        if abs(cash - pit.cash) > 1e-6 * max(1.0, abs(pit.cash)):
            self._checks.violated("money", f"{name} cash {cash:.3f}, the venue has {pit.cash}")
        if fees_too and abs(fees - pit.fees) > 1e-6 * max(1.0, pit.fees):
            self._checks.violated("money", f"{name} fees {fees:.3f}, the venue has {pit.fees:.3f}")

    def _adjusted(self, life: Life) -> bool:
        """Whether lots came without a report: they are worth what the market said first, not what they cost."""
        ledger = life.running.live._ledger
        bodies = [event.body for event in [*ledger.events()]]  # whole, so that nothing of SQLite's stays open
        untold = any(isinstance(body, Control) and body.action == "differs" for body in bodies)
        return untold or any(not note.data.get("px") for note in ledger.notes("adjustment"))


UNHEARD = frozenset(
    (
        "lost_report", "silent_order", "swapped_report", "late_report", "lost_order", "same_execution", "overfill",
        "less_filled",
    )
)  # fmt: skip
"""Faults after which a fill is learnt by asking: what it cost is not told then."""

_CORRECTED = frozenset(("bust", "corrected_trade", "overfill", "less_filled"))
"""Faults after which it is not told what a trade cost, if it is learnt by asking: the venue tells what is held, and the
last price.
"""
