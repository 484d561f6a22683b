"""Never two that may send, whatever comes between two steps; and an end to it where nothing goes wrong any more."""

from collections.abc import Callable
from typing import Any

import pytest

from emp.core.clock import SimClock
from emp.core.ids import cl_ord_id, sequence_of, token_of
from emp.engine.lease import DRIFT, Lease, LeaseTerms
from emp.journal.lease.memory import MemoryStore
from emp.journal.lease.port import StoreError
from tests.lease.worlds import TERM_NS, TERMS, Drifting, World

SEEDS = 100
STEPS = 100


def test_there_are_never_two_that_may_send() -> None:
    takes = 0
    for seed in range(SEEDS):
        world = World(seed).run(STEPS)
        assert world.most_valid <= 1, f"seed {seed}"
        takes += world.takes
    assert takes > 5 * SEEDS  # it was tried


def test_every_holder_has_a_higher_token_while_the_store_remembers() -> None:
    for seed in range(SEEDS):
        world = World(seed, forgets=False).run(STEPS)
        assert world.most_valid <= 1, f"seed {seed}"
        assert world.tokens == sorted(set(world.tokens)), f"seed {seed}"


class CountsFromTheAnswer(Lease):
    """Begins its term where the answer came, not where the question left."""

    def renew(self, states) -> None:  # type: ignore[no-untyped-def]
        before = self._until_ns
        super().renew(states)
        if self._until_ns > before:
            self._until_ns = self._clock.monotonic_ns() + self._usable_ns


class TrustsItsClock(Lease):
    """Counts on half a term that it has not got."""

    @property
    def _usable_ns(self) -> int:
        return int(self.terms.term_ns * (1.5))


class TakesWhatIsThere(Lease):
    """Waits for nothing but the store's clock."""

    def _try_take(self) -> bool:
        self._marks, self._since_ns = tuple(one.mark for one in self._store.look(self.names)), -10 * TERM_NS
        return super()._try_take()


class IsAlwaysSure(Lease):
    """Writes itself into a store that has forgotten it, whatever time has passed."""

    def renew(self, states) -> None:  # type: ignore[no-untyped-def]
        if self.lost or not self.token:
            return
        before = self._clock.monotonic_ns()
        if self._store.renew(
            self.names, self.holder, self.token, self.terms.term_ns // 1_000, states, sure=True
        ):
            self._until_ns = before + self._usable_ns


class BelievesTheRecord(Lease):
    """Does not mind that a store has begun anew."""

    def __init__(self, store, *rest) -> None:  # type: ignore[no-untyped-def]
        super().__init__(store, *rest)

    def _try_take(self) -> bool:
        records = self._store.look(self.names)
        if not any(one.holder for one in records):
            self._marks, self._since_ns = tuple(one.mark for one in records), -10 * TERM_NS
        return super()._try_take()


def guarded(make: type[Lease]) -> Callable[..., Lease]:
    """A fault may let a failing store through; that is not what is looked for."""

    class Guarded(make):  # type: ignore[misc, valid-type]
        def renew(self, states) -> None:  # type: ignore[no-untyped-def]
            try:
                super().renew(states)
            except Exception as error:
                self.problem = str(error)

    return Guarded


@pytest.mark.parametrize(
    "fault", [CountsFromTheAnswer, TrustsItsClock, TakesWhatIsThere, IsAlwaysSure, BelievesTheRecord]
)
def test_a_fault_is_found(fault: type[Lease]) -> None:
    assert any(World(seed, guarded(fault)).run(STEPS).most_valid > 1 for seed in range(SEEDS))


# --- one step after the other ---------------------------------------------------------------------------------


