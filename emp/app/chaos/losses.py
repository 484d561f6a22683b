"""What an instrument loses in a world: by the venue's books against its limits, and what of it each start knows."""

from collections import deque
from typing import Any, NamedTuple, Protocol

from emp.app.chaos.life import Life
from emp.app.chaos.scene import Scene
from emp.sim.chaos.loop import Process
from emp.sim.chaos.pit import Pit

KNOWN_NS = 5_500_000_000
"""What fills cannot restore is recorded every 5 s: what is older than this, every start knows."""

STALLED_NS = 12_000_000_000
"""The same where the process was stopped meanwhile."""

LASTS_NS = 1_000_000_000
"""How long a loss lies beyond a limit before somebody must have seen it: some five events."""

KEPT_NS = 30_000_000_000
"""How long a position may be kept beyond a loss limit while it could be closed: refusals make the next try later."""

EPSILON = 1e-6

SLACK = 25.0
"""Ticks times lots by which a limit is passed before it is for certain: a fill that is on its way to the engine."""


class Told(Protocol):
    """Who hears of violations."""

    def violated(self, check: str, what: str) -> None:
        """Something is not as it must be."""


class Mark(NamedTuple):
    """Where an engine's loss limits measure from, in ticks times lots; as of a time of the world."""

    at_ns: int
    day: int
    day_start: float
    peak: float


class Ended(NamedTuple):
    """What a process knew when it ended, and can no more be asked for."""

    run: str
    known: Mark | None  # the newest mark that its ledger must hold
    day: int
    day_pnl: float
    drawdown: float
    comparable: bool  # whether all of its lots had a price, and its ledger was whole


class Since:
    """Since when something holds without a break: what a limit is held against is looked at with each event alone."""

    def __init__(self) -> None:
        self._began_ns = 0

    def lasts(self, now_ns: int, *, beyond: bool) -> bool:
        """Whether it has held for LASTS_NS."""
        self._began_ns = (self._began_ns or now_ns) if beyond else 0
        return beyond and now_ns - self._began_ns >= LASTS_NS


