"""The hash that can be taken up again is SHA-256, wherever it is cut."""

import hashlib

import numpy as np
import pytest

from emp.core.rolling_hash import RollingSha256


@pytest.mark.parametrize("size", [0, 1, 55, 56, 57, 63, 64, 65, 119, 120, 128, 1000, 100_003])
def test_it_is_sha256(size: int) -> None:
    data = np.random.default_rng(size).bytes(size)
    assert RollingSha256(data).hexdigest() == hashlib.sha256(data).hexdigest()


def test_it_goes_on_from_its_state_wherever_it_was_cut() -> None:
    rng = np.random.default_rng(1)
    data = rng.bytes(5_000)
    for _ in range(50):
        ours, at = RollingSha256(), 0
        while at < len(data):
            step = int(rng.integers(0, 300))
            ours.update(memoryview(data)[at : at + step])
            at += step
            ours = RollingSha256.of(ours.state())
        assert ours.hexdigest() == hashlib.sha256(data).hexdigest()


def test_a_digest_in_between_changes_nothing() -> None:
    ours, theirs = RollingSha256(b"abc"), hashlib.sha256(b"abc")
    assert ours.hexdigest() == theirs.hexdigest()
    ours.update(np.arange(100, dtype=np.uint8).reshape(10, 10).data)
    theirs.update(np.arange(100, dtype=np.uint8).tobytes())
    assert ours.copy().hexdigest() == ours.hexdigest() == theirs.hexdigest()


@pytest.mark.parametrize("state", [b"", b"x" * 39, b"x" * 40, RollingSha256(b"abc").state()[:-1]])
def test_what_is_no_state_is_refused(state: bytes) -> None:
    with pytest.raises(ValueError, match="not the state of a hash"):
        RollingSha256.of(state)
