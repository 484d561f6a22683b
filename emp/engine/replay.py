"""A recorded market through the engine that trades live, with a paper venue for its orders.

    result = Backtest(source, engine, venue, folder).run(progress)
    result = Backtest(Together(sources), engine, venues, folder).run(progress)

Events flow source -> ordering guard -> venue (our orders against what happened) -> engine. The venue and the
engine share one compiled loop; it returns to Python when a command leaves, a report is due, or a batch ends.

Of several instruments each has a venue, and a loop with it, that sees its own events alone: in its own time, as if it
were the only one. The loops take turns in the order of all events. What the instruments share is the engine: its limits
over all of them, its rule, its order ids.

The run can be killed at any moment and started again: after every batch the ledger, the action log and one
checkpoint are durable, and what was written beyond the checkpoint is cut off and happens again, equally.
"""

import itertools
import shutil
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.access.paper.venue import PaperVenue
from emp.access.port import Source
from emp.access.together import Together
from emp.core.approval import Cleared, command_of
from emp.core.contracts import CancelOrder, Command, Control, NewOrder, OrderUpdate, QueryOrder, Replace
from emp.core.messages import AT
from emp.core.records import DECISION, Array, empty_events
from emp.engine.context import SlowContext
from emp.engine.driver import Driver
from emp.engine.engine import Engine, Output
from emp.engine.leg import Count, Leg, legs_of, state_of, together
from emp.engine.load import LoadedModel
from emp.engine.own import Rule
from emp.engine.rolls import Rolls
from emp.engine.scheduled import Scheduled
from emp.engine.serving import allocate
from emp.engine.step import COMMAND, QUIET
from emp.engine.trade import DOUBT, NEVER, OVER, REPORT, SILENCE
from emp.journal.actionlog import ActionLog
from emp.journal.ledger import Ledger
from emp.journal.requotes import Requotes, count_requotes
from emp.journal.run import RunFolder
from emp.journal.swaps import Swap

Progress = Callable[[int, int], None]
"""Called after every batch with the number of events and of decisions so far."""

ROWS = 1024
"""Decisions that the compiled loop writes before they are put away: half of what a core's own cache holds."""


class Planned(NamedTuple):
    """A swap that a journal tells of, and the model that takes over."""

    swap: Swap
    model: LoadedModel


class Tally(msgspec.Struct):
    """What a run has counted so far; part of every checkpoint."""

    events: int = 0  # yielded by the source
    admitted: int = 0  # by the ordering guard
    rows: int = 0  # of the action log
    ledger_seq: int = 0
    sequence: int = 0  # of client order ids
    swaps: int = 0  # models that have taken over
    counts: list[Count] = []  # by instrument


class Journal:
    """What a run writes: its folder, the ledger and the action log in it."""

    def __init__(self, folder: RunFolder, engine: Engine) -> None:
        self.folder = folder
        self.ledger = Ledger(folder.ledger, run=engine.run, mode="replay")
        names = [i.name for i in engine.instruments]
        self.actions = ActionLog(folder.actions, names, engine.served)

    def cut(self, ledger_seq: int, rows: int) -> None:
        """Forget what was written after a checkpoint."""
        self.ledger.truncate_to(ledger_seq)
        self.actions.truncate_to(rows)

    def abandon(self) -> None:
        """Remove everything."""
        self.actions.close()
        self.ledger.close()
        shutil.rmtree(self.folder.path)

    def requotes(self) -> Requotes:
        """Withdrawals, and how many came back where they had stood."""
        return count_requotes(event.body for event in self.ledger.events())

    def close(self) -> str:
        """Seal everything; return the hash of the action log."""
        digest = self.actions.close()
        self.ledger.seal()
        self.ledger.close()
        return digest


