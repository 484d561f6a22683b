"""Orders over FIX and market data from elsewhere: the venue is asked for none, and everything else stays as it is."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from emp.access.fix.client import FixAccess
from emp.access.port import Sink
from emp.core.codes import OrderStatus
from emp.core.errors import VenueError
from emp.core.instrument import Instrument
from tests.kafka.test_feed import Hears
from tests.kit.doors import PAIR, Fix, FixCtrader, FixPlain
from tests.kit.events import random_events
from tests.kit.orders import cleared, new_order


class Elsewhere:
    """A `QuoteFeed` that does what the test says."""

    def __init__(self, refuses: str = "") -> None:
        self.sink: Sink | None = None
        self.after: Sequence[int] = ()
        self.fills: list[tuple[str, int]] = []
        self.closed = False
        self.refuses = refuses

    async def connect(self, instruments: Sequence[Instrument], sink: Sink) -> None:
        assert [one.name for one in instruments] == [PAIR.name]
        if self.refuses:
            raise VenueError(self.refuses)
        self.sink = sink

    def begin_after(self, known: Sequence[int]) -> None:
        self.after = known

    def filled(self, instrument: str, px: int) -> None:
        self.fills.append((instrument, px))

    async def close(self) -> None:
        self.closed = True


class Heard(Hears):
    def __init__(self) -> None:
        super().__init__()
        self.statuses: list[OrderStatus] = []

    def report(self, update: object) -> None:
        self.statuses.append(update.status)  # type: ignore[attr-defined]


async def until(what: Callable[[], bool]) -> None:
    for _ in range(3_000):
        if what():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


def opened(door: Fix, quotes: Elsewhere, said: list[str]) -> FixAccess:
    assert isinstance(door.access, FixAccess)
    return FixAccess(door.access.settings, door.clock, lambda _, text: said.append(text), quotes=quotes)


@pytest.mark.parametrize("kind", [FixPlain, FixCtrader])
def test_the_venue_takes_orders_and_is_asked_for_no_market_data(kind: type[Fix], tmp_path: Path) -> None:
    async def run() -> None:
        door, quotes, sink, said = kind(tmp_path, tmp_path), Elsewhere(), Heard(), list[str]()
        await door.open()
        door.venue._wanted.set()  # its market goes on though nobody subscribes
        await until(lambda: door.market.shown > 0)
        access = opened(door, quotes, said)
        access.begin_after([77])
        await access.connect([PAIR], sink)
        assert quotes.after == [77]
        assert quotes.sink is sink
        assert len(access.links) == 1
        assert [one.channel for one in sink.links] == ["trade"]
        quotes.sink.events(random_events(3, 1))
        assert sink.heard == 3
        await until(lambda: not access.explaining)
        access.send(cleared(new_order("0ABCDEFG-1", 1, 2, 100_010, instrument=PAIR.name, immediate=True)))
        await until(lambda: OrderStatus.FILLED in sink.statuses)
        if (
            kind is FixPlain
        ):  # the other dialect's reports do not tell at what price something has just filled
            assert [name for name, _ in quotes.fills] == [PAIR.name]
        await access.close()
        assert quotes.closed
        await door.shut()
        assert door.position == 2
        assert sink.heard == 3
        assert not [text for text in said if "35=V" in text]

    asyncio.run(run())


def test_market_data_that_are_not_to_be_had_leave_no_session(tmp_path: Path) -> None:
    async def run() -> None:
        door = FixPlain(tmp_path, tmp_path)
        await door.open()
        access = opened(door, Elsewhere("kafka: not there"), [])
        with pytest.raises(VenueError, match="kafka: not there"):
            await access.connect([PAIR], Heard())
        await until(lambda: not [one for one in door.venue.clients if one.trades])
        await door.shut()

    asyncio.run(run())
