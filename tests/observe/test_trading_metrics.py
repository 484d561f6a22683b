"""The metrics of trading tell what the view holds, and the dashboard asks for nothing that is not there."""

import json
import re
from pathlib import Path

import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from emp.core.clock import SimClock
from emp.observe.board import AccountView, Board, KindView, LinkView, ValueView
from emp.observe.metrics import exposition, registry
from emp.observe.trading_views import CalibrationView, LimitView
from tests.console.kit import GOLD, SILVER, view

ROOT = Path(__file__).resolve().parents[2]
FULL = msgspec.structs.replace(
    GOLD,
    fees_ticks=3.5,
    drawdown_ticks=-20.0,
    orders={"post_edge": 3},
    drops={"overflow": 1},
    restarts={"market": 1},
    calibration={"2s": CalibrationView(outcomes=9, inside=0.5, below=0.3, above=0.2, brier=0.21)},
    financing_ticks=-1.5,
    value=ValueView(
        closed_lots=3,
        kinds=(
            KindView(
                question="queue",
                name="10-99",
                closed_lots=2.5,
                expected=2.0,
                realised=0.5,
                low=-3.0,
                high=-0.25,
            ),
            KindView(question="hour", name="13", closed_lots=3.0, expected=1.0, realised=1.25),
        ),
    ),
)
LIMITS = AccountView(
    currency="EUR", limits=(LimitView(name="gross exposure", value=10.0, limit=40.0, unit="EUR"),)
)


def families_of(*instruments, **more) -> dict[str, Metric]:
    board = Board(SimClock())
    board.publish(view(*instruments, **more))
    text = exposition(registry(board)).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Metric], name: str, *labels: str) -> float:
    (found,) = [
        s.value
        for f in families.values()
        for s in f.samples
        if (s.name, *s.labels.values()) == (name, *labels)
    ]
    return found


def test_trading_is_told_in_lots_ticks_and_money() -> None:
    families = families_of(FULL, account=LIMITS)
    told = {
        ("position_lots", "GC"): -4,
        ("pnl_ticks", "GC"): -12.5,
        ("unrealised_pnl_ticks", "GC"): -2.5,
        ("realised_pnl_ticks", "GC"): -10.0,
        ("drawdown_ticks", "GC"): -20.0,
        ("fees_ticks", "GC"): 3.5,
        ("financing_ticks", "GC"): -1.5,
        ("kind_closed_lots_total", "GC", "10-99", "queue"): 2.5,
        ("kind_missed_ticks", "mean", "GC", "10-99", "queue"): -1.5,
        ("kind_missed_ticks", "low", "GC", "10-99", "queue"): -3.0,
        ("kind_missed_ticks", "high", "GC", "10-99", "queue"): -0.25,
        ("kind_missed_ticks", "mean", "GC", "13", "hour"): 0.25,
        ("fills_total", "GC"): 7,
        ("open_orders", "GC"): 1,
        ("orders_decided_total", "GC", "post_edge"): 3,
        ("decisions_total", "GC", "no_edge"): 7,
        ("limit_used_ratio", "GC", "position"): 0.4,
        ("limit_used_ratio", "account", "gross exposure"): 0.25,
        ("forecast_inside_ratio", "2s", "GC"): 0.5,
        ("forecast_below_ratio", "2s", "GC"): 0.3,
        ("forecast_brier", "2s", "GC"): 0.21,
        ("pnl_money", "USD", "GC"): -125.0,
    }
    for (name, *labels), expected in told.items():
        assert value(families, name, *labels) == pytest.approx(expected), name


def test_what_is_not_known_has_no_sample_and_who_only_observes_trades_nothing() -> None:
    families = families_of(SILVER)
    for name in ("unrealised_pnl_ticks", "realised_pnl_ticks", "pnl_money", "forecast_brier", "decisions"):
        assert families[name].samples == []
    assert families["position_lots"].samples
    assert "position_lots" not in families_of(SILVER, mode="observe")


def test_every_query_of_the_dashboard_asks_for_a_metric_and_labels_that_there_are() -> None:
    families = families_of(FULL, account=LIMITS, links={"trade": LinkView(up=True)})
    known = {s.name: set(s.labels) for f in families.values() for s in f.samples}
    board = json.loads((ROOT / "docs/grafana.json").read_text())
    targets = [(t["expr"], t["legendFormat"]) for panel in board["panels"] for t in panel["targets"]]
    assert len(targets) >= len(board["panels"]) >= 15
    for query, legend in targets:
        words = set(re.findall(r"[a-z_][a-z0-9_]*", re.sub(r'"[^"]*"|\[[^]]*\]', "", query)))
        used = words & known.keys()
        assert len(used) == 1, (query, "asks for one metric that there is")
        labels = known[used.pop()]
        grouped = re.search(r"by \(([^)]*)\)", query)
        assert set(re.findall(r"(\w+)=~?", query)) <= labels, query
        left = {word.strip() for word in grouped[1].split(",")} if grouped else labels
        assert left <= labels, query
        assert set(re.findall(r"{{(\w+)}}", legend)) <= left, (query, legend)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    (asked,) = [v["query"]["query"] for v in board["templating"]["list"] if v["type"] == "query"]
    name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", asked).groups()  # type: ignore[union-attr]
    assert label in known[name]
