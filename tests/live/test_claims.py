"""A report of lots that no order of ours explains closes nothing until the venue has said what it holds."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from emp.core.codes import OrderStatus
from emp.core.contracts import NewOrder, OrderUpdate, VenuePosition
from emp.core.errors import VenueError
from emp.engine.reconciliation import audit
from tests.live.test_live import bought
from tests.live.world import BTC, Venue, World, play

OTHER = msgspec.structs.replace(BTC, name="ETHUSDT")


class Two(World):
    """A world of two instruments."""

    others = (OTHER,)


class Mute(Venue):
    """A venue that says what it holds unless it is mute."""

    def __init__(self) -> None:
        super().__init__()
        self.mute = False

    async def positions(self) -> Sequence[VenuePosition]:
        if self.mute:
            raise VenueError("no answer")
        return await super().positions()


def by_hand(world: World, told: int) -> None:
    """Somebody else's order is said to have sold so many lots."""
    world.venue.sink.report(
        OrderUpdate(
            clOrdID="by-hand",
            execID="h1",
            status=OrderStatus.PARTIALLY_FILLED,
            filled=told,
            price=100_000,
            ts=9,
            instrument=BTC.name,
            side=-1,
        )
    )


def closings(world: World, since: int) -> list[tuple[int, int]]:
    return [(one.side, one.qty) for one in world.venue.commands[since:] if isinstance(one, NewOrder)]


def test_the_owners_word_on_one_instrument_ends_no_doubt_of_another(tmp_path: Path) -> None:
    world = Two(tmp_path)
    engine, live = world.engine, world.live
    live.connected.set()
    told = {"clOrdID": "hand", "execID": "h", "filled": 3, "price": 100, "ts": 9, "side": -1}
    world.driver.report(OrderUpdate(status=OrderStatus.FILLED, instrument=OTHER.name, **told))
    assert engine.desk.risk["halted"].all()
    assert live.owner.ask("resume", "operator", BTC.name) == "trading again; held: nothing"
    assert engine.desk.risk["halted"].tolist() == [False, True]
    assert engine.positions.claims.lots(1) == -3
    assert str(live.owner.ask("resume", "operator", OTHER.name)).startswith(
        "not resumed: our fills are taken"
    )
    assert not engine.positions.claims
    world.taps.close()
    world.ledger.close()


async def ticks(world: World, n: int = 40) -> None:
    for _ in range(n):
        world.venue.tick()
        await asyncio.sleep(0.01)


@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.parametrize(("told", "sold"), [(3, 3), (797, 3), (797, 0)])
def test_what_is_closed_is_what_the_venue_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: int, sold: int
) -> None:
    monkeypatch.setattr(audit, "AGAIN_S", 0.1)
    world = World(tmp_path)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await bought(world, 4)
        since = len(world.venue.commands)
        world.venue.position -= sold
        by_hand(world, told)
        await world.until(lambda: world.engine.halted and not world.engine.flattening, 20)
        assert closings(world, since) == [(-1, 4 - sold)]
        await world.until(lambda: not [one for one in world.board.unhealthy() if "explains" in one], 20)

    play(world, script)
    assert world.venue.position == world.position == 0
    (note, *_) = [*world.recorded().notes("adjustment"), None]
    assert (note is None) == (sold == 0)


@pytest.mark.usefixtures("compiled_engine")
def test_a_venue_that_never_answers_ends_in_a_halt_that_a_person_clears(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "AGAIN_S", 0.05)
    venue = Mute()
    world = World(tmp_path, venue=venue)

    async def script(world: World) -> None:
        await world.until(lambda: world.live.connected.is_set(), 120)
        await bought(world, 4)
        since, venue.mute = len(venue.commands), True
        by_hand(world, 797)
        await ticks(world)
        assert world.engine.halted
        assert closings(world, since) == []
        assert any("explains" in one for one in world.board.unhealthy())
        assert "has not said" in world.live.left_open()
        world.live.owner.control("flatten", "operator")
        await ticks(world)
        assert closings(world, since) == [], "nobody knows what would be closed"
        assert str(world.live.owner.ask("resume", "operator", "")).startswith(
            "not resumed: our fills are taken"
        )
        await world.until(lambda: not world.engine.flattening, 20)
        assert closings(world, since) == [(-1, 4)]
        world.live.owner.control("resume", "operator")
        await ticks(world)
        assert closings(world, since) == [(-1, 4)], "what is held is not known yet"
        venue.mute = False
        await bought(world, 2)

    play(world, script)
