"""Wiring of `emp whatif`: a recorded run forked at one of its decisions, in the flow that is most like its market."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from emp.app.wiring.explained import decided_at
from emp.app.wiring.rerun import assemble_rerun, is_recorded_run, refuse_unrecorded
from emp.app.wiring.why import instrument_of_run
from emp.core.codes import Action, EventFlag, Reason
from emp.core.errors import UsageError
from emp.core.records import Array, empty_events
from emp.engine.choose import load_model
from emp.engine.fork import Fork, fork_at
from emp.engine.journal_tap import journalled_events
from emp.engine.limits import EngineLimits
from emp.journal.run import RunFolder
from emp.sim.flow.params import Source, load_params
from emp.sim.flow.shipped import SHIPPED, flow_file
from emp.sim.flow.zi import zi_params
from emp.sim.world.graft import refuse_unlike
from emp.sim.world.latency import LatencyConfig
from emp.sim.world.market import Market
from emp.sim.world.whatif import Change, Played, Settings, difference, play

HISTORY = 200_000
"""Events before the fork that another model's state is made from."""
LOOKED_AT = 20_000
"""Events before the fork, and of a flow, whose books are compared."""

LIMITS: Mapping[str, str] = {
    "max_position": "max_position_lots",
    "max_order": "max_order_lots",
    "max_daily_loss": "max_daily_loss",
    "max_drawdown": "max_drawdown",
    "orders_per_minute": "orders_per_minute",
    "turnover_per_minute": "turnover_per_minute",
    "turnover_per_hour": "turnover_per_hour",
    "depth_share": "depth_share",
}
"""Names of `--limit`, and the fields of `EngineLimits` that they are."""


class Asked(NamedTuple):
    """What `emp whatif` was asked."""

    run: RunFolder
    seq: int
    instrument: str | None
    action: str | None
    side: int
    qty: int
    model: str | None
    limits: Sequence[str]
    flow: str | None
    pairs: int
    seconds: float
    until: str | None  # "closed", "time"; None: closed for an action, else time
    seed: int


class Answer(NamedTuple):
    """The answer, in numbers and in words."""

    fields: dict[str, Any]
    lines: list[str]


class Chosen(NamedTuple):
    """A flow model, and how it came to be chosen."""

    name: str
    params: Array
    source: Source
    why: str


def answer(asked: Asked, progress: Callable[[str, float], None]) -> Answer:
    """Fork, play and compare.

    Raises:
        UsageError: there is nothing to fork, the change cannot be made there, no flow is like that market, or a model
            of one's own fails on the way.
        JournalError: the run cannot be replayed up to the decision.
    """
    refuse_unrecorded(asked.run.path)
    if not is_recorded_run(asked.run.path):
        raise UsageError(f"{asked.run.path} recorded no market data: there is nothing to go on from")
    index = instrument_of_run(asked.run, asked.instrument)
    new_limits(EngineLimits(), asked.limits)  # what is misspelt is said before anything is replayed
    row = decided_at(asked.run, asked.seq, index)
    number, history = _find(asked.run, index, asked.seq)
    progress("replaying the run", 0.0)
    fork = fork_at(assemble_rerun(asked.run), number, index, history)
    refuse_unlike(fork.event)
    change = Change(
        asked.action,
        asked.side,
        asked.qty,
        load_model(asked.model) if asked.model else None,
        new_limits(fork.limits, asked.limits) if asked.limits else None,
    )
    flow = choose_flow(fork, asked.flow)
    mode = str(asked.run.manifest["mode"])
    until_closed = asked.until == "closed" if asked.until else asked.action is not None
    settings = Settings(
        asked.pairs,
        int(asked.seconds * 1e9),
        until_closed,
        asked.seed,
        latency_of(fork, mode),
        mode != "paper",
    )
    played = play(
        fork, flow.params, row, Change(), change, settings, lambda share: progress("playing both ways", share)
    )
    for model in (fork.model, change.model):
        if (
            model is not None and model.owner is not None
        ):  # one that has failed is asked no more, and says no number
            model.owner.check()
    return _told(asked, fork, flow, settings, played)


