"""The venue's symbols in our terms: ticks for prices, lots for volumes."""

import math
import re

import msgspec
import numpy as np

from emp.access.ctrader.enums import DayOfWeek, SwapCalculationType
from emp.access.ctrader.parts import ProtoOALightSymbol, ProtoOASymbol
from emp.access.ctrader.quotes import QUOTE_BOOK
from emp.access.port import VenueFinancing
from emp.core.errors import VenueError
from emp.core.instrument import Instrument
from emp.core.records import Array
from emp.core.rolls import MINUTES

POINT = 100_000
"""Market data prices are integers in 1/100000."""

VOLUME_UNIT = 100
"""Volumes are integers in 1/100 of a unit."""


def last_digit(digits: int) -> int:
    """The smallest step of a symbol's prices, in 1/100000."""
    return int(10 ** (5 - digits))


class Terms(msgspec.Struct, frozen=True):
    """What one instrument is at this venue."""

    index: int  # in the run's instrument table
    instrument: Instrument
    symbol_id: int
    digits: int
    tick_points: int  # 1/100000 per tick
    lot_volume: int  # 0.01 units per lot
    min_volume: int
    max_volume: int
    step_volume: int
    quote_asset_id: int
    financing: VenueFinancing | None = (
        None  # what is held over a roll receives; None where the venue does not say
    )

    def price(self, px: int, side: int) -> float:
        """A limit in ticks as the venue's price, rounded to its digits never to a worse price for us."""
        step = last_digit(self.digits)
        points = px * self.tick_points
        points = points // step * step if side > 0 else -(-points // step) * step
        return round(points / POINT, self.digits)

    def ticks(self, price: float) -> int:
        """A venue's price in ticks, to the nearest; raise VenueError where it is below zero."""
        if price < 0.0:
            raise VenueError(
                f"{self.instrument.name}: the venue speaks of a price of {price:g}, which cannot be"
            )
        return round(price * POINT / self.tick_points)

    def lots(self, volume: int) -> int:
        """A venue's volume in whole lots; raise VenueError where it is none."""
        if volume % self.lot_volume:
            raise VenueError(
                f"{self.instrument.name}: the venue speaks of {volume / VOLUME_UNIT:g} units, no whole "
                f"number of lots of {self.instrument.lot:g}: close the rest by hand, or set the lot to fit"
            )
        return volume // self.lot_volume

    def refuse_volume(self, volume: int) -> str:
        """Why the venue would not take an order of this volume; empty where it would."""
        if volume < self.min_volume:
            return f"volume {volume} is below the venue's minimum of {self.min_volume}"
        if self.max_volume and volume > self.max_volume:
            return f"volume {volume} is above the venue's maximum of {self.max_volume}"
        if self.step_volume and volume % self.step_volume:
            return f"volume {volume} is no multiple of the venue's step of {self.step_volume}"
        return ""


def plain_name(name: str) -> str:
    """A symbol's name without punctuation, upper case: EUR/USD and EURUSD are one."""
    return re.sub(r"[^A-Z0-9]", "", name.upper())


def find_symbol(instrument: Instrument, symbols: tuple[ProtoOALightSymbol, ...]) -> ProtoOALightSymbol:
    """The venue's symbol of an instrument's name; raise VenueError where there is none or more than one."""
    wanted = plain_name(instrument.name)
    exact = [s for s in symbols if s.symbol_name == instrument.name]
    found = exact or [s for s in symbols if plain_name(s.symbol_name or "") == wanted]
    if len(found) == 1:
        return found[0]
    what = "has no symbol" if not found else f"has {len(found)} symbols"
    raise VenueError(f"the venue {what} for {instrument.name}: name the instrument as the venue does")


def make_terms(index: int, instrument: Instrument, light: ProtoOALightSymbol, symbol: ProtoOASymbol) -> Terms:
    """Bring an instrument and the venue's symbol together; raise VenueError where their grids do not fit."""
    name = instrument.name
    tick_points = round(instrument.tick * POINT)
    if tick_points < 1 or not math.isclose(tick_points / POINT, instrument.tick, rel_tol=1e-9):
        raise VenueError(f"{name}: a tick of {instrument.tick:g} is no multiple of the venue's 0.00001")
    if not 0 <= symbol.digits <= 5:
        raise VenueError(f"{name}: the venue gives prices of {symbol.digits} digits; 0 to 5 are supported")
    lot_volume = round(instrument.lot * VOLUME_UNIT)
    if lot_volume < 1 or not math.isclose(lot_volume / VOLUME_UNIT, instrument.lot, rel_tol=1e-9):
        raise VenueError(f"{name}: a lot of {instrument.lot:g} units is no multiple of the venue's 0.01")
    step = symbol.step_volume or 0
    if step and lot_volume % step:
        raise VenueError(
            f"{name}: the venue trades in steps of {step / VOLUME_UNIT:g} units, and a lot of "
            f"{instrument.lot:g} is no multiple of them: set the lot in the instrument catalogue"
        )
    return Terms(
        index=index,
        instrument=instrument,
        symbol_id=symbol.symbol_id,
        digits=symbol.digits,
        tick_points=tick_points,
        lot_volume=lot_volume,
        min_volume=symbol.min_volume or 0,
        max_volume=symbol.max_volume or 0,
        step_volume=step,
        quote_asset_id=light.quote_asset_id or 0,
        financing=_financing(instrument, symbol),
    )


def _financing(instrument: Instrument, symbol: ProtoOASymbol) -> VenueFinancing | None:
    """A symbol's swap in ticks a lot and night, or in per cent of the value a year where it is counted so."""
    if symbol.swap_long is None and symbol.swap_short is None:
        return None
    kind = symbol.swap_calculation_type or SwapCalculationType.PIPS
    step = {
        SwapCalculationType.PIPS: 10.0**-symbol.pip_position,
        SwapCalculationType.POINTS: 10.0**-symbol.digits,
        SwapCalculationType.PERCENTAGE: instrument.tick,
    }[kind]
    triple, unit = symbol.swap_rollover3_days, step / instrument.tick
    return VenueFinancing(
        instrument=instrument.name,
        long=(symbol.swap_long or 0.0) * unit,
        short=(symbol.swap_short or 0.0) * unit,
        percent=kind is SwapCalculationType.PERCENTAGE,
        minute=-1 if symbol.swap_time is None else symbol.swap_time % MINUTES,
        triple=-1 if triple is None or triple is DayOfWeek.NONE else int(triple) - 1,
    )


def make_books(terms: list[Terms], depth: bool) -> Array:
    """Empty QUOTE_BOOK rows, one per instrument, in the run's order."""
    books = np.zeros(len(terms), QUOTE_BOOK)
    for i, term in enumerate(terms):
        set_terms(books, i, term)
        books[i]["depth"] = depth
    return books


def set_terms(books: Array, which: int, terms: Terms) -> None:
    """Let a book count as the venue does now."""
    book = books[which]
    book["symbol"] = terms.symbol_id
    book["instrument"] = terms.index
    book["round_to"] = last_digit(terms.digits)
    book["tick"] = terms.tick_points
    book["lot"] = terms.lot_volume
    book["lot_inverse"] = 1.0 / terms.lot_volume
