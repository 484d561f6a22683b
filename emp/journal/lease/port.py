"""The port to whatever remembers leases: one record per instrument of an account, changed in one step or not at all.

A store decides nothing about time but its own: when a record was written, and when the term that its holder asked for
is over by the store's clock. Who may believe what is decided by `emp.engine.lease`.
"""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from emp.core.errors import EmpError


class StoreError(EmpError):
    """The store did not answer: whether it has done what was asked is not known."""

    exit_code = 5


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the store knows of the lease of one instrument."""

    token: int = (
        0  # of the newest holder; each taking raises it, and nothing lowers it while the store remembers
    )
    beat: int = 0  # counts what holders have written
    holder: str = ""  # "": it was given back, or never taken
    left_us: int = 0  # of the holder's term by the store's clock; not above 0: it is over
    term_us: int = 0  # that the holder asked for
    server: str = ""  # the store's incarnation: another one may have forgotten what came last
    doubt: bool = True  # nobody has written since this incarnation began: what is here may be old
    state: str = ""  # what the successor must know, as the holder wrote it; "": nothing is known

    @property
    def mark(self) -> "Mark":
        """By which it is known whether anything was written since."""
        return Mark(self.token, self.beat, self.server)

    @property
    def free(self) -> bool:
        """Whether it was given back, and nothing can have been forgotten since."""
        return not self.holder and not self.doubt


class Mark(msgspec.Struct, frozen=True, array_like=True):
    """Token, beat and incarnation of a record."""

    token: int = 0
    beat: int = 0
    server: str = ""


class LeaseStore(Protocol):
    """Every method is one atomic step over the records of all `names`; StoreError where the store does not answer."""

    def look(self, names: Sequence[str]) -> tuple[Record, ...]:
        """The records, in order."""

    def take(
        self,
        names: Sequence[str],
        holder: str,
        term_us: int,
        marks: Sequence[Mark],
        *,
        floor: int,
        waited: bool,
    ) -> int:
        """Make `holder` the holder of all, and return the new token: above every token there and above `floor`.

        0 where a record is not as `marks` has it, or is not free and either `waited` is false or its term is not over
        by the store's clock. A term that ends further away than it is long is one from before the store's clock was set
        back: it counts as over.
        """

    def renew(
        self,
        names: Sequence[str],
        holder: str,
        token: int,
        term_us: int,
        states: Sequence[str],
        *,
        sure: bool,
    ) -> bool:
        """Begin the holder's term anew and replace the states; an empty one leaves what is there.

        True where every record names this holder and token and is not in doubt. With `sure` (the holder's term is not
        over by its own clock) also where the store has forgotten of it: no record has a higher token, or this one under
        another holder.
        """

    def give_back(self, names: Sequence[str], holder: str, token: int, states: Sequence[str]) -> bool:
        """Let anybody take it at once; False, and nothing is done, where it is not this holder's any more."""

    def close(self) -> None:
        """Let go of the connection."""
