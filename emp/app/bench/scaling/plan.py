"""What a fleet takes of cores, memory, wires and services, which of them is full first, and what it costs."""

import math
from typing import NamedTuple

HOURS = 730.0
"""Of a month, as clouds count it."""


class Resource(NamedTuple):
    """Something that is used up."""

    name: str
    used: float
    there: float | None  # None: not measured here
    unit: str
    source: str

    @property
    def load(self) -> float | None:
        """Share that is used; infinite where there is nothing."""
        if self.there is None:
            return None
        return self.used / self.there if self.there else math.inf


class Cost(NamedTuple):
    """So many instruments, each engine with a core of its own."""

    instruments: int
    events_per_s: float
    engines: int | None  # None: an engine bears not even its own
    by: str  # what the number of engines follows from: "cpu" or "memory"
    per_month: float | None
    per_instrument_month: float | None
    renewals_per_s: float | None
    bytes_per_day: float  # of all run folders
    wire_mbit_s: float  # of market data, once


class Unit(NamedTuple):
    """What one event, one instrument and one engine take."""

    event_s: float  # of a core
    fixed_bytes: float  # memory of an engine
    instrument_bytes: float
    folder_bytes: float  # of an event
    record_bytes: float  # of an event on the wire
    renewals_per_s: float  # of an engine
    bearable: float  # utilisation up to which delays are within the limit
    core_bytes: float  # memory that comes with a core
    core_hour: float  # price


def cost_of(instruments: int, rate: float, unit: Unit) -> Cost:
    """What so many instruments cost, each of `rate` events a second as a mean.

    An engine takes as many instruments as its core bears within the limit on delays, and its share of memory holds.
    """
    events = instruments * rate
    by_cpu = events * unit.event_s / unit.bearable if unit.bearable else math.inf
    room = unit.core_bytes - unit.fixed_bytes
    by_memory = instruments * unit.instrument_bytes / room if room > 0.0 else math.inf
    fits = max(by_cpu, by_memory) < math.inf
    engines = math.ceil(max(by_cpu, by_memory, 1.0)) if fits else None
    price = None if engines is None else engines * unit.core_hour * HOURS
    return Cost(
        instruments,
        events,
        engines,
        "cpu" if by_cpu >= by_memory else "memory",
        price,
        None if price is None else price / instruments,
        None if engines is None else engines * unit.renewals_per_s,
        events * unit.folder_bytes * 86_400.0,
        events * unit.record_bytes * 8.0 / 1e6,
    )


def first_full(resources: list[Resource]) -> Resource | None:
    """Of those that were measured, the one that is used most."""
    known = [one for one in resources if one.load is not None]
    return max(known, key=lambda one: one.load or 0.0) if known else None
