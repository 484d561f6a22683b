"""Days of paper trading as evidence: what the server alone can see of a model, and what it lets follow.

A trading day of a run makes one piece of evidence of kind `paper`, signed by the key of the server, which can sign
nothing else. It holds figures; whether the day was green is computed from them where it is asked. What the days say
together is in `emp.governance.pooled`.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from typing import Any, Literal, NamedTuple, cast

import msgspec
import numpy as np

from emp.core.records import HORIZON_NAMES
from emp.engine.monitor import CHALLENGED, EARNED
from emp.engine.watched_days import DAY_NS, InstrumentDay, WatchedDay
from emp.governance.bounds import bounds
from emp.governance.evidence import Data, Evidence, Record, new_evidence
from emp.governance.gates import Gates
from emp.governance.paper_source import Source
from emp.governance.runs import Going, begun_runs, doubtful_days, untold
from emp.governance.sound import impossible_day
from emp.journal.latency_log import HOUR_NS, PARTS
from emp.model.scoring import ece
from emp.perception.state import CORE_INPUTS
from emp.train.data.fingerprint import rows_sha256

SPAN_DAYS = 14
"""Days from the first green day of paper trading to the last (roadmap J.5)."""

DAYS = 10
"""Trading days among them."""

FRESH_DAYS = 7
"""Days after which the last of them has become too old to rest on, and between two of them at most."""

HOURS = 6
"""Hours of a day in which an instrument must have been looked at; less is no day of trading."""

LOOKS = 20
"""Looks of 256 forecasts that an instrument's day must have had."""

OFF_NS = HOUR_NS
"""How far a market's newest time may lie behind the end of the day on which it was received."""

EVER = 1 << 62
"""A day that never comes."""

Colour = Literal["green", "red", "short"]


class Judged(NamedTuple):
    """What a day was, and why."""

    colour: Colour
    why: str


def of_day(day: WatchedDay, source: Source) -> Evidence:
    """Evidence of one day; a day's figures are one block each."""
    records = [record for one in day.instruments.values() for record in _of_instrument(one)]
    decisions = sum(hour.n for hour in day.hours)
    if decisions:
        for k, part in enumerate(PARTS):
            mean = math.fsum(hour.n * hour.p99_ns[k] for hour in day.hours) / decisions * 1e-6
            records.append(record_of(f"{part}_p99_ms", None, "", [mean], decisions))
    config = {
        **source._asdict(),
        "day": day.day,
        "alarms": list(day.alarms),
        "over": day.over,
        "unsigned": list(day.unsigned),
        "untimed": list(day.untimed),
    }
    made = new_evidence("paper", day.model, records, config, data=[_data(one) for one in _seen(day)])
    return msgspec.structs.replace(made, code=source.code)


def _seen(day: WatchedDay) -> list[InstrumentDay]:
    return [one for one in day.instruments.values() if any(len(ts) for ts, _, _ in one.rows)]


def _data(one: InstrumentDay) -> Data:
    ts, bid, ask = (np.concatenate(column) for column in zip(*one.rows, strict=True))
    return Data(
        series=one.instrument.name,
        instrument=one.instrument.name,
        asset_class=one.instrument.asset_class.name.lower(),
        rows=len(ts),
        rows_sha256=rows_sha256(ts, bid, ask),
        span=(int(ts.min()), int(ts.max()) + 1),
    )


def _of_instrument(one: InstrumentDay) -> list[Record]:
    errors = ece(one.top)
    found = [
        record_of("looks", one, "", [one.looks], one.looks),
        record_of("hours", one, "", [len(one.hours)], one.looks),
        record_of("value_ticks", one, "", [one.value], one.looks),
        record_of("value_over_dumb_ticks", one, "", [one.value - one.dumb], one.looks),
    ]
    closed, expected, brought = (float(x) for x in one.closed)
    if closed and any(len(ts) for ts, _, _ in one.rows):
        missed = (expected - brought) / _mid(one) * 1e4
        found.append(record_of("missed_bps_lots", one, "", [missed], int(closed)))
    for h, horizon in enumerate(HORIZON_NAMES):
        n = int(one.outcomes[h])
        if n:
            found.append(record_of("ece", one, horizon, [float(errors[h])], n))
            found.append(record_of("brier", one, horizon, [float(one.brier[h]) / n], n))
    if one.trained:
        for name, counts in zip(CORE_INPUTS, one.counts, strict=True):
            if counts.any():
                found.append(record_of(f"rows.{name}", one, "", counts.tolist(), int(counts.sum()), "decile"))
    return found


