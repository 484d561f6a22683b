"""Several recordings in one backtest: each instrument as it is alone, but for what the account has together."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

import emp
from emp.access.paper.venue import PaperVenue
from emp.access.together import Together
from emp.core.codes import Action
from emp.core.instrument import Instrument, find
from emp.core.records import DECISION, UNHASHED, Array, fieldwise_bytes
from emp.engine.choose import load_model
from emp.engine.engine import Engine
from emp.engine.limits import EngineLimits
from emp.engine.portfolio import AccountLimits
from emp.engine.replay import Backtest
from emp.journal.run import RunFolder, build_manifest
from tests.kit.backtests import differences_after_a_kill
from tests.kit.models import Events

EVENTS = 6_000
FLOWS = (("GOOG", "goog", 2), ("TSLA", "tsla", 3))
Markets = dict[Instrument, Array]


@pytest.fixture(scope="module")
def markets() -> Markets:
    """Two markets of the same hours: the second begins a moment later, and shares some of the first one's times."""
    made = {
        find(name): emp.simulate(flow, name, events=EVENTS, seed=seed).events.copy()
        for name, flow, seed in FLOWS
    }
    for events in made.values():
        events["ts"] = events["ts"] // 1_000_000 * 1_000_000
    first, second = (set(events["ts"].tolist()) for events in made.values())
    assert first & second, "no time is that of both"
    return made


def backtest(
    markets: Markets, folder: Path | None = None, wrote: Any = None, batch: int = 700, **limits: Any
) -> Backtest:
    instruments = list(markets)
    engine = Engine(instruments, load_model("linear"), EngineLimits(**limits), "TESTRUN0")
    venues = [PaperVenue(one) for one in instruments]
    sources = [Events(events, one, batch + 90 * i) for i, (one, events) in enumerate(markets.items())]
    kept = None
    if folder is not None:
        manifest = build_manifest(
            run="TESTRUN0",
            mode="replay",
            config={},
            instruments=[one.name for one in instruments],
            model_hashes=[engine.model.artifact.hash],
            facts=[msgspec.to_builtins(one) for one in instruments],
        )
        kept = RunFolder.open_or_create(folder, manifest)
    source = sources[0] if len(sources) == 1 else Together(sources)
    return Backtest(source, engine, venues, kept, wrote=wrote)


def played(markets: Markets, **how: Any) -> tuple[Array, dict[str, Any]]:
    """DECISION rows, in order, and the summary."""
    parts: list[Array] = [np.zeros(0, DECISION)]
    summary = backtest(markets, wrote=lambda rows: parts.append(rows.copy()), **how).run()
    return np.concatenate(parts), summary


def same(rows: Array, others: Array) -> bool:
    rows, others = rows.copy(), others.copy()
    rows["instrument"] = others["instrument"] = 0
    return fieldwise_bytes(rows, UNHASHED) == fieldwise_bytes(others, UNHASHED)


@pytest.mark.parametrize("loss", [1e12, 40.0])
def test_each_is_as_it_is_alone_where_no_limit_is_of_both(markets: Markets, loss: float) -> None:
    """With the second loss one is closed by its own limit, in Python, while the other goes on."""
    rows, summary = played(markets, max_daily_loss=loss, max_drawdown=loss)
    halted = []
    for place, (one, events) in enumerate(markets.items()):
        alone, told = played({one: events}, max_daily_loss=loss, max_drawdown=loss)
        assert same(rows[rows["instrument"] == place], alone)
        assert {name: told[name] for name in summary["instruments"][one.name]} == summary["instruments"][
            one.name
        ]
        assert told["fills"]
        halted.append(told["halted"])
    assert any(halted) == (loss == 40.0)
    assert summary["fills"] == sum(one["fills"] for one in summary["instruments"].values())


def test_rows_come_in_order_of_time_and_of_one_time_in_that_of_the_instruments(markets: Markets) -> None:
    rows, _ = played(markets)
    others, _ = played(markets, batch=333)
    order = list(zip(rows["ts"].tolist(), rows["instrument"].tolist(), strict=True))
    assert order == sorted(order)
    assert fieldwise_bytes(rows, UNHASHED) == fieldwise_bytes(others, UNHASHED)


def test_a_loss_of_the_account_closes_both(markets: Markets) -> None:
    limits = AccountLimits(currency="USD", max_daily_loss=0.05)
    rows, summary = played(markets, account=limits)
    assert {one["halted_by"] for one in summary["instruments"].values()} == {"account_loss"}
    assert all(one["final_position"] == 0 for one in summary["instruments"].values())
    assert summary["halted"]
    assert summary["account"]["currency"] == "USD"
    money = summary["account"]["pnl_money"]["USD"]
    assert summary["account"]["pnl"] == pytest.approx(money)
    assert (rows["action"] == Action.FLATTEN).sum() == 1


def test_a_run_that_was_killed_goes_on_as_if_it_had_not_been(markets: Markets, tmp_path: Path) -> None:
    def make(name: str) -> Backtest:
        return backtest(markets, tmp_path / name)

    assert differences_after_a_kill(make, 7) == set()


def test_a_row_of_a_book_that_is_not_believed_holds_nothing_of_another_row(markets: Markets) -> None:
    rows, _ = played(markets)
    withdrawn = rows[(rows["action"] == Action.CANCEL) & (rows["ask"] == 0)]
    assert len(withdrawn)
    assert not withdrawn["since_reset"].any()
    assert not withdrawn["sigma_ticks"].any()
