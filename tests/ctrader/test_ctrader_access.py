"""The access against the venue, over TLS: every flow, and every fault the venue can make."""

from pathlib import Path

from ctrader_rig import EURUSD, XAUUSD, Rig, run


def test_logon_and_books(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD, XAUUSD)).start()
        await rig.until(lambda: len(rig.rows) >= 2, "first books")
        rig.market.show("EURUSD", [(110_001, 7)], [(110_003, 1)])
        await rig.until(lambda: len(rig.rows) >= 3, "a change")
        row = rig.rows[-1]
        assert (row["bid_px"][0], row["bid_sz"][0], row["ask_px"][0], row["ask_sz"][0]) == (
            110_001,
            7,
            110_003,
            1,
        )
        assert (row["n_bid"], row["n_ask"], row["instrument"]) == (1, 1, 0)
        await rig.stop()

    run(main)


def test_crossing_order_fills(pem: Path) -> None:
    async def main() -> None:
        rig = await Rig(pem, (EURUSD,)).start()
        name = rig.order(1, 7, 110_003, immediate=True)
        await rig.until(lambda: "filled" in rig.statuses(name), "fill")
        assert rig.statuses(name) == ["new", "partially_filled", "filled"]
        fills = rig.of(name)
        assert [(f.filled, f.price) for f in fills] == [(0, 110_003), (5, 110_002), (7, 110_003)]
        (held,) = await rig.access.positions()
        assert held.qty == 7
        await rig.stop()

    run(main)