def _mid(one: InstrumentDay) -> float:
    """Mean mid of a day, ticks."""
    _, bid, ask = (np.concatenate(column) for column in zip(*one.rows, strict=True))
    return float(0.5 * (bid + ask).mean())


def record_of(
    measure: str,
    one: InstrumentDay | None,
    horizon: str,
    blocks: Iterable[float],
    n: int,
    kind_of_block: str = "day",
) -> Record:
    """A record of an instrument's day; of none where it is of the run."""
    instrument = None if one is None else one.instrument
    return Record(
        measure=measure,
        series="" if instrument is None else instrument.name,
        instrument="" if instrument is None else instrument.name,
        asset_class="" if instrument is None else instrument.asset_class.name.lower(),
        horizon=horizon,
        blocks=tuple(float(x) for x in blocks),
        kind_of_block=kind_of_block,
        n=n,
    )


def of_contest(days: Sequence[WatchedDay], source: Source) -> Evidence | None:
    """Evidence of the challenger of a run beside the model that served last: the logarithm of the evidence of every
    comparison on every instrument, and the line that says that it has proved better, where there is one. Both can be
    computed again from the run's journal. None where there was no challenger.
    """
    compared = [one for one in days if one.lineup.get("challenger")]
    if not compared:
        return None
    last = max(compared, key=lambda one: (one.end, one.day))
    challenger = str(last.lineup["challenger"])
    records = [
        msgspec.structs.replace(record_of("log_evidence", one, "", [value], one.looks, "run"), series=gate)
        for one in last.instruments.values()
        for gate, value in one.log_evidence.items()
        if gate.startswith(f"{EARNED}.") and value is not None
    ]
    mine = [one.earned for one in days if one.lineup == last.lineup]
    told = next((one for one in mine if one and one["model"] == challenger), {})
    reached = evidence_of(last, told)
    records.append(
        record_of("evidence", None, "", [reached], sum(o.looks for o in last.instruments.values()), "run")
    )
    config = {**source._asdict(), "day": last.day, "earned": dict(told), "contests": last.contests}
    made = new_evidence("contest", challenger, records, config, reference=last.model)
    return msgspec.structs.replace(made, code=source.code)


def evidence_of(last: WatchedDay, earned: Mapping[str, Any]) -> float:
    """How much evidence there is that a challenger is better: what the line says that says so, or, where there is none,
    the weaker of its comparisons at the last look, each the mean over instruments. None unless there was a bet on both.
    """
    told = [one.log_evidence for one in last.instruments.values()]
    if any(all(gate not in one for one in told) for gate in CHALLENGED):
        return 0.0
    if earned:
        return math.exp(float(earned["log_evidence"]))
    means = [
        math.fsum(math.exp(x) for one in told if (x := one.get(gate)) is not None) / len(told)
        for gate in CHALLENGED
    ]
    return min(means)


# --- what a day was


def judge_day(
    parts: Sequence[Evidence], gates: Gates, instrument: str, began: Mapping[str, int] | None = None
) -> Judged:
    """What all evidence of one day says of a model on an instrument: red by any alarm or limit that was not kept in
    any of it; short where, with each run `counted` once, too little was traded or something was not measured, or a run
    was not on record before: `began` has the day on which each run did; where it is None nobody asks.
    """
    if not all(one.whole for one in parts):
        return Judged("red", "records of its evidence were cut")
    wrong = next(filter(None, (impossible_day(one.records) for one in parts)), "")
    if wrong:
        return Judged("red", wrong)
    limits = gates.gates
    alarms = [str(alarm) for one in parts for alarm in one.config.get("alarms", ["no alarms are told"])]
    over = dict.fromkeys(alarms)
    records = [r for one in parts for r in one.records if r.instrument in ("", instrument)]
    most = {f"{part}_p99_ms": getattr(limits.latency_p99_ms, part) for part in PARTS}
    most |= {"ece": limits.ece_max, "brier": limits.brier_max}
    for record in records:
        limit = most.get(record.measure)
        if limit is not None and not all(x <= limit for x in record.blocks):
            over[f"{record.measure} {record.horizon} above {limit:g}".replace("  ", " ")] = None
    if over:
        return Judged("red", "; ".join(over))
    if began is not None:
        for one in parts:
            run, day = str(one.config.get("run")), one.config.get("day")
            if run not in began or not began[run] <= cast(int, day):
                return Judged("short", f"that run {run} began is not on record")
    lacking = next(filter(None, (_lacking_hours(parts, *one) for one in LACKING)), "")
    lacking = lacking or _of_another_time(parts, instrument)
    if lacking:
        return Judged("short", lacking)
    records = [r for one in counted(parts) for r in one.records if r.instrument in ("", instrument)]
    missing = [name for name in PARTS if not _has(records, f"{name}_p99_ms", "")]
    missing += [name for name in ("value_over_dumb_ticks",) if not _has(records, name, "")]
    missing += [
        f"{name} {h}" for name in ("ece", "brier") for h in HORIZON_NAMES if not _has(records, name, h)
    ]
    if missing:
        return Judged("short", f"not measured: {', '.join(missing)}")
    for measure, least in (("looks", LOOKS), ("hours", HOURS)):
        total = math.fsum(x for record in records if record.measure == measure for x in record.blocks)
        if not total >= least:
            return Judged("short", f"{total:g} {measure} of at least {least}")
    return Judged("green", "")