class Backtest:
    """One engine, a venue for each of its instruments, one run folder (or none, then nothing is written).

    A replay is as fast as the machine lets it be, so no model is ever too slow in it: another model takes over only
    where `successions`, in the order of their events, say so.
    """

    def __init__(
        self,
        source: Source | Together,
        engine: Engine,
        venue: PaperVenue | Sequence[PaperVenue],
        folder: RunFolder | None = None,
        successions: Sequence[Planned] = (),
        heard: Callable[[OrderUpdate], None] | None = None,
        context: SlowContext | None = None,
        rule: Rule | None = None,
        wrote: Callable[[Array], object] | None = None,
    ) -> None:
        """Put a replay together.

        Args:
            source: of the engine's instrument, or of all together, in its order.
            venue: the paper venue of each.
            heard: told every report of the venue, in order.
            wrote: shown every DECISION row, in order, in parts that are written over afterwards.
            context: what multiplies size in which spans; without one nothing does.
            rule: decides in place of the built-in one.
        """
        self.rule = rule
        if rule is not None:
            rule.attach(engine)
        self.successions = tuple(successions)
        self.context = context
        self.source = source
        self.engine = engine
        sources = source.sources if isinstance(source, Together) else (source,)
        venues = (venue,) if isinstance(venue, PaperVenue) else tuple(venue)
        self.legs = legs_of(engine, sources, venues)
        self.heard = heard
        self.wrote = wrote
        self.journal = Journal(folder, engine) if folder is not None else None
        ledger = self.journal.ledger if self.journal is not None else None
        self.driver = Driver(engine, self._send, ledger=ledger)
        self.scheduled = Scheduled(Rolls(engine), context, self.driver.control)
        self.tally = Tally(counts=[Count() for _ in self.legs])
        self.laps: list[Array] = []
        self._rows: Array = np.zeros(ROWS, DECISION)
        self._row_bytes = self._rows.view(np.uint8).reshape(ROWS, DECISION.itemsize)
        self._laps: Array = np.zeros((ROWS, 3), np.int32)
        self.processed = 0  # events that the engine has processed
        self._ran = False
        self.by_hand = False  # whether orders are at work that only `Engine.orders` knows

    # --- the run

    def run(self, progress: Progress | None = None) -> dict[str, Any]:
        """Read the source to its end and return the summary (keys of `emp replay`)."""
        if self._ran:
            raise RuntimeError("a backtest runs once: engine, venue and journal are at its end")
        if self.journal is not None:
            self._resume(self.journal)
        self._ran = True
        skip = self.tally.events
        for batch in self.source.batches():
            if skip >= len(batch):
                skip -= len(batch)
                continue
            self._batch(batch[skip:])
            skip = 0
            if progress is not None:
                progress(self.tally.events, self.tally.rows)
        return self._finish()

    def warm_up(self) -> None:
        """Compile the loop, or load it, by running it over no events."""
        first = self.legs[0]
        first.trading.market = first.venue.market(empty_events(0), first.before)
        first.trading.run(np.zeros(1, DECISION), np.zeros((1, 3), np.int32), 0, by_hand=False)

    def abandon(self) -> None:
        """Leave nothing of this run behind."""
        if self.journal is not None:
            self.journal.abandon()

    def _send(self, cleared: Cleared) -> None:
        command = command_of(cleared)
        venue = next(leg.venue for leg in self.legs if leg.name == command.instrument)
        venue.send(command)

    def _batch(self, events: Array) -> None:
        if self.journal is None:
            self._trade_all(self._admit(events))
            return
        with self.journal.ledger.batch():
            self._trade_all(self._admit(events))
        self._checkpoint(self.journal)

    def _admit(self, events: Array) -> Array:
        """Pass the ordering guard; what it refuses is counted by reason."""
        self.tally.events += len(events)
        if len(self.legs) == 1:
            reasons = self.legs[0].admit(events, self.tally.counts[0])
        else:
            reasons = np.zeros(len(events), np.int8)
            for leg, count in zip(self.legs, self.tally.counts, strict=True):
                of_it = events["instrument"] == leg.place
                reasons[of_it] = leg.admit(events[of_it], count)
        admitted = int(np.count_nonzero(reasons == 0))
        self.tally.admitted += admitted
        return events if admitted == len(events) else events[reasons == 0]

    def _trade_all(self, events: Array) -> None:
        """Carry one admitted batch through the venues and the engine, each instrument's loop in its turn."""
        if len(self.legs) == 1:
            self._trade(self.legs[0], events)
            return
        changes = np.flatnonzero(np.diff(events["instrument"])) + 1
        for first, end in itertools.pairwise([0, *changes.tolist(), len(events)]):
            if end > first:
                self._trade(self.legs[int(events["instrument"][first])], events[first:end])

    def _trade(self, leg: Leg, events: Array) -> None:
        """Carry events of one instrument through its venue and the engine; on its way other models take over, the slow
        context changes, and the model leaves what it was trained on, each before exactly the event that it is due for.
        """
        while len(events):
            at = min(self._until_swap(events), self.scheduled.until(leg.place, events))
            span, until = leg.span(int(events["ts"][0]))
            at = min(at, int(np.searchsorted(events["ts"], until, side="left")))
            self._trade_part(leg, events[:at])
            leg.add_to(span, events[:at], self.tally.counts[leg.place])
            events = events[at:]

    def _until_swap(self, events: Array) -> int:
        """Let the models take over that are due before the first of these events; how many come before the next."""
        while self.tally.swaps < len(self.successions):
            due = self.successions[self.tally.swaps]
            at = int(np.searchsorted(events["seq"], due.swap.seq, side="right"))
            if at:
                return at
            self._take_over(due)
        return len(events)

    def _take_over(self, due: Planned) -> None:
        if self.journal is not None:
            self.journal.actions.know(due.model.artifact.hash)
        self.driver.swap(allocate(due.model, len(self.engine.instruments)), [due.swap.note])
        self.tally.swaps += 1

    def _trade_part(self, leg: Leg, events: Array) -> None:
        """Carry events of one instrument through its venue and the engine, under one model."""
        if not len(events):
            return
        engine, trading = self.engine, leg.trading
        engine.extend_calendar(int(events[0]["ts"]), int(events[-1]["ts"]))
        trading.market = leg.venue.market(events, leg.before)
        result = QUIET
        while result != OVER:
            self.by_hand = self.by_hand and not self._calm()
            by_hand = self.by_hand
            closing = (
                leg.place in engine.flattening
            )  # the next try may be a matter of time: asked after each event
            most = 1 if closing else NEVER
            result = trading.run(self._rows, self._laps, self.processed, by_hand=by_hand, most=most)
            done = trading.progress[0]
            if self.rule is not None:
                self.rule.check()
            engine.check_model()
            self._put_away(int(done["rows"]))
            self.tally.counts[leg.place].actions += int(done["actions"])
            self._record(leg)
            self.processed += int(done["events"])
            self.driver.at(self.processed)
            if result not in (OVER, QUIET):
                if not by_hand:
                    self._to_python(leg, but=1 if result == DOUBT else 0)
                self._go_on(leg, result)
            if closing and done["events"]:
                self._tick(leg, int(engine.desk.perception["ts_event"][leg.place]))
        leg.before[0] = events[-1]

    def _tick(self, leg: Leg, now_ns: int) -> None:
        """What time alone demands, in one instrument: the others have their own."""
        self.driver.tick(now_ns, leg.name if len(self.legs) > 1 else "")

    def _put_away(self, n: int) -> None:
        """Take over the first `n` rows and laps: they are written anew by the next call of the compiled loop."""
        self.laps.append(self._laps[:n].copy())
        self.tally.rows += n
        if self.journal is not None:
            self.journal.actions.append(self._rows[:n])
        if self.wrote is not None:
            self.wrote(self._rows[:n])
        self._row_bytes[:n] = 0  # a row of a book that may not be believed has nothing but what is withdrawn

    # --- where Python goes on

    def _calm(self) -> bool:
        """Whether nothing of ours is at work anywhere: from here on a compiled loop can have the orders."""
        engine = self.engine
        return (
            all(leg.venue.idle for leg in self.legs)
            and not engine.flattening
            and not engine.orders.open_orders()
        )

    def _to_python(self, stopped: Leg, but: int) -> None:
        """From here on the orders of all are the engine's own; of the one whose loop has stopped, the last `but`
        messages are still to be heard.
        """
        self.by_hand = True
        for leg in self.legs:
            leg.trading.hand_over(but if leg is stopped else 0)
            leg.venue.name(self.engine.run, for_good=True)

    def _go_on(self, leg: Leg, result: int) -> None:
        """Do what the compiled loop of an instrument has stopped for."""
        engine, market = self.engine, leg.trading.market
        if result == COMMAND:
            output = Output()
            engine.act(output, engine.asked)
            self.driver.deliver(output)
        elif result == SILENCE:
            last_ns = int(engine.desk.perception["ts_event"][leg.place])
            self._tick(leg, last_ns + engine.limits.stale_after_ns + 1)
        else:
            market.cursor["next"] -= 1
            market.cursor["seen"] = True
            due = int(leg.trading.progress["due"][0])
            updates = leg.venue.updates(due) if result == REPORT else self._doubted(leg, due)
            for update in updates:
                self.driver.report(update)
                if self.heard is not None:
                    self.heard(update)

    @staticmethod
    def _doubted(leg: Leg, left: int) -> list[OrderUpdate]:
        """The report that the compiled loop could not place, and the `left` ones behind it."""
        first, venue = leg.trading.doubted(), leg.venue
        return [first, *venue.updates(int(venue.venue["handed_out"][0]))[-left:]] if left else [first]

    def _record(self, leg: Leg) -> None:
        """Write down what was said in the compiled loop, as the driver does for what Python says."""
        logged = leg.trading.logged()
        if self.journal is None and self.heard is None:
            return
        for row, message in zip(logged, leg.trading.messages(logged), strict=True):
            if self.heard is not None and isinstance(message, OrderUpdate):
                self.heard(message)
            if self.journal is not None:
                self.journal.ledger.at = row[AT]
                self._write(self.journal.ledger, message)

    @staticmethod
    def _write(ledger: Ledger, message: Command | Control | OrderUpdate) -> None:
        if isinstance(message, OrderUpdate):
            ledger.record_report(message)
        elif isinstance(message, Control):
            ledger.record_control(message)
        else:
            ledger.record_intent(message)

    # --- durability

    def _arrays(self) -> dict[str, Array]:
        rule = self.rule.state() if self.rule is not None else {}
        return {**self.engine.checkpoint(), **state_of(self.legs), **rule}

    def _checkpoint(self, journal: Journal) -> None:
        journal.actions.flush()
        for leg in self.legs:
            leg.venue.name(self.engine.run)
        self.tally.ledger_seq = journal.ledger.last_seq
        self.tally.sequence = self.engine.sequence
        journal.folder.write_checkpoint(self._arrays(), msgspec.to_builtins(self.tally))

    def _resume(self, journal: Journal) -> None:
        """Go back to the last checkpoint: cut what was written after it, and take its state."""
        for earlier in self.successions[: int(journal.folder.checkpoint_facts().get("swaps", 0))]:
            self.engine.install(allocate(earlier.model, len(self.engine.instruments)))
        arrays = self._arrays()
        meta = journal.folder.read_checkpoint(arrays)
        if meta is None:
            journal.cut(0, 0)
            return
        self.tally = msgspec.convert(meta, Tally)
        journal.cut(self.tally.ledger_seq, self.tally.rows)
        journal.ledger.at = self.processed = self.tally.admitted
        self.by_hand = True
        kept = {name: array.copy() for name, array in arrays.items()}
        for entry in journal.ledger.events():
            body = entry.body
            if isinstance(body, OrderUpdate):
                self.engine.orders.apply(body)
            elif isinstance(body, NewOrder | CancelOrder | QueryOrder | Replace):
                self.engine.orders.sent(body)
        for name, array in arrays.items():
            array[...] = kept[name]
        self.engine.sequence = self.tally.sequence
        for leg in self.legs:
            leg.venue.name(self.engine.run, for_good=True)
            if self.context is not None and leg.before["ts"][0]:
                self.context.restore(leg.place, int(leg.before["ts"][0]))

    # --- the summary

    def _finish(self) -> dict[str, Any]:
        summary: dict[str, Any] = {
            **together(self.engine, self.legs, self.tally.counts),
            **latency_summary(self.laps),
            "model_hash": self.engine.model.artifact.hash,
        }
        if self.journal is not None:
            summary["requotes"] = msgspec.structs.asdict(self.journal.requotes())
            summary["action_log_sha256"] = self.journal.close()
        return summary


def latency_summary(laps: list[Array]) -> dict[str, dict[str, float]]:
    """Quantiles in us of the time spent in the adapter, in the model, and in all, per decision."""
    every = np.concatenate(laps) if laps else np.zeros((0, 3), np.int32)
    names = ("adapter_us", "model_us", "total_us")
    if not len(every):
        return {name: {"p50": 0.0, "p90": 0.0, "p99": 0.0} for name in names}
    quantiles = np.percentile(every, [50, 90, 99], axis=0) / 1e3
    return {
        name: {f"p{q}": round(float(quantiles[k, column]), 3) for k, q in enumerate((50, 90, 99))}
        for column, name in enumerate(names)
    }
