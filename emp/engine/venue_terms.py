"""What the venue states of financing and margin, as inputs for the driver to record and apply (`Control`: `terms`,
`margin`).

Financing is told when it differs from what was told last. Margin is asked for where the owner limits it, and told when
it has changed, or half of the age is reached at which a statement says nothing any more. It is told again too where the
venue stays with what it said though by our fills more or less is used since, at two looks in a row: a statement and the
report of a fill may pass each other on their way, and that fill would count twice from then on.
"""

from collections.abc import Callable, Iterator

from emp.access.port import StatesTerms, VenueFinancing, VenueMargin
from emp.core.contracts import Control
from emp.core.errors import VenueError
from emp.engine.engine import Engine
from emp.risk.portfolio import lot_worth

TERMS_S = 10.0
"""Between two looks."""

NIGHTS_A_YEAR = 360
"""By which a rate a year is divided: the convention of money markets."""

SAME = 1e-3
"""Relative difference below which what a lot asks is the same: amounts come in cents, and the price moves meanwhile."""


class VenueTerms:
    """Asks one access for one engine."""

    def __init__(self, engine: Engine, access: StatesTerms) -> None:
        self._engine, self._access = engine, access
        self._told: dict[tuple[str, str], float] = {}  # of financing, by instrument and term
        self._margin: tuple[float, float, int] | None = None  # equity, used and when, as told last
        self._apart = 0.0  # what our fills have changed of the margin used since then, at the look before
        self.problem = ""  # why margin is not known, in words

    async def look(self, now: Callable[[], int]) -> list[Control]:
        """What is new, in the order in which it is to be applied; `now` gives market time."""
        account, found = self._engine.limits.account, list[Control]()
        try:
            found += self._financing(now())
            if not account.min_margin_level:
                return found
            margin = await self._access.margin()
        except VenueError as error:
            self.problem = str(error)
            return found
        if margin.currency and margin.currency != account.currency:
            self.problem = (
                f"the account counts in {margin.currency}, account.currency says {account.currency}"
            )
            return found
        self.problem = ""
        return [*found, *self._stated(margin, now())]

    def _financing(self, ts: int) -> Iterator[Control]:
        for one in self._access.financing():
            long, short = one.long, one.short
            if one.percent:
                night = self._night(one)
                if night is None:
                    continue
                long, short = long * night, short * night
            for term, value in (
                ("minute", one.minute),
                ("triple", one.triple),
                ("long", long),
                ("short", short),
            ):
                if term in ("minute", "triple") and value < 0:
                    continue
                if self._told.get((one.instrument, term)) != value:
                    self._told[one.instrument, term] = value
                    yield Control(
                        action="terms", ts=ts, instrument=one.instrument, reason=term, value=float(value)
                    )

    def _night(self, one: VenueFinancing) -> float | None:
        """Ticks a lot that one per cent a year comes to in a night, at the newest mid; None before there is one.

        It follows the price from roll to roll, not from tick to tick: what was told stands until a roll has passed.
        """
        i = self._index(one.instrument)
        roll = float(self._engine.desk.financing["roll_ns"][i])
        seen = self._engine.desk.perception[i]
        if not seen["ts"]:
            return None
        key = (one.instrument, "night")
        if key not in self._told or self._told.get((one.instrument, "roll")) != roll != 0.0:
            self._told[key] = 0.5 * float(seen["bid"] + seen["ask"]) / 100.0 / NIGHTS_A_YEAR
            self._told[one.instrument, "roll"] = roll
        return self._told[key]

    def _stated(self, margin: VenueMargin, ts: int) -> Iterator[Control]:
        for name, money in margin.lots.items():
            x = self._engine.desk.exposure[self._index(name)]
            known = float(x["margin"]) * lot_worth(x)
            if abs(money - known) > SAME * money:
                yield Control(action="margin", ts=ts, instrument=name, reason="lot", value=money)
        before, age = self._margin, self._engine.limits.account.margin_max_age_ns
        stays_apart = self._stays_apart(min(margin.lots.values(), default=0.0))
        if (
            before is None
            or before[:2] != (margin.equity, margin.used)
            or stays_apart
            or ts - before[2] >= age // 2
            or not self._engine.desk.portfolio["stated_ns"][0]
        ):
            self._margin = margin.equity, margin.used, ts
            yield Control(action="margin", ts=ts, reason="equity", value=margin.equity)
            yield Control(action="margin", ts=ts, reason="used", value=margin.used)

    def _stays_apart(self, lot: float) -> bool:
        """Whether our fills have changed what is used by half of what a lot asks, and had at the look before."""
        folio = self._engine.desk.portfolio[0]
        before, self._apart = self._apart, float(folio["used"] - folio["used_then"])
        return min(abs(before), abs(self._apart)) > 0.5 * lot > 0.0 and before * self._apart > 0.0

    def _index(self, name: str) -> int:
        return next(i for i, one in enumerate(self._engine.instruments) if one.name == name)
