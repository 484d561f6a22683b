"""Networks over raw books as peers: past-only books, the same split and labels, and forecasts that are kept."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from emp.core.errors import DataError
from emp.perception.targets import NO_LABEL
from emp.train.data.books import Books, read_books, scaled, windows
from emp.train.data.data import Series, load_dataset
from emp.train.data.table import FeatureTable
from emp.train.judge import peer
from emp.train.net.peers import PEERS
from tests.kit.datasets import dataset, market, write_quotes

THRESHOLD = np.full(6, 0.1)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EMP_CACHE", str(tmp_path))
    monkeypatch.setattr(peer, "CHECKS", 2)
    monkeypatch.setattr(peer, "CHECK_ROWS", 100)


def books_of(n: int, seed: int, signal: float) -> Books:
    events = market(n, seed, signal)
    return scaled(
        np.stack([events["ask_px"][:, :3], events["bid_px"][:, :3]], axis=2),
        np.stack([events["ask_sz"][:, :3], events["bid_sz"][:, :3]], axis=2),
    )


def test_a_window_ends_with_its_row_and_knows_nothing_later() -> None:
    whole, early = books_of(900, 0, 0.5), Books(*(a[:601] for a in books_of(900, 0, 0.5)))
    rows = np.array([600])
    seen = windows(whole, rows, 100)
    assert seen.shape == (1, 100, 12)
    np.testing.assert_array_equal(seen, windows(early, rows, 100))
    np.testing.assert_allclose(seen[0, -1, 0] + seen[0, -1, 2], 0.0, atol=1e-6)  # mid of the last book is 0
    assert np.abs(seen).max() < 100.0
    half = market(900, 0, 0.5)[:601]
    cut = scaled(
        np.stack([half["ask_px"][:, :3], half["bid_px"][:, :3]], axis=2),
        np.stack([half["ask_sz"][:, :3], half["bid_sz"][:, :3]], axis=2),
    )
    np.testing.assert_array_equal(windows(cut, rows, 100), seen)


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_judged_on_the_test_rows_and_its_forecast_is_kept(
    name: str, short: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, books = dataset(2_400, 1), books_of(2_400, 1, 0.5)
    made = peer.forecast_peer(name, data, books, THRESHOLD, 0, 192, lambda *_: None)
    np.testing.assert_array_equal(made.rows, data.part("test"))
    np.testing.assert_allclose(made.p.sum(axis=2), 1.0, rtol=1e-5)
    assert made.facts["trained_windows"] == 192
    monkeypatch.setattr(peer, "train", lambda *_: pytest.fail("trained again"))
    again = peer.forecast_peer(name, data, books, THRESHOLD, 0, 192, lambda *_: None)
    np.testing.assert_array_equal(again.p, made.p)
    logits = peer.class_logits(again.network, books, made.rows[:8])
    p = (logits / torch.tensor(again.facts["temperature"])[:, None]).softmax(-1).numpy()
    np.testing.assert_allclose(p, made.p[:8], atol=1e-4)
    with pytest.raises(pytest.fail.Exception, match="trained again"):
        peer.forecast_peer(name, data, books, THRESHOLD, 1, 192, lambda *_: None)


def test_temperature_is_that_of_the_least_log_loss() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0.0, 1.0, (4_000, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (rng.random((4_000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    sharp = torch.from_numpy(3.0 * logits)
    assert peer.temperature(sharp, labels) == pytest.approx(3.0, rel=0.1)
    assert peer.temperature(sharp, np.full(4_000, NO_LABEL)) == 1.0


def test_books_are_those_of_the_rows(tmp_path: Path) -> None:
    events = market(900, 3, 0.5)
    path = tmp_path / "GOOG_day.csv"
    write_quotes(events, str(path))
    series = Series("day", "GOOG", (path,))
    data = load_dataset(series, 0.5)
    books = read_books(series, data)
    assert books.levels == 1
    assert len(books.px) == len(data.ts)
    rows = data.seen.rows
    np.testing.assert_array_equal(np.diff(books.mid), np.diff(0.5 * (rows["bid"] + rows["ask"])))
    states = data.seen.states.copy()
    states["seq"] += 10_000
    with pytest.raises(DataError, match="books for"):
        read_books(series, replace(data, seen=FeatureTable(states, *data.seen[1:])))
