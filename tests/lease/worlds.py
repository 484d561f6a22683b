"""Engines that want one lease, in a world where everything that may happen between two steps of one happens in another.

True time is the world's. Each engine has a clock of its own, slower or faster within the stated bound; a call of the
store takes time before it is heard and after it was answered, in which the other engines act, the store dies and begins
again with less than it knew, and clocks of the wall are set. After each moment it is asked who may send.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from emp.engine.lease import DRIFT, Lease, LeaseTerms
from emp.journal.lease.memory import MemoryStore
from emp.journal.lease.port import Mark, Record, StoreError

TERM_NS = 1_000_000
TERMS = LeaseTerms(TERM_NS, TERM_NS // 10, TERM_NS // 6)
DEPTH = 3  # calls of other engines inside a call


class Drifting:
    """A machine's clocks: the monotonic one at another rate than true time."""

    def __init__(self, world: "World", rate: float) -> None:
        self._world, self._rate = world, rate
        self.wall_ns = 0

    def now_ns(self) -> int:
        return self._world.now_ns + self.wall_ns

    def monotonic_ns(self) -> int:
        return int(self._world.now_ns * self._rate)


class Far:
    """The store as one engine reaches it."""

    def __init__(self, world: "World") -> None:
        self._world = world

    def look(self, names: Sequence[str]) -> tuple[Record, ...]:
        return self._world.called(lambda store: store.look(names))

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
        def take(store: MemoryStore) -> int:
            token = store.take(names, holder, term_us, marks, floor=floor, waited=waited)
            if token:
                self._world.tokens.append(token)
            return token

        return int(self._world.called(take))

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
        return self._world.called(lambda store: store.renew(names, holder, token, term_us, states, sure=sure))

    def give_back(self, names: Sequence[str], holder: str, token: int, states: Sequence[str]) -> bool:
        return self._world.called(lambda store: store.give_back(names, holder, token, states))

    def close(self) -> None:
        pass


class World:
    """One store and a few engines that come, hold, pause and go."""

    def __init__(
        self, seed: int, make: Callable[..., Lease] = Lease, engines: int = 3, *, forgets: bool = True
    ) -> None:
        self.rng = np.random.default_rng(seed)
        self.now_ns = 0
        self._wall_us = 10**15
        self.store = MemoryStore(lambda: self._wall_us + self.now_ns // 1_000)
        self._make, self._forgets = make, forgets
        self._snapshots: list[Any] = []
        self._busy: set[int] = set()
        self._born = 0
        self.forgot = False
        self.clocks = [Drifting(self, 1 + DRIFT * float(self.rng.choice([-1, 0, 1]))) for _ in range(engines)]
        self.leases = [self._new(i) for i in range(engines)]
        self.tokens: list[int] = []
        self.takes = 0
        self.most_valid = 0

    def _new(self, i: int) -> Lease:
        self._born += 1
        return self._make(Far(self), ("A", "B"), f"h{self._born}", TERMS, self.clocks[i])

    def called(self, what: Callable[[MemoryStore], Any]) -> Any:
        self.elapse()
        if self.rng.random() < 0.1:
            raise StoreError("lost on its way")
        answer = what(self.store)
        if self.rng.random() < 0.3 and self._forgets:
            self._snapshots.append(self.store.snapshot())
        self.elapse()
        if self.rng.random() < 0.1:
            raise StoreError("the answer was lost")
        return answer

    def elapse(self) -> None:
        """Let time pass: mostly little, now and then more than a term; and others act meanwhile."""
        for _ in range(int(self.rng.integers(1, 4))):
            longest = self.rng.choice([TERM_NS // 500, TERM_NS // 20, 2 * TERM_NS], p=[0.6, 0.32, 0.08])
            self.now_ns += int(self.rng.integers(0, longest))
            self.look()
            if len(self._busy) < DEPTH and self.rng.random() < 0.5:
                self.act(int(self.rng.integers(len(self.leases))))
            self.befall()

    def befall(self) -> None:
        draw = self.rng.random()
        if draw < 0.03:
            if self._forgets and self.rng.random() < 0.7:
                self.forgot = True
                old = (
                    self._snapshots[int(self.rng.integers(len(self._snapshots)))] if self._snapshots else None
                )
                self.store.restart(old if self.rng.random() < 0.7 else None)
            else:
                self.store.restart(self.store.snapshot())
        elif draw < 0.05:
            self._wall_us += int(self.rng.integers(-5, 6)) * TERM_NS // 1_000

    def act(self, i: int) -> None:
        """One step of an engine that is not in the middle of one."""
        if i in self._busy:
            return
        self._busy.add(i)
        lease = self.leases[i]
        try:
            if lease.lost:
                self.leases[i] = self._new(i)
            elif not lease.token:
                if lease.try_take():
                    self.takes += 1
            elif self.rng.random() < 0.03:
                lease.give_back(("x", "x"))
            elif self.rng.random() < 0.03:
                self.leases[i] = self._new(i)  # SIGKILL
            else:
                lease.renew(("x", "x"))
        finally:
            self._busy.discard(i)
        self.look()

    def look(self) -> None:
        self.most_valid = max(self.most_valid, sum(one.valid() for one in self.leases))

    def run(self, steps: int) -> "World":
        for _ in range(steps):
            self.act(int(self.rng.integers(len(self.leases))))
            self.elapse()
        return self
