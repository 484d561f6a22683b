"""Whether the account holds what our fills make, as far as the venue can be asked. While that is not known nothing is
opened, and why it is not known is said.
"""

from collections.abc import Callable, Iterable

import structlog

from emp.core.contracts import Control
from emp.engine.market_clock import MarketClock
from emp.engine.reconciliation.audit import PositionAudit, PositionWatch
from emp.engine.reconciliation.others import OthersTrades
from emp.engine.reconciliation.positions import Positions
from emp.observe.board import Board

_log = structlog.get_logger(__name__)


class Agreement:
    """Looks at what the venue holds all the time, and at once where something was told or may have been missed."""

    def __init__(
        self,
        positions: Positions,
        audit: PositionAudit,
        others: OthersTrades,
        market: MarketClock,
        control: Callable[[Control], None],
        board: Board,
        known: Callable[[bool], None],
    ) -> None:
        """`control` records and applies what the venue has said; `known` is told where it begins, or ceases, to be
        known what the account holds.
        """
        self._names, self._claims = positions.orders.instruments, positions.claims
        self._board, self._say_known = board, known
        self._watch = PositionWatch(audit, positions, others, market, control, self._looked)
        self._known = True
        self._heard = True  # whether the trade link is up
        self._claims_heard = 0  # of those that were looked at

    async def run(self) -> None:
        """Look until cancelled."""
        await self._watch.run()

    def link(self, *, up: bool) -> None:
        """The trade link is up, or down: a stop that rests at the venue, or somebody else, may trade meanwhile."""
        back, self._heard = up and not self._heard, up
        if not up:
            self._set_known(False)
        elif back:
            self._watch.look_at_once()

    def reported(self) -> None:
        """Reports were applied: where they have told of lots that no order of ours explains, ask the venue what it
        holds, and say so until it answers.
        """
        if self._claims.heard == self._claims_heard:
            return
        self._claims_heard = self._claims.heard
        self._set_known(False)
        self._watch.look_at_once()
        told = [f"{name} {self._claims.lots(i):+d}" for i, name in self._doubted()]
        text = (
            f"lots that no order of ours explains were told ({', '.join(told)}): nothing is closed or opened there "
            "until the venue has said what it holds, or `emp resume` takes our own fills for it"
        )
        self._board.raise_alarm("claims", text)
        _log.error("lots that no order of ours explains were told", lots=", ".join(told))

    def doubted(self, instrument: str = "") -> list[str]:
        """Instruments, or that one, of which it is in doubt what the account holds."""
        return [name for _, name in self._doubted() if instrument in ("", name)]

    def take_ours(self, names: Iterable[str]) -> None:
        """The owner has looked: what our fills make is what is held of these instruments."""
        self._watch.take_ours(names)

    def _doubted(self) -> list[tuple[int, str]]:
        return [(i, name) for i, name in enumerate(self._names) if self._claims.doubted(i)]

    def _set_known(self, known: bool) -> None:
        if known != self._known:
            self._known = known
            self._say_known(known)

    def _looked(self, problem: str, agrees: bool) -> None:
        """After a look: say where it is not known what the account holds, though orders could leave."""
        if agrees and self._heard:
            self._set_known(True)
        if not self._claims:
            self._board.clear_alarm("claims")
        if problem and self._heard:
            self._board.raise_alarm("positions", f"what the account holds is not known: {problem}")
        else:
            self._board.clear_alarm("positions")
