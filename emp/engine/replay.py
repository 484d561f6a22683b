"""A recorded market through the engine that trades live, with a paper venue for its orders.

    result = Backtest(source, engine, venue, folder).run(progress)

Events flow source -> ordering guard -> venue (our orders against what happened) -> engine. The venue and the
engine share one compiled loop; it returns to Python when a command leaves, a report is due, or a batch ends.

The run can be killed at any moment and started again: after every batch the ledger, the action log and one
checkpoint are durable, and what was written beyond the checkpoint is cut off and happens again, equally.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.access.paper.venue import COUNTERFACTUAL, PaperVenue
from emp.access.port import Source
from emp.bus.order import admit, new_guard
from emp.core.approval import command_of
from emp.core.codes import Quarantine, Reason
from emp.core.contracts import CancelOrder, Command, Control, NewOrder, OrderUpdate, QueryOrder, Replace
from emp.core.messages import AT, Row
from emp.core.records import DECISION, EVENT, Array, empty_events
from emp.engine.context import SlowContext
from emp.engine.driver import Driver
from emp.engine.engine import Engine, Output
from emp.engine.load import LoadedModel
from emp.engine.own import Rule
from emp.engine.rolls import Rolls
from emp.engine.scheduled import Scheduled
from emp.engine.serving import allocate
from emp.engine.spans import add_stretch, new_sum, new_sums, seen_spans, span_at
from emp.engine.step import COMMAND, QUIET
from emp.engine.trade import DOUBT, NEVER, OVER, REPORT, SILENCE
from emp.engine.trading import Trading
from emp.engine.value import value_summary
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
    actions: int = 0  # commands decided on
    ledger_seq: int = 0
    sequence: int = 0  # of client order ids
    swaps: int = 0  # models that have taken over
    out_of_order: dict[str, int] = {}
    spans: dict[str, dict[str, Any]] = msgspec.field(default_factory=new_sums)
    parted: tuple[float, int, int] = (0.0, 0, 0)  # PnL, fills and quarantined events when the last part ended


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
    """One instrument, one engine, one venue, one run folder (or none, then nothing is written).

    A replay is as fast as the machine lets it be, so no model is ever too slow in it: another model takes over only
    where `successions`, in the order of their events, say so.
    """

    def __init__(
        self,
        source: Source,
        engine: Engine,
        venue: PaperVenue,
        folder: RunFolder | None = None,
        successions: Sequence[Planned] = (),
        heard: Callable[[OrderUpdate], None] | None = None,
        context: SlowContext | None = None,
        rule: Rule | None = None,
        wrote: Callable[[Array], object] | None = None,
    ) -> None:
        """Put a replay together.

        Args:
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
        self.venue = venue
        self.heard = heard
        self.wrote = wrote
        self.journal = Journal(folder, engine) if folder is not None else None
        ledger = self.journal.ledger if self.journal is not None else None
        self.driver = Driver(engine, lambda cleared: venue.send(command_of(cleared)), ledger=ledger)
        self.scheduled = Scheduled(Rolls(engine), context, self.driver.control)
        self.tally = Tally()
        self.guard = new_guard()
        self.before: Array = np.zeros(1, EVENT)
        self.laps: list[Array] = []
        self._rows: Array = np.zeros(ROWS, DECISION)
        self._laps: Array = np.zeros((ROWS, 3), np.int32)
        self.processed = 0  # events that the engine has processed
        self._ran = False
        self.by_hand = False  # whether orders are at work that only `Engine.orders` knows
        market = venue.market(empty_events(0), self.before)
        self.trading = Trading(engine, market, lambda row: venue.told(row, engine.run))

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
        self.trading.market = self.venue.market(empty_events(0), self.before)
        self.trading.run(np.zeros(1, DECISION), np.zeros((1, 3), np.int32), 0, by_hand=False)

    def abandon(self) -> None:
        """Leave nothing of this run behind."""
        if self.journal is not None:
            self.journal.abandon()

    def _batch(self, events: Array) -> None:
        if self.journal is None:
            self._trade(self._admit(events))
            return
        with self.journal.ledger.batch():
            self._trade(self._admit(events))
        self._checkpoint(self.journal)

    def _admit(self, events: Array) -> Array:
        """Pass the ordering guard; what it refuses is counted by reason."""
        self.tally.events += len(events)
        reasons = np.zeros(len(events), np.int8)
        admitted = admit(self.guard[0], events, reasons)
        self.tally.admitted += admitted
        if admitted == len(events):
            return events
        for reason, count in Counter(reasons[reasons != 0].tolist()).items():
            name = Quarantine(reason).name.lower()
            self.tally.out_of_order[name] = self.tally.out_of_order.get(name, 0) + count
        return events[reasons == 0]

    def _trade(self, events: Array) -> None:
        """Carry one admitted batch through venue and engine; on its way other models take over, the slow context
        changes, and the model leaves what it was trained on, each before exactly the event that it is due for.
        """
        while len(events):
            at = min(self._until_swap(events), self.scheduled.until(0, events))
            span, until = self._span(int(events["ts"][0]))
            at = min(at, int(np.searchsorted(events["ts"], until, side="left")))
            self._trade_part(events[:at])
            self._add_to(span, events[:at])
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

    def _span(self, ts_ns: int) -> tuple[str, int]:
        """What the serving model did at a time (`engine.spans`), and until when."""
        facts = self.engine.instruments[0]
        return span_at(seen_spans(self.engine.model.artifact.manifest, facts.name), ts_ns)

    def _add_to(self, span: str, events: Array) -> None:
        """Add what these events, all of one span, have brought."""
        if not len(events):
            return
        account = self.engine.desk.account[0]
        refused = int(self.engine.desk.quarantined.sum())
        pnl, fills, refused_before = self.tally.parted
        self.tally.parted = float(account["pnl"]), int(account["fills"]), refused
        sums = self.tally.spans.setdefault(span, new_sum())
        sums["events"] += len(events) - (refused - refused_before)
        sums["pnl_ticks"] += self.tally.parted[0] - pnl
        sums["fills"] += self.tally.parted[1] - fills
        add_stretch(self.tally.spans, span, int(events["ts"][0]), int(events["ts"][-1]))

    def _take_over(self, due: Planned) -> None:
        if self.journal is not None:
            self.journal.actions.know(due.model.artifact.hash)
        self.driver.swap(allocate(due.model, len(self.engine.instruments)), [due.swap.note])
        self.tally.swaps += 1

    def _trade_part(self, events: Array) -> None:
        """Carry events through venue and engine, under one model."""
        if not len(events):
            return
        engine, venue = self.engine, self.venue
        engine.extend_calendar(int(events[0]["ts"]), int(events[-1]["ts"]))
        self.trading.market = venue.market(events, self.before)
        result = QUIET
        while result != OVER:
            self.by_hand = self.by_hand and not self._calm()
            by_hand = self.by_hand
            closing = bool(engine.flattening)  # the next try may be a matter of time: asked after each event
            most = 1 if closing else NEVER
            result = self.trading.run(self._rows, self._laps, self.processed, by_hand=by_hand, most=most)
            done = self.trading.progress[0]
            if self.rule is not None:
                self.rule.check()
            engine.check_model()
            self._put_away(int(done["rows"]))
            self.tally.actions += int(done["actions"])
            self._record(self.trading.logged())
            self.processed += int(done["events"])
            self.driver.at(self.processed)
            if result not in (OVER, QUIET):
                if not by_hand:
                    self._to_python(but=1 if result == DOUBT else 0)
                self._go_on(result, events)
            if closing and done["events"]:
                self.driver.tick(int(engine.desk.perception["ts_event"][0]))
        self.before[0] = events[-1]

    def _put_away(self, n: int) -> None:
        """Take over the first `n` rows and laps: they are written anew by the next call of the compiled loop."""
        self.laps.append(self._laps[:n].copy())
        self.tally.rows += n
        if self.journal is not None:
            self.journal.actions.append(self._rows[:n])
        if self.wrote is not None:
            self.wrote(self._rows[:n])

    # --- where Python goes on

    def _calm(self) -> bool:
        """Whether nothing of ours is at work anywhere: from here on a compiled loop can have the orders."""
        engine = self.engine
        return self.venue.idle and not engine.flattening and not engine.orders.open_orders()

    def _to_python(self, but: int) -> None:
        """From here on the orders are the engine's own; the last `but` messages it has still to hear."""
        self.by_hand = True
        self.trading.hand_over(but)
        self.venue.name(self.engine.run, for_good=True)

    def _go_on(self, result: int, events: Array) -> None:
        """Do what the compiled loop has stopped for."""
        engine, market = self.engine, self.trading.market
        if result == COMMAND:
            output = Output()
            engine.act(output, engine.asked)
            self.driver.deliver(output)
        elif result == SILENCE:
            at = int(market.cursor["next"][0])
            last_ns = int(engine.desk.perception["ts_event"][int(events[at]["instrument"])])
            self.driver.tick(last_ns + engine.limits.stale_after_ns + 1)
        else:
            market.cursor["next"] -= 1
            market.cursor["seen"] = True
            due = int(self.trading.progress["due"][0])
            updates = self.venue.updates(due) if result == REPORT else self._doubted(due)
            for update in updates:
                self.driver.report(update)
                if self.heard is not None:
                    self.heard(update)

    def _doubted(self, left: int) -> list[OrderUpdate]:
        """The report that the compiled loop could not place, and the `left` ones behind it."""
        first = self.trading.doubted()
        return (
            [first, *self.venue.updates(int(self.venue.venue["handed_out"][0]))[-left:]] if left else [first]
        )

    def _record(self, logged: Sequence[Row]) -> None:
        """Write down what was said in the compiled loop, as the driver does for what Python says."""
        if self.journal is None and self.heard is None:
            return
        for row, message in zip(logged, self.trading.messages(logged), strict=True):
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
        venue = {f"venue_{name}": array for name, array in self.venue.state().items()}
        rule = self.rule.state() if self.rule is not None else {}
        return {**self.engine.checkpoint(), **venue, **rule, "guard": self.guard, "before": self.before}

    def _checkpoint(self, journal: Journal) -> None:
        journal.actions.flush()
        self.venue.name(self.engine.run)
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
        self.venue.name(self.engine.run, for_good=True)
        if self.context is not None and self.processed:
            self.context.restore(0, int(self.before["ts"][0]))

    # --- the summary

    def _finish(self) -> dict[str, Any]:
        engine, counts = self.engine, self.source.counts
        quarantined = Counter({reason.name.lower(): n for reason, n in counts.quarantined.items()})
        quarantined.update(self.tally.out_of_order)
        quarantined.update(engine.quarantined())
        account = engine.desk.account[0]
        summary: dict[str, Any] = {
            "rows": counts.rows,
            "events": counts.rows - counts.merged - sum(quarantined.values()),
            "merged": counts.merged,
            "quarantined": dict(sorted(quarantined.items())),
            "losses": counts.losses(),
            "gaps": counts.gaps,
            "read_as": counts.formats,
            "venue_round_trip_ms": int(self.venue.venue["entry_ns"][0]) / 1e6,
            "states": int(engine.desk.perception["events"].sum()),
            "actions": self.tally.actions,
            "fills": int(account["fills"]),
            "final_position": int(account["position"]),
            "pnl_ticks": float(account["pnl"]),
            "fees": float(account["fees"]),
            "financing": float(account["financing"]),
            "traded_lots": int(account["traded"]),
            "paper_lots": self.venue.lots,
            "counterfactual_share": self._counterfactual(),
            "overnight_pnl_ticks": float(account["overnight"]),
            "spans": self.tally.spans,
            **value_summary(engine.desk, 0),
            "halted": engine.halted,
            "halted_by": self._halted_by(),
            **latency_summary(self.laps),
            "model_hash": engine.model.artifact.hash,
        }
        if self.journal is not None:
            summary["requotes"] = msgspec.structs.asdict(self.journal.requotes())
            summary["action_log_sha256"] = self.journal.close()
        return summary

    def _halted_by(self) -> str:
        """What tripped the kill switch, or nothing; it holds for the days that follow too, as it does live."""
        risk = self.engine.desk.risk[0]
        return Reason(int(risk["halt_reason"])).name.lower() if risk["halted"] else ""

    def _counterfactual(self) -> float:
        """Share of the lots filled at rest that came from flow which did something else in the recording."""
        lots = self.venue.lots
        rested = sum(n for how, n in lots.items() if how != "taken")
        return sum(lots[how] for how in COUNTERFACTUAL) / rested if rested else 0.0


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
