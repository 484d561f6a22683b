"""How a run stands, in a few figures: what `emp status` asks the engine for."""

from typing import Any

from emp.observe.board import Board, InstrumentView


def brief(board: Board) -> dict[str, Any]:
    """Plain JSON values: address, healthy, reasons; once it has reported, run, mode, up_s and instruments.

    Of an instrument: name, position (lots, signed), orders (open), pnl_ticks, pnl_money and currency (None and "" where
    not known), fills, stale_s (None, or seconds without an event while its market is open).
    """
    reasons = board.unhealthy()
    found: dict[str, Any] = {"address": board.address, "healthy": not reasons, "reasons": reasons}
    view = board.view
    if view is None:
        return found
    return found | {
        "run": view.run,
        "mode": view.mode,
        "up_s": (board.now_ns - view.started_ns) / 1e9,
        "instruments": [_instrument(one) for one in view.instruments],
    }


def _instrument(one: InstrumentView) -> dict[str, Any]:
    return {
        "name": one.name,
        "position": one.position,
        "orders": len(one.open_orders),
        "pnl_ticks": one.pnl_ticks,
        "pnl_money": one.pnl_ticks * one.money_per_tick if one.currency else None,
        "currency": one.currency,
        "fills": one.fills,
        "stale_s": one.stale_ms / 1e3 if one.stale else None,
    }
