"""Leases in memory: the store's rules in Python, for tests, and to hold the scripts of Redis against."""

import copy
from collections.abc import Callable, Sequence

import msgspec

from emp.journal.lease.port import Mark, Record, StoreError


class _Entry(msgspec.Struct):
    token: int = 0
    beat: int = 0
    holder: str = ""
    until_us: int = 0
    term_us: int = 0
    server: str = ""
    doubt: bool = True
    state: str = ""


class MemoryStore:
    """One Redis. `now_us` is its wall clock, which may be set."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._entries: dict[str, _Entry] = {}
        self._incarnation = 0
        self.answers = True

    # --- what befalls it

    def snapshot(self) -> dict[str, _Entry]:
        """What it would read from its disk, were it to die now."""
        return copy.deepcopy(self._entries)

    def restart(self, found: dict[str, _Entry] | None = None) -> None:
        """Die, and begin again with what a snapshot had; without one, with nothing."""
        self._entries = copy.deepcopy(found) if found is not None else {}
        self._incarnation += 1

    # --- the port

    def look(self, names: Sequence[str]) -> tuple[Record, ...]:
        """As the port."""
        now = self._now_us()
        return tuple(
            Record(
                token=one.token,
                beat=one.beat,
                holder=one.holder,
                left_us=one.until_us - now,
                term_us=one.term_us,
                server=one.server,
                doubt=one.doubt,
                state=one.state,
            )
            for one in self._all(names)
        )

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
        """As the port."""
        entries, now = self._all(names), self._now_us()
        for one, mark in zip(entries, marks, strict=True):
            if (one.token, one.beat, one.server) != (mark.token, mark.beat, mark.server):
                return 0
            if not one.holder and not one.doubt:
                continue
            if not waited or 0 < one.until_us - now <= one.term_us:
                return 0
        token = max(floor, *(one.token for one in entries)) + 1
        for one in entries:
            self._write(one, holder, token, term_us, now)
        return token

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
        """As the port."""
        entries, now = self._all(names), self._now_us()
        for one in entries:
            if one.token > token or (one.token == token and one.holder != holder):
                return False
            if not sure and (one.token != token or one.doubt):
                return False
        for one, state in zip(entries, states, strict=True):
            self._write(one, holder, token, term_us, now)
            one.state = state or one.state
        return True

    def give_back(self, names: Sequence[str], holder: str, token: int, states: Sequence[str]) -> bool:
        """As the port."""
        entries = self._all(names)
        if any((one.token, one.holder) != (token, holder) for one in entries):
            return False
        for one, state in zip(entries, states, strict=True):
            one.holder, one.until_us, one.beat = "", 0, one.beat + 1
            one.state = state or one.state
        return True

    def close(self) -> None:
        """Nothing is held."""

    # --- inside

    def _all(self, names: Sequence[str]) -> list[_Entry]:
        if not self.answers:
            raise StoreError("the store does not answer")
        server = f"run-{self._incarnation}"
        found = [self._entries.setdefault(name, _Entry()) for name in names]
        for one in found:
            if one.server != server:
                one.server, one.doubt = server, True
        return found

    @staticmethod
    def _write(one: _Entry, holder: str, token: int, term_us: int, now: int) -> None:
        one.holder, one.token, one.term_us, one.until_us = holder, token, term_us, now + term_us
        one.beat += 1
        one.doubt = False