def _find(folder: RunFolder, index: int, seq: int) -> tuple[int, Array]:
    """The number in the run of the last event of an instrument with that seq, and its events up to it."""
    kept: list[Array] = []
    number, at, upto = -1, 0, empty_events(0)
    for part in journalled_events(folder):
        mine = part[part["instrument"] == index]
        here = np.flatnonzero((part["instrument"] == index) & (part["seq"] == seq))
        if len(here):
            number = at + int(here[-1])
            upto = np.concatenate([*kept, mine[mine["seq"] <= seq]])[-HISTORY - 1 :]
        kept.append(mine.copy())
        while sum(map(len, kept[1:])) > HISTORY:
            kept.pop(0)
        at += len(part)
    if number < 0:
        raise UsageError(f"{folder.path} recorded no event {seq} of that instrument")
    return number, upto


def new_limits(limits: EngineLimits, given: Sequence[str]) -> EngineLimits:
    """The limits with some given as NAME=VALUE; UsageError names those that there are."""
    changes: dict[str, float | int] = {}
    for text in given:
        name, equals, value = text.partition("=")
        field = LIMITS.get(name)
        if field is None or not equals:
            raise UsageError(f"--limit {text}: expected NAME=VALUE with one of {', '.join(LIMITS)}")
        try:
            number = float(value)
        except ValueError:
            raise UsageError(f"--limit {text}: {value!r} is no number") from None
        whole = isinstance(getattr(limits, field), int)
        if not math.isfinite(number) or number <= 0 or (whole and number != int(number)):
            raise UsageError(f"--limit {text}: expected a {'whole ' if whole else ''}number above 0")
        changes[field] = int(number) if whole else number
    found = msgspec.structs.replace(limits, **changes)
    if given and found.max_order_lots > found.max_position_lots:
        found = msgspec.structs.replace(found, max_order_lots=found.max_position_lots)
    return found


def latency_of(fork: Fork, mode: str) -> LatencyConfig:
    """How far away the venue is: the built-in market's own delays, else the way there and back of the run's venue."""
    usual = LatencyConfig()
    if mode == "mock":
        return usual
    us = fork.round_trip_ns * 1e-3

    def far(leg: Any) -> Any:
        return msgspec.structs.replace(leg, floor_us=max(leg.floor_us, us))

    return msgspec.structs.replace(
        usual, entry=far(usual.entry), modify=far(usual.modify), cancel=far(usual.cancel)
    )


# --- which flow


def choose_flow(fork: Fork, asked: str | None) -> Chosen:
    """The flow that is asked for, that of the instrument, or the nearest of those that are shipped."""
    if asked == "zi":
        return Chosen("zi", zi_params(), Source(note="no market's: zero intelligence"), "asked for")
    if asked is not None:
        params, source = load_params(flow_file(asked))
        return Chosen(asked, params, source, "asked for")
    shipped = {name: load_params(path) for name, path in SHIPPED.items()}
    for name, (params, source) in shipped.items():
        if fork.instrument.name in (source.instrument, name.upper()):
            return Chosen(name, params, source, "of this instrument")
    seen = _likeness(fork.history if len(fork.history) else fork.event)
    looks = {name: _likeness(_undisturbed(params)) for name, (params, _) in shipped.items()}
    nearest = min(looks, key=lambda name: _far(seen, looks[name]))
    params, source = shipped[nearest]
    why = (
        f"none of {fork.instrument.name} is shipped; the nearest by spread and size: {_looks(looks[nearest])} against"
        f" {_looks(seen)} here"
    )
    return Chosen(nearest, params, source, why)


class Likeness(NamedTuple):
    """What books of a market look like."""

    spread: float  # median, ticks
    lots: float  # median of the touch


def _likeness(events: Array) -> Likeness:
    events = events[-LOOKED_AT:]
    good = events[(events["n_bid"] > 0) & (events["n_ask"] > 0) & (events["flags"] & EventFlag.NO_SIZE == 0)]
    if not len(good):
        return Likeness(1.0, 1.0)
    sizes = np.concatenate([good["bid_sz"][:, 0], good["ask_sz"][:, 0]])
    return Likeness(
        float(np.median(good["ask_px"][:, 0] - good["bid_px"][:, 0])), float(max(1.0, np.median(sizes)))
    )


