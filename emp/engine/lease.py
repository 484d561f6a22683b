"""The right to trade an account's instruments: one engine has it at a time, whatever dies, pauses or is cut off.

A holder writes itself into a store, again and again; one that is silent for a term may be followed by another. Nobody
trusts a clock of somebody else: a holder counts its term on its own clock, from before it asked, and stops before the
term is over; whoever wants to follow counts a whole term on its own clock, in which the record has not changed, from
after it first saw it so. Clocks may differ in rate by `DRIFT`, and the wall clocks of the machines, that of the store
too, may be set to anything. (So do Kubernetes' leader election and others; the store's own clock only makes a follower
wait longer.)

A store that begins again may have forgotten what was written last. Then a follower waits a whole term anew, and a
holder that is sure of its term (`sure`) writes itself in again; one that is not gives up.

Each taking raises the token. It stands in every order's id (`emp.core.ids`): a venue, or whoever reads its reports, can
tell an order of an earlier holder from one of the present.
"""

from collections.abc import Sequence
from typing import NamedTuple

from emp.core.clock import Clock
from emp.journal.lease.port import LeaseStore, Mark, Record, StoreError

DRIFT = 0.01
"""Most by which the rate of a machine's monotonic clock may differ from true time; quartz: a hundredth of that."""

_MINUTE_NS = 60_000_000_000
_2025_NS = 1_735_689_600_000_000_000
_S = 1e9


class LeaseTerms(NamedTuple):
    """How long things last, ns."""

    term_ns: int
    margin_ns: int  # before the end, from which nothing leaves any more: what is on its way must have arrived
    answer_ns: int  # that an answer of the store may take


