"""The slow context in a replay: exact to the event at both edges, wherever batches end and whatever was killed."""

from pathlib import Path

import numpy as np
import pytest

from emp.core.codes import Action, OrderStatus, Reason
from emp.core.contracts import CancelOrder, Control, OrderUpdate
from emp.core.instrument import find
from emp.core.records import Array
from emp.engine.context import FAILED, SlowContext
from emp.engine.replay import Backtest
from emp.journal.actionlog import read_actions
from emp.journal.reader import LedgerReader
from emp.risk.context.port import Window
from tests.kit.backtests import backtest, differences_after_a_kill
from tests.kit.events import random_events
from tests.kit.models import engine
from tests.kit.orders import cleared, new_order

pytestmark = pytest.mark.usefixtures("compiled_engine")

GOOG = find("GOOG")
S = 1_000_000_000


class Told:
    """A provider that says what the test says."""

    def __init__(self, *windows: Window) -> None:
        self.said = list(windows)
        self.failure = ""
        self.error: Exception | None = None
        self.changed = False

    def windows(self, *_: object) -> list[Window]:
        if self.error is not None:
            raise self.error
        return self.said

    def refresh(self) -> bool:
        return self.changed


@pytest.fixture(scope="module")
def market() -> Array:
    return random_events(3_000, 5)


def spans(market: Array) -> tuple[Window, Window]:
    """Size 0 from the very time of event 1,000 to that of event 1,700; 0.3 from between two events to beyond that."""
    ts = market["ts"]
    return (
        Window(int(ts[1_000]), int(ts[1_700]), 0.0, "macro: release"),
        Window(int(ts[1_400]) + 1, int(ts[2_200]), 0.3, "volatility: above 35"),
    )


def replayed(folder: Path, market: Array, run: str = "run", batch: int = 500) -> Backtest:
    context = SlowContext([GOOG], [Told(span) for span in spans(market)])
    return backtest(folder, engine(folder), market, run, batch=batch, context=context)


def controls(folder: Path) -> list[tuple[int, Control]]:
    ledger = LedgerReader(folder / "ledger.sqlite")
    found = [(e.at, e.body) for e in ledger.events() if isinstance(e.body, Control)]
    ledger.close()
    return [(at, one) for at, one in found if one.action == "context"]


def test_the_multiplier_changes_with_the_event_that_reaches_an_edge(tmp_path: Path, market: Array) -> None:
    running = replayed(tmp_path, market)
    running.run()
    rows = read_actions(tmp_path / "run" / "actions")
    nothing, less = spans(market)
    expected = np.ones(len(rows), np.float32)
    expected[(rows["ts"] >= less.start_ns) & (rows["ts"] < less.end_ns)] = 0.3
    expected[(rows["ts"] >= nothing.start_ns) & (rows["ts"] < nothing.end_ns)] = 0.0
    assert {0.0, 1.0} < set(expected.tolist())
    np.testing.assert_array_equal(rows["context_mult"], expected)
    barred = rows[expected == 0.0]
    assert set(barred["action"].tolist()) <= {Action.HOLD, Action.CANCEL}
    assert set(barred["reason_code"].tolist()) <= {Reason.CONTEXT, Reason.NO_EDGE}
    assert (barred["reason_code"] == Reason.CONTEXT).any()
    assert (rows[expected == 1.0]["action"] == Action.POST).any()
    told = controls(tmp_path / "run")
    assert [(at, c.value, c.reason) for at, c in told] == [
        (1_000, 0.0, "macro: release"),
        (1_700, 0.3, "volatility: above 35"),
        (2_200, 1.0, ""),
    ]
    assert [c.ts for _, c in told] == [int(market["ts"][k]) for k in (1_000, 1_700, 2_200)]


@pytest.mark.parametrize("batch", [7, 3_000])
def test_it_does_not_matter_where_a_batch_ends(tmp_path: Path, market: Array, batch: int) -> None:
    one, other = replayed(tmp_path, market, "a"), replayed(tmp_path, market, "b", batch)
    assert one.run()["action_log_sha256"] == other.run()["action_log_sha256"]
    assert controls(tmp_path / "a") == controls(tmp_path / "b")


