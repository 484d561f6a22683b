"""What `emp validate` checks: the things that must hold on every machine, each in a second or less.

A room adds its own by a function that returns what it found and a line in CHECKS.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np

from emp.app.status import status_table_holds
from emp.core import contracts, records
from emp.core.clock import SimClock
from emp.core.codes import EventFlag, OrderStatus, Quarantine, Reason
from emp.core.records import Array
from emp.observe.validation import Check, SkipCheckError

ROOT = Path(__file__).resolve().parents[2]

MARKET_STATE = (
    "spread_ticks microprice_off ofi_norm qimbalance refresh_hz stale_ms slope_bid slope_ask curve_bid curve_ask"
    " depth_feat has_depth session_id liquidity_id venue_id ts seq"
)
TOPICS = {
    contracts.MarketDataUpdate: ("market_data_update", "bid ask bid_sz ask_sz depth ts seq"),
    contracts.OrderUpdate: ("order_update", "clOrdID execID status filled price ts"),
    contracts.RiskBreach: ("risk_breach", "reason metric value limit ts"),
    contracts.DegradedMode: ("degraded_mode", "reason queue_depth lag_ms"),
}
ACTION_LOG = "ts seq instrument action reason_code edge_ticks cost_to_take context_mult inventory latency_ms"
METRICS = {
    "event_lag_ms",
    "queue_depth",
    "p50_infer_ms",
    "p90_infer_ms",
    "p99_infer_ms",
    "drops",
    "risk_halted",
}
LINK_METRICS = {
    "run_info",
    "link_up",
    "link_losses",
    "link_retries",
    "logon_refusals",
    "orders_refused",
}
MODEL_METRICS = {
    "model_info",
    "model_reloads_refused",
    "model_slow",
    "p99_total_ms",
    "model_swaps",
    "state_pinned",
    "state_restarts",
}
VALUE_METRICS = {
    "closed_lots",
    "earned_lots",
    "expected_value_per_lot",
    "gain_worth_level",
    "gain_worth_slope",
    "holding_seconds",
    "may_cross",
    "realised_value_per_lot",
    "shadow_trips",
    "value_stops",
}
FORECAST_METRICS = {"forecast_head_info", "forecast_outcomes", "forecast_scale", "forecast_off_ground"}
MONITOR_METRICS = {"input_psi", "input_psi_chance", "input_drifted", "model_failure_evidence"}
TRADING_METRICS = {
    "decisions",
    "drawdown_ticks",
    "fees_ticks",
    "financing_ticks",
    "kind_closed_lots",
    "kind_missed_ticks",
    "fills",
    "forecast_below_ratio",
    "forecast_brier",
    "forecast_inside_ratio",
    "limit_used_ratio",
    "open_orders",
    "orders_decided",
    "pnl_money",
    "pnl_ticks",
    "position_lots",
    "realised_pnl_ticks",
    "unrealised_pnl_ticks",
}
BREAKER_METRICS = {"breaker_open", "breaker_trips"}
CONTEXT_METRICS = {"context_info", "context_multiplier"}


def config_precedence() -> str:
    """YAML first; a variable overrides exactly its own field; mock asks for no credentials."""
    from emp.core.config.config import SystemConfig

    with _environment(EMP_RISK__MAX_ORDER_LOTS="2", EMP_SEED=""), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "c.yaml"
        path.write_text("mode: mock\nseed: 9\ninstruments: {names: [X]}\nrisk: {max_position_lots: 3}\n")
        config = SystemConfig.load(path)
        found = (config.seed, config.risk.max_position_lots, config.risk.max_order_lots)
        assert found == (9, 3, 2), f"seed, position and order limits were {found}, not (9, 3, 2)"
        assert config.credentials() == {}, "mock mode looked for credentials"
    return "file first, one variable over one field, no credentials in mock"


def contracts_unchanged() -> str:
    """The roadmap's field names stand."""
    names = records.MARKET_STATE.names or ()
    assert names == tuple(MARKET_STATE.split()), f"MarketState is {' '.join(names)}"
    depth = records.MARKET_STATE["depth_feat"].shape[0]
    assert 8 <= depth <= 16, f"depth_feat has {depth} dimensions"
    for message, (topic, fields) in TOPICS.items():
        missing = set(fields.split()) - set(message.__struct_fields__)
        found = getattr(message, "topic", None)
        assert found == topic, f"{message.__name__} has topic {found}, not {topic}"
        assert not missing, f"{topic} lacks {', '.join(sorted(missing))}"
    missing = set(ACTION_LOG.split()) - set(records.DECISION.names or ())
    assert not missing, f"the action log lacks {', '.join(sorted(missing))}"
    return f"MarketState, {len(TOPICS)} topics, action log"


