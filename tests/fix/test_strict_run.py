"""A small size of the strict day: `python -m tests.fix.strict_run` runs the large one."""

import asyncio

import pytest

pytest.importorskip(
    "quickfix", reason="needs quickfix-ssl, which has a wheel for CPython 3.11 on x86_64 only"
)

from tests.fix.strict_run import QUESTIONS, strict_day


@pytest.mark.parametrize("seed", [1, 2])
def test_quickfix_with_its_dictionary_on_finds_nothing_to_refuse(seed: int) -> None:
    found = asyncio.run(strict_day(5.0, seed, 2.0))
    assert found["wrong"] == {}
    assert 1 < found["logons"] <= 1 + found["cuts"]  # a cut may come before the client is back
    assert set(found["sent"]) >= {"D", "F", "G", "V"}
    assert len(set(found["sent"]) & set(QUESTIONS)) > 5
    assert found["orders refused"] > 5
    assert found["books"] > 20