def doubted(said: Judged, run: str) -> Judged:
    """What a day was of which a run could have traded more than it was told of; the same where that is ""."""
    if not run or said.colour != "green":
        return said
    return Judged("short", f"run {run} did not sign its end: what it traded last could have been cut off")


LACKING = (
    ("unsigned", "was not signed while it went on", "whether its hours were signed"),
    ("untimed", "has times of fewer decisions than it made", "whether its times are whole"),
)
"""Lists of hours in a day's evidence: what is said of a run that has such, and of one that does not say."""


def _lacking_hours(parts: Sequence[Evidence], name: str, has: str, silent: str) -> str:
    """Which hours of a day a run lacks something of, in words; "" of none."""
    for one in parts:
        run = f"run {one.config.get('run')}"
        match one.config.get(name):
            case []:
                continue
            case [*hours]:
                return f"{run} {has}, in the hours (UTC) {', '.join(str(hour) for hour in hours)}"
            case _:
                return f"{run} does not say {silent}"
    return ""


def _of_another_time(parts: Sequence[Evidence], instrument: str) -> str:
    """Which run's market was at another day by its own time than this machine by its clock, and by how much, in words;
    "" of none. A run that has not looked at the instrument that day, as before the market opens, says nothing of it.
    """
    for one in parts:
        if not any(
            r.measure == "looks" and r.instrument == instrument and sum(r.blocks) for r in one.records
        ):
            continue
        day = cast(int, one.config.get("day"))
        for data in one.data:
            newest = data.span[1] - day * DAY_NS
            if data.instrument == instrument and not 0 < newest <= DAY_NS + OFF_NS:
                past = newest - DAY_NS if newest > 0 else newest
                how = f"{abs(past) / HOUR_NS:.1f} h " + ("after its end" if newest > 0 else "before it began")
                run = one.config.get("run")
                return f"the market of run {run} had another day by its own time: its newest is {how}"
    return ""


def _has(records: Sequence[Record], measure: str, horizon: str) -> bool:
    return any(r.measure == measure and r.horizon == horizon and r.blocks for r in records)


class Asked(NamedTuple):
    """Of what two green weeks are asked."""

    model: str
    code: str
    protocol: str
    instruments: tuple[str, ...]
    today: int  # day since 1970
    fresh: bool = True  # whether the last of them must not be long ago


def days_of(evidence: Mapping[str, Evidence], asked: Asked) -> dict[int, list[Evidence]]:
    """Evidence of paper days that counts, by day: of the model, the code and the kind of market that are asked for.

    What was told of a run's day before it was over is in what was told of it afterwards, and counts no more; of parts
    of one that is not over, all of which begin with its first event, the one that has seen most counts.
    """
    found: dict[int, list[Evidence]] = {}
    for one in evidence.values():
        day = one.config.get("day")
        if one.kind != "paper" or one.model != asked.model or one.code != asked.code:
            continue
        if one.config.get("protocol") == asked.protocol and type(day) is int and day <= asked.today:
            found.setdefault(day, []).append(one)
    return {day: _without_parts(parts) for day, parts in found.items()}


def _without_parts(told: list[Evidence]) -> list[Evidence]:
    kept: dict[Any, Evidence] = {}
    over = {one.config.get("run") for one in told if one.config.get("over") is True}
    for one in told:
        run = one.config.get("run")
        if run not in over and (run not in kept or _seen_of(one) > _seen_of(kept[run])):
            kept[run] = one
    return [one for one in told if one.config.get("over") is True or one is kept.get(one.config.get("run"))]


