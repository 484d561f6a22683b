"""Fixtures of the tests of state-space models."""

import pytest

from emp.train.data import chunks
from emp.train.fit import loop, windows


@pytest.fixture
def short_windows(monkeypatch):
    """Windows of 64 rows, a burn-in of 16."""
    for module in (chunks, loop):
        monkeypatch.setattr(module, "BURN_IN", 16)
    for module in (chunks, windows):
        monkeypatch.setattr(module, "WINDOW", 64)
