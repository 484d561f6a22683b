"""What reports say of lots that no order of ours explains, until the venue's positions bear it out.

A report of somebody else's order, or of more lots than we ordered, may be true or damaged. What it tells is a claim:
nothing is booked, closed or opened on it before the venue has said what the account holds.
"""

from collections.abc import Mapping, Sequence

import msgspec

from emp.core.errors import JournalError
from emp.execution.orders import Fill


class Claims:
    """Claims of each instrument, by its index. An instrument may be in doubt without any: how many lots is not told."""

    def __init__(self) -> None:
        self._told: dict[int, list[Fill]] = {}
        self.heard = 0  # reports that have brought an instrument into doubt

    def __bool__(self) -> bool:
        return bool(self._told)

    def doubt(self, i: int) -> None:
        """What instrument `i` holds is in doubt."""
        self.heard += 1
        self._told.setdefault(i, [])

    def add(self, i: int, fill: Fill) -> None:
        """An order that is none of ours is said to have filled."""
        self._told.setdefault(i, []).append(fill)

    def restore(self, told: Mapping[int, Sequence[Fill]]) -> None:
        """Take in what a ledger left in doubt."""
        self._told = {i: list(fills) for i, fills in told.items() if fills}

    def told(self, i: int) -> Sequence[Fill]:
        """What is claimed of instrument `i`, in order."""
        return tuple(self._told.get(i, ()))

    def doubted(self, i: int) -> bool:
        """Whether it is in doubt what instrument `i` holds."""
        return i in self._told

    def lots(self, i: int) -> int:
        """Lots, signed, that are claimed."""
        return sum(one.side * one.qty for one in self._told.get(i, ()))

    def covers(self, i: int, lots: int) -> bool:
        """Whether `lots`, signed, are the claim, or a part of it, or nothing."""
        claimed = self.lots(i)
        return lots * claimed >= 0 and abs(lots) <= abs(claimed)

    def settle(self, i: int, lots: int) -> Sequence[Fill]:
        """End the doubt; what is to be booked where the venue holds `lots`, signed, of the claim. Fills that cancel out
        in lots have still cost money.

        Raises JournalError where lots are borne out that nothing has told of.
        """
        claimed, told = self.lots(i), self._told.pop(i, [])
        if lots == claimed:
            return told
        if not lots:
            return ()
        if not told:
            raise JournalError(f"{lots:+d} lots were borne out, and no report had told of any")
        newest = told[-1]
        return (msgspec.structs.replace(newest, side=1 if lots > 0 else -1, qty=abs(lots)),)