def counted(parts: Sequence[Evidence]) -> list[Evidence]:
    """Of a day's evidence one piece of each run: where several were signed of one day, that which has least, so that
    no hour, look or value counts twice.
    """
    least: dict[Any, Evidence] = {}
    for one in parts:
        run = one.config.get("run")
        if run not in least or _has_least(one) < _has_least(least[run]):
            least[run] = one
    return list(least.values())


def _has_least(one: Evidence) -> tuple[float, ...]:
    return tuple(_sum_of([one], name) for name in ("looks", "hours", "value_over_dumb_ticks"))


def _sum_of(parts: Iterable[Evidence], measure: str) -> float:
    return math.fsum(x for one in parts for r in one.records if r.measure == measure for x in r.blocks)


def _seen_of(one: Evidence) -> tuple[float, int]:
    """How much of a run's day had been seen when it was told: looks, and alarms."""
    return _sum_of([one], "looks"), len(one.config.get("alarms", ()))


def paper_lacks(
    evidence: Mapping[str, Evidence],
    asked: Asked,
    gates: Gates,
    going: Going = lambda _: False,
    signers: Mapping[str, str] | None = None,
) -> str:
    """What is missing of two green weeks on paper, on every instrument; "" where nothing is. A red day ends what came
    before it, and so do a longer pause and a run that began and was not told to its end.

    `evidence` is in the order of the ledgers, and `signers` has the key of each, without which all is of one ledger.
    What is stamped with a day that has not come is no day: a red one counts for the newest before it in its ledger that
    has, so that neither a clock that was set back forgets it nor one that was ahead bars for years. `going` says of a
    run whether it goes on.
    """
    come = _come(evidence, asked.today, signers or {})
    for instrument in asked.instruments:
        why = _lacks_on(evidence, asked, gates, instrument, going, come)
        if why:
            return f"{instrument}: {why}"
    return "" if asked.instruments else "no instrument is asked for"


class Red(NamedTuple):
    """A day that was red."""

    counts: int  # for which it counts
    day: int  # that it is stamped with
    why: str


def _reds(
    evidence: Mapping[str, Evidence],
    asked: Asked,
    judged: Mapping[int, Judged],
    instrument: str,
    going: Going,
    come: Callable[[int], int],
) -> list[Red]:
    """Red days, and those from which on a run is not told."""
    found = [Red(come(day), day, one.why) for day, one in judged.items() if one.colour == "red"]
    for one in untold(
        evidence, asked.code, asked.protocol, instrument, _lately(evidence, asked.today, going)
    ):
        why = f"paper run {one.run} began and is not told to its end: `emp gates observe {one.run}`"
        found.append(Red(come(one.day), one.day, why))
    return found


def _lately(evidence: Mapping[str, Evidence], today: int, going: Going) -> Going:
    """Whether a run goes on of which something was signed in the last FRESH_DAYS. An older one is not waited for: a
    folder that a process holds, and does nothing in, would keep a run from ever being missed.
    """
    newest: dict[str, int] = {}
    for one in evidence.values():
        run, day = str(one.config.get("run")), one.config.get("day")
        if type(day) is int:
            newest[run] = max(newest.get(run, day), day)
    return lambda run: today - newest.get(run, -1) <= FRESH_DAYS and going(run)


def _come(evidence: Mapping[str, Evidence], today: int, signers: Mapping[str, str]) -> Callable[[int], int]:
    """What tells for which day a stamped one counts: itself, or the newest before it in its ledger that has come. Where
    nothing is before it there, it is the day before what came next. Of several ledgers the latest counts.
    """
    ledgers: dict[str, list[int]] = {}
    for name, one in evidence.items():
        day = one.config.get("day")
        if type(day) is int:
            ledgers.setdefault(signers.get(name, ""), []).append(day)
    newest = max((day for days in ledgers.values() for day in days if day <= today), default=-1)
    counts: dict[int, int] = {}
    for days in ledgers.values():
        for day, before in _before(days, today, newest).items():
            counts[day] = max(counts.get(day, -1), before)
    return lambda day: day if day <= today else counts.get(day, newest)


def _before(days: Sequence[int], today: int, newest: int) -> dict[int, int]:
    """For which day each of one ledger's that have not come counts; `newest` where none of it has."""
    first = next((day - 1 for day in days if day <= today), newest)
    before, counts = -1, dict[int, int]()
    for day in days:
        if day <= today:
            before = max(before, day)
        else:
            counts.setdefault(day, first if before < 0 else before)
    return counts