class Lease:
    """One engine's side: a candidate (`try_take`) until it is the holder (`renew`, `give_back`), and never again after
    that. `valid` may be asked by another thread than the one that does the rest.
    """

    def __init__(
        self,
        store: LeaseStore,
        names: Sequence[str],
        holder: str,
        terms: LeaseTerms,
        clock: Clock,
        floor: int = 0,
    ) -> None:
        """`holder` names this process and no other, ever; no token of `floor` or below is taken."""
        self.names = tuple(names)
        self.holder = holder
        self.terms = terms
        self.token = 0  # 0: not taken yet
        self.states: tuple[str, ...] = ("",) * len(self.names)
        """What the holder before has left, per instrument; "" where nothing is known. Known when it is taken."""
        self.lost = ""  # why it is lost for good, in words
        self.problem = ""  # why the store could not be asked last
        self.waits_for = ""  # what a candidate waits for, in words
        self._store, self._clock, self._floor = store, clock, floor
        self._until_ns = 0
        self._marks: tuple[Mark, ...] = ()
        self._since_ns = 0  # when the records were first seen to be as they are

    # --- a candidate

    def try_take(self) -> bool:
        """Look at the records, and take the lease where that may be done; whether it is held now."""
        try:
            return self._try_take()
        except StoreError as error:
            self.problem = str(error)
            self.waits_for = f"an answer: {error}"
            return False

    def _try_take(self) -> bool:
        before = self._clock.monotonic_ns()
        records = self._store.look(self.names)
        self.problem = ""
        if all(one.holder == self.holder and one.token == records[0].token for one in records):
            return self._adopt(records)  # an answer to `take` did not come
        marks = tuple(one.mark for one in records)
        if marks != self._marks:
            self._marks, self._since_ns = marks, self._clock.monotonic_ns()
        self._floor = max(self._floor, *(one.token for one in records))
        longest_ns = max(self.terms.term_ns, *(one.term_us * 1_000 for one in records))
        waited_ns = before - self._since_ns
        waited = waited_ns >= longest_ns * (1 + DRIFT)
        if not waited and not all(one.free for one in records):
            self.waits_for = _waiting(records, longest_ns * (1 + DRIFT) - max(0, waited_ns))
            return False
        forgot = any(one.doubt for one in records) or not any(one.token for one in records)
        floor = max(self._floor, self._minutes() if forgot else 0)
        before = self._clock.monotonic_ns()
        token = self._store.take(
            self.names, self.holder, self.terms.term_ns // 1_000, marks, floor=floor, waited=waited
        )
        if not token:
            self.waits_for = (
                "another engine, which was faster, or a term that is not over by the store's clock"
            )
            return False
        self._hold(token, records, before)
        return True

    def _adopt(self, records: Sequence[Record]) -> bool:
        self.token, self.states = records[0].token, tuple(one.state for one in records)
        self.renew(self.states)
        if self.lost or not self.valid():
            self.token, self.lost = 0, ""  # nothing has left under it: a candidate as before
        return bool(self.token)

    def _hold(self, token: int, records: Sequence[Record], before_ns: int) -> None:
        self.states = tuple(one.state for one in records)
        self._until_ns = before_ns + self._usable_ns
        self.token = token
        self.waits_for = ""

    def _minutes(self) -> int:
        """A floor for tokens where the store knows none, or has begun again: it may have known higher ones, and minutes
        of a calendar are above the tokens of an account that does not change hands more than once a minute.
        """
        return max(0, (self._clock.now_ns() - _2025_NS) // _MINUTE_NS)

    # --- the holder

    def renew(self, states: Sequence[str]) -> None:
        """Begin the term anew, and leave with the record what a successor must know; "" leaves what is there.

        A store that does not answer is said in `problem`; one that says no makes it `lost`.
        """
        if self.lost or not self.token:
            return
        before, until = self._clock.monotonic_ns(), self._until_ns
        sure = until - before > self.terms.answer_ns
        renewed: bool | None = None
        try:
            renewed = self._store.renew(
                self.names, self.holder, self.token, self.terms.term_ns // 1_000, states, sure=sure
            )
            self.problem = ""
        except StoreError as error:
            self.problem = str(error)
        if sure and self._clock.monotonic_ns() >= until:
            # what was said of the term was no longer so when the store heard it, perhaps
            self._lose("this process was paused while it renewed the lease")
        elif renewed is False:
            self._lose(self._taken_by())
        elif renewed:
            self._until_ns = before + self._usable_ns

    def give_back(self, states: Sequence[str]) -> bool:
        """Let another engine take it at once; whether the store has heard it. Nothing leaves after this."""
        if self.lost or not self.token:
            return False
        token, self._until_ns = self.token, 0
        self.lost = "it was given back"
        try:
            return self._store.give_back(self.names, self.holder, token, states)
        except StoreError as error:
            self.problem = str(error)
            return False

    def give_up(self, why: str) -> None:
        """Be no holder any more, whatever the store says later."""
        if not self.lost:
            self._lose(why)

    def valid(self) -> bool:
        """Whether something may leave at this very moment."""
        return not self.lost and self._clock.monotonic_ns() < self._until_ns

    def left_s(self) -> float:
        """Seconds for which it is valid from now on; not above 0: it is not."""
        return (self._until_ns - self._clock.monotonic_ns()) / _S if self.token and not self.lost else 0.0

    def over_s(self) -> float:
        """Seconds since it was valid, while it is not lost."""
        return max(0.0, -self.left_s())

    def close(self) -> None:
        """Let go of the store."""
        self._store.close()

    # --- inside

    @property
    def _usable_ns(self) -> int:
        return int(self.terms.term_ns * (1 - DRIFT)) - self.terms.margin_ns

    def _lose(self, why: str) -> None:
        self._until_ns, self.lost = 0, why

    def _taken_by(self) -> str:
        """Who holds it now, as far as the store says."""
        try:
            other = next((one for one in self._store.look(self.names) if one.holder != self.holder), None)
        except StoreError:
            other = None
        if other is None or (not other.holder and other.token < self.token):
            return "Redis began anew, and it is not certain that nobody else held the lease meanwhile"
        return f"{other.holder or 'nobody'} has it, under token {other.token}, ours was {self.token}"


def _waiting(records: Sequence[Record], left_ns: float) -> str:
    """What a candidate waits for."""
    holders = sorted({f"{one.holder} (token {one.token})" for one in records if one.holder})
    if holders:
        return f"the lease is held by {', '.join(holders)}"
    return f"nobody is known to hold the lease, and a term must pass in silence: {max(0.0, left_ns) / _S:.1f} s more"
