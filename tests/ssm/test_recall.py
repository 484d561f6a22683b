"""The synthetic recall task, and the published baseline's shape."""

import numpy as np
import torch

from emp.core.ids import generator
from emp.train.fit.memory import (
    CHANCE,
    Recaller,
    Stage,
    Windowed,
    recall_accuracy,
    recall_batch,
    train_recall,
)
from emp.train.net.deeplob import FEATURES, WINDOW, DeepLOB

torch.set_num_threads(1)


def test_the_task_shows_the_symbol_once_and_asks_at_the_end():
    x, symbol = recall_batch(generator(0, "test"), 50, 40)
    assert x.shape == (50, 40, 4)
    assert (x[:, 0, 2] == 1).all()
    assert not x[:, 1:, 2].any()
    assert (x[:, -1, 3] == 1).all()
    assert not x[:, -1, :2].any()
    np.testing.assert_array_equal((x[:, 0, 0] > 0) + 2 * (x[:, 0, 1] > 0), symbol)


def test_a_carried_state_recalls_what_a_window_cannot_see():
    """Trained and judged well within a minute: 32 events back against a window of 16."""
    stages = (Stage(32, 40, 130),)
    torch.manual_seed(0)
    recaller, windowed = Recaller(), Windowed(window=16)
    train_recall(recaller, 0, stages)
    train_recall(windowed, 0, (Stage(32, 40, 40),))
    assert recall_accuracy(recaller, 0, 32) > 0.95
    assert recall_accuracy(windowed, 0, 32, sequences=256) < CHANCE + 0.12


def test_deeplob_maps_a_window_of_books_to_classes_and_learns():
    torch.manual_seed(0)
    network = DeepLOB()
    assert 55_000 < sum(p.numel() for p in network.parameters()) < 65_000  # the paper: 60,000
    x = torch.randn(8, WINDOW, FEATURES)
    label = torch.arange(8) % 3
    x[:, -1, 0] += 4.0 * (label - 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    first = None
    for _ in range(15):
        logits = network(x)
        assert logits.shape == (8, 6, 3)
        loss = torch.nn.functional.cross_entropy(logits[:, 0], label)
        first = first or float(loss.detach())
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert float(loss.detach()) < 0.5 * first
