"""A console over a board in this process, asked as a browser or a stranger would."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from typing import Any, NamedTuple

from emp.app.console.console import Console
from emp.app.console.run_pages import READ_S
from emp.core.clock import LiveClock
from emp.observe.board import Board, DecisionView, InstrumentView, OrderView, View
from emp.observe.http import HttpServer, create_app
from emp.observe.trading_views import FillView, HorizonView, LimitView, OutcomeView

TOKEN = "0123456789abcdef0123456789abcdef"
DECISION = DecisionView(
    ts=1_700_000_000_123_000_000,
    seq=9,
    n=1,
    action="post",
    reason="post_edge",
    side=-1,
    px=19_957,
    qty=2,
    edge_ticks=-3.25,
    cost_to_take=0.75,
    context_mult=1.0,
    inventory=-4,
    latency_ms=0.009,
    expected_ticks=1.5,
)
FILL = FillView(
    n=1,
    ts=1_700_000_000_123_000_000,
    order="RUN-1",
    side=1,
    qty=2,
    px=19_957,
    fee_ticks=0.5,
    maker=True,
    expected_ticks=1.25,
)
OUTCOME = OutcomeView(
    n=1,
    ts=1_700_000_000_000_000_000,
    due=1_700_000_002_000_000_000,
    low=19_956.0,
    median=19_957.0,
    high=19_958.0,
    came=19_957.5,
)
GOLD = InstrumentView(
    name="GC",
    tick=0.1,
    bid=19_957,
    ask=19_958,
    last_ts=1_700_000_000_000_000_000,
    position=-4,
    pnl_ticks=-12.5,
    unrealised_ticks=-2.5,
    fills=7,
    events=1234,
    money_per_tick=10.0,
    currency="USD",
    bids=((19_957, 12), (19_956, 40)),
    asks=((19_958, 9),),
    limits=(LimitView(name="position", value=4, limit=10, unit="lots"),),
    forecast={"2s": HorizonView(low=-1.0, median=0.1, high=1.2, mean=0.2, down=0.2, flat=0.5, up=0.3)},
    outcomes=(OUTCOME,),
    recent_fills=(FILL,),
    reasons={"post_edge": 3, "no_edge": 7},
    open_orders=(
        OrderView(cl_ord_id="RUN-00000007", side=1, px=19_957, qty=2, filled=1, status="new", queue_ahead=34),
    ),
    decisions=(DECISION,),
)
SILVER = InstrumentView(name="SI", tick=0.005, bid=4_600, ask=4_602, last_ts=1_700_000_000_000_000_000)


def view(*instruments: InstrumentView, **more: Any) -> View:
    return View(
        **{"mode": "mock", "run": "RUN", "model": "m" * 64, "now_ns": 10**9, "started_ns": 1, **more},
        instruments=instruments,
    )


class Answer(NamedTuple):
    status: int
    body: str
    headers: Mapping[str, str]

    @property
    def told(self) -> Any:
        return json.loads(self.body)


class Served(NamedTuple):
    console: Console
    board: Board
    server: HttpServer

    @property
    def host(self) -> str:
        return self.server.url.removeprefix("http://")

    def ask(self, method: str, path: str, body: str = "", **headers: str) -> Answer:
        """A request with just these headers; underscores in names are hyphens."""
        connection = HTTPConnection(self.host, timeout=READ_S + 30.0)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, named)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read().decode(), dict(answer.getheaders()))
        finally:
            connection.close()

    def control(self, do: str, **changed: str) -> Answer:
        """A control as the page asks for it, but for the headers named; an empty one is left out."""
        headers = {
            "Origin": self.server.url,
            "Content_Type": "application/json",
            "X_Emp_Token": self.console.token,
            "Sec_Fetch_Site": "same-origin",
        } | changed
        return self.ask(
            "POST",
            "/control",
            json.dumps({"do": do, "reason": "test"}),
            **{k: v for k, v in headers.items() if v},
        )


@contextmanager
def served(*, board: Board | None = None, login: bool = False, host: str = "127.0.0.1") -> Iterator[Served]:
    board = board or Board(LiveClock())
    console = Console(board, TOKEN, login=login)
    app = create_app(board, console.routes, console.middleware, any_host=login)
    server = HttpServer(app, host, 0)
    server.start()
    try:
        yield Served(console, board, server)
    finally:
        server.stop()


def chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