def _lacks_on(
    evidence: Mapping[str, Evidence],
    asked: Asked,
    gates: Gates,
    instrument: str,
    going: Going,
    come: Callable[[int], int],
) -> str:
    days = days_of(evidence, asked._replace(today=EVER))
    began = begun_runs(evidence)
    doubtful = doubtful_days(evidence, asked.code, asked.protocol, instrument)
    judged = {day: judge_day(parts, gates, instrument, began) for day, parts in days.items()}
    red = max(_reds(evidence, asked, judged, instrument, going, come), default=Red(-1, -1, ""))
    said = [
        _lacks_beside(judged, days, gates, asked, instrument, one, in_doubt)
        for one, in_doubt in _doubts(red, doubtful)
    ]
    return "" if "" in said else said[0]


def _doubts(red: Red, doubtful: Mapping[str, set[int]]) -> Iterator[tuple[Red, set[int]]]:
    """The newest red day, and days that are in doubt, in every way in which they may be taken: the first doubtful day
    of a run may count as red instead, as if it had never been told, so that telling costs no more than not telling.
    """
    firsts = {min(days): run for run, days in doubtful.items()}
    for day in (-1, *sorted(firsts)):
        one = red if day <= red.counts else Red(day, day, f"run {firsts[day]} did not sign its end")
        yield one, {d for days in doubtful.values() if min(days) > day for d in days}


def _lacks_beside(
    judged: Mapping[int, Judged],
    days: Mapping[int, Sequence[Evidence]],
    gates: Gates,
    asked: Asked,
    instrument: str,
    red: Red,
    in_doubt: Set[int],
) -> str:
    """What is missing of two green weeks after a red day, without days that are in doubt."""
    good = {day for day, one in judged.items() if one.colour == "green"} - in_doubt
    green = sorted(day for day in good if day > red.counts)
    kept = _unbroken([day for day in green if day <= asked.today])
    span = kept[-1] - kept[0] + 1 if kept else 0
    if span < SPAN_DAYS or len(kept) < DAYS:
        ahead = ", which has not come," if red.day > asked.today else ""
        last = f"; day {red.day}{ahead} was red: {red.why}" if red.day >= 0 else ""
        return (
            f"{len(kept)} green days of paper trading over {span} days are on record; {DAYS} over {SPAN_DAYS}"
            f" are needed{last}"
        )
    if asked.fresh and asked.today - kept[-1] > FRESH_DAYS:
        return (
            f"the last green day of paper trading is {asked.today - kept[-1]} days old; {FRESH_DAYS} at most"
        )
    earned = [
        math.fsum(
            x
            for one in counted(days[day])
            for r in one.records
            for x in r.blocks
            if _over_dumb(r, instrument)
        )
        for day in kept
    ]
    found = bounds(earned, gates.confidence)
    if found is None or found.high < 0.0:
        return "over these days one lot has brought less than the dumb trader's"
    return ""


def _unbroken(days: Sequence[int]) -> list[int]:
    """The newest of some days in their order, back to where more than FRESH_DAYS lie between two: good days that were
    picked from many weeks are no two weeks.
    """
    kept: list[int] = []
    for day in days:
        kept = [*kept, day] if kept and day - kept[-1] <= FRESH_DAYS else [day]
    return kept


def _over_dumb(record: Record, instrument: str) -> bool:
    return record.measure == "value_over_dumb_ticks" and record.instrument == instrument


def told_whole(evidence: Mapping[str, Evidence], one: Evidence) -> bool:
    """Whether a day of this run and model was told once it was over: there is nothing to be added to it."""

    def of(e: Evidence) -> tuple[Any, ...]:
        return (e.kind, e.model, e.code, *(e.config.get(name) for name in ("run", "protocol", "day")))

    return one.kind == "paper" and any(
        e.config.get("over") is True and of(e) == of(one) for e in evidence.values()
    )


def already(evidence: Mapping[str, Evidence], one: Evidence) -> bool:
    """Whether the same was said before, whoever looked at these data since."""

    def content(e: Evidence) -> Any:
        return msgspec.to_builtins(msgspec.structs.replace(e, looks=0, machine=""))

    mine = content(one)
    return any(content(e) == mine for e in evidence.values() if e.kind == one.kind and e.model == one.model)
