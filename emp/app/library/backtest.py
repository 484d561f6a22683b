"""Trade a market with the engine that trades live: its own rule or yours, its own models or yours.

emp.backtest(market, rule=my_rule)                       # a recording: nobody reacts to our orders
emp.backtest({"GOOG": market, "AAPL": "aapl.csv"})       # several together: one engine, one account
emp.backtest(emp.Flow("goog"), "GOOG", rule=my_rule)     # a market that answers to every order
"""

import math
import tempfile
from collections.abc import Iterator, Mapping
from numbers import Real
from pathlib import Path
from typing import Any, NamedTuple, overload

import msgspec
import numpy as np

from emp.access.port import Source
from emp.access.recordings import open_recording
from emp.access.recordings.source import files_of
from emp.app.library.arguments import speaks_of_arguments
from emp.app.library.market import OPEN_NS, MarketData, Paths, paths_of, whole_numbers
from emp.app.library.result import Result, Results
from emp.app.report.data import RunData, read_run
from emp.app.wiring.assembly import describe_rule, facts_of, joined, paper_venues, refuse_unknown_rates
from emp.core.codes import Reason
from emp.core.contracts import CancelOrder, NewOrder, OrderUpdate, Replace
from emp.core.errors import UsageError
from emp.core.instrument import Instrument, find
from emp.core.records import DECISION, Array
from emp.engine.choose import model_of
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.load import LoadedModel
from emp.engine.own import Makes, Rule, make_rule
from emp.engine.own_model import OwnCode
from emp.engine.replay import Backtest
from emp.engine.value import value_summary
from emp.journal.run import RunFolder, build_manifest
from emp.sim.flow.shipped import named_flow
from emp.sim.world.market import Market
from emp.sim.world.trader import Trader

MS = 1_000_000
ROWS = 4096
RUN = "LIBRARY"


class Flow(NamedTuple):
    """A simulated market that answers to every order (`emp sim`); the same seed makes the same market."""

    name: str = "goog"  # zi, goog, tsla, or a file that `emp sim calibrate` wrote
    events: int = 100_000
    seed: int = 1
    start_px: int = 50_000  # ticks


class _Recording(NamedTuple):
    source: Source
    files: list[Path]


@overload
def backtest(
    market: Mapping[str, MarketData | Paths],
    instrument: None = None,
    *,
    rule: Makes | Rule | None = None,
    model: str | Path | OwnCode | Makes | None = None,
    limits: Mapping[str, Any] | EngineLimits | None = None,
    latency_ms: float | None = None,
    catalogue: str | Path | None = None,
    folder: str | Path | None = None,
) -> Results: ...


@overload
def backtest(
    market: MarketData | Flow | Paths,
    instrument: str | None = None,
    *,
    rule: Makes | Rule | None = None,
    model: str | Path | OwnCode | Makes | None = None,
    limits: Mapping[str, Any] | EngineLimits | None = None,
    latency_ms: float | None = None,
    catalogue: str | Path | None = None,
    folder: str | Path | None = None,
) -> Result: ...


