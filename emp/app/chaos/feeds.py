"""Books that are wrong for long: when they may reach an engine, when it may act on them, how soon it knows better."""

from collections.abc import Set

from emp.app.chaos.life import Life
from emp.app.chaos.scene import Judge, Scene
from emp.core.contracts import NewOrder, OrderUpdate, Replace
from emp.core.records import Array
from emp.sim.chaos.pit import UNSEEN_NS, Pit

S = 1_000_000_000
AGREE_NS = 5 * S
"""So long far books must agree in a row before they are believed; twice as long for each fill that contradicted."""

MOST_DOUBLINGS = 6
ACTS_NS = S
"""So long after a wrong book has reached an engine it may still be what an order was decided on."""

FAR = 0.2
"""Share of the market's price by which a price is none of the market's."""

_SLIPS = frozenset({"clock_step", "summer_time"})
"""Books are told apart by their stamps: a clock that steps makes any time of them."""

_LOSE = frozenset({"drop_row", "swapped_row", "swap_messages", "bad_checksum", "flip_server", "venue_silent"})
"""Faults with which a trade that was shown may not have been heard."""

STEADY = frozenset(
    ("wrong_feed", "reject", "refused_cancel", "cancel_race", "twice_report", "owner_halt", "owner_flatten")
)
"""Faults beside which right books must be believed again as soon as ever."""

_PROMPT = STEADY | {
    "twice_row",
    "feed_stall",
    "bare_side",
    "crossed_book",
    "late_report",
    "withdrawn",
    "owner_kill",
    "owner_config",
    "owner_restart",
}
"""Faults beside which each fill is told once it has happened: what is found out later says nothing of the market."""


class Feed:
    """Watches what one instrument's market data make of one engine after another."""

    def __init__(self, world: Scene, told: Judge, pit: Pit) -> None:
        self._world, self._told, self._pit = world, told, pit
        self._life: Life | None = None
        self._knows = False  # whether a right book has reached this engine
        self._taken_in = False  # whether the newest that has is a wrong one
        self._taken_ns = -(10**18)  # when it came
        self._believed_in = 0  # the stretch of wrong books in which an engine was
        self._contradicted_ns = self._contradictions = 0
        self._filled: dict[str, int] = {}  # lots, by the id of each order that this engine has sent

    @property
    def _now_ns(self) -> int:
        return self._world.loop.now_ns

    def _turn_to(self, life: Life) -> None:
        if life is not self._life:
            self._life, self._knows, self._taken_in = life, False, False
            self._contradicted_ns = self._contradictions = 0
            self._filled.clear()

    def on_events(self, life: Life, rows: Array) -> None:
        """Market data reach an engine."""
        self._turn_to(life)
        for row in rows[rows["instrument"] == self._pit.index]:
            bid, ask = int(row["bid_px"][0]), int(row["ask_px"][0])
            if row["n_bid"] and row["n_ask"] and bid < ask:
                self._take((bid + ask) / 2)

    def _take(self, mid: float) -> None:
        if self.is_far(mid):
            if self._knows and not self._taken_in:
                self._look_at_belief()
            self._taken_in, self._taken_ns = True, self._now_ns
            if self._agreed_ns() >= AGREE_NS:
                self._believed_in = self._pit.wrong_began_ns
            return
        held_ns = self._now_ns - self._pit.right_since_ns
        if self._taken_in and held_ns > UNSEEN_NS and self._befell() <= STEADY:
            self._told.violated("feed_again", f"{self._name} after {held_ns / S:.1f} s of right books")
        self._knows, self._taken_in = True, False

    def _look_at_belief(self) -> None:
        """A book far from the market is let through, the first of its kind or behind a contradiction."""
        if self._befell() & _SLIPS:
            return
        since_ns = max(self._pit.wrong_began_ns, self._contradicted_ns)
        if self._world.door.tells_trades and not self._befell() & _LOSE:
            since_ns = max(since_ns, self._pit.told_otherwise_ns)
        need_ns = AGREE_NS << min(self._contradictions, MOST_DOUBLINGS)
        if self._now_ns - since_ns < need_ns:
            what = f"{self._name} after {(self._now_ns - since_ns) / S:.1f} s, {need_ns // S} s are due"
            self._told.violated("feed_believed", what)

    def on_send(self, life: Life, command: NewOrder | Replace) -> None:
        """An engine sends an order of this instrument."""
        self._turn_to(life)
        before = self._filled.get(command.orig, 0) if isinstance(command, Replace) else 0
        self._filled[command.cl_ord_id] = before

    def on_report(self, life: Life, update: OrderUpdate) -> None:
        """A report reaches an engine: a fill at a price of the market contradicts a wrong book that it believes."""
        self._turn_to(life)
        if update.filled <= self._filled.get(update.clOrdID, update.filled):
            return
        self._filled[update.clOrdID] = update.filled
        tells = update.price and not update.correction and self._befell() <= _PROMPT
        if self._taken_in and tells and not self.is_far(update.price):
            self._taken_in, self._contradicted_ns = False, self._now_ns
            self._contradictions += 1

    def is_far(self, px: float) -> bool:
        """Whether a price is none of the market's."""
        return self._pit.mid != self._pit.mid or abs(px - self._pit.mid) > FAR * self._pit.mid

    def misleads(self, life: Life) -> bool:
        """Whether an engine may decide on wrong books now: they have lasted, and one has just been let through."""
        fresh = life is self._life and self._now_ns - self._taken_ns < ACTS_NS
        return fresh and self._agreed_ns() >= AGREE_NS

    def has_misled(self) -> bool:
        """Whether a close may stand at a wrong price: one has been believed, and right ones may not be again."""
        believed = self._believed_in != 0 and self._believed_in == self._pit.wrong_began_ns
        return believed and not self._pit.shows_itself(self._now_ns)

    def _agreed_ns(self) -> int:
        """For how long wrong books have come in a row, to this engine where none before it has believed them."""
        began_ns = self._pit.wrong_began_ns
        if self._believed_in != began_ns and self._life is not None:
            began_ns = max(began_ns, self._life.began_ns)
        return self._now_ns - began_ns

    def _befell(self) -> Set[str]:
        return self._world.befalls.counts.keys()

    @property
    def _name(self) -> str:
        return self._pit.instrument.name