def ordering_guard() -> str:
    """Duplicates, regressions and gaps are told apart."""
    from emp.bus.order import admit, new_guard

    rows = records.empty_events(6)
    rows["ts"], rows["seq"] = (1, 2, 2, 1, 3, 4), (1, 2, 2, 3, 3, 6)
    reasons = np.zeros(6, np.int8)
    admit(new_guard(contiguous=True)[0], rows, reasons)
    expected = [0, 0, Quarantine.DUPLICATE, Quarantine.BACKWARDS, 0, 0]
    assert reasons.tolist() == expected, f"reasons were {reasons.tolist()}"
    gaps = np.flatnonzero(rows["flags"] & EventFlag.GAP).tolist()
    assert gaps == [5], f"gaps at {gaps}"
    return "duplicate, backwards and gap told apart"


def bus_is_bounded() -> str:
    """A flood stays within the bound, is counted, and degrades."""
    from emp.bus.bus import EventBus

    bus = EventBus(["X"], queue_bound=16, max_age_ms=100, clock=SimClock())
    rows = records.empty_events(100)
    rows["seq"] = np.arange(100)
    bus.publish(rows)
    counts = bus.counts(0)
    assert counts.high_water <= 16, f"{counts.high_water} events waited"
    assert counts.conflated + counts.waiting == 100, f"{counts}"
    message = bus.next_control()
    assert isinstance(message, contracts.DegradedMode), "no degraded_mode"
    assert message.active, "not degraded"
    return f"100 events into 16 places: {counts.conflated} merged, degraded_mode published"


def artifact_decides_equally_twice() -> str:
    """The shipped artifact verifies, and the same events give the same rows, byte for byte."""
    from emp.engine.choose import load_model

    model = load_model()
    rows = _market(1_500)
    first, again = _decided(rows), _decided(rows)
    assert len(first), "no decision in 1,500 events"
    assert _bytes(first) == _bytes(again), "two runs over the same events differ"
    return f"model {model.artifact.hash[:12]}: {len(first)} rows equal"


def nothing_leaks() -> str:
    """Decisions up to a moment do not change when what follows is another market."""
    known, other = _market(1_200), _market(1_200, seed=2)
    cut = 700
    mixed = np.concatenate([known[:cut], other[cut:]])
    mixed["seq"] = known["seq"]
    mixed["ts"][cut:] += known["ts"][cut] - other["ts"][cut]
    before, after = _decided(known), _decided(mixed)
    limit = known["seq"][cut - 1]
    before, after = before[before["seq"] <= limit], after[after["seq"] <= limit]
    assert _bytes(before) == _bytes(after), "decisions changed with the future"
    return f"{len(before)} decisions unchanged by another future"