@speaks_of_arguments()
def backtest(
    market: MarketData | Flow | Paths | Mapping[str, MarketData | Paths],
    instrument: str | None = None,
    *,
    rule: Makes | Rule | None = None,
    model: str | Path | OwnCode | Makes | None = None,
    limits: Mapping[str, Any] | EngineLimits | None = None,
    latency_ms: float | None = None,
    catalogue: str | Path | None = None,
    folder: str | Path | None = None,
) -> Result | Results:
    """Trade a market with the engine, on paper.

    Args:
        market: what `emp.load` or `emp.simulate` gave, file names (read as they are traded, of any length), or a Flow;
            of several instruments one recording each, by name: their events in order of time, the limits of the account
            over all.
        instrument: its name in the catalogue; market data knows its own.
        rule: decides in place of the built-in one: `f(seen, request)`, in Python or compiled by `numba.njit`, or an
            `emp.Rule` with memory of its own. Risk approves what it asks for like anything else.
        model: forecasts: a shipped one (linear, mamba3, …), the folder of an artifact, `net.onnx`, or a model of your
            own: an `emp.Model`, or a function `f(x, forecast)`; else the one that serves.
        limits: of risk, over the defaults: `{"max_position_lots": 5}`.
        latency_ms: round trip to the venue; else the venue's usual. In a Flow the simulator draws its own.
        folder: where the run is kept, for `emp report`, `emp why`, `emp explain`; else it goes with the result.

    Raises:
        EmpError: in one line: what cannot be read, a rule that fails, a limit that there is not.
    """
    chosen = make_rule(rule) if rule is not None else None
    loaded = model_of(model)
    owner = _limits(limits)
    if isinstance(market, Flow):
        if latency_ms is not None or folder is not None:
            raise UsageError("backtest: a Flow draws its own latencies and keeps no folder")
        return _in_flow(market, find(_named(instrument), _path(catalogue)), chosen, loaded, owner)
    if isinstance(market, Mapping):
        if instrument is not None or not market:
            raise UsageError(
                "backtest: of several instruments each recording is named: {'GOOG': …, 'AAPL': …}"
            )
        named = {name: _recording(one, _named(name), catalogue) for name, one in market.items()}
    else:
        one = _recording(market, instrument, catalogue)
        named = {one.source.instrument.name: one}
    found = _recorded(list(named.values()), chosen, loaded, owner, latency_ms, _path(folder))
    return found if isinstance(market, Mapping) else found.only


def _recording(market: Any, instrument: str | None, catalogue: str | Path | None) -> _Recording:
    """A recording of one instrument, in memory or in files."""
    if isinstance(market, Flow):
        raise UsageError("backtest: a Flow is traded alone: emp.simulate makes recordings of several")
    if isinstance(market, MarketData):
        if not len(market):
            raise UsageError("backtest: the market data holds no event")
        if instrument not in (None, market.instrument.name):
            raise UsageError(f"backtest: the market data is of {market.instrument.name}, not of {instrument}")
        return _Recording(market, list(market.files))
    paths = paths_of(market)
    source = open_recording(paths, find(_named(instrument), _path(catalogue)))
    return _Recording(source, sorted({item.path for item in files_of(paths)}))


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)


def _named(instrument: str | None) -> str:
    if not isinstance(instrument, str):
        raise UsageError("backtest: which instrument of the catalogue is it? backtest(market, 'GOOG')")
    return instrument


def _limits(limits: Mapping[str, Any] | EngineLimits | None) -> EngineLimits:
    found = limits if isinstance(limits, EngineLimits) else _over_defaults(limits)
    unknown = [name for name, value in _numbers(msgspec.to_builtins(found)) if math.isnan(value)]
    if unknown:  # nothing is ever beyond it: a limit that never holds
        raise UsageError(f"backtest: limits: {unknown[0]} is not a number")
    return found


def _numbers(fields: Mapping[str, Any], at: str = "") -> Iterator[tuple[str, float]]:
    for name, value in fields.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{at}{name}.")
        elif isinstance(value, float):
            yield at + name, value


def _over_defaults(limits: Mapping[str, Any] | None) -> EngineLimits:
    known = [one for one in EngineLimits.__struct_fields__ if one != "breakers"]  # watched in real time alone
    for name in limits or {}:
        if name not in known:
            raise UsageError(f"backtest: there is no limit {name}; there are {', '.join(known)}")
    try:
        return msgspec.convert({**msgspec.to_builtins(EngineLimits()), **(limits or {})}, EngineLimits)
    except msgspec.ValidationError as error:
        raise UsageError(f"backtest: limits: {error}") from None


def _entry_ns(latency_ms: Any) -> int | None:
    if latency_ms is None:
        return None
    if not isinstance(latency_ms, Real) or not math.isfinite(latency_ms) or latency_ms < 0:
        raise UsageError(f"backtest: latency_ms is a number of milliseconds, not {latency_ms!r}")
    return int(float(latency_ms) * MS)