class Both:
    """A store and a machine whose clocks are one."""

    def __init__(self) -> None:
        self.clock = SimClock(1_790_000_000 * 10**9)
        self.store = MemoryStore(lambda: self.clock.now_ns() // 1_000)

    def lease(self, holder: str, floor: int = 0, terms: LeaseTerms = TERMS) -> Lease:
        return Lease(self.store, ("A",), holder, terms, self.clock, floor)

    def held(self, holder: str) -> Lease:
        lease = self.lease(holder)
        assert not lease.try_take()
        self.clock.advance(int(1.02 * TERM_NS))
        assert lease.try_take()
        return lease


def test_who_follows_waits_for_a_term_of_silence_and_says_for_whom() -> None:
    both = Both()
    first, second = both.held("one"), both.lease("two")
    assert not second.try_take()
    assert "held by one (token" in second.waits_for
    for _ in range(20):  # as long as it is renewed
        both.clock.advance(TERM_NS // 3)
        first.renew(("loss 7",))
        assert first.valid()
        assert not second.try_take()
    both.clock.advance(int(1.02 * TERM_NS))
    assert not first.valid()
    assert second.try_take()
    assert second.valid()
    assert second.token == first.token + 1
    assert second.states == ("loss 7",)
    first.renew(("",))
    assert first.lost.startswith("two has it, under token")
    assert not first.valid()


@pytest.mark.parametrize(("slow", "fast"), [(1 - DRIFT, 1 + DRIFT), (1.0, 1.0), (1 + DRIFT, 1 - DRIFT)])
def test_a_margin_lies_between_two_holders_whose_clocks_drift(slow: float, fast: float) -> None:
    world = World(1, engines=2)
    world.clocks = [Drifting(world, slow), Drifting(world, fast)]
    one, two = (
        Lease(world.store, ("A",), name, TERMS, clock)
        for name, clock in zip(("one", "two"), world.clocks, strict=True)
    )
    while not one.try_take():
        world.now_ns += TERM_NS // 1_000
    ended = 0
    while not two.try_take():
        world.now_ns += TERM_NS // 1_000
        ended = ended or (0 if one.valid() else world.now_ns)
    assert world.now_ns - ended >= 0.98 * TERMS.margin_ns
    assert (
        world.now_ns - ended <= TERMS.margin_ns + 0.06 * TERM_NS
    )  # and no one waits for much longer than that


def test_what_is_given_back_is_taken_at_once_but_not_from_a_store_that_began_anew() -> None:
    both = Both()
    first = both.held("one")
    snapshot = both.store.snapshot()
    assert first.give_back(("end",))
    assert not first.valid()
    second = both.lease("two")
    assert second.try_take()
    assert second.states == ("end",)
    both.store.restart(snapshot)  # in which it is held by the first
    assert not both.lease("three").try_take()


def test_an_answer_that_was_lost_is_found_out() -> None:
    both = Both()
    first = both.lease("one")
    first.try_take()
    both.clock.advance(int(1.02 * TERM_NS))
    marks = [one.mark for one in both.store.look(("A",))]
    token = both.store.take(("A",), "one", TERM_NS // 1_000, marks, floor=4, waited=True)
    assert first.try_take()  # it was heard, and nobody said so
    assert first.token == token
    assert first.valid()


def test_a_store_that_is_silent_makes_it_invalid_and_not_lost() -> None:
    both = Both()
    first = both.held("one")
    both.store.answers = False
    first.renew(("",))
    assert first.problem
    assert first.valid()
    both.clock.advance(TERM_NS)
    first.renew(("",))
    assert not first.valid()
    assert not first.lost
    both.store.answers = True
    first.renew(("",))  # nobody has taken it meanwhile
    assert first.valid()


def test_a_holder_is_known_again_by_a_store_that_forgot_it_while_it_is_sure() -> None:
    both = Both()
    first = both.held("one")
    both.store.restart()
    first.renew(("state",))
    assert first.valid()
    assert both.store.look(("A",))[0].state == "state"
    both.clock.advance(TERM_NS)
    both.store.restart()
    first.renew(("",))
    assert first.lost.startswith("Redis began anew")


def test_tokens_go_on_above_what_was_known() -> None:
    both = Both()
    assert both.held("one").token > 10**5  # minutes of the calendar, where nobody knows of any
    both.store.restart()
    third = both.lease("three", floor=2**24)
    third.try_take()
    both.clock.advance(int(1.02 * TERM_NS))
    assert third.try_take()
    assert third.token == 2**24 + 1


def test_no_token_is_given_again_by_a_store_that_was_restored_from_an_old_dump() -> None:
    both = Both()
    first = both.held("one")
    dump = both.store.snapshot()
    both.clock.advance(int(1.02 * TERM_NS))
    second = both.lease("two")
    second.try_take()
    both.clock.advance(600 * 10**9)
    assert second.try_take()
    assert second.token == first.token + 1
    both.store.restart(dump)  # and nobody is left who knows of the second
    both.clock.advance(600 * 10**9)
    third = both.lease("three")
    third.try_take()
    both.clock.advance(int(1.02 * TERM_NS))
    assert third.try_take()
    assert third.token > second.token


# --- ids ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", [1, 31, 32, 1_049_000, 2**25 - 1])
@pytest.mark.parametrize("sequence", [0, 1, 99_999_999, 2**30 - 1])
def test_an_id_tells_number_and_token(token: int, sequence: int) -> None:
    name = cl_ord_id("0ABCDEFG", sequence, token)
    assert len(name) == 20
    assert (sequence_of("0ABCDEFG", name), token_of(name)) == (sequence, token)
    assert token_of(name + "C") == token  # what a door hangs onto it
    assert sequence_of("0ABCDEFH", name) == -1
    assert cl_ord_id("0ABCDEFG", sequence, token - 1 or 1) <= name


@pytest.mark.parametrize("sequence", [0, 7, 99_999_999])
def test_an_id_without_a_token_is_as_it_was(sequence: int) -> None:
    name = cl_ord_id("0ABCDEFG", sequence)
    assert name == f"0ABCDEFG-{sequence:08d}"
    assert (sequence_of("0ABCDEFG", name), token_of(name)) == (sequence, 0)


@pytest.mark.parametrize(
    "name", ["", "0ABCDEFG", "0ABCDEFG-", "0ABCDEFG-x1", "manual-1", "GONE-1-0ABCDEFG-00000001"]
)
def test_other_ids_are_none_of_ours(name: str) -> None:
    assert (sequence_of("0ABCDEFG", name), token_of(name)) == (-1, 0)


def test_no_id_is_made_that_could_be_another() -> None:
    with pytest.raises(ValueError, match="token"):
        cl_ord_id("0ABCDEFG", 1, 2**25)
    with pytest.raises(ValueError, match="number"):
        cl_ord_id("0ABCDEFG", 2**30, 1)


class Deaf(MemoryStore):
    """A store that takes a lease without its answer being heard, and then says no once."""

    def __init__(self, clock: SimClock) -> None:
        super().__init__(lambda: clock.monotonic_ns() // 1_000)
        self.heard = self.agrees = False

    def take(self, *asked: Any, **how: Any) -> int:
        token = super().take(*asked, **how)
        if not self.heard:
            self.heard = True
            raise StoreError("no answer")
        return token

    def renew(self, *asked: Any, **how: Any) -> bool:
        if not self.agrees:
            self.agrees = True
            return False
        return super().renew(*asked, **how)


def test_a_candidate_that_finds_itself_the_holder_and_may_not_be_goes_on_as_one() -> None:
    clock = SimClock(1)
    lease = Lease(Deaf(clock), ["GOOG"], "me", TERMS, clock)
    found = []
    for _ in range(8):
        found.append(lease.try_take())
        if found[-1]:
            break
        clock.advance(TERM_NS)
    assert found[-1]
    assert not lease.lost
    assert lease.valid()
