"""What the web shows is what the engine published, and the word for unhealthy is a reason."""

import http.client
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress

import msgspec
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from emp.core.clock import SimClock
from emp.core.errors import UsageError
from emp.observe import connections
from emp.observe.board import Board, DriftView, HeadView, InstrumentView, LinkView, ModelView, ValueView, View
from emp.observe.http import HttpServer, create_app
from emp.observe.metrics import exposition, registry
from tests.kit.http import fetch

LINKS = {"run_info", "link_up", "link_losses", "link_retries", "logon_refusals", "orders_refused"}
MODEL = {
    "model_info",
    "model_swaps",
    "model_reloads_refused",
    "model_slow",
    "p99_total_ms",
    "state_pinned",
    "state_restarts",
}
FORECASTS = {"forecast_head_info", "forecast_outcomes", "forecast_scale", "forecast_off_ground"}
CONTEXT = {"context_info", "context_multiplier"}
BREAKERS = {"breaker_open", "breaker_trips"}
MONITOR = {"input_psi", "input_psi_chance", "input_drifted", "model_failure_evidence"}
VALUE = {
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
TRADING = {
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
ROADMAP = {
    "event_lag_ms",
    "queue_depth",
    "p50_infer_ms",
    "p90_infer_ms",
    "p99_infer_ms",
    "drops",
    "risk_halted",
}
ONE = InstrumentView(
    name="EURUSD",
    tick=1e-5,
    queue_depth=3,
    event_lag_ms=1.5,
    drops={"duplicate": 4, "overflow": 2},
    restarts={"market": 5},
    forecaster=HeadView(name="shared", outcomes=9, scale={"1ev": 0.5}),
    value=ValueView(
        closed_lots=7,
        expected=1.5,
        realised=-0.5,
        held_s=30.0,
        earned_lots=0,
        may_cross=True,
        stops=1,
        worth_level=-2.0,
        worth_slope=0.5,
        shadow_trips=40,
    ),
)
NOTICE = (
    "EURUSD: opens nothing: 7 lots brought -0.50 ticks each where 1.50 were expected;"
    " it trades in the head until that has earned it back"
)
SERVING = ModelView(
    hash="m", kind="mamba2", role="fallback", why="p99 0.4 ms", swaps={"latency": 1}, refused=2, pinned=False
)
VIEW = View(
    mode="mock",
    run="R",
    model="m",
    now_ns=0,
    started_ns=0,
    instruments=(ONE,),
    p50_infer_ms=0.01,
    p90_infer_ms=0.02,
    p99_infer_ms=0.03,
    p99_total_ms=0.04,
    serving=SERVING,
    barred=("rejects",),
    bars={"latency": 2},
)


@contextmanager
def serving(board: Board, **options) -> Iterator[str]:
    server = HttpServer(create_app(board, **options), "127.0.0.1", 0)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def test_health_names_every_reason_and_recovers() -> None:
    clock = SimClock()
    board = Board(clock)
    with serving(board) as url:
        assert fetch(f"{url}/health")[0] == 503
        board.publish(VIEW)
        status, body = fetch(f"{url}/health")
        told = json.loads(body)
        assert (status, told["status"], told["reasons"]) == (200, "ok", [])
        assert told["model"] == msgspec.to_builtins(SERVING)
        board.raise_alarm("loop", "the loop is blocked")
        bad = msgspec.structs.replace(ONE, degraded=True, stale=True, stale_ms=7_000.0)
        board.publish(
            msgspec.structs.replace(VIEW, halted=True, halt_reason="daily loss", instruments=(bad,))
        )
        clock.advance(1_500_000_000)
        status, body = fetch(f"{url}/health")
        assert status == 503
        assert json.loads(body)["reasons"] == [
            "the loop is blocked",
            "the engine has not reported for 1500 ms",
            "risk halted: daily loss",
            "EURUSD: degraded, 3 events wait",
            "EURUSD: no market data for 7000 ms",
        ]
        board.clear_alarm("loop")
        board.publish(VIEW)
        assert fetch(f"{url}/health")[0] == 200


def test_the_slow_context_is_shown_with_its_reason_and_is_no_ill() -> None:
    board = Board(SimClock())
    (one, *_) = VIEW.instruments
    less = msgspec.structs.replace(one, context_mult=0.3, context_reason="macro: release")
    board.publish(msgspec.structs.replace(VIEW, instruments=(less,)))
    assert board.unhealthy() == []
    assert board.notices()[0] == f"{one.name}: the slow context multiplies size by 0.3: macro: release"
    with serving(board) as url:
        _, text = fetch(f"{url}/metrics")
    assert f'context_multiplier{{instrument="{one.name}"}} 0.3' in text
    assert f'context_info{{instrument="{one.name}",reason="macro: release"}} 1.0' in text


def test_metrics_are_the_roadmaps_and_the_models_and_parse() -> None:
    board = Board(SimClock())
    with serving(board) as url:
        assert fetch(f"{url}/metrics") == (200, "")
        down = LinkView(
            up=False, reason="good night", cause="logout", losses={"logout": 2}, retries=5, refusals=3
        )
        links = {"market": LinkView(up=True), "trade": down}
        board.publish(msgspec.structs.replace(VIEW, halted=True, links=links))
        status, text = fetch(f"{url}/metrics")
    families = {f.name: f for f in text_string_to_metric_families(text)}
    others = LINKS | MODEL | VALUE | FORECASTS | CONTEXT | BREAKERS | MONITOR | TRADING
    assert (status, set(families)) == (200, ROADMAP | others)
    for name in TRADING:  # see test_trading_metrics.py
        families.pop(name)
    values = {(s.name, *s.labels.values()): s.value for f in families.values() for s in f.samples}
    assert values.pop(("link_losses_total", "logout", "trade")) == 2
    assert not any(values.pop(key) for key in list(values) if key[0] == "link_losses_total")
    assert values == {
        ("run_info", VIEW.mode, VIEW.run): 1,
        ("link_up", "market"): 1,
        ("link_up", "trade"): 0,
        ("link_retries_total", "market"): 0,
        ("link_retries_total", "trade"): 5,
        ("logon_refusals_total", "market"): 0,
        ("logon_refusals_total", "trade"): 3,
        ("orders_refused_total", "EURUSD"): 0,
        ("event_lag_ms", "EURUSD"): 1.5,
        ("queue_depth", "EURUSD"): 3,
        ("model_info", "m", "mamba2", "fallback"): 1,
        ("model_swaps_total", "latency"): 1,
        ("model_swaps_total", "reload"): 0,
        ("model_swaps_total", "failed"): 0,
        ("model_reloads_refused_total",): 2,
        ("model_slow",): 0,
        ("state_pinned",): 0,
        ("state_restarts_total", "market", "EURUSD"): 5,
        ("p50_infer_ms",): 0.01,
        ("p90_infer_ms",): 0.02,
        ("p99_infer_ms",): 0.03,
        ("p99_total_ms",): 0.04,
        ("drops_total", "EURUSD", "duplicate"): 4,
        ("drops_total", "EURUSD", "overflow"): 2,
        ("risk_halted",): 1,
        ("closed_lots_total", "EURUSD"): 7,
        ("expected_value_per_lot", "EURUSD"): 1.5,
        ("realised_value_per_lot", "EURUSD"): -0.5,
        ("holding_seconds", "EURUSD"): 30,
        ("earned_lots", "EURUSD"): 0,
        ("may_cross", "EURUSD"): 1,
        ("value_stops_total", "EURUSD"): 1,
        ("gain_worth_level", "EURUSD"): -2,
        ("gain_worth_slope", "EURUSD"): 0.5,
        ("shadow_trips_total", "EURUSD"): 40,
        ("context_multiplier", "EURUSD"): 1,
        ("breaker_open", "latency"): 0,
        ("breaker_open", "rejects"): 1,
        ("breaker_trips_total", "latency"): 2,
        ("breaker_trips_total", "rejects"): 0,
        ("forecast_head_info", "shared", "EURUSD", "yes"): 1,
        ("forecast_off_ground", "EURUSD"): 0,
        ("forecast_outcomes_total", "EURUSD"): 9,
        ("forecast_scale", "1ev", "EURUSD"): 0.5,
    }
    assert families["drops"].type == "counter"


def notices_of(head: HeadView) -> list[str]:
    board = Board(SimClock())
    view = InstrumentView(name="EURUSD", tick=1e-5, forecaster=head)
    board.publish(msgspec.structs.replace(VIEW, instruments=(view,)))
    return board.notices()


def test_a_head_that_never_saw_the_market_is_named_with_what_its_forecasts_have_earned() -> None:
    head = HeadView(name="shared", trained=False, outcomes=2_000, scale={"1ev": 0.5, "2s": 0.75})
    (line,) = notices_of(head)
    assert "no head was trained on it; shared serves" in line
    assert "0.75" in line
    assert not notices_of(msgspec.structs.replace(head, trained=True))


def test_forecasts_that_nothing_follows_are_said_once_there_are_outcomes_enough() -> None:
    head = HeadView(name="shared", outcomes=600, scale={"1ev": 0.2, "2s": 0.1})
    (line,) = notices_of(head)
    assert line.startswith("EURUSD: moves do not follow the forecasts: they bring 0.20 of what is expected")
    assert not notices_of(msgspec.structs.replace(head, outcomes=500))
    assert not notices_of(msgspec.structs.replace(head, scale={"1ev": 0.2, "2s": 0.3}))


def test_the_snapshot_is_the_view() -> None:
    board = Board(SimClock())
    board.publish(VIEW)
    with serving(board) as url:
        shown = json.loads(fetch(f"{url}/snapshot")[1])
    assert shown == {
        **json.loads(msgspec.json.encode(VIEW)),
        "healthy": True,
        "reasons": [],
        "notices": [NOTICE],
    }


def test_others_add_pages_and_strange_hosts_are_refused() -> None:
    async def page(_: Request) -> PlainTextResponse:
        return PlainTextResponse("console")

    with serving(Board(SimClock()), routes=[Route("/", page)]) as url:
        assert fetch(f"{url}/") == (200, "console")
        assert fetch(f"{url}/", host="evil.example")[0] == 400
        assert fetch(f"{url}/", host="localhost:8787")[0] == 200


def test_a_port_in_use_is_one_clear_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = HttpServer(create_app(Board(SimClock())), "127.0.0.1", port)
        with pytest.raises(UsageError, match=rf"^http\.port: {port} on 127\.0\.0\.1 is in use") as caught:
            server.start()
    assert "\n" not in str(caught.value)


def test_stop_gives_the_port_back() -> None:
    server = HttpServer(create_app(Board(SimClock())), "127.0.0.1", 0)
    server.start()
    port = int(server.url.rsplit(":", 1)[1])
    server.stop()
    again = HttpServer(create_app(Board(SimClock())), "127.0.0.1", port)
    again.start()
    again.stop()


# --- connections that say nothing -------------------------------------------------------------------------


@contextmanager
def opened(url: str, n: int) -> Iterator[list[socket.socket]]:
    host, port = url.removeprefix("http://").split(":")
    with ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection((host, int(port)), 5)) for _ in range(n)]


