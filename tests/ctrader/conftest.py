"""Fixtures of the cTrader tests."""

import shutil
from pathlib import Path

import pytest
from ctrader_rig import make_certificate


@pytest.fixture(scope="session")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1, made for this run."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl command here to make a test certificate with")
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(autouse=True)
def _compiled(compiled_feeds: None) -> None:
    """Sessions are awaited for seconds only."""
