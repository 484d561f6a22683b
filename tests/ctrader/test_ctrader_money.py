"""Swap and margin as the Open API states them, and what its venue charges beside what we book."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ctrader_rig import EURUSD, XAUUSD, Rig, run

from emp.access.ctrader.enums import DayOfWeek, SwapCalculationType
from emp.access.ctrader.messages import ProtoOAExpectedMarginReq
from emp.access.port import StatesTerms
from emp.core.errors import VenueError
from emp.core.records import ACCOUNT
from emp.engine.financing import book_roll

SWAP: dict[str, Any] = {
    "swap_long": -0.65,
    "swap_short": 0.12,
    "swap_rollover3_days": DayOfWeek.WEDNESDAY,
    "swap_time": 1_320,
}


async def rig_with(pem: Path, terms: dict[str, dict[str, Any]], **options: Any) -> Rig:
    rig = Rig(pem, (EURUSD, XAUUSD))
    rig.venue.terms.update(terms)
    for name, value in options.items():
        setattr(rig.venue, name, value)
    return await rig.start()


@pytest.mark.parametrize(
    ("kind", "price"),
    [(None, 1e-4), (SwapCalculationType.PIPS, 1e-4), (SwapCalculationType.POINTS, 1e-5)],
)
def test_swap_is_stated_in_ticks_a_lot_and_night(
    pem: Path, kind: SwapCalculationType | None, price: float
) -> None:
    async def main() -> None:
        rig = await rig_with(pem, {"EURUSD": {**SWAP, "swap_calculation_type": kind}})
        assert isinstance(rig.access.access, StatesTerms)
        (found,) = rig.access.access.financing()
        assert found.instrument == "EURUSD"
        assert found.long == pytest.approx(-0.65 * price / EURUSD.tick)
        assert found.short == pytest.approx(0.12 * price / EURUSD.tick)
        assert (found.minute, found.triple, found.percent) == (1_320, 2, False)
        await rig.stop()

    run(main)


def test_swap_in_per_cent_says_so_and_an_account_without_swap_has_none(pem: Path) -> None:
    async def main() -> None:
        terms = {"EURUSD": {**SWAP, "swap_calculation_type": SwapCalculationType.PERCENTAGE}}
        rig = await rig_with(pem, terms)
        (found,) = rig.access.access.financing()
        assert (found.long, found.short, found.percent) == (-0.65, 0.12, True)
        await rig.stop()
        rig = await rig_with(pem, terms, swap_free=True)
        (found,) = rig.access.access.financing()
        assert (found.long, found.short) == (0.0, 0.0)
        await rig.stop()

    run(main)


def test_margin_is_the_account_s_with_what_is_open_and_what_a_lot_would_ask(pem: Path) -> None:
    async def main() -> None:
        rig = await rig_with(pem, {})
        before = await rig.access.access.margin()
        assert (before.currency, before.equity, before.used) == ("USD", 10_000.0, 0.0)
        lot = EURUSD.lot * 1.10001 / 100
        assert before.lots["EURUSD"] == pytest.approx(lot, abs=0.005)
        assert before.lots["XAUUSD"] > 0.0
        rig.order(1, 3, 110_002, immediate=True)
        await rig.until(lambda: rig.reports and rig.reports[-1].filled == 3, "a fill")
        after = await rig.access.access.margin()
        assert after.used == pytest.approx(3 * lot, abs=0.02)
        assert after.equity == pytest.approx(10_000.0 - 3 * EURUSD.lot * 1e-5, abs=0.02), (
            "half a spread is lost"
        )
        rig.venue.account.money.balance = 5_000_00
        assert (await rig.access.access.margin()).equity == pytest.approx(after.equity - 5_000.0)
        asked = [m for m in rig.venue.received if isinstance(m, ProtoOAExpectedMarginReq)]
        assert len(asked) == 6
        await rig.stop()
        with pytest.raises(VenueError):
            await rig.access.access.margin()

    run(main)


@pytest.mark.parametrize("side", [1, -1])
def test_what_the_venue_charges_is_what_is_booked(pem: Path, side: int) -> None:
    async def main() -> None:
        rig = await rig_with(pem, {"EURUSD": SWAP})
        rig.order(side, 3, 110_002 if side > 0 else 110_000, immediate=True)
        await rig.until(lambda: rig.reports and rig.reports[-1].filled == 3, "a fill")
        (stated,) = rig.access.access.financing()
        account = np.zeros(1, ACCOUNT)
        account["position"] = 3 * side
        ticks = book_roll(account, stated.long, stated.short)
        before = (await rig.access.access.margin()).equity
        (symbol,) = (i for i, one in rig.venue.account.symbols.items() if one.name == "EURUSD")
        rig.venue.account.roll(symbol, -0.65e-4, 0.12e-4)
        (position,) = rig.venue.account.positions.values()
        assert position.swap / 100 == pytest.approx(ticks * EURUSD.tick * EURUSD.lot, abs=0.005)
        held = await rig.access.positions()
        assert [one.qty for one in held] == [3 * side], "a charge is no trade"
        after = (await rig.access.access.margin()).equity
        assert after == pytest.approx(before + position.swap / 100, abs=0.005)
        await rig.stop()

    run(main)