def ledger_round_trip() -> str:
    """What the ledger holds survives its process; a repeated report is known."""
    from emp.journal.ledger import Ledger

    order = contracts.NewOrder(
        cl_ord_id="R-00000001",
        instrument="X",
        side=1,
        qty=2,
        px=100,
        immediate=True,
        ts=1,
        reason=Reason.CROSS_EDGE,
        decision_seq=1,
    )
    fill = contracts.OrderUpdate(
        clOrdID=order.cl_ord_id, execID="1", status=OrderStatus.FILLED, filled=2, price=100, ts=2
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite"
        ledger = Ledger(path, run="R", mode="mock")
        ledger.record_intent(order)
        assert ledger.record_report(fill), "the first report was taken for a repeated one"
        ledger.close()
        ledger = Ledger(path, run="R", mode="mock")
        assert not ledger.record_report(fill), "a repeated report was not known after a restart"
        bodies = [event.body for event in ledger.events()]
        ledger.close()
    assert bodies == [order, fill], "another order or report came back"
    return "intent and report durable, repetition known"


def secrets_stay_hidden() -> str:
    """A secret shows itself in no text."""
    from emp.core.config.secrets import Secret

    word = "correct-horse"
    shown = (
        f"{Secret(word)} {Secret(word)!r} {[Secret(word)]} {msgspec.json.encode(repr(Secret(word))).decode()}"
    )
    assert word not in shown, "a secret was printed"
    return "not in str, repr or JSON"


def catalogue_loads() -> str:
    """Every shipped instrument has facts and a calendar."""
    from emp.core.instrument import catalogue
    from emp.core.sessions import session_table

    found = catalogue()
    for one in found.values():
        assert one.tick > 0, f"{one.name}: tick {one.tick}"
        assert len(session_table(one, 1_700_000_000_000_000_000, 1_700_000_000_000_000_000)), one.name
    return f"{len(found)} instruments"


def metrics_are_the_roadmaps() -> str:
    """`/metrics` has the roadmap's quantities, and those of connections, model, forecasts and value."""
    from emp.observe.board import Board, InstrumentView, View
    from emp.observe.metrics import registry

    board = Board(SimClock())
    one = InstrumentView(name="X", tick=1.0)
    board.publish(View(mode="mock", run="R", model="m", now_ns=0, started_ns=0, instruments=(one,)))
    found = {metric.name for metric in registry(board).collect()}
    ours = LINK_METRICS | MODEL_METRICS | FORECAST_METRICS | VALUE_METRICS | CONTEXT_METRICS | BREAKER_METRICS
    ours |= MONITOR_METRICS | TRADING_METRICS
    assert found == METRICS | ours, f"metrics are {', '.join(sorted(found))}"
    return ", ".join(sorted(found))


def layers_hold() -> str:
    """No room imports what it may not know."""
    try:
        from importlinter.application.use_cases import lint_imports
        from importlinter.configuration import configure
    except ImportError:
        raise SkipCheckError("import-linter is not installed (extra dev)") from None
    pyproject = ROOT / "pyproject.toml"
    if not pyproject.exists():
        raise SkipCheckError("no checkout here: nothing to analyse")
    configure()
    with open(os.devnull, "w") as quiet, _stdout(quiet):
        kept = lint_imports(config_filename=str(pyproject), cache_dir=None)
    assert kept, "a layer contract is broken: run lint-imports"
    return "data flows one way"


CHECKS = [
    Check("config precedence", "core", config_precedence),
    Check("contracts unchanged", "core", contracts_unchanged),
    Check("secrets stay hidden", "core", secrets_stay_hidden),
    Check("catalogue and calendars", "core", catalogue_loads),
    Check("ordering guard", "bus", ordering_guard),
    Check("bounded bus", "bus", bus_is_bounded),
    Check("artifact and determinism", "engine", artifact_decides_equally_twice),
    Check("no look-ahead", "engine", nothing_leaks),
    Check("ledger round trip", "journal", ledger_round_trip),
    Check("metrics", "observe", metrics_are_the_roadmaps),
    Check("README status", "architecture", status_table_holds),
    Check("import layers", "architecture", layers_hold),
]


def _market(n: int, seed: int = 1) -> Array:
    """`n` events of the built-in market."""
    from emp.core.instrument import find
    from emp.sim.world.mock import MockMarket

    start_ns = 1_700_060_400_000_000_000  # Wednesday 2023-11-15, 15:00 UTC
    market = MockMarket(find("GC"), seed, n_events=n, batch=n, start_ns=start_ns)
    return np.concatenate(list(market.batches()))


def _decided(rows: Array) -> Array:
    """The decision rows of a fresh engine over the events, its orders never answered."""
    from emp.core.instrument import find
    from emp.engine.choose import load_model
    from emp.engine.engine import Engine
    from emp.engine.limits import EngineLimits

    engine = Engine([find("GC")], load_model(), EngineLimits(), "VALIDATE")
    done, decided = 0, [np.zeros(0, records.DECISION)]
    while done < len(rows):
        output = engine.process(rows[done:])
        decided.append(output.rows)
        done += output.consumed
    return np.concatenate(decided)


def _bytes(rows: Array) -> bytes:
    return records.fieldwise_bytes(rows, records.UNHASHED)


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """Only these EMP_ variables, for a while."""
    before = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("EMP_")}
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def _stdout(stream: object) -> Iterator[None]:
    from contextlib import redirect_stdout

    with redirect_stdout(stream):  # type: ignore[type-var]
        yield
