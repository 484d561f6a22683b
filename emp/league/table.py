"""Rows of the table of opponents, and players brought to the same turnover."""

from collections.abc import Callable

import msgspec

from emp.core.records import Array
from emp.league.training import turnover, utility

SHIFT, BISECTIONS, CLOSE = 2.0, 8, 0.03
"""How far a policy is moved to match a turnover, how often it is tried, and how close is close enough."""


class Row(msgspec.Struct):
    """A fixed opponent, or a player of the league, in seat 1 against Best; per episode."""

    player: str
    pnl: float
    sharpe: float
    lots: float
    maker_fills: float
    queue_ahead: float | None  # lots before its orders when they were accepted, mean over its fills as maker
    against: float  # what Best made against it
    against_sharpe: float


def row_of(player: str, it: Array, mine: Array) -> Row:
    """The row of a player from its OUTCOME (episodes,) and that of who sat opposite."""
    fills = float(it["maker_fills"].sum())
    return Row(
        player=player,
        pnl=float(it["pnl"].mean()),
        sharpe=float(utility(it)),
        lots=float(turnover(it)),
        maker_fills=float(it["maker_fills"].mean()),
        queue_ahead=float(it["ahead"].sum() / fills) if fills else None,
        against=float(mine["pnl"].mean()),
        against_sharpe=float(utility(mine)),
    )


def matched(lots: Callable[[Array], float], rival: Array, want: float) -> Array:
    """The policy with its readiness to stand moved to where its `lots` are `want`; as it is where none will do.

    A training ends within its noise of the turnover it is held to, and a comparison counts at equal turnover only.
    """
    low, high = -SHIFT, SHIFT
    for _ in range(BISECTIONS):
        shifted = rival.copy()
        shifted[0] += 0.5 * (low + high)
        found = lots(shifted)
        if abs(found / max(1e-6, want) - 1.0) <= CLOSE:
            return shifted
        low, high = (0.5 * (low + high), high) if found < want else (low, 0.5 * (low + high))
    return rival