def _undisturbed(params: Array) -> Array:
    market = Market(params, 1, 100_000)
    market.run(2**62, LOOKED_AT)
    rows = empty_events(LOOKED_AT)
    return rows[: market.run(2**62, LOOKED_AT, rows=rows)]


def _far(one: Likeness, other: Likeness) -> float:
    return sum(abs(math.log(max(a, 1e-9) / max(b, 1e-9))) for a, b in zip(one, other, strict=True))


def _looks(one: Likeness) -> str:
    return f"{one.spread:g} ticks, {one.lots:g} lots"


# --- in words


def _told(asked: Asked, fork: Fork, flow: Chosen, settings: Settings, played: Played) -> Answer:
    mean, half = difference(played)
    per_lot = [x / played.at_stake for x in (mean, mean - half, mean + half)]
    fields: dict[str, Any] = {
        "run": asked.run.manifest["run"],
        "instrument": fork.instrument.name,
        "seq": asked.seq,
        "ts": int(fork.event["ts"][0]),
        "flow": flow.name,
        "flow_chosen": flow.why,
        "flow_of": flow.source.note or flow.source.instrument,
        "pairs": settings.pairs,
        "seed": settings.seed,
        "horizon_s": settings.horizon_ns * 1e-9,
        "until_closed": settings.until_closed,
        "at_stake_lots": played.at_stake,
        "difference": mean,
        "difference_interval": [mean - half, mean + half],
        "difference_per_lot": per_lot[0],
        "difference_per_lot_interval": per_lot[1:],
        "equal_pairs": int(np.count_nonzero(played.base.value == played.other.value)),
        "base": _branch(played.rows[0], played.base),
        "other": _branch(played.rows[1], played.other),
    }
    end = (
        f"until all is closed, {asked.seconds:g} s at most"
        if settings.until_closed
        else f"for {asked.seconds:g} s"
    )
    held = f", {fork.position:+d} lots held" if fork.position else ""
    lines = [
        f"{fork.instrument.name} seq {asked.seq}{held}: {_change(asked)}, {end}",
        f"  as it was: {_in_words(fields['base'])}",
        f"  what if:   {_in_words(fields['other'])}",
        f"  difference {per_lot[0]:+.3f} ticks a lot ({per_lot[1]:+.3f} to {per_lot[2]:+.3f}, 95 %), {mean:+.2f} in all"
        f" for {played.at_stake} at stake; {settings.pairs} pairs, {fields['equal_pairs']} of them equal",
        f"  assumed: the market goes on from this book as flow {flow.name} does ({flow.why}), estimated:"
        f" {fields['flow_of'] or 'from an own recording'}; values are after fees, what is left is sold to the book",
    ]
    return Answer(fields, lines)


def _change(asked: Asked) -> str:
    parts = [f"--action {asked.action}"] if asked.action else []
    parts += [f"--model {asked.model}"] if asked.model else []
    parts += [f"--limit {one}" for one in asked.limits]
    return " ".join(parts) or "the same again"


def _branch(row: Any, found: Any) -> dict[str, Any]:
    return {
        "action": Action(int(row["action"])).name.lower(),
        "reason": Reason(int(row["reason_code"])).name.lower(),
        "side": int(row["side"]),
        "px": int(row["px"]),
        "qty": int(row["qty"]),
        "value": float(found.value.mean()),
        "fills": float(found.fills.mean()),
        "lots": float(found.lots.mean()),
        "maker_lots": float(found.maker_lots.mean()),
        "filled_share": float((found.lots > 0).mean()),
        "closed_share": float(found.closed.mean()),
        "seconds": float(found.held_s.mean()),
    }


def _in_words(one: Mapping[str, Any]) -> str:
    side = {1: "buy", -1: "sell"}.get(one["side"], "")
    what = (
        f"{one['action']}, {side} {one['qty']} at {one['px']}"
        if one["action"] != "hold" and side
        else one["action"]
    )
    return (
        f"{what} ({one['reason']}): {one['fills']:.2f} fills, {one['lots']:.2f} lots ({one['maker_lots']:.2f} at rest)"
        f" in {one['seconds']:.1f} s, filled in {one['filled_share']:.0%} of pairs"
    )
