"""Fixtures of the tests of the live wiring."""

import pytest


@pytest.fixture(autouse=True)
def _compiled(compiled_engine: None, compiled_market: None, compiled_feeds: None) -> None:
    """Most of these tests wait for something for seconds only."""
