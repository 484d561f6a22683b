"""The slow context on its way to the engine: which control input is due, in the time of each market.

    change = context.change(i, ts)      # before an event of `ts` is processed
    until = context.until(i)            # no event before this one can see another multiplier

A multiplier is a function of market time alone, so it is exact to the nanosecond of a window's edge wherever a batch
ends, and a run that goes on finds it again. What changes is a recorded input (`Control`, action `context`).
"""

from collections.abc import Sequence

import structlog

from emp.core.contracts import Control
from emp.core.instrument import Instrument
from emp.risk.context.port import FOREVER_NS, SAFE, ContextProvider, InForce, Window, in_force

_log = structlog.get_logger(__name__)

SPAN_NS = 8 * 86_400_000_000_000
"""How much of a provider's windows is kept at hand."""

FAILED = "context provider failed"

NEUTRAL = InForce(1.0, "", 0)


class SlowContext:
    """Providers, joined by the smallest multiplier, and what each instrument was told last."""

    def __init__(self, instruments: Sequence[Instrument], providers: Sequence[ContextProvider]) -> None:
        self._instruments, self._providers = tuple(instruments), tuple(providers)
        n = len(self._instruments)
        self._told = [NEUTRAL] * n
        self._at = [0] * n  # newest market time asked for
        self._windows: list[list[Window]] = [[] for _ in range(n)]
        self._spans = [(0, 0)] * n  # of market time that the windows cover
        self._failures = ["" for _ in self._providers]
        self._say_failures()

    # --- what holds

    def at(self, i: int, ts_ns: int) -> InForce:
        """What holds for instrument `i` at an instant."""
        first, last = self._spans[i]
        if not first <= ts_ns < last:
            first = ts_ns // SPAN_NS * SPAN_NS
            last = first + SPAN_NS
            self._spans[i] = (first, last)
            self._windows[i] = self.windows(i, first, last)
        return in_force(self._windows[i], ts_ns, last)

    def windows(self, i: int, from_ns: int, to_ns: int) -> list[Window]:
        """What all providers say of a span; one that fails is on the safe side for all of it, with one line."""
        found: list[Window] = []
        for k, provider in enumerate(self._providers):
            try:
                found += provider.windows(self._instruments[i], from_ns, to_ns)
            except Exception as error:  # whatever it is made of, trading goes on, smaller
                found.append(Window(0, FOREVER_NS, SAFE, FAILED))
                self._say_failure(k, f"{type(provider).__name__}: {type(error).__name__}: {error}")
        return found

    def until(self, i: int) -> int:
        """Before which market time, ns UTC, what was told last holds."""
        return self._told[i].until_ns

    # --- what is due

    def change(self, i: int, ts_ns: int) -> Control | None:
        """The input that is due before an event of `ts_ns` is processed; None where what was told holds on."""
        ts_ns = self._at[i] = max(ts_ns, self._at[i])
        if ts_ns < self._told[i].until_ns:
            return None
        return self._tell(i, ts_ns, self.at(i, ts_ns))

    def fall(self, i: int, now_ns: int) -> Control | None:
        """The input that is due by time alone: one that makes the multiplier smaller. One that raises it waits for the
        event that could use it, whose time says exactly whether it may.
        """
        if now_ns < self._told[i].until_ns:
            return None
        now = self.at(i, now_ns)
        if now.multiplier >= self._told[i].multiplier:
            return None
        self._at[i] = max(now_ns, self._at[i])
        return self._tell(i, now_ns, now)

    def restore(self, i: int, ts_ns: int) -> None:
        """Go on where the engine, restored, had processed an event of `ts_ns` last."""
        self._at[i], self._told[i] = ts_ns, self.at(i, ts_ns)

    def look(self) -> bool:
        """Let providers look at what they rest on; whether any has changed. It may read files: call it in a thread,
        then `renew` in that of the engine.
        """
        changed = False
        for k, provider in enumerate(self._providers):
            try:
                changed |= provider.refresh()
            except Exception as error:
                self._say_failure(k, f"{type(provider).__name__}: {type(error).__name__}: {error}")
        return changed

    def renew(self) -> None:
        """Ask the providers again from the next event on."""
        self._say_failures()
        self._spans = [(0, 0)] * len(self._spans)
        self._told = [one._replace(until_ns=0) for one in self._told]

    def _tell(self, i: int, ts_ns: int, now: InForce) -> Control | None:
        before, self._told[i] = self._told[i], now
        if now[:2] == before[:2]:
            return None
        name = self._instruments[i].name
        _log.info("slow context", instrument=name, multiplier=now.multiplier, reason=now.reason)
        return Control(action="context", ts=ts_ns, instrument=name, reason=now.reason, value=now.multiplier)

    def _say_failures(self) -> None:
        for k, provider in enumerate(self._providers):
            self._say_failure(k, provider.failure)

    def _say_failure(self, k: int, failure: str) -> None:
        if failure and failure != self._failures[k]:
            _log.error("context on the safe side", why=failure)
        self._failures[k] = failure
