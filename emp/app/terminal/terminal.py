"""What `emp run` shows on the terminal: a table that a thread draws from the board, or a line now and then."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import structlog
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from emp.app.terminal.console import make_console
from emp.observe.board import Board, InstrumentView, View

REFRESH_S = 0.25
LINE_EVERY_S = 5.0
DECISIONS = 8
"""Rows of decisions, of all instruments together."""

TABLE_COLUMNS = 76
"""Columns that the tables need; in a narrower window there are lines instead."""

_log = structlog.get_logger(__name__)


class Terminal:
    """Shows the board on stderr while the block runs; use as a context manager.

    Where nobody can read any more (the terminal is gone, the reader of a pipe has ended, the disk under a file is
    full) it says so in the log and is silent from then on: a run never ends of its own words.
    """

    def __init__(self, board: Board, url: str, folder: Path) -> None:
        self._board = board
        self._url = url
        self._folder = folder
        self._console = make_console()
        self._silent = False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._show, name="terminal", daemon=True)

    def __enter__(self) -> "Terminal":
        with self._words():
            self._console.print(f"console, /health and /metrics: {self._url}    run folder: {self._folder}")
            self._console.print("connecting; Ctrl-C stops in order")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    @contextmanager
    def _words(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # ValueError: stderr has been closed
            self._silent = True
            why = getattr(error, "strerror", None) or str(error)
            _log.warning("the terminal can no longer be written to; the run goes on", why=why)

    def _show(self) -> None:
        with self._words():
            if not self._silent:
                self._draw()

    def _draw(self) -> None:
        if not self._console.is_terminal or self._console.is_dumb_terminal:
            while not self._end.wait(LINE_EVERY_S):
                self._line()
            self._line()
            return
        with Live(console=self._console, auto_refresh=False) as screen:
            while not self._end.wait(REFRESH_S):
                screen.update(self._page(), refresh=True)
            screen.update(self._page(), refresh=True)

    def _line(self) -> None:
        view = self._board.view
        if view is None:
            return
        for one in view.instruments:
            self._console.print(
                f"{one.name} {price(one, (one.bid + one.ask) / 2)}  position {one.position} "
                f" pnl {one.pnl_ticks:.1f} ticks  fills {one.fills}  events {one.events}  "
                f"{_health(self._board.unhealthy())}",
                highlight=False,
            )

    def _page(self) -> Group:
        view = self._board.view
        if view is None:
            return Group(Text("starting"))
        reasons = self._board.unhealthy()
        parts: list[Table | Text] = [
            Text(_health(reasons), style="bold red" if reasons else "green"),
        ]
        if self._console.width >= TABLE_COLUMNS:
            each = max(1, DECISIONS // max(1, len(view.instruments)))
            parts += [_markets(view), *(_decisions(one, each) for one in view.instruments)]
        else:
            parts += [Text(line) for one in view.instruments for line in _narrow(one)]
        if view.model:
            parts.append(Text(_latency(view)))
        parts.append(Text(f"{self._url}  mode {view.mode}  {_model(view)}", style="dim"))
        return Group(*parts)


def price(one: InstrumentView, ticks: float) -> str:
    """A price in ticks as a person writes it."""
    decimals = max(0, len(f"{one.tick:.10f}".rstrip("0").split(".")[1]))
    return f"{ticks * one.tick:.{decimals}f}"


def _narrow(one: InstrumentView) -> list[str]:
    """An instrument in lines of at most forty columns."""
    return [
        f"{one.name}  {price(one, one.bid)} / {price(one, one.ask)}",
        f"position {one.position}  fills {one.fills}",
        f"pnl {one.pnl_ticks:.1f} ticks  fees {one.fees_ticks:.1f}",
        f"events {one.events:,}",
        *(f"last: {row.action}, {row.reason}" for row in one.decisions[:1]),
    ]


def _health(reasons: list[str]) -> str:
    return "; ".join(reasons) if reasons else "healthy"


def _model(view: View) -> str:
    one = view.serving
    if not view.model:
        return "quotes are recorded, nothing is traded"
    own = f"decided by a rule of your own, {one.rule} (candidate)" if one.rule else ""
    said = ", ".join(filter(None, (one.standing, one.role, one.why, own)))
    return f"model {one.kind} {one.hash[:12]}, {said}"


def _latency(view: View) -> str:
    p50, p99, total = (ms * 1e3 for ms in (view.p50_infer_ms, view.p99_infer_ms, view.p99_total_ms))
    return f"model p50 {p50:.1f} us, p99 {p99:.1f} us; event to decision p99 {total:.1f} us"


def _markets(view: View) -> Table:
    table = Table(box=None, padding=(0, 1))
    for name in ("instrument", "bid", "ask", "position", "pnl ticks", "fees", "fills", "open", "events"):
        table.add_column(name, justify="left" if name == "instrument" else "right", no_wrap=True)
    for one in view.instruments:
        table.add_row(
            one.name,
            price(one, one.bid),
            price(one, one.ask),
            str(one.position),
            f"{one.pnl_ticks:.1f}",
            f"{one.fees_ticks:.1f}",
            str(one.fills),
            str(len(one.open_orders)),
            f"{one.events:,}",
        )
    return table


def _decisions(one: InstrumentView, n: int) -> Table:
    table = Table(box=None, padding=(0, 1), title=f"{one.name}: last decisions", title_justify="left")
    for name in ("time UTC", "action", "reason", "lots", "at", "edge", "cost", "held"):
        table.add_column(name, no_wrap=True)
    for row in one.decisions[:n]:
        table.add_row(
            datetime.fromtimestamp(row.ts / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3],
            row.action,
            row.reason,
            str(row.side * row.qty),
            price(one, row.px) if row.px else "",
            f"{row.edge_ticks:+.2f}",
            f"{row.cost_to_take:.2f}",
            str(row.inventory),
        )
    return table