def test_a_replay_that_was_killed_inside_a_window_goes_on_as_if_it_had_not_been(
    tmp_path: Path, market: Array
) -> None:
    for after in (3, 4):  # after events 1,500 and 2,000: of the first window, of the second
        folder = tmp_path / str(after)
        folder.mkdir()
        assert differences_after_a_kill(lambda run, f=folder: replayed(f, market, run), after) == set()
        assert controls(folder / "dying") == controls(folder / "whole")


def test_without_a_context_nothing_is_multiplied(tmp_path: Path, market: Array) -> None:
    plain = backtest(tmp_path, engine(tmp_path), market, "plain").run()
    empty = backtest(tmp_path, engine(tmp_path), market, "empty", context=SlowContext([GOOG], [Told()])).run()
    assert plain["action_log_sha256"] == empty["action_log_sha256"]


# --- what is due


def test_a_run_that_begins_inside_a_window_is_told_before_its_first_event() -> None:
    context = SlowContext([GOOG], [Told(Window(10 * S, 20 * S, 0.3, "x"))])
    first = context.change(0, 12 * S)
    assert first == Control(action="context", ts=12 * S, instrument="GOOG", reason="x", value=0.3)
    assert context.until(0) == 20 * S
    assert context.change(0, 13 * S) is None
    last = context.change(0, 20 * S)
    assert last is not None
    assert (last.value, last.reason) == (1.0, "")


def test_by_time_alone_size_only_falls_and_an_event_from_before_does_not_raise_it_again() -> None:
    context = SlowContext([GOOG], [Told(Window(10 * S, 20 * S, 0.0, "x"))])
    assert context.change(0, 9 * S) is None
    assert context.fall(0, 10 * S - 1) is None
    fell = context.fall(0, 10 * S)
    assert fell is not None
    assert fell.value == 0.0
    assert context.change(0, 9 * S + 5) is None  # late: it was under way when the clock passed the edge
    assert context.until(0) == 20 * S
    context.renew()
    assert context.change(0, 9 * S + 6) is None  # nor where providers are asked anew
    assert context.fall(0, 21 * S) is None
    rose = context.change(0, 20 * S)
    assert rose is not None
    assert rose.value == 1.0


def test_a_provider_that_fails_is_on_the_safe_side_and_comes_back() -> None:
    provider = Told()
    context = SlowContext([GOOG], [provider])
    assert context.change(0, S) is None
    provider.error, provider.changed = ValueError("broken"), True
    assert context.look()
    context.renew()
    failed = context.change(0, 2 * S)
    assert failed is not None
    assert (failed.value, failed.reason) == (0.3, FAILED)
    provider.error = None
    context.renew()
    again = context.change(0, 3 * S)
    assert again is not None
    assert again.value == 1.0


def test_two_instruments_have_clocks_of_their_own() -> None:
    context = SlowContext([GOOG, find("EURUSD")], [Told(Window(10 * S, 20 * S, 0.0, "x"))])
    assert context.change(0, 12 * S) is not None
    assert context.change(1, 5 * S) is None
    second = context.change(1, 10 * S)
    assert second is not None
    assert second.instrument == "EURUSD"


def test_an_order_that_rests_is_withdrawn_by_time_alone_where_size_is_0(
    tmp_path: Path, market: Array
) -> None:
    e = engine(tmp_path)
    e.process(market[:10])
    now = int(market["ts"][9]) + 1
    e.sent(cleared(new_order("TESTRUN0-1", 1, 1, 9_000, instrument="GOOG", ts=now)))
    e.on_report(
        OrderUpdate(
            clOrdID="TESTRUN0-1",
            execID="e1",
            status=OrderStatus.NEW,
            filled=0,
            price=9_000,
            ts=now,
            instrument="GOOG",
            side=1,
        )
    )
    e.control(Control(action="context", ts=now, instrument="GOOG", value=0.3))
    assert e.on_timer(now).commands == []
    e.control(Control(action="context", ts=now, instrument="GOOG", value=0.0))
    (withdrawn,) = e.on_timer(now).commands
    assert isinstance(withdrawn, CancelOrder)
    assert (withdrawn.orig, withdrawn.reason) == ("TESTRUN0-1", Reason.CONTEXT)
    e.sent(withdrawn)
    assert e.on_timer(now).commands == []
