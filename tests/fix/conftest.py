"""Fixtures of the FIX tests."""

import pytest


@pytest.fixture(autouse=True)
def _compiled(compiled_market: None, compiled_feeds: None) -> None:
    """Sessions are awaited for seconds only."""
