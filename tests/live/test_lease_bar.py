"""A bar that a lease has left, in a run that goes on without one."""

from pathlib import Path

import pytest

from emp.core.contracts import Control
from tests.live.test_live import invested
from tests.live.world import World, play


@pytest.mark.usefixtures("compiled_engine")
def test_a_bar_of_a_lease_is_lifted_where_the_owner_asks_for_none_any_more(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.ledger.record_control(Control(action="begin", ts=1))
    world.ledger.record_control(Control(action="bar", ts=1, reason="lease", value=1.0))
    play(world, invested)
    assert world.position == 4