class Losses:
    """Adds up what an instrument earns at the venue, and holds each start to what the process before it knew."""

    def __init__(self, world: Scene, told: Told, pit: Pit) -> None:
        self._world, self._told, self._pit = world, told, pit
        self.worth = 0.0  # at the venue when it was last looked at
        self.lost = 0.0  # while an engine traded
        self.best = 0.0
        self.breached_ns = 0  # when the loss of the day had been beyond its limit for a while
        self.drawn_ns = 0
        self._least_lost = 0.0
        self._untold = 0.0  # lost while others' lots were not known here: no engine may know that
        self._losing, self._fallen = Since(), Since()
        self._kept_ns = 0  # since when a position has been kept beyond a limit, and could be closed
        self._marks: deque[Mark] = deque(maxlen=256)
        self._begun: Process | None = None  # the newest process that began to trade
        self._before: Ended | None = None

    # --- by the venue's books -----------------------------------------------------------------------------------

    def mark(self, life: Life | None) -> None:
        """Add up what is lost while an engine trades; what is lost while none does counts for no day."""
        plan, now = self._world.plan, self._world.loop.now_ns
        fees = min(0.0, self._pit.fees)  # what is paid no engine may know: not every dialect tells it
        worth = self._pit.worth - fees
        if life is not None and life.trading and self._is_untold(life):
            self._untold += self.worth - worth
        elif life is not None and life.trading:
            self.lost += self.worth - worth
            self._least_lost = min(self._least_lost, self.lost)
        self.worth = worth
        if self._pit.shows_itself(now):
            self.best = max(self.best, worth)
        fallen = min(self.best - worth, self.lost - self._least_lost)
        known = life is None or not life.trading or self._holds(life) == self._pit.position
        known &= self._pit.shows_itself(now)  # else what is held may be worth anything to an engine
        lasts = self._fallen.lasts(now, beyond=known and fallen > plan.drawdown_limit + SLACK)
        self.drawn_ns = self.drawn_ns or now * lasts
        lasts = self._losing.lasts(now, beyond=known and self.certain > plan.loss_limit + SLACK)
        self.breached_ns = self.breached_ns or now * lasts

    @property
    def certain(self) -> float:
        """What is lost whatever counts: what was gained while none traded does, where the ledger knows the lots."""
        return min(self.lost, -self.worth - max(0.0, self._untold))

    def _is_untold(self, life: Life) -> bool:
        """Whether somebody has traded without a word, and the engine has not found it yet."""
        if not self._world.befalls.counts.get("in_silence"):
            return False
        return self._holds(life) != self._pit.position

    def _holds(self, life: Life) -> int:
        """Lots that the engine believes to hold."""
        return int(life.running.engine.orders.position(self._pit.instrument.name))

    def look_at_kept(self, life: Life, *, account: bool) -> None:
        """Beyond a loss limit, its own or the account's, nothing is kept, whoever has halted it, while the venue can be
        heard and takes orders.
        """
        pit, now = self._pit, self._world.loop.now_ns
        could_close = (
            life.trading
            and pit.shows_itself(now)
            and all(life.links.values())
            and now >= max(self._world.exchange.refuses_until_ns, pit.bare_until_ns, pit.silent_until_ns)
        )
        passed = self.breached_ns or self.drawn_ns or account
        if not passed or not pit.position or not could_close:
            self._kept_ns = 0
            return
        self._kept_ns = self._kept_ns or now
        if now - self._kept_ns > KEPT_NS:
            what = f"{pit.position:+d} lots of {pit.instrument.name}, with {self.lost:.0f} lost"
            self._told.violated("loss_kept", what)

    # --- by what the engine knows -------------------------------------------------------------------------------

    def look(self, life: Life) -> None:
        """Market data reach a process: where do its limits measure from?"""
        if life.process is not self._begun or life.running is None:
            return
        account = life.running.engine.desk.account[self._pit.index]
        if not account["fills"] and not account["position"]:
            return  # nothing was gained or lost yet
        mark = (int(account["day"]), float(account["day_start"]), float(account["peak"]))
        if not self._marks or self._marks[-1][1:] != mark:
            self._marks.append(Mark(self._world.loop.now_ns, *mark))

    def begin(self, life: Life) -> None:
        """A process begins to trade, and has decided nothing yet: it knows what the one before it knew."""
        before, account = self._before, life.running.engine.desk.account[self._pit.index]
        self._marks.clear()
        self._begun = life.process
        if before is None or not before.comparable:
            return
        found = (int(account["day"]), float(account["day_start"]), float(account["peak"]))
        if before.run == life.run:
            self._goes_on(before, *found)
        else:
            self._carries_over(before, *found)

    def _goes_on(self, before: Ended, day: int, day_start: float, peak: float) -> None:
        known = before.known
        if known is None:
            return
        if known.day and day != known.day:
            self._forgotten(f"of day {known.day}, the next start begins with day {day}")
        elif abs(day_start - known.day_start) > EPSILON:
            self._forgotten(f"the day began at {known.day_start:g}, for the next start at {day_start:g}")
        elif peak < known.peak - EPSILON:
            self._forgotten(f"the peak was {known.peak:g}, for the next start it is {peak:g}")

    def _carries_over(self, before: Ended, day: int, day_start: float, peak: float) -> None:
        if abs(day_start + before.day_pnl) > EPSILON or (before.day_pnl and day != before.day):
            self._forgotten(
                f"{before.day_pnl:g} of day {before.day}, the next run begins with {-day_start:g}"
            )
        elif abs(peak + before.drawdown) > EPSILON:
            self._forgotten(f"a drawdown of {before.drawdown:g}, the next run begins with {-peak:g}")

    def _forgotten(self, what: str) -> None:
        self._told.violated("loss_forgotten", f"{self._pit.instrument.name}: {what}")

    def end(self, life: Life) -> None:
        """A process dies, or has ended: what the next one must know."""
        if life.process is not self._begun or life.running is None:
            return
        engine, counts = life.running.engine, self._world.befalls.counts
        i, now = self._pit.index, self._world.loop.now_ns
        account = engine.desk.account[i]
        self.look(life)
        grace = (
            STALLED_NS if {"stop", "flatten_stop", "slow_disk", "slow_model"} & counts.keys() else KNOWN_NS
        )
        known = [one for one in self._marks if one.at_ns < now - grace]
        pnl = _pnl(engine, i)
        self._before = Ended(
            life.run,
            known[-1] if known else None,
            int(account["day"]),
            pnl - float(account["day_start"]),
            min(0.0, pnl - float(account["peak"])),
            _has_price(engine, i) and not life.running.live._ledger._dead,
        )
        self._begun = None


def _has_price(engine: Any, i: int) -> bool:
    """Whether what is held can be valued by who looks at the market alone."""
    held, seen = engine.desk.account[i]["position"], engine.desk.perception[i]["ts"]
    return bool((seen or not held) and not engine.positions.unvalued.lots(i))


def _pnl(engine: Any, i: int) -> float:
    """Cash, and what is held at the newest mid, less fees."""
    account, seen = engine.desk.account[i], engine.desk.perception[i]
    value = int(account["position"]) * 0.5 * float(seen["bid"] + seen["ask"])
    return float(account["cash"]) + value - float(account["fees"]) + float(account["financing"])
