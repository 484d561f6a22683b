"""What a test needs that is not installed everywhere."""

import os

import pytest


def needed(there: bool, words: str) -> None:
    """Skip where something is not there; fail where EMP_REQUIRE_SERVICES=1 demands it."""
    if not there:
        if os.environ.get("EMP_REQUIRE_SERVICES") == "1":
            pytest.fail(words)
        pytest.skip(words)