def is_closed(sock: socket.socket, seconds: float) -> bool:
    """Whether the other side closes within so long."""
    sock.settimeout(seconds)
    try:
        return sock.recv(4096) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.6)
    monkeypatch.setattr(connections, "_LOOK_S", 0.1)


def test_idle_connections_cannot_take_every_descriptor() -> None:
    """1,020 of them stopped an engine in nine seconds: its ledger had no descriptor any more."""
    before = len(os.listdir("/proc/self/fd"))
    with serving(Board(SimClock())) as url:
        with opened(url, 200) as idle:
            late = [sock for sock in idle if is_closed(sock, 0.05)]
            assert len(late) >= 200 - connections.MOST
            ours = len(os.listdir("/proc/self/fd")) - len(idle)
            assert ours - before <= connections.MOST + 10
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with suppress(OSError):
                assert fetch(f"{url}/health")[0] == 503
                return
    raise AssertionError("it never answers again")


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "])
def test_a_request_that_never_comes_whole_is_not_waited_for(said: bytes) -> None:
    with serving(Board(SimClock())) as url, opened(url, 1) as (sock,):
        sock.sendall(said)
        for _ in range(80):  # a byte now and then does not help
            try:
                sock.sendall(b"x" if said else b"")
            except OSError:
                return
            if is_closed(sock, 0.1):
                return
    raise AssertionError("it waits without end")


