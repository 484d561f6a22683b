"""Fixtures of the cTrader tests."""

import pytest


@pytest.fixture(autouse=True)
def _compiled(compiled_feeds: None) -> None:
    """Sessions are awaited for seconds only."""