def _recorded(
    recordings: list[_Recording],
    rule: Rule | None,
    model: LoadedModel,
    limits: EngineLimits,
    latency_ms: float | None,
    folder: Path | None,
) -> Results:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="emp-") as scratch:
            return _recorded(recordings, rule, model, limits, latency_ms, Path(scratch) / "run")
    instruments = [one.source.instrument for one in recordings]
    refuse_unknown_rates(instruments, limits)
    entry_ns = _entry_ns(latency_ms)
    engine = Engine(instruments, model, limits, RUN)
    venues = paper_venues(engine, entry_ns)
    alone = {"instrument": msgspec.to_builtins(instruments[0])} if len(instruments) == 1 else {}
    manifest = build_manifest(
        run=RUN,
        mode="replay",
        config={
            "limits": msgspec.to_builtins(limits),
            **alone,
            "rule": describe_rule(rule) if rule is not None else None,
        },
        instruments=[one.name for one in instruments],
        model_hashes=[model.artifact.hash],
        data_files=[path for one in recordings for path in one.files],
        facts=facts_of(instruments),
    )
    kept = RunFolder.create(folder, manifest)
    running = Backtest(joined([one.source for one in recordings]), engine, venues, kept, rule=rule)
    try:
        summary = running.run()
    except BaseException:
        running.abandon()
        raise
    kept.write_summary(summary)
    return Results(read_run(folder), instruments)


def _in_flow(
    flow: Flow, facts: Instrument, rule: Rule | None, model: LoadedModel, limits: EngineLimits
) -> Result:
    whole_numbers("backtest: Flow", events=(flow.events, 1), seed=(flow.seed, 0), start_px=(flow.start_px, 1))
    engine = Engine([facts], model, limits, RUN)
    if rule is not None:
        rule.attach(engine)
    trader = Trader(engine, Market(named_flow(flow.name), flow.seed, flow.start_px, OPEN_NS), seed=flow.seed)
    rows, laps = np.zeros(ROWS, DECISION), np.zeros((ROWS, 3), np.int32)
    parts: list[Array] = []
    fills = _Fills()
    orders: dict[str, int] = {}
    while trader.events < flow.events and not trader.closed:
        written = trader.run(rows, laps, min(ROWS, flow.events - trader.events))
        if rule is not None:
            rule.check()
        engine.check_model()
        parts.append(rows[:written].copy())
        for message in trader.messages():
            if isinstance(message, OrderUpdate):
                fills.take(message)
            elif isinstance(message, NewOrder | CancelOrder | Replace):
                name = Reason(message.reason).name.lower()
                orders[name] = orders.get(name, 0) + 1
    account, risk = engine.desk.account[0], engine.desk.risk[0]
    summary: dict[str, Any] = {
        "flow": flow._asdict(),
        "rule": describe_rule(rule) if rule is not None else None,
        "events": trader.events,
        "actions": trader.commands,
        "fills": int(account["fills"]),
        "final_position": int(account["position"]),
        "pnl_ticks": float(account["pnl"]),
        "fees": float(account["fees"]),
        "traded_lots": int(account["traded"]),
        **value_summary(engine.desk, 0),
        "halted": bool(risk["halted"]),
        "halted_by": Reason(int(risk["halt_reason"])).name.lower() if risk["halted"] else "",
        "model_hash": model.artifact.hash,
    }
    manifest = build_manifest(
        run=RUN,
        mode="simulated",
        config={},
        instruments=[facts.name],
        model_hashes=[model.artifact.hash],
        facts=[msgspec.to_builtins(facts)],
    )
    decided = np.concatenate(parts)
    decided = decided[decided["bid"] < decided["ask"]]
    return Result(RunData(Path(), manifest, summary, decided, fills.columns(), orders, []), facts)


class _Fills:
    """Fills, told by how many lots of an order are filled in all."""

    def __init__(self) -> None:
        self._filled: dict[str, int] = {}
        self._rows: list[tuple[int, int, int, int, float, bool]] = []

    def take(self, update: OrderUpdate) -> None:
        before = self._filled.get(update.clOrdID, 0)
        if update.replacement:
            self._filled[update.replacement] = self._filled.pop(update.clOrdID, 0)
        elif update.filled > before:
            qty = update.filled - before
            self._filled[update.clOrdID] = update.filled
            self._rows.append((update.ts, update.side, update.price, qty, update.fee, update.maker))

    def columns(self) -> dict[str, Array]:
        kinds = (("ts", "i8"), ("side", "i8"), ("px", "i8"), ("qty", "i8"), ("fee", "f8"), ("maker", "?"))
        return {name: np.array([row[k] for row in self._rows], kind) for k, (name, kind) in enumerate(kinds)}