def test_a_connection_that_is_used_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 2.0)
    monkeypatch.setattr(connections, "_LOOK_S", 0.1)
    with serving(Board(SimClock())) as url:
        host, port = url.removeprefix("http://").split(":")
        with closing(http.client.HTTPConnection(host, int(port), timeout=5)) as client:
            used = set()
            for _ in range(6):
                client.request("GET", "/health")
                assert client.getresponse().read()
                used.add(client.sock.getsockname())
                time.sleep(0.5)
    assert len(used) == 1, "it was closed in between"


def test_drift_is_an_alarm_of_the_page_only_where_the_model_knew_the_market() -> None:
    board = Board(SimClock())
    drift = DriftView(psi={"stale": 0.61}, chance={"stale": 0.05}, drifted=("stale",), trained=False)
    board.publish(msgspec.structs.replace(VIEW, instruments=(msgspec.structs.replace(ONE, drift=drift),)))
    told = "EURUSD: inputs do not look as in the model's training, of which this market was no part: stale (PSI 0.61)"
    assert told in board.notices()
    metrics = exposition(registry(board)).decode()
    assert 'input_psi{input="stale",instrument="EURUSD"} 0.61' in metrics
    assert 'input_psi_chance{input="stale",instrument="EURUSD"} 0.05' in metrics
    assert 'input_drifted{input="stale",instrument="EURUSD"} 1.0' in metrics
    known = msgspec.structs.replace(drift, trained=True)
    board.publish(msgspec.structs.replace(VIEW, instruments=(msgspec.structs.replace(ONE, drift=known),)))
    assert told not in board.notices()
