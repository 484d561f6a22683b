"""What a run says on the terminal: while it goes on, of several instruments too, and when it has ended."""

from pathlib import Path

import msgspec
from rich.console import Console

from emp.app.terminal.closing import closing_words
from emp.app.terminal.terminal import DECISIONS, Terminal
from emp.core.clock import LiveClock
from emp.observe.board import Board
from tests.console.kit import DECISION, GOLD, SILVER, view

GOOG = {
    "pnl_ticks": 51.0,
    "pnl_money": 0.51,
    "currency": "USD",
    "fees": 3.0,
    "fills": 6,
    "final_position": 0,
}
TSLA = {**GOOG, "pnl_ticks": -25.5, "pnl_money": -0.255, "fills": 1_100, "final_position": -1}


def summary(*, halted: bool = False, **instruments: dict) -> dict:
    return {
        "run_folder": "my runs/mock-ABC",
        "halted": halted,
        "breaches": ["kill_switch, drill"] * halted,
        "instruments": instruments,
    }


def test_an_ended_run_says_what_came_what_is_held_and_what_to_type() -> None:
    assert closing_words(summary(GOOG=GOOG)) == [
        "GOOG: +51.0 ticks (+0.51 USD) after 3.0 of fees, 6 fills",
        "run folder: 'my runs/mock-ABC'",
        "next: emp report 'my runs/mock-ABC'; emp why 'my runs/mock-ABC'; emp runs --runs 'my runs'",
    ]
    told = closing_words(summary(halted=True, GOOG=GOOG, TSLA={**TSLA, "currency": ""}))
    assert told[1] == "TSLA: -25.5 ticks after 3.0 of fees, 1,100 fills"
    assert told[2:4] == ["still held, valued at mid: TSLA -1", "halted: kill_switch, drill"]
    assert "emp why 'my runs/mock-ABC' --instrument GOOG" in told[-1]
    assert closing_words({"run_folder": "runs/x", "instruments": {"GC": {"events": 3}}}) == [
        "recorded in runs/x"
    ]


def test_the_decisions_of_several_instruments_take_the_room_of_one() -> None:
    board = Board(LiveClock())
    busy = msgspec.structs.replace(GOLD, decisions=(DECISION,) * 20)
    for others in ((), (SILVER,)):
        board.publish(view(busy, *others))
        console = Console(width=100, height=60)
        with console.capture() as captured:
            console.print(Terminal(board, "http://x", Path("runs/x"))._page())
        assert captured.get().count("post_edge") == DECISIONS // (1 + len(others))
