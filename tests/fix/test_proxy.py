"""A small size of the drill over a wire that lies: `python -m tests.fix.proxy` runs the large one."""

import pytest

from tests.fix.faulty import Plan
from tests.fix.proxy import drill

pytest.importorskip(
    "quickfix", reason="needs quickfix-ssl, which has a wheel for CPython 3.11 on x86_64 only"
)


@pytest.mark.long
@pytest.mark.usefixtures("compiled_engine")
@pytest.mark.parametrize("side", ["engine", "venue"])
def test_positions_cash_and_book_are_the_peers_after_every_kind_of_fault(side: str) -> None:
    found = drill(side, Plan(3, 0.03), 3, 8.0)
    assert found["wrong"] == {}
    assert sum(found["faults"].values()) > 4, "too little went wrong: the test shows nothing"
    assert len(found["faults"]) > 3
    if side == "engine":
        assert found["fills"] > 5
        log = found["log"]
        assert log["connection lost"] == found["losses"]
        assert log.get("message refused", 0) >= found["refused"] - found["losses"]
